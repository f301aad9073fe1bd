"""What becomes of a bulk: pure, over what was read of its items without locks."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.base.repetition import id_used
from gateway.identity.assurance import Assertion
from gateway.identity.door import Authentic
from gateway.orders.bulk.rules import Bulk, doubled, refuse_totals, status_of
from gateway.orders.judging import OrderJudge, Seen, Waits
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder, rejected
from gateway.payments.rules.repetition import order_id_used
from schemas.bulk import Acceptance, BulkStatus, PaymentBulk, RejectedItem
from schemas.codec import encode
from schemas.primitives import NetworkId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class Item:
    """One item as an order, with the bytes that stand for it."""

    number: int
    received: ReceivedOrder
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class First:
    """A bulk that came for the first time: what is written down of it, and where its accepted items go."""

    bulk: Bulk
    payments: Sequence[Payment] = ()
    targets: Sequence[tuple[Item, NetworkId]] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """One that stands.

    Attributes:
        payments: of accepted items that can be handed on no more, or were before.
        targets: where it is not certain that it was handed on: where its items go.
        references: the items' own.
    """

    bulk: Bulk
    payments: Sequence[Payment] = ()
    targets: Sequence[tuple[Item, NetworkId]] = ()
    references: Mapping[PaymentKey, str] = field(default_factory=dict)
    unfinished: bool = False


def items_of(read: Authentic[PaymentBulk], proofs: Sequence[Assertion | Reason | None]) -> list[Item]:
    """A bulk's items as the orders that they are."""
    items: list[Item] = []
    for number, (item, proof) in enumerate(zip(read.message.items, proofs, strict=True)):
        order = read.message.order(item)
        body = encode(order)
        received = ReceivedOrder(
            order=order,
            digest=hashlib.sha256(body).digest(),
            ordered_at=read.ordered_at,
            reference=f"{read.reference}#{number + 1}",
            traceparent=read.envelope.traceparent,
            assertion=proof,
            signature=read.envelope.signature,
        )
        items.append(Item(number, received, body))
    return items


def refused_by_totals(read: Authentic[PaymentBulk], now: datetime) -> First | None:
    """Refuse a bulk whose totals are not its items'; None where they are, and its items are to be looked at."""
    refused = refuse_totals(read.message)
    return None if refused is None else First(bulk_of(read, BulkStatus.REFUSED, (), refused, now))


def judge_first(
    read: Authentic[PaymentBulk], items: Sequence[Item], seen: Seen, judge: OrderJudge, now: datetime
) -> First:
    """Judge a bulk as a whole, and its items as orders are judged.

    An item whose own payment stands (the database was restored, and knows the payment and not the bulk) was accepted
    with the bulk: neither is refused now, and the item is not handed on again.
    """
    message = read.message
    reasons = doubled(message.items)
    payments: list[Payment] = []
    targets: list[tuple[Item, NetworkId]] = []
    standing = {i.number for i in items if i.number not in reasons and _stands(i, seen)}
    new = (i for i in items if i.number not in reasons and i.number not in standing)
    for item, end in _ends(new, seen, judge, now):
        if not isinstance(end, Reason):
            targets.append((item, end))
            continue
        reasons[item.number] = end
        if item.received.key not in seen.existing:
            payments.append(rejected(item.received, end, now))
    acceptance = Acceptance.PARTIAL if standing else message.acceptance
    status, refused = status_of(acceptance, len(items), len(reasons))
    told = tuple(
        RejectedItem(item=n + 1, order_id=message.items[n].order_id, reason=reasons[n]) for n in sorted(reasons)
    )
    bulk = bulk_of(read, status, told, refused, now)
    # Of a refused bulk nothing becomes a payment: its order ids stay free.
    return First(bulk, payments, targets) if status is BulkStatus.ACCEPTED else First(bulk)


def _stands(item: Item, seen: Seen) -> bool:
    first = seen.existing.get(item.received.key)
    return first is not None and first.digest_is(item.received.digest)


def judge_again(stored: Bulk, items: Sequence[Item], seen: Seen, judge: OrderJudge, now: datetime) -> Again:
    """Judge accepted items once more: the worker that accepted them may have died on the way.

    What cannot be handed on now is rejected. So is what has a payment: its own, or that of another order which has
    taken its id meanwhile, as it turns out when it is written.
    """
    turned_away = {r.item - 1 for r in stored.rejected}
    payments: list[Payment] = []
    targets: list[tuple[Item, NetworkId]] = []
    for item, end in _ends((i for i in items if i.number not in turned_away), seen, judge, now):
        if isinstance(end, Reason):
            payments.append(rejected(item.received, end, now))
        else:
            targets.append((item, end))
    return Again(stored, payments, targets, {i.received.key: i.received.reference for i in items}, unfinished=True)


def _ends(
    items: Iterator[Item], seen: Seen, judge: OrderJudge, now: datetime
) -> Iterator[tuple[Item, NetworkId | Reason]]:
    for item in items:
        first = seen.existing.get(item.received.key)
        end = judge.judge(item.received, seen, now) if first is None else order_id_used(first, item.received.order)
        if isinstance(end, Waits):
            raise TypeError("an item has no day of its own")
        yield item, end


def bulk_id_used(stored: Bulk, message: PaymentBulk) -> Reason:
    """Refuse a bulk whose id has another."""
    first = {
        "number_of_transactions": stored.items,
        "control_sum": (stored.currency, stored.control_minor),
    }
    later = {
        "number_of_transactions": len(message.items),
        "control_sum": (message.control_sum.currency, message.control_sum.minor),
    }
    # Its items are not kept: where as many add up to the same, one of them may differ.
    stands = "the first one stands" if first != later else "items and acceptance may differ too; the first one stands"
    return id_used("bulk_id", first, later, stands=stands)


def bulk_of(
    read: Authentic[PaymentBulk],
    status: BulkStatus,
    turned_away: tuple[RejectedItem, ...],
    reason: Reason | None,
    now: datetime,
) -> Bulk:
    """What is kept of a bulk."""
    message = read.message
    return Bulk(
        partner_id=message.partner_id,
        bulk_id=message.bulk_id,
        digest=read.digest,
        status=status,
        items=len(message.items),
        currency=message.control_sum.currency,
        control_minor=message.control_sum.minor,
        rejected=turned_away,
        reason=reason,
        reference=read.reference,
        decided_at=now,
    )
