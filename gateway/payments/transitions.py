"""One way in for everything that happens to a payment after its intent: results, reversals, clearing, recovery.

A batch costs one round trip for the locks and one each for payments, usage, ledger, reversals and events, whatever
its size. Must run inside a transaction; takes the locks of payments, then those of their inquiries and reversals, then
those of usage; payments' and usage's in key order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import structs

from gateway.consents.rules.limits import UsageKey
from gateway.consents.store import UsageChange
from gateway.network.trace import follow_up_stan
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.ledger import Transfer, transfers_of
from gateway.payments.rules.lifecycle import IGNORED, LimitEffect, PaymentState, is_outcome, transition
from gateway.payments.rules.payment import Change, Payment, PaymentKey, event_fields, event_type_of
from gateway.payments.store import PaymentChangeUnit
from gateway.payments.unknown.store import FollowUp
from schemas.codec import encode_fields
from schemas.topics import events_topic


@dataclass(slots=True)
class Applied:
    """What a batch of changes did.

    Attributes:
        changes: what was asked for.
        changed: payments in their new states, one entry a transition.
        outcomes: those of them of which it is now known what came of them.
        ignored: changes that the lifecycle does not let move the payment, with the state it stays in.
        undone: those of them for which a reversal was queued: the network holds what does not stand here.
        missing: changes to payments that do not exist.
    """

    changes: Sequence[Change] = ()
    changed: list[Payment] = field(default_factory=list)
    outcomes: list[Payment] = field(default_factory=list)
    ignored: list[tuple[Change, PaymentState]] = field(default_factory=list)
    undone: list[Payment] = field(default_factory=list)
    missing: list[Change] = field(default_factory=list)


@dataclass(slots=True)
class _Effects:
    usage: dict[UsageKey, list[int]] = field(default_factory=dict)
    transfers: list[tuple[PaymentKey, Transfer, datetime]] = field(default_factory=list)
    reversals: list[Payment] = field(default_factory=list)
    reversals_anew: list[Payment] = field(default_factory=list)
    inquiries: list[Payment] = field(default_factory=list)


async def apply_changes(
    uow: PaymentChangeUnit,
    changes: Sequence[Change],
    *,
    now: datetime,
    locked: Mapping[PaymentKey, Payment] | None = None,
) -> Applied:
    """Lock the payments, move each by the lifecycle's table, and write every effect of it.

    Args:
        uow: the transaction.
        changes: in their order; several may concern one payment.
        now: when they happened.
        locked: all of the payments, which the caller has locked and read in this transaction; others may be there, too.
    """
    if locked is None:
        locked = await uow.payments.lock(list({c.key for c in changes}))
    payments = dict(locked)
    applied, effects = Applied(changes), _Effects()
    for change in changes:
        payment = payments.get(change.key)
        if payment is None:
            applied.missing.append(change)
            continue
        moved = _move(payment, change, now, effects)
        if moved is None:
            applied.ignored.append((change, payment.state))
            ignored = IGNORED[payment.state, change.kind]
            # What was never sent has nothing at a network that could be undone.
            if ignored.undo and payment.trace is not None:
                applied.undone.append(payment)
                effects.reversals.append(payment)
            elif ignored.again:
                effects.reversals_anew.append(payment)
            continue
        payments[change.key] = moved
        applied.changed.append(moved)
        if is_outcome(payment.state, moved.state):
            applied.outcomes.append(moved)
    await _write(uow, applied, effects, now)
    return applied


def payment_events(payments: Sequence[Payment]) -> list[OutboxEvent]:
    """Tell each payment's state to its partner. Ids are derived, so that telling twice has one id."""
    return [
        OutboxEvent(
            topic=events_topic(p.partner_id),
            key=(key := str(p.payment_id)),
            event_id=f"{key}:{p.version}",
            event_type=event_type_of(p),
            occurred_at=p.changed_at,
            traceparent=p.traceparent,
            body=encode_fields(event_fields(p)),
        )
        for p in payments
    ]


_AS_IT_IS = (PaymentState.APPROVED, PaymentState.SETTLED)
"""States without a reason but that of the very step that led there."""


def _move(payment: Payment, change: Change, now: datetime, effects: _Effects) -> Payment | None:
    step = transition(payment.state, change.kind)
    if step is None:
        return None
    moved = structs.replace(
        payment,
        state=step.state,
        version=payment.version + 1,
        # Why it was unknown no longer matters once it is approved, nor why its clearing was once it is settled; why it
        # was undone stays told to the end.
        reason=change.reason if step.state in _AS_IT_IS else change.reason or payment.reason,
        approval_code=change.approval_code or payment.approval_code,
        changed_at=now,
    )
    _count_usage(moved, step.limit, effects)
    if step.transfers:
        if payment.network_id is None:
            raise AssertionError("a payment without a network has no obligations")
        effects.transfers.extend(
            (payment.key, t, now)
            for t in transfers_of(
                step.transfers,
                operation=payment.operation,
                network_id=payment.network_id,
                merchant_id=payment.merchant_id,
                amount_minor=payment.amount_minor,
                currency=payment.currency,
                version=moved.version,
            )
        )
    if step.reverse:
        effects.reversals.append(moved)
    if step.inquire:
        effects.inquiries.append(moved)
    return moved


_USAGE_SIGNS = {LimitEffect.NONE: 0, LimitEffect.TAKE: 1, LimitEffect.GIVE_BACK: -1}
"""What an effect adds to what is taken, in payments."""


def _count_usage(payment: Payment, effect: LimitEffect, effects: _Effects) -> None:
    sign = _USAGE_SIGNS[effect]
    if not sign:
        return
    for window in payment.windows:
        sums = effects.usage.setdefault((payment.partner_id, payment.consent_id, window), [0, 0])
        sums[0] += sign * payment.amount_minor
        sums[1] += sign


async def _write(uow: PaymentChangeUnit, applied: Applied, effects: _Effects, now: datetime) -> None:
    await _queue(uow, effects, now)
    if not applied.changed:
        return
    latest = {p.key: p for p in applied.changed}
    await uow.payments.update(list(latest.values()))
    await uow.consents.add_usage([UsageChange(key, *sums) for key, sums in effects.usage.items() if any(sums)])
    await uow.payments.insert_transfers(effects.transfers)
    await uow.outbox.append(payment_events(applied.changed))


async def _queue(uow: PaymentChangeUnit, effects: _Effects, now: datetime) -> None:
    for write, payments in (
        (uow.reversals.queue, effects.reversals),
        (uow.reversals.begin_anew, effects.reversals_anew),
        (uow.inquiries.queue, effects.inquiries),
    ):
        if payments:
            numbers = await uow.payments.next_follow_up_numbers(len(payments))
            await write([_follow_up(p, number, now) for p, number in zip(payments, numbers, strict=True)])


def _follow_up(payment: Payment, number: int, now: datetime) -> FollowUp:
    if payment.network_id is None or payment.trace is None:
        raise AssertionError("a payment that was never sent needs no follow-up")
    return FollowUp(
        key=payment.key,
        network_id=payment.network_id,
        terminal_id=payment.trace.terminal_id,
        stan=follow_up_stan(number),
        transmitted_at=now.replace(microsecond=0),
        queued_at=now,
    )
