"""What is told of exports: their receipt and their void attempts, to recipients and partners, by the outbox."""

import hashlib
import random
import string
from datetime import datetime
from typing import Any, Final

from gateway.outbox.store import OutboxEvent
from gateway.portability.rules.records import Export, StoredRequest
from gateway.portability.taking import event_of
from schemas.codec import encode
from schemas.events import EventType
from schemas.portability import (
    EXPORT_COMPLETE_TYPE,
    EXPORT_VOID_TYPE,
    ExportComplete,
    ExportManifest,
    ExportVoid,
    PortabilityEvent,
)
from schemas.reasons import Reason
from schemas.topics import exports_topic

_ALPHABET: Final = string.ascii_uppercase + string.digits


def tran_id(org_code: str, name: str) -> str:
    """``x-api-tran-id`` of something with this name: the same one each time, and no two alike."""
    drawn = random.Random(hashlib.sha256(name.encode()).digest())  # noqa: S311 - a name, not a secret
    return org_code + "".join(drawn.choices(_ALPHABET, k=15))


def _id(export: Export) -> str:
    return f"{export.partner_id}/{export.request_id}/{export.number}"


def _event(export: Export, stored: StoredRequest, status: str, now: datetime, **more: Any) -> PortabilityEvent:
    return PortabilityEvent.of_stored(
        partner_id=export.partner_id,
        consent_id=export.consent_id,
        request_id=export.request_id,
        status=status,
        rcv_org_code=stored.request.rcv_org_code,
        export_id=export.export_id,
        reference=stored.reference,
        occurred_at=now,
        **more,
    )


def whole_events(
    export: Export, stored: StoredRequest, manifest: ExportManifest, receipt: str, version: int, now: datetime
) -> list[OutboxEvent]:
    """An export is whole: the recipient gets its receipt, and the partner is told."""
    complete = ExportComplete(export_id=export.export_id, attempt=export.attempt, receipt=receipt)
    told = _event(
        export,
        stored,
        "delivered",
        now,
        records=sum(manifest.counts.values()),
        chunks=len(manifest.chunks),
        x_api_tran_id=manifest.x_api_tran_id,
        receipt=receipt,
        consent_version=version,
        purpose=manifest.purpose,
        attempt=export.attempt,
    )
    return [
        _to_recipient(export, stored, EXPORT_COMPLETE_TYPE, f"{_id(export)}:complete", encode(complete), now),
        delivered_event(export, told, stored.traceparent),
    ]


def delivered_event(export: Export, told: PortabilityEvent, traceparent: str | None = None) -> OutboxEvent:
    """For the partner and the disclosure log."""
    return event_of(told, EventType.PORTABILITY_DELIVERED, f"{_id(export)}:delivered", traceparent)


def void_events(
    export: Export, attempt: int, stored: StoredRequest, reason: Reason, now: datetime
) -> list[OutboxEvent]:
    """An attempt is void: the recipient is told, and the partner too where chunks may have left."""
    void = ExportVoid(export_id=export.export_id, attempt=attempt, reason=reason, occurred_at=now)
    name = f"{_id(export)}:{attempt}"
    events = [_to_recipient(export, stored, EXPORT_VOID_TYPE, f"{name}:void", encode(void), now)]
    if export.sent_chunks:
        told = _event(
            export,
            stored,
            "abandoned",
            now,
            attempt=attempt,
            chunks=export.sent_chunks,
            consent_version=export.sent_version,
            purpose=stored.request.purpose,
            reason=reason,
        )
        events.append(event_of(told, EventType.PORTABILITY_ABANDONED, f"{name}:abandoned", stored.traceparent))
    return events


def ended_event(export: Export, stored: StoredRequest, reason: Reason, now: datetime) -> OutboxEvent:
    """An export has ended without being whole: the partner is told why."""
    told = _event(export, stored, "voided", now, reason=reason)
    return event_of(told, EventType.PORTABILITY_VOIDED, f"{_id(export)}:voided")


def _to_recipient(
    export: Export, stored: StoredRequest, type_: str, event_id: str, body: bytes, now: datetime
) -> OutboxEvent:
    topic = exports_topic(stored.request.rcv_org_code)
    return OutboxEvent(topic, export.export_id, event_id, type_, now, body, stored.traceparent)
