"""Once a year a customer is told what was used and provided of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.disclosure.rules.entry import Kind
from schemas.disclosure import DisclosedTo, DisclosureNotice
from schemas.primitives import CustomerId, PartnerId

YEAR: Final = timedelta(days=365)
ROWS_MAX: Final = 1000
"""Rows of a notice: it stays below what one record may hold."""


@dataclass(frozen=True, slots=True)
class CustomerOfPartner:
    """A customer whose notice is due.

    Attributes:
        since: what they were told of last, or their first use.
        until: of what the notice tells; not in it.
    """

    partner_id: PartnerId
    customer_id: CustomerId
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Disclosed:
    """Uses counted."""

    recipient: str
    kind: Kind
    purpose: str
    count: int


def notice_of(whom: CustomerOfPartner, disclosed: Sequence[Disclosed], now: datetime) -> DisclosureNotice:
    """What a customer is told."""
    rows = sorted(disclosed, key=lambda d: (-d.count, d.recipient, d.kind, d.purpose))
    return DisclosureNotice.of_stored(
        partner_id=whom.partner_id,
        customer_id=whom.customer_id,
        since=whom.since,
        until=whom.until,
        disclosed=tuple(
            DisclosedTo(recipient=d.recipient, kind=d.kind.value, purpose=d.purpose, count=d.count)
            for d in rows[:ROWS_MAX]
        ),
        left_out=sum(d.count for d in rows[ROWS_MAX:]),
        occurred_at=now,
    )
