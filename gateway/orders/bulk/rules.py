"""Bulks: what refuses one as a whole, which items are doubled, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from schemas.bulk import Acceptance, BulkItem, BulkStatus, PaymentBulk, RejectedItem
from schemas.primitives import OrderId, PartnerId, decimal_of
from schemas.reasons import Reason, ReasonCode

BulkKey = tuple[PartnerId, str]

_TWICE: Final = Reason(code=ReasonCode.AM05, text="order_id stands in this bulk before: the first item counts")
_OTHER_CURRENCY: Final = Reason(code=ReasonCode.AM03, text="an item's currency is not that of control_sum")


@dataclass(frozen=True, slots=True)
class Bulk:
    """What is kept of a bulk that was decided.

    Attributes:
        digest: SHA-256 of the record's value.
        items: how many it had.
        rejected: which were not accepted, and why.
        reason: why it was refused as a whole.
        dispatched_at: when every accepted item was handed on; None: that is not certain.
    """

    partner_id: PartnerId
    bulk_id: str
    digest: bytes
    status: BulkStatus
    items: int
    currency: str
    control_minor: int
    rejected: tuple[RejectedItem, ...]
    reason: Reason | None
    reference: str
    decided_at: datetime
    dispatched_at: datetime | None = None

    @property
    def key(self) -> BulkKey:
        """Primary key."""
        return (self.partner_id, self.bulk_id)

    @property
    def accepted(self) -> int:
        """How many items were accepted."""
        return self.items - len(self.rejected) if self.status is BulkStatus.ACCEPTED else 0


def refuse_totals(bulk: PaymentBulk) -> Reason | None:
    """Return why the bulk cannot be what its partner meant, or None: then it is refused as a whole.

    AM18 where ``number_of_transactions`` is not the number of items; AM03 where an item has another currency than
    ``control_sum``; AM10 where the amounts do not add up to it.
    """
    if bulk.number_of_transactions != len(bulk.items):
        return Reason(code=ReasonCode.AM18, text=f"number_of_transactions is not {len(bulk.items)}, which are there")
    currency = bulk.control_sum.currency
    if any(i.amount.currency != currency for i in bulk.items):
        return _OTHER_CURRENCY
    total = sum(i.amount.minor for i in bulk.items)
    if total != bulk.control_sum.minor:
        text = f"control_sum is not {decimal_of(total, currency)} {currency}, the sum of the items' amounts"
        return Reason(code=ReasonCode.AM10, text=text)
    return None


def doubled(items: Sequence[BulkItem]) -> dict[int, Reason]:
    """Positions (from 0) of items whose order id an earlier item has, with the reason."""
    seen: set[OrderId] = set()
    found: dict[int, Reason] = {}
    for position, item in enumerate(items):
        if item.order_id in seen:
            found[position] = _TWICE
        seen.add(item.order_id)
    return found


def status_of(acceptance: Acceptance, items: int, rejected: int) -> tuple[BulkStatus, Reason | None]:
    """What becomes of a bulk with so many rejected items."""
    if acceptance is Acceptance.ALL_OR_NOTHING and rejected:
        text = f"{rejected} of {items} items cannot be accepted, and acceptance is all_or_nothing"
        return BulkStatus.REFUSED, Reason(code=ReasonCode.NARR, text=text)
    return BulkStatus.ACCEPTED, None
