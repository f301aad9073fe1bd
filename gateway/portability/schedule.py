"""Scheduled transmissions: the export that is due is begun, and those stop that no customer has asked about."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.rules.consent import refuse_use
from gateway.database.unit import Store
from gateway.outbox.store import OutboxEvent
from gateway.portability.rules.records import Export, ExportState, RequestStatus, StoredRequest
from gateway.portability.rules.requests import LAPSED, NO_CONSENT, OVERLAP, Lapse, lapse, next_due, search_from
from gateway.portability.store import PortabilityUnit
from gateway.portability.taking import event_of
from schemas.consents import Purpose
from schemas.events import EventType
from schemas.portability import PortabilityEvent
from schemas.reasons import Reason

BATCH: Final = 100


class ScheduledExports:
    """Begins the exports that are due. Any number of workers may do so side by side."""

    def __init__(self, *, store: Store[PortabilityUnit], observer: Observer, clock: Clock) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def begin_due(self) -> int:
        """Begin a batch; return how many requests were moved on."""
        begun, stopped = await until_done(self._begin)
        self._observer.count("schedule", "export_begun", n=begun)
        self._observer.count("schedule", "transmission_stopped", n=stopped)
        return begun + stopped

    async def _begin(self) -> tuple[int, int]:
        async with self._store.transaction() as uow:
            rows = await uow.portability.claim_due(now=self._clock.now(), limit=BATCH)
            if not rows:
                return 0, 0
            now = self._clock.now()
            consents = await uow.consents.read(sorted({r.consent_key for r in rows}))
            stopped: list[tuple[StoredRequest, Reason]] = []
            begun: list[StoredRequest] = []
            for row in rows:
                consent = consents.get(row.consent_key)
                refused = NO_CONSENT if consent is None else refuse_use(consent, Purpose.PORTABILITY, now)
                if refused is None and lapse(row.accessed_at, now) is not Lapse.GOES_ON:
                    refused = LAPSED
                if refused is not None:
                    stopped.append((replace(row, status=RequestStatus.STOPPED, next_due_at=None), refused))
                else:
                    begun.append(_moved_on(row, now))
            await uow.portability.update_requests([*begun, *(row for row, _ in stopped)])
            whole = await uow.portability.last_snapshots([row.key for row in begun])
            await uow.portability.add_exports([_export(row, whole.get(row.key), now) for row in begun])
            await uow.outbox.append([_stopped(row, reason, now) for row, reason in stopped])
        return len(begun), len(stopped)


def _moved_on(row: StoredRequest, now: datetime) -> StoredRequest:
    """With one export more; cycles that an outage has missed are one export together."""
    exports = row.exports + 1
    due = next_due(row.request, row.created_at, exports)
    while due is not None and due <= now:
        exports += 1
        due = next_due(row.request, row.created_at, exports)
    return replace(row, exports=exports, next_due_at=due)


def _export(row: StoredRequest, whole_at: datetime | None, now: datetime) -> Export:
    # From the moment of the last one that is whole: what changed then may come twice, never not at all.
    since = search_from(row.request) if whole_at is None else whole_at - OVERLAP
    return Export(
        partner_id=row.request.partner_id,
        request_id=row.request.request_id,
        number=row.exports,
        consent_id=row.request.consent_id,
        state=ExportState.WAITING,
        attempt=0,
        search_from=since,
        created_at=now,
        changed_at=now,
    )


def _stopped(row: StoredRequest, reason: Reason, now: datetime) -> OutboxEvent:
    request = row.request
    told = PortabilityEvent.of_stored(
        partner_id=request.partner_id,
        consent_id=request.consent_id,
        request_id=request.request_id,
        status="stopped",
        rcv_org_code=request.rcv_org_code,
        reason=reason,
        reference=row.reference,
        occurred_at=now,
    )
    name = f"{request.partner_id}/{request.request_id}:stopped"
    return event_of(told, EventType.PORTABILITY_STOPPED, name, row.traceparent)
