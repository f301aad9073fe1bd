"""Refunds at the intake: checked as far as that needs no lock, then handed to the network of the payment they refund.

Advice only: execution decides under the original's lock (:mod:`gateway.payments.rules.intent`). Every refund ends in
exactly one way: dispatched, rejected (a payment in state REJECTED), refused (no payment, for there is none that it
could refund, or its order id is taken) or repeated (its payment's state is told again).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.messaging.records import Outgoing, Publisher
from gateway.orders.kinds import Instruction, SignedInstruction
from gateway.orders.store import RefundIntakeUnit
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder, refuse_orders, reported_events
from gateway.payments.refunds.rules import NO_ORIGINAL, TakenRefund, is_of, refund_payment, refuse_before_dispatch
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.repetition import order_id_taken
from gateway.payments.transitions import payment_events
from schemas.primitives import NetworkId
from schemas.refunds import REFUND_TYPE, PaymentRefund

_MODELS: Final[Mapping[str, type[SignedInstruction]]] = {REFUND_TYPE: PaymentRefund}


class _OvertakenError(Exception):
    """A payment came up under an id that the batch names since it was sorted."""


@dataclass(slots=True)
class _Sorted:
    """A batch, sorted by how each refund ends.

    ``orphans``: of the refused, those that have nothing to refund; ``decided``: those that are rejected.
    """

    dispatched: list[Outgoing] = field(default_factory=list)
    rejected: list[Payment] = field(default_factory=list)
    refused: list[RefusedOrder] = field(default_factory=list)
    orphans: list[TakenRefund] = field(default_factory=list)
    decided: list[TakenRefund] = field(default_factory=list)
    repeated: list[tuple[Payment, str]] = field(default_factory=list)


class RefundIntake:
    """Takes in refunds; a :class:`gateway.orders.kinds.InstructionHandler`."""

    def __init__(
        self, *, store: Store[RefundIntakeUnit], publisher: Publisher, dispatch: Dispatch, observer: Observer
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._dispatch = dispatch
        self._observer = observer

    @property
    def models(self) -> Mapping[str, type[SignedInstruction]]:
        """What it takes."""
        return _MODELS

    async def take(self, instructions: Sequence[Instruction], now: datetime) -> None:
        """Bring each refund to its end here, durably."""
        taken = [(i, _taken(i)) for i in instructions]
        ends = None
        while ends is None:
            ends = await self._recorded(taken, now)
        if ends.dispatched:
            await until_done(lambda: self._publisher.publish(ends.dispatched))
        for outcome, n in (
            ("dispatched", len(ends.dispatched)),
            ("rejected", len(ends.rejected)),
            ("refused", len(ends.refused)),
            ("repeated", len(ends.repeated)),
        ):
            self._observer.count("refund", outcome, n=n)

    async def _recorded(self, taken: Sequence[tuple[Instruction, TakenRefund]], now: datetime) -> _Sorted | None:
        """Sort a batch and write down what ends here; None, with nothing written, where it must be sorted anew."""
        payments, over = await until_done(lambda: self._find([t for _, t in taken]))
        # What was refused when it came before has ended, also where there is something to refund by now.
        ends = _sort([(i, t) for i, t in taken if t.reference not in over], payments, self._dispatch, now)
        if ends.rejected or ends.refused or ends.repeated:
            try:
                await until_done(lambda: self._record(ends, now))
            except _OvertakenError:
                return None
        return ends

    async def _find(self, taken: Sequence[TakenRefund]) -> tuple[Mapping[PaymentKey, Payment], frozenset[str]]:
        keys = {k for t in taken for k in (t.key, t.original_key)}
        async with self._store.reading() as uow:
            over = await uow.refusals.find([(t.refund.partner_id, t.reference) for t in taken])
            return await uow.payments.find(sorted(keys)), over

    async def _record(self, ends: _Sorted, now: datetime) -> None:
        async with self._store.transaction() as uow:
            await _refuse_if_overtaken(uow, ends)
            inserted = await uow.payments.insert(ends.rejected)
            lost = [p for p in ends.rejected if p.key not in inserted]
            stored = await uow.payments.find([p.key for p in lost]) if lost else {}
            # Written by an earlier run of this transaction whose confirmation was lost: told already.
            if not all(p.is_written_as(stored.get(p.key)) for p in lost):
                raise _OvertakenError
            new = [p for p in ends.rejected if p.key in inserted]
            await uow.outbox.append([*payment_events(new), *reported_events(ends.repeated, now)])
            await refuse_orders(uow, ends.refused, now)


async def _refuse_if_overtaken(uow: RefundIntakeUnit, ends: _Sorted) -> None:
    """Make certain that what was read still holds: execution and other workers decide under the same locks.

    Who has nothing to refund still has nothing, and who is rejected was not refused by another worker meanwhile.
    """
    concerned = [*ends.orphans, *ends.decided]
    if not concerned:
        return
    await uow.consents.lock(sorted({t.consent_key for t in concerned}))
    stored = await uow.payments.find(sorted({k for t in ends.orphans for k in (t.key, t.original_key)}))
    if any(t.key in stored or is_of(t.refund, stored.get(t.original_key)) for t in ends.orphans):
        raise _OvertakenError
    if await uow.refusals.find([(t.refund.partner_id, t.reference) for t in ends.decided]):
        raise _OvertakenError


def _taken(instruction: Instruction) -> TakenRefund:
    if not isinstance(instruction.message, PaymentRefund):
        raise TypeError("initiation decodes what it hands on by the handler's models")
    return TakenRefund(
        refund=instruction.message,
        digest=instruction.digest,
        ordered_at=instruction.ordered_at,
        reference=instruction.reference,
        traceparent=instruction.envelope.traceparent,
        signature=instruction.envelope.signature,
    )


def _sort(
    taken: Sequence[tuple[Instruction, TakenRefund]],
    payments: Mapping[PaymentKey, Payment],
    dispatch: Dispatch,
    now: datetime,
) -> _Sorted:
    ends = _Sorted()
    # What this batch itself does with an order id counts for the refunds behind it.
    first_of = dict(payments)
    sent_to: dict[PaymentKey, NetworkId] = {}
    for instruction, refund in taken:
        first = first_of.get(refund.key)
        if first is not None:
            _repeat(refund, first, ends)
            continue
        if (network_id := sent_to.get(refund.key)) is None:
            original = payments.get(refund.original_key)
            if original is None or not is_of(refund.refund, original):
                ends.refused.append(
                    RefusedOrder(refund.refund.partner_id, refund.refund.order_id, None, NO_ORIGINAL, refund.reference)
                )
                ends.orphans.append(refund)
                continue
            refused = refuse_before_dispatch(refund.refund, original, now)
            network_id = original.network_id
            if refused is not None or network_id is None:
                first_of[refund.key] = refund_payment(refund, original, refused, now)
                ends.rejected.append(first_of[refund.key])
                ends.decided.append(refund)
                continue
        # A second refund under a dispatched id follows the first: execution meets both in order, the first stands.
        sent_to[refund.key] = network_id
        ends.dispatched.append(dispatch.refund(refund, instruction.record.value, network_id, now))
    return ends


def _repeat(taken: TakenRefund, first: Payment, ends: _Sorted) -> None:
    if first.digest_is(taken.digest):
        ends.repeated.append((first, taken.reference))
        return
    refund = taken.refund
    ends.refused.append(
        RefusedOrder(
            refund.partner_id, refund.order_id, first.payment_id, order_id_taken(first, refund), taken.reference
        )
    )
