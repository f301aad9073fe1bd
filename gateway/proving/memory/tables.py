"""The tables of the database in memory, and the rows that have no shape of their own elsewhere."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from gateway.base.keys import ConsentKey
from gateway.marketing.rules.aggregates import Contribution
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, OfferKey, StoredUse, UseKey
from gateway.payments.rules.ledger import Transfer
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.payments.unknown.store import FollowUp
from gateway.settlement.rules import Break
from gateway.sharing.rules.records import Approval, Holder, Place, ShareKey, ShareRow
from schemas.clearing import ClearingRecord
from schemas.primitives import CustomerId, PartnerId

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Table(Generic[K, V]):
    """Committed rows of one table; ``rows`` may be read at any moment, as an auditor would."""

    name: str
    rows: dict[K, V] = field(default_factory=dict)
    append_only: bool = False


@dataclass(frozen=True, slots=True)
class Posted:
    """One row of the ledger."""

    transfer: Transfer
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class FollowUpRow:
    """One row of the queue of reversals or of inquiries; ``follow_up.attempts`` counts the claims so far."""

    follow_up: FollowUp
    next_attempt_at: datetime
    leased_by: str | None = None
    leased_until: datetime | None = None
    last_code: str | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduledRow:
    """One order that waits, or waited, for its day."""

    order: ScheduledOrder
    look_at: datetime
    closed_at: datetime | None = None
    held_for: str = ""


@dataclass(frozen=True, slots=True)
class ClearingRow:
    """One clearing record with its outcome: the payment that it matched, the break, or (not yet) neither."""

    record: ClearingRecord
    payment: PaymentKey | None = None
    found: Break | None = None
    created_at: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class ConsentMark:
    """What stands beside a consent in its row: how many changes it has had, and when its status last changed."""

    changes: int
    status_changed_at: datetime


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A funding token: its owner, and the partners that the owner lets use it."""

    customer_id: CustomerId
    partners: frozenset[PartnerId]


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What one worker last said of one network."""

    is_open: bool
    reported_at: datetime


@dataclass(slots=True)
class MarketingTables:
    """What joint marketing holds."""

    campaigns: Table[str, CampaignRow] = field(default_factory=lambda: Table("campaign"))
    customers: Table[str, str] = field(default_factory=lambda: Table("marketing_customer"))
    offers: Table[OfferKey, Offer] = field(default_factory=lambda: Table("offer"))
    uses: Table[UseKey, StoredUse] = field(default_factory=lambda: Table("offer_use", append_only=True))
    published: Table[tuple[str, str, int], tuple[Contribution, ...]] = field(
        default_factory=lambda: Table("marketing_table", append_only=True)
    )
    published_at: Table[tuple[str, str, int], datetime] = field(default_factory=lambda: Table("marketing_table_at"))


@dataclass(frozen=True, slots=True)
class SharingTables:
    """What is kept of shares with affiliates."""

    place: Table[str, Place] = field(default_factory=lambda: Table("sharing_place"))
    retired: Table[str, bool] = field(default_factory=lambda: Table("sharing_retired"))
    approvals: Table[tuple[str, str], Approval] = field(default_factory=lambda: Table("affiliate_approval"))
    shares: Table[ShareKey, ShareRow] = field(default_factory=lambda: Table("share", append_only=True))
    holders: Table[tuple[ConsentKey, str, int], Holder] = field(default_factory=lambda: Table("share_holder"))
    reminders: Table[UUID, tuple[datetime | None, int]] = field(default_factory=lambda: Table("share_reminder"))
