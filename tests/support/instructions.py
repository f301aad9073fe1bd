"""Cancellations and refunds as partners send them; every argument overrides one field."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from gateway.messaging.records import Record
from gateway.payments.refunds.rules import ReceivedRefund
from schemas.cancellation import CANCEL_TYPE, PaymentCancellation
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.primitives import NetworkId
from schemas.refunds import REFUND_TYPE, PaymentRefund
from tests.support.builders import DISPATCH, NETWORK, NOW, as_record
from tests.support.domain_samples import krw


def cancellation(number: int = 1, **fields: Any) -> PaymentCancellation:
    """Cancels order-``number``."""
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "cancellation_id": f"cancellation-{number}",
        "consent_id": "consent-1",
        "order_id": f"order-{number}",
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(hours=12),
    }
    return PaymentCancellation(**(defaults | fields))


def refund(number: int = 1, minor: int = 1_000, **fields: Any) -> PaymentRefund:
    """The ``number``-th refund of order-1."""
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "order_id": f"refund-{number}",
        "consent_id": "consent-1",
        "original_order_id": "order-1",
        "amount": krw(minor),
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(hours=12),
    }
    return PaymentRefund(**(defaults | fields))


def instruction_record(
    message: PaymentCancellation | PaymentRefund, offset: int, *, at: datetime = NOW, signature: str = "good"
) -> Record:
    """A partner's record."""
    type_ = REFUND_TYPE if isinstance(message, PaymentRefund) else CANCEL_TYPE
    headers = write_envelope(Envelope(f"ce-{offset}", "/partner", type_, at, signature=signature))
    body, key = encode(message), message.consent_id.encode()
    return Record("mypay.orders", 0, offset, int(at.timestamp() * 1000), key, body, tuple(headers))


def dispatched_refund(message: PaymentRefund, offset: int) -> Record:
    """What initiation makes of the partner's record."""
    record = instruction_record(message, offset)
    received = ReceivedRefund(
        refund=message,
        digest=hashlib.sha256(record.value).digest(),
        ordered_at=NOW,
        reference=record.reference,
        signature="good",
    )
    return as_record(DISPATCH.refund(received, record.value, NetworkId(NETWORK), NOW), offset)
