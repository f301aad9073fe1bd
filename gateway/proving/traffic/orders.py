"""Planned records as bytes: encoded, signed, and spoilt where the plan says so."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec import structs

from gateway.base.calendar import day_of, day_start
from gateway.client import Signer, record_of, signed
from gateway.identity.jose.jwk import generate_key
from gateway.identity.rules import link_of
from gateway.messaging.records import Outgoing
from gateway.proving.books.evidence import OrderFacts
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.identities import LEVEL
from gateway.proving.traffic.mix import Planned
from gateway.proving.traffic.spoiling import SPOILS
from schemas.cancellation import PaymentCancellation
from schemas.codec import encode
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import ConsentId, MerchantId, Money, OrderId, PartnerId, payment_id_of
from schemas.refunds import PaymentRefund

VALIDITY: Final = timedelta(hours=1)
"""Longer than any run."""

_TIMES: Final = {
    "expired": (-2 * VALIDITY, -VALIDITY),
    "future": (timedelta(minutes=30), VALIDITY),
    "valid_too_long": (-timedelta(minutes=1), timedelta(hours=30)),
}
_DAYS_AHEAD: Final = {"dated_today": 0, "dated_before": -1, "dated_too_far": 400}
_ALG_NONE: Final = base64.urlsafe_b64encode(b'{"alg":"none","b64":false,"crit":["b64"]}').rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Written:
    """A record ready to be sent.

    Attributes:
        order: None where the bytes are no order.
    """

    planned: Planned
    record: Outgoing = field(repr=False)
    digest: bytes
    order: OrderFacts | None


class OrderWriter:
    """Writes planned records; about 100 µs each, and 50 µs more with a proof.

    Args:
        cast: whose keys sign, and whose identity providers prove.
        planned: the whole plan: tells which orders' bytes will be asked for again.
    """

    def __init__(self, cast: Cast, planned: Iterable[Planned]) -> None:
        self._partners = {p.partner_id: p for p in cast.partners}
        self._others = dict(zip(self._partners, [*list(self._partners)[1:], *list(self._partners)[:1]], strict=True))
        unregistered, _ = generate_key("ES256")
        self._unregistered = Signer(unregistered, "nobody-1")
        self._identities = cast.identities
        self._customers = {c.terms.consent_id: c.terms.customer_id for c in cast.customers}
        ids = Counter(p.order_id for p in planned)
        self._again = {order_id for order_id, n in ids.items() if n > 1}
        self._first: dict[str, Written] = {}
        self._number = 0

    def write(self, planned: Planned, now: datetime) -> Written:
        """Write one record; ``now`` is when it is issued."""
        self._number += 1
        if planned.kind == "repeated":
            first = self._first[planned.order_id]
            return Written(planned, first.record, first.digest, first.order)
        if planned.refund_of is not None:
            return self._refund(planned, now)
        order = self._proven(planned, _order(planned, now), now)
        body = encode(order)
        record = self._sign(planned, body, now)
        if planned.spoil is not None:
            record = self._spoilt(planned, record)
        readable = planned.kind not in ("malformed", "faulty")
        written = Written(
            planned,
            record,
            hashlib.sha256(record.value).digest(),
            facts_of(order) if readable else None,
        )
        if planned.order_id in self._again:
            self._first.setdefault(planned.order_id, written)
        return written

    def _spoilt(self, planned: Planned, record: Outgoing) -> Outgoing:
        spoilt = SPOILS[planned.kind][planned.spoil or ""](record)
        if planned.kind == "malformed":
            return spoilt
        signer = self._partners[PartnerId(planned.partner_id)].signer
        signature = signer.sign(spoilt.value, ORDER_TYPE).encode()
        return structs.replace(spoilt, headers=[(n, signature if n == "signature" else v) for n, v in spoilt.headers])

    def cancel(self, planned: Planned, now: datetime) -> Outgoing:
        """Write the cancellation of a planned order."""
        self._number += 1
        message = PaymentCancellation(
            partner_id=PartnerId(planned.partner_id),
            cancellation_id=f"k-{planned.order_id}",
            consent_id=ConsentId(planned.consent_id),
            order_id=OrderId(planned.order_id),
            issued_at=now,
            expires_at=now + VALIDITY,
        )
        return signed(self._partners[message.partner_id].signer, message)

    def _refund(self, planned: Planned, now: datetime) -> Written:
        refund = PaymentRefund(
            partner_id=PartnerId(planned.partner_id),
            order_id=OrderId(planned.order_id),
            consent_id=ConsentId(planned.consent_id),
            original_order_id=OrderId(planned.refund_of or ""),
            amount=Money.of(planned.amount_minor, planned.currency),
            issued_at=now,
            expires_at=now + VALIDITY,
        )
        signer = self._partners[refund.partner_id].signer
        record = signed(signer, refund, event_id=f"{planned.order_id}-{self._number}")
        facts = OrderFacts(
            partner_id=refund.partner_id,
            order_id=refund.order_id,
            payment_id=refund.payment_id,
            consent_id=refund.consent_id,
            merchant_id=planned.merchant_id,
            amount_minor=refund.amount.minor,
            currency=refund.amount.currency,
            original_payment_id=refund.original_payment_id,
        )
        return Written(planned, record, hashlib.sha256(record.value).digest(), facts)

    def _proven(self, planned: Planned, order: PaymentOrder, now: datetime) -> PaymentOrder:
        """The order with the proof that the plan gives it."""
        if planned.proof is None:
            return order
        link = link_of(order)
        # Nobody's, where the consent is one that does not exist.
        customer = self._customers.get(order.consent_id, "nobody")
        level, at = LEVEL, now
        match planned.kind:
            case "proof_other_amount":
                link = link.model_copy(update={"amount": Money.of(planned.amount_minor + 100, planned.currency)})
            case "proof_expired":
                at = now - 2 * VALIDITY
            case "proof_weak":
                level = LEVEL - 1
            case "proof_other_person":
                customer = next(c for c in self._customers.values() if c != customer)
        proof = self._identities.prove(
            planned.proof, customer, link, jti=planned.jti_of or planned.order_id, level=level, at=at
        )
        return order.model_copy(update={"authentication": proof})

    def _sign(self, planned: Planned, body: bytes, now: datetime) -> Outgoing:
        partner = self._partners[PartnerId(planned.partner_id)]
        signature: str | None
        match planned.kind:
            case "foreign_key":
                other = self._partners[self._others[partner.partner_id]]
                signature = other.signer.sign(body, ORDER_TYPE)
            case "unknown_key":
                signature = self._unregistered.sign(body, ORDER_TYPE)
            case "alg_none":
                signature = f"{_ALG_NONE}.."
            case "unsigned":
                signature = None
            case "other_typ":
                signature = partner.signer.sign(body, "kr.mypay.consent.command.v1")
            case _:
                signature = partner.signer.sign(body, ORDER_TYPE)
        value = _tampered(body) if planned.kind == "tampered" else body
        event_id = f"{planned.order_id}-{self._number}"
        return record_of(ORDER_TYPE, planned.consent_id, value, event_id=event_id, at=now, signature=signature)


def _order(planned: Planned, now: datetime) -> PaymentOrder:
    begins, ends = _TIMES.get(planned.kind, (timedelta(0), VALIDITY))
    expires_at = now + ends if planned.kind != "future" else now + begins + VALIDITY
    day = None
    if planned.kind in _DAYS_AHEAD:
        day = day_of(now) + timedelta(days=_DAYS_AHEAD[planned.kind])
        expires_at = max(day_start(day), now) + VALIDITY
    return PaymentOrder(
        partner_id=PartnerId(planned.partner_id),
        order_id=OrderId(planned.order_id),
        consent_id=ConsentId(planned.consent_id),
        merchant_id=MerchantId(planned.merchant_id),
        amount=Money.of(planned.amount_minor, planned.currency),
        issued_at=now + begins,
        expires_at=expires_at,
        requested_execution_date=day,
    )


def facts_of(order: PaymentOrder) -> OrderFacts:
    """What an order says, as the check of the books compares it."""
    return OrderFacts(
        partner_id=order.partner_id,
        order_id=order.order_id,
        payment_id=payment_id_of(order.partner_id, order.order_id),
        consent_id=order.consent_id,
        merchant_id=order.merchant_id,
        amount_minor=order.amount.minor,
        currency=order.amount.currency,
    )


def _tampered(body: bytes) -> bytes:
    """The same order for a hundred times as much."""
    changed = json.loads(body)
    changed["amount"]["value"] = "9" + changed["amount"]["value"]
    return json.dumps(changed, separators=(",", ":")).encode()
