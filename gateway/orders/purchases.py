"""Orders to pay, a kind of message on ``mypay.orders``: judged, then dispatched, scheduled or rejected.

A batch costs five reads, at most one transaction and one publication, whatever its size.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.base.process import Observer
from gateway.database.unit import Store
from gateway.identity.door import Authentic
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.identity.verifying import lapsed_proof, verify_proofs
from gateway.messaging.records import Outgoing, Publisher
from gateway.orders.judging import OrderJudge, Seen, Waits
from gateway.orders.kinds import OvertakenError, Precedence
from gateway.orders.payment_kinds import End, Instruction, Instructions, PaymentKind
from gateway.orders.scheduled.service import Accepted
from gateway.orders.store import PaymentIntakeUnit
from gateway.payments.dispatch import Dispatch
from gateway.payments.rules.purchase import ReceivedOrder, rejected
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason


class PurchaseKind(PaymentKind[PaymentOrder, ReceivedOrder, Seen]):
    """Takes in orders to pay."""

    models: Mapping[str, type[PaymentOrder]] = {ORDER_TYPE: PaymentOrder}
    precedence = Precedence.ORDERS
    counted_as = "initiation"

    def __init__(
        self,
        *,
        store: Store[PaymentIntakeUnit],
        judge: OrderJudge,
        publisher: Publisher,
        dispatch: Dispatch,
        observer: Observer,
        trust: TrustTable,
        assertions: AssertionVerifier,
    ) -> None:
        super().__init__(store=store, publisher=publisher, observer=observer)
        self._judge = judge
        self._dispatch = dispatch
        self._trust = trust
        self._assertions = assertions

    async def prepare(
        self, messages: Sequence[Authentic[PaymentOrder]], now: datetime
    ) -> Instructions[PaymentOrder, ReceivedOrder]:
        """Verify the customers' proofs."""
        tokens = [m.message.authentication for m in messages]
        proofs = await verify_proofs(tokens, self._assertions, self._trust, now)
        return Instructions(
            [
                Instruction(
                    read,
                    ReceivedOrder(
                        order=read.message,
                        digest=read.digest,
                        ordered_at=read.ordered_at,
                        reference=read.reference,
                        traceparent=read.envelope.traceparent,
                        assertion=proof,
                        signature=read.envelope.signature,
                    ),
                )
                for read, proof in zip(messages, proofs, strict=True)
            ]
        )

    async def look(self, received: Sequence[ReceivedOrder]) -> Seen:
        """As the judge does."""
        return await self._judge.look(self._store, received)

    def end_of(self, instruction: Instruction[PaymentOrder, ReceivedOrder], seen: Seen, now: datetime) -> End:
        """As judged: to a network, into the schedule, or nowhere."""
        received = instruction.received
        if (problem := lapsed_proof(self._assertions, received.assertion)) is not None:
            return rejected(received, problem, now)
        target = self._judge.judge(received, seen, now)
        if isinstance(target, Reason):
            return rejected(received, target, now)
        if isinstance(target, Waits):
            return Accepted.of(instruction.read.record.value, received, target, now)
        return target

    async def hold(
        self,
        uow: PaymentIntakeUnit,  # noqa: ARG002 - nothing of it is in the database
        work: Instructions[PaymentOrder, ReceivedOrder],
    ) -> None:
        """What is accepted for a later day uses its proof up now: nobody asks for it on that day.

        A provider's key may have been revoked while it waited for the database.
        """
        if any(lapsed_proof(self._assertions, accepted.received.assertion) for accepted in work.scheduled):
            raise OvertakenError

    def may_follow(self, received: ReceivedOrder) -> bool:
        """Not with a proof that does not hold: what is handed on has none that execution could take for one."""
        return received.proof_holds

    def outgoing(
        self, instruction: Instruction[PaymentOrder, ReceivedOrder], network_id: NetworkId, now: datetime
    ) -> Outgoing:
        """The partner's own bytes."""
        return self._dispatch.order(instruction.received, instruction.read.record.value, network_id, now)

    def report(self, work: Instructions[PaymentOrder, ReceivedOrder]) -> None:
        """Count what became of the batch, and why it was turned away."""
        super().report(work)
        for outcome, reasons in (
            ("rejected", Counter(p.reason.code.value for _, p in work.rejected if p.reason)),
            ("refused", Counter(r.reason.code.value for r in work.refused)),
        ):
            for reason, n in reasons.items():
                self._observer.count(self.counted_as, outcome, reason=reason, n=n)
