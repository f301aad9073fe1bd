"""Refunds, a kind of message on ``mypay.orders``: checked as far as that needs no lock, then handed on.

They go to the network of the payment that they refund. Advice only: execution decides under the original's lock
(:mod:`gateway.payments.rules.intent`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.base.process import Observer
from gateway.database.unit import Store
from gateway.identity.door import Authentic
from gateway.messaging.records import Outgoing, Publisher
from gateway.orders.kinds import OvertakenError
from gateway.orders.payment_kinds import End, Instruction, Instructions, PaymentKind
from gateway.orders.store import PaymentIntakeUnit
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder
from gateway.payments.refunds.rules import NO_ORIGINAL, ReceivedRefund, is_of, refund_payment, refuse_before_dispatch
from gateway.payments.rules.payment import Payment, PaymentKey
from schemas.primitives import NetworkId
from schemas.refunds import REFUND_TYPE, PaymentRefund


@dataclass(frozen=True, slots=True)
class SeenOriginals:
    """What the database said of a batch, without locks: payments under the refunds' own ids, and those they refund."""

    existing: Mapping[PaymentKey, Payment]


class RefundKind(PaymentKind[PaymentRefund, ReceivedRefund, SeenOriginals]):
    """Takes in refunds."""

    models: Mapping[str, type[PaymentRefund]] = {REFUND_TYPE: PaymentRefund}
    counted_as = "refund"

    def __init__(
        self, *, store: Store[PaymentIntakeUnit], publisher: Publisher, dispatch: Dispatch, observer: Observer
    ) -> None:
        super().__init__(store=store, publisher=publisher, observer=observer)
        self._dispatch = dispatch

    async def prepare(
        self,
        messages: Sequence[Authentic[PaymentRefund]],
        now: datetime,  # noqa: ARG002 - a refund has no proof
    ) -> Instructions[PaymentRefund, ReceivedRefund]:
        """Nothing is to be verified."""
        return Instructions(
            [
                Instruction(
                    read,
                    ReceivedRefund(
                        refund=read.message,
                        digest=read.digest,
                        ordered_at=read.ordered_at,
                        reference=read.reference,
                        traceparent=read.envelope.traceparent,
                        signature=read.envelope.signature,
                    ),
                )
                for read in messages
            ]
        )

    async def look(self, received: Sequence[ReceivedRefund]) -> SeenOriginals:
        """The refunds' own payments, and the originals."""
        keys = sorted({k for t in received for k in (t.key, t.original_key)})
        async with self._store.reading() as uow:
            return SeenOriginals(await uow.payments.find(keys))

    def end_of(
        self, instruction: Instruction[PaymentRefund, ReceivedRefund], seen: SeenOriginals, now: datetime
    ) -> End:
        """To the original's network, or nowhere."""
        received, refund = instruction.received, instruction.received.refund
        original = seen.existing.get(received.original_key)
        if original is None or not is_of(refund, original):
            return RefusedOrder.of(received, NO_ORIGINAL)
        refused = refuse_before_dispatch(refund, original, now)
        if refused is not None or original.network_id is None:
            return refund_payment(received, original, refused, now)
        return original.network_id

    def outgoing(
        self, instruction: Instruction[PaymentRefund, ReceivedRefund], network_id: NetworkId, now: datetime
    ) -> Outgoing:
        """The partner's own bytes."""
        return self._dispatch.refund(instruction.received, instruction.read.record.value, network_id, now)

    async def hold(self, uow: PaymentIntakeUnit, work: Instructions[PaymentRefund, ReceivedRefund]) -> None:
        """Execution and other workers decide under the same locks.

        Who has nothing to refund still has nothing, and who is rejected was not refused by another worker meanwhile.
        """
        decided = [received for received, _ in work.rejected]
        concerned = [*work.orphans, *decided]
        if not concerned:
            return
        await uow.consents.lock(sorted({t.consent_key for t in concerned}))
        stored = await uow.payments.find(sorted({k for t in work.orphans for k in (t.key, t.original_key)}))
        if any(t.key in stored or is_of(t.refund, stored.get(t.original_key)) for t in work.orphans):
            raise OvertakenError
        if await uow.refusals.find([(t.refund.partner_id, t.reference) for t in decided]):
            raise OvertakenError

    def report(self, work: Instructions[PaymentRefund, ReceivedRefund]) -> None:
        """Count what became of the batch."""
        for outcome, n in (
            ("dispatched", len(work.dispatched)),
            ("rejected", len(work.rejected)),
            ("refused", len(work.refused)),
            ("repeated", len(work.repeated)),
        ):
            self._observer.count(self.counted_as, outcome, n=n)
