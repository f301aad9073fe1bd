"""Stored payments, Kafka records and clearing messages for tests; every argument overrides one field."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.consents.rules.limits import WindowKey
from gateway.identity.assurance import Assertion
from gateway.messaging.records import Outgoing, Record
from gateway.network.exchange import Operation, TraceNumbers
from gateway.outbox.store import OutboxEvent
from gateway.payments.dispatch import Dispatch
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.clearing import CLEARING_TYPE, ClearingBatch, ClearingKind, ClearingRecord
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.events import EventType
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId, payment_id_of
from tests.support.domain_samples import NOW, order

NETWORK = "net-a"
TERMINAL = "GW000001"
DISPATCH = Dispatch(HmacMarks(MasterKeys({"20260101": bytes(32)}), Purpose.DISPATCH_MARK))
"""Marks what these builders dispatch, and what the rigs' workers do."""

UNSENT = (PaymentState.REJECTED, PaymentState.SCHEDULED)


def trace(number: int = 1, *, at: datetime = NOW) -> TraceNumbers:
    return TraceNumbers(TERMINAL, number, f"{number:012d}", at.replace(microsecond=0))


def payment(number: int = 1, *, state: PaymentState = PaymentState.SENT, **fields: Any) -> Payment:
    """A payment whose order id, digest and trace numbers follow from ``number``."""
    partner_id = fields.get("partner_id", "partner-1")
    order_id = fields.get("order_id", f"order-{number}")
    sent = state not in UNSENT
    defaults: dict[str, Any] = {
        "partner_id": partner_id,
        "payment_id": payment_id_of(partner_id, order_id),
        "order_id": order_id,
        "consent_id": "consent-1",
        "consent_version": 1,
        "merchant_id": "merchant-1",
        "operation": Operation.PURCHASE,
        "amount_minor": 10_000,
        "currency": "KRW",
        "funding_token": "token-1" if sent else None,
        "order_digest": hashlib.sha256(order_id.encode()).digest(),
        "state": state,
        "version": 1,
        "reason": None,
        "network_id": NETWORK if sent else None,
        "trace": trace(number) if sent else None,
        "approval_code": None,
        "windows": (),
        "ordered_at": NOW,
        "decided_at": NOW,
        "changed_at": NOW,
    }
    return Payment(**(defaults | fields))


def window(limit_key: str = "day/calendar/KRW", starts_at: datetime = NOW) -> WindowKey:
    return WindowKey(limit_key, starts_at)


def outbox_event(name: str, *, key: str = "k", topic: str = "mypay.events.partner-1") -> OutboxEvent:
    return OutboxEvent(topic, key, name, EventType.PAYMENT_SENT, NOW, name.encode())


def order_record(
    placed: PaymentOrder | bytes,
    *,
    offset: int = 0,
    signature: str | None = "good",
    key: bytes | None = b"",
    type_: str = ORDER_TYPE,
    topic: str = "mypay.orders",
    at: datetime = NOW,
    more_headers: Sequence[tuple[str, bytes]] = (),
) -> Record:
    """A partner's record; ``key=b""`` stands for the order's own consent id."""
    value = placed if isinstance(placed, bytes) else encode(placed)
    if key == b"":
        key = None if isinstance(placed, bytes) else placed.consent_id.encode()
    headers = write_envelope(Envelope(f"ce-{offset}", "/partner", type_, at, signature=signature))
    timestamp_ms = int(at.timestamp() * 1000)
    return Record(topic, 0, offset, timestamp_ms, key, value, (*headers, *more_headers))


def dispatched_record(
    placed: PaymentOrder | bytes,
    *,
    offset: int = 0,
    at: datetime = NOW,
    signature: str | None = "good",
    proof: Assertion | None = None,
) -> Record:
    """What initiation makes of the partner's record at ``offset`` of partition 0, or of bytes that are no order."""
    record = order_record(placed, offset=offset, at=at)
    received = ReceivedOrder(
        order=order() if isinstance(placed, bytes) else placed,
        digest=hashlib.sha256(record.value).digest(),
        ordered_at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
        reference=record.reference,
        signature=signature,
        assertion=proof,
    )
    return as_record(DISPATCH.order(received, record.value, NetworkId(NETWORK), at), offset, at=at)


def as_record(sent: Outgoing, offset: int = 0, *, at: datetime = NOW) -> Record:
    """What a consumer makes of it."""
    return Record(sent.topic, 0, offset, int(at.timestamp() * 1000), sent.key, sent.value, tuple(sent.headers))


def numbered_order(number: int, **fields: Any) -> PaymentOrder:
    return order(**({"order_id": f"order-{number}"} | fields))


def clearing_record(of: Payment, record_no: int = 1, **fields: Any) -> ClearingRecord:
    """The record of a network that agrees with the gateway about this payment."""
    assert of.trace is not None
    defaults: dict[str, Any] = {
        "record_no": record_no,
        "kind": ClearingKind(of.operation.value),
        "rrn": of.trace.rrn,
        "stan": of.trace.stan,
        "terminal_id": of.trace.terminal_id,
        "acceptor_id": "ACCEPTOR1",
        "amount_minor": of.amount_minor,
        "currency": of.currency,
    }
    return ClearingRecord(**(defaults | fields))


def clearing_message(body: ClearingBatch | bytes, *, offset: int = 0, type_: str = CLEARING_TYPE) -> Record:
    value = body if isinstance(body, bytes) else encode(body)
    headers = write_envelope(Envelope(f"cl-{offset}", "/network", type_, NOW))
    return Record(f"mypay.clearing.{NETWORK}", 0, offset, int(NOW.timestamp() * 1000), b"c1", value, tuple(headers))


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
