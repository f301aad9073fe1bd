"""The record that execution reads: the partner's own bytes and signature, and where and when they came.

Initiation writes it for what is paid at once, the schedule for what was accepted for its day, which has come.

The rest of the partner's headers stays behind: what execution does not need goes no further into the gateway.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.domain.intent import TakenOrder
from gateway.domain.scheduling import ScheduledOrder
from gateway.ports import Outgoing, Record
from schemas.codec import decode
from schemas.envelope import CONTENT_TYPE, Envelope, EnvelopeError, is_traceparent, read_envelope, write_envelope
from schemas.orders import OCCURRENCE_TYPE, ORDER_TYPE, OccurrenceOrder, PaymentOrder
from schemas.primitives import NetworkId
from schemas.topics import dispatch_topic

ORDERED_AT_HEADER: Final = "mypay-ordered-at"
"""Milliseconds since the epoch: the Kafka timestamp of the partner's record."""


DUE_HEADER: Final = "mypay-due"
"""Marks an order that waited for its day: ``proven`` where the customer's proof was judged when it was accepted."""

SOURCE: Final = "/mypay/initiation"
SCHEDULE_SOURCE: Final = "/mypay/schedule"

_FORWARDED: Final = frozenset(("ce_specversion", "ce_type", "ce_time", "signature"))
"""Of these the envelope's rules leave no room for a partner's own text."""

_MODELS: Final[Mapping[str, type[PaymentOrder]]] = {ORDER_TYPE: PaymentOrder, OCCURRENCE_TYPE: OccurrenceOrder}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PROVEN: Final = {b"proven": True, b"unproven": False}


def write_dispatch(record: Record, network_id: NetworkId) -> Outgoing:
    """Forward an accepted order to one network: its bytes unchanged, its id the place of the partner's own record.

    Its headers have been read (:func:`read_envelope`), so those that go on need no second look.
    """
    return Outgoing(
        topic=dispatch_topic(network_id),
        key=record.key,
        value=record.value,
        headers=[
            *(h for h in record.headers if h[0] in _FORWARDED or (h[0] == "traceparent" and is_traceparent(h[1]))),
            ("ce_id", record.reference.encode()),
            ("ce_source", SOURCE.encode()),
            ("content-type", CONTENT_TYPE.encode()),
            (ORDERED_AT_HEADER, str(record.timestamp_ms).encode()),
        ],
    )


def write_item(taken: TakenOrder, body: bytes, network_id: NetworkId) -> Outgoing:
    """Forward one accepted item of a bulk: the bytes that the gateway made of it, under the bulk's signature."""
    envelope = Envelope(
        id=taken.reference,
        source=SOURCE,
        type=ORDER_TYPE,
        time=taken.ordered_at,
        signature=taken.signature,
        traceparent=taken.traceparent,
    )
    return Outgoing(
        topic=dispatch_topic(network_id),
        key=taken.order.consent_id.encode(),
        value=body,
        headers=[*write_envelope(envelope), _ordered_header(taken.ordered_at)],
    )


def write_due(waited: ScheduledOrder, order: PaymentOrder, network_id: NetworkId, now: datetime) -> Outgoing:
    """Hand an order on whose day has come: as it came, with its mark."""
    envelope = Envelope(
        id=waited.reference,
        source=SCHEDULE_SOURCE,
        type=waited.order_type,
        time=now,
        signature=waited.signature,
        traceparent=waited.traceparent,
    )
    return Outgoing(
        topic=dispatch_topic(network_id),
        key=order.consent_id.encode(),
        value=waited.body,
        headers=[
            *write_envelope(envelope),
            _ordered_header(waited.ordered_at),
            (DUE_HEADER, b"proven" if waited.proven else b"unproven"),
        ],
    )


def _ordered_header(ordered_at: datetime) -> tuple[str, bytes]:
    return ORDERED_AT_HEADER, str((ordered_at - _EPOCH) // timedelta(milliseconds=1)).encode()


def read_dispatch(record: Record) -> TakenOrder:
    """Read a dispatched order.

    Raises:
        DecodeError, EnvelopeError: it is not one; nobody but the gateway writes here, so this is a bug or tampering.
    """
    envelope = read_envelope(record.headers)
    proven = _proven(record)
    return TakenOrder(
        order=decode_order(envelope.type, record.value),
        digest=hashlib.sha256(record.value).digest(),
        ordered_at=read_ordered_at(record),
        # Both stages name the partner's record, so that what they both tell has one id, and one that the partner knows.
        reference=envelope.id,
        traceparent=envelope.traceparent,
        signature=envelope.signature,
        is_due=proven is not None,
        proven=bool(proven),
    )


def decode_order(type_: str, body: bytes) -> PaymentOrder:
    """Read an order that initiation has accepted, or that the gateway made.

    Raises:
        DecodeError: it is not one.
    """
    return decode(_MODELS.get(type_, PaymentOrder), body, trusted=True)


def _proven(record: Record) -> bool | None:
    for name, value in record.headers:
        if name == DUE_HEADER:
            if value not in _PROVEN:
                raise EnvelopeError(DUE_HEADER, "must be proven or unproven")
            return _PROVEN[value]
    return None


def read_ordered_at(record: Record) -> datetime:
    """The Kafka timestamp of the partner's record.

    Raises:
        EnvelopeError: the header with it is missing or wrong.
    """
    raw = next((value for name, value in record.headers if name == ORDERED_AT_HEADER), b"")
    if not raw.isdigit() or len(raw) > 15:
        raise EnvelopeError(ORDERED_AT_HEADER, "must be milliseconds since the epoch")
    return datetime.fromtimestamp(int(raw) / 1000, UTC)
