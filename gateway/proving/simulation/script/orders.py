"""What partners write to ``mypay.orders`` in one world: orders and everything that follows them."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

from pydantic import BaseModel

from gateway.base.calendar import day_of
from gateway.messaging.records import Outgoing
from gateway.proving.simulation.script.proofs import Prover
from gateway.proving.simulation.script.scene import (
    JUNK,
    MERCHANT,
    NOON,
    PARTNER,
    SIGNED,
    TAMPERED,
    TRAFFIC_S,
    Kind,
    Produced,
    Script,
    krw,
)
from gateway.proving.simulation.script.showing import Shown
from schemas.assertions import PaymentLink, StandingOrderLink
from schemas.bulk import BULK_TYPE, Acceptance, BulkItem, ControlSum, PaymentBulk
from schemas.cancellation import CANCEL_TYPE, PaymentCancellation
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import ConsentId, OrderId, StandingOrderId
from schemas.refunds import REFUND_TYPE, PaymentRefund
from schemas.standing import STANDING_CREATE_TYPE, Frequency, StandingOrderCreate, StandingSchedule, schedule_digest
from schemas.topics import ORDERS


def write_orders(script: Script, rng: Random, amounts: Sequence[int], prover: Prover) -> None:
    """Draw a world's orders, and what follows them."""
    author = _Author(script, rng, amounts, prover)
    count = min(40, 5 + int(rng.expovariate(1 / 7)))
    burst = rng.choice((0.5, 3.0, TRAFFIC_S))
    # Some worlds are all plain orders, so that these meet each other most.
    busy = rng.choice((0.0, 0.3, 0.5))
    for number in range(count):
        at = rng.uniform(0.0, burst)
        if author.made and rng.random() < 0.08:
            author.repeat(at)
        elif author.made and rng.random() < busy:
            rng.choice((author.refund, author.cancel, author.cancel, author.bulk, author.standing))(at, number)
        else:
            author.order(at, number)
    script.produced = sorted(author.made, key=lambda p: p.at)


class _Author:
    def __init__(self, script: Script, rng: Random, amounts: Sequence[int], prover: Prover) -> None:
        self._prover = prover
        self.made: list[Produced] = []
        self._script = script
        self._rng = rng
        self._amounts = amounts
        self._refunded: Produced | None = None
        self._tomorrow = day_of(script.epoch) + timedelta(days=1)

    def repeat(self, at: float) -> None:
        """Send something again, byte for byte."""
        of = self._rng.choice(self.made)
        self.made.append(Produced(of.at + at, of.kind, of.record, of.order_id, of.items, again=True))

    def order(self, at: float, number: int) -> None:
        """An order, or something that looks like one."""
        rng = self._rng
        draw = rng.random()
        consent_id = self._consent()
        order_id = f"order-{number}"
        if draw < 0.06 and (taken := self._paid()) is not None:
            order_id = taken.order_id
            if rng.random() < 0.7:
                # Both at once, under two consents where there are any: two workers then have the id in hand.
                at = taken.at + rng.uniform(0.0, 0.02)
                others = [c.consent_id for c in self._script.consents if c.consent_id != _consent_of(taken)]
                consent_id = rng.choice(others) if others else consent_id
        elif draw < 0.08:
            consent_id = ConsentId("nobody")
        waits = self._script.epoch != NOON and rng.random() < 0.2
        order = PaymentOrder(
            **self._common(consent_id, at + (rng.uniform(0.1, 3.0) if draw > 0.93 and not waits else 300.0)),
            order_id=OrderId(order_id),
            merchant_id=MERCHANT,
            amount=krw(rng.choice(self._amounts)),
            requested_execution_date=self._tomorrow if waits else None,
        )
        kind = Kind.FORGED if 0.08 <= draw < 0.11 else Kind.JUNK if 0.11 <= draw < 0.13 else Kind.ORDER
        token, shown = self._prover.prove(_link(order), at)
        self._add(at, kind, ORDER_TYPE, order.model_copy(update={"authentication": token}), order_id)
        self._script.shown_in[hashlib.sha256(self.made[-1].record.value).digest()] = shown

    def refund(self, at: float, number: int) -> None:
        """A refund of something that may have been paid by then; often not its first."""
        of = self._refunded if self._refunded and self._rng.random() < 0.6 else self._paid()
        if of is None:
            return
        self._refunded = of
        at = of.at + self._rng.expovariate(0.4)
        refund = PaymentRefund(
            **self._common(_consent_of(of), at + 300.0),
            order_id=OrderId(f"refund-{number}"),
            original_order_id=OrderId(of.order_id),
            amount=krw(self._rng.choice((500, 2_000, self._rng.choice(self._amounts)))),
        )
        self._add(at, Kind.REFUND, REFUND_TYPE, refund, refund.order_id)

    def cancel(self, at: float, number: int) -> None:
        """A cancellation, now and then ahead of its order."""
        if (of := self._paid()) is None:
            return
        at = max(0.0, of.at + self._rng.choice((-0.2, 0.01, 0.3, 2.0, 5.0)) + at / 10)
        cancellation = PaymentCancellation(
            **self._common(_consent_of(of), at + 300.0),
            cancellation_id=f"cancel-{number}",
            order_id=OrderId(of.order_id),
        )
        self._add(at, Kind.CANCEL, CANCEL_TYPE, cancellation, of.order_id)

    def bulk(self, at: float, number: int) -> None:
        """A few orders in one message."""
        rng = self._rng
        items = tuple(self._item(number, item, at) for item in range(rng.randrange(1, 4)))
        total = sum(i.amount.minor for i in items) + (rng.random() < 0.1)
        bulk = PaymentBulk(
            **{k: v for k, v in self._common(ConsentId(""), at + 300.0).items() if k != "consent_id"},
            bulk_id=f"bulk-{number}",
            acceptance=rng.choice(list(Acceptance)),
            number_of_transactions=len(items),
            control_sum=ControlSum(currency="KRW", value=str(total)),
            items=items,
        )
        self._add(at, Kind.BULK, BULK_TYPE, bulk, bulk.bulk_id, tuple(i.order_id for i in items))

    def _item(self, number: int, item: int, at: float) -> BulkItem:
        of = BulkItem(
            order_id=OrderId(f"bulk-{number}-{item}"),
            consent_id=self._consent(),
            merchant_id=MERCHANT,
            amount=krw(self._rng.choice(self._amounts)),
        )
        token, shown = self._prover.prove(_link(of), at)
        self._shown(of.order_id, of.consent_id, of.amount.minor, shown)
        return of.model_copy(update={"authentication": token})

    def standing(self, at: float, number: int) -> None:
        """A standing order; where midnight is near its first day comes, and the second never does."""
        standing = StandingOrderCreate(
            **self._common(self._consent(), at + 300.0),
            standing_order_id=StandingOrderId(f"standing-{number}"),
            merchant_id=MERCHANT,
            amount=krw(self._rng.choice(self._amounts)),
            schedule=StandingSchedule(
                frequency=Frequency.DAILY, first_date=self._tomorrow, count=self._rng.choice((1, 2, None))
            ),
        )
        occurrence = f"{standing.standing_order_id}+{self._tomorrow:%Y%m%d}"
        link = StandingOrderLink(
            partner_id=PARTNER,
            standing_order_id=standing.standing_order_id,
            consent_id=standing.consent_id,
            merchant_id=MERCHANT,
            amount=standing.amount,
            schedule_digest=schedule_digest(encode(standing)),
        )
        token, shown = self._prover.prove(link, at)
        self._shown(occurrence, standing.consent_id, standing.amount.minor, shown)
        standing = standing.model_copy(update={"authentication": token})
        self._add(at, Kind.STANDING, STANDING_CREATE_TYPE, standing, standing.standing_order_id, (occurrence,))

    def _add(
        self, at: float, kind: Kind, type_: str, message: BaseModel, order_id: str, items: tuple[str, ...] = ()
    ) -> None:
        key: str = message.record_key  # type: ignore[attr-defined]
        signature = TAMPERED if kind is Kind.FORGED else SIGNED
        envelope = Envelope(f"ce-{len(self.made)}", "/partner", type_, self._script.epoch, signature=signature)
        value = JUNK if kind is Kind.JUNK else encode(message)
        self.made.append(
            Produced(at, kind, Outgoing(ORDERS, key.encode(), value, write_envelope(envelope)), order_id, items)
        )

    def _shown(self, order_id: str, consent_id: ConsentId, minor: int, shown: Shown) -> None:
        self._script.shown.setdefault((order_id, consent_id, minor), []).append(shown)

    def _common(self, consent_id: ConsentId, expires_s: float) -> dict[str, Any]:
        epoch = self._script.epoch
        return {
            "partner_id": PARTNER,
            "consent_id": consent_id,
            "issued_at": epoch - timedelta(seconds=1),
            "expires_at": epoch + timedelta(seconds=expires_s),
        }

    def _consent(self) -> ConsentId:
        # Most payments are under one consent: its lock and its limits are what they meet at.
        return self._script.consents[0 if self._rng.random() < 0.7 else -1].consent_id

    def _paid(self) -> Produced | None:
        orders = [p for p in self.made if p.kind is Kind.ORDER and not p.again]
        return self._rng.choice(orders) if orders else None


def _link(of: PaymentOrder | BulkItem) -> PaymentLink:
    return PaymentLink(
        partner_id=PARTNER,
        order_id=of.order_id,
        consent_id=of.consent_id,
        merchant_id=of.merchant_id,
        amount=of.amount,
        requested_execution_date=of.requested_execution_date if isinstance(of, PaymentOrder) else None,
    )


def _consent_of(of: Produced) -> ConsentId:
    return ConsentId((of.record.key or b"").decode())
