"""The record between initiation and execution: the partner's own bytes and signature, and where and when they came.

The rest of the partner's headers stays behind: what execution does not need goes no further into the gateway.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.domain.intent import TakenOrder
from gateway.ports import Outgoing, Record
from schemas.codec import decode
from schemas.envelope import EnvelopeError, read_envelope, write_envelope
from schemas.orders import PaymentOrder
from schemas.primitives import NetworkId
from schemas.topics import dispatch_topic

ORDERED_AT_HEADER: Final = "mypay-ordered-at"
"""Milliseconds since the epoch: the Kafka timestamp of the partner's record."""


SOURCE: Final = "/mypay/initiation"


def write_dispatch(record: Record, network_id: NetworkId) -> Outgoing:
    """Forward an accepted order to one network: its bytes unchanged, its id the place of the partner's own record.

    Raises:
        EnvelopeError: the record's headers are not a CloudEvent's.
    """
    envelope = replace(read_envelope(record.headers), id=record.reference, source=SOURCE)
    return Outgoing(
        topic=dispatch_topic(network_id),
        key=record.key,
        value=record.value,
        headers=[*write_envelope(envelope), (ORDERED_AT_HEADER, str(record.timestamp_ms).encode())],
    )


def read_dispatch(record: Record) -> TakenOrder:
    """Read a dispatched order.

    Raises:
        DecodeError, EnvelopeError: it is not one; nobody but initiation writes here, so this is a bug or tampering.
    """
    envelope = read_envelope(record.headers)
    return TakenOrder(
        order=decode(PaymentOrder, record.value, trusted=True),
        digest=hashlib.sha256(record.value).digest(),
        ordered_at=_ordered_at(record),
        # Both stages name the partner's record, so that what they both tell has one id, and one that the partner knows.
        reference=envelope.id,
        traceparent=envelope.traceparent,
        signature=envelope.signature,
    )


def _ordered_at(record: Record) -> datetime:
    raw = next((value for name, value in record.headers if name == ORDERED_AT_HEADER), b"")
    if not raw.isdigit() or len(raw) > 15:
        raise EnvelopeError(ORDERED_AT_HEADER, "must be milliseconds since the epoch")
    return datetime.fromtimestamp(int(raw) / 1000, UTC)
