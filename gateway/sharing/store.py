"""What was shared with whom, how far the stage has read, and who may be given what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.base.keys import ConsentKey
from gateway.consents.store import ConsentUnit
from gateway.directory.partners import PartnerKey
from gateway.outbox.store import OutboxUnit
from gateway.sharing.rules.records import Approval, Holder, Page, PaymentKey, Place, ShareKey, ShareRow


class SharingStore(Protocol):
    """Shares, those who hold them, and the affiliates' approvals."""

    async def follow(self) -> None:
        """Say that events are to be kept until sharing has read them."""

    async def place(self) -> Place:
        """How far everything has been dealt with."""

    async def read(self, after: Place, limit: int) -> Page:
        """What happened past a place, up to ``limit`` events in an order that cannot change any more.

        A payment is as its event tells it, without its token. Where nobody's consent has a purpose of sharing and
        nobody holds a share, all of it is passed over at once.
        """

    async def tokens(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, str]:
        """The tokens of these payments, as far as they have one."""

    async def advance(self, before: Place, after: Place) -> bool:
        """Note that everything up to ``after`` is dealt with; False where another has moved on from ``before``."""

    async def take_turn(self) -> None:
        """Hold the place until the transaction ends: nobody moves on, and so nobody shares, beside it."""

    async def bundles_are_read(self) -> bool:
        """True while all who read what is told here take bundles apart: processes of an older release do not."""

    async def approvals(self) -> Sequence[Approval]:
        """What is approved for the affiliates that are active."""

    async def approved(self) -> frozenset[tuple[str, str]]:
        """(Affiliate, use) of every approval that was not withdrawn, whether the affiliate is active or not."""

    async def affiliates(self) -> frozenset[str]:
        """Ids of the affiliates that are active."""

    async def known_affiliates(self) -> frozenset[str]:
        """Every affiliate, active or not: whoever was given something must erase it, and may say so."""

    async def affiliate_keys(self) -> Sequence[PartnerKey]:
        """Every affiliate's keys, whatever their state; each names its affiliate as a partner's its partner."""

    async def holders(self, keys: Sequence[ConsentKey]) -> Sequence[Holder]:
        """Whoever was ever given something under these consents, each affiliate's latest round. Hold their locks."""

    async def ended(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        """When sharing was last ended under these consents, whatever they permit now; no entry where it never was."""

    async def add_shares(self, shares: Sequence[ShareRow]) -> frozenset[ShareKey]:
        """Record shares; return the keys of those that did not exist. One that exists is left as it is."""

    async def write_holders(self, holders: Sequence[Holder]) -> None:
        """Write holders as given, new or known; the caller holds their consents' locks."""

    async def must_erase(self, now: datetime, limit: int) -> Sequence[ConsentKey]:
        """Consents that permit their holders no use any more and of which one has had no notice yet: for a sweep."""

    async def lock_notices(self, notices: Sequence[UUID]) -> Mapping[UUID, Holder]:
        """Holders by the notices they were sent, locked until the transaction ends."""

    async def confirm(self, notices: Sequence[tuple[UUID, str, int]], *, now: datetime) -> None:
        """Note of locked notices that they were confirmed: with which record's place, and how many were erased."""

    async def ask_reminder(self, notice_id: UUID, *, now: datetime) -> bool:
        """Let a notice be sent again that is not confirmed; False where there is none."""

    async def take_reminders(self, limit: int) -> Sequence[tuple[Holder, int]]:
        """Holders whose notice is to be sent again, each with how often it was by then. None comes twice.

        Those that another takes at the same moment are left to it.
        """

    async def overdue(self, now: datetime) -> tuple[int, datetime | None]:
        """How many notices are past their time without a confirmation, and since when the oldest is."""


class SharingStoreUnit(Protocol):
    """What was shared."""

    @property
    def sharing(self) -> SharingStore:
        """Shares, those who hold them, and the affiliates' approvals."""


class SharingUnit(ConsentUnit, OutboxUnit, SharingStoreUnit, Protocol):
    """Shares payments, and tells whoever must erase."""
