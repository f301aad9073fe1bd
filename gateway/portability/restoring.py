"""After a database was set back in time: exports that were whole are so again, and no attempt's number is used twice.

An export that the database takes for open would leave once more, although its recipient has it whole. The chunks of an
attempt whose number was used before would stand beside those of the lost one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gateway.outbox.store import OutboxEvent
from gateway.portability.export_events import delivered_event
from gateway.portability.rules.records import Export, ExportState, RequestKey, StoredRequest
from gateway.portability.rules.requests import next_due
from gateway.portability.sealed import manifest_of
from gateway.portability.store import PortabilityUnit
from schemas.portability import PortabilityEvent
from schemas.primitives import PartnerId

_AHEAD: Final = 100
"""Exports of one request that may have been begun since: weekly ones of two years."""

_OPEN: Final = frozenset({ExportState.WAITING, ExportState.SENDING})

_NO_REQUEST: Final = "its request does not stand here: where it comes again it may be delivered again"


@dataclass(slots=True)
class ToldExports:
    """What was told of exports since a moment, by their ids.

    Attributes:
        delivered: what partners were told of those that were whole.
        sent: the last attempt of which chunks stand in the recipient's topic, and how many.
    """

    delivered: dict[str, PortabilityEvent] = field(default_factory=dict)
    sent: dict[str, tuple[int, int]] = field(default_factory=dict)

    def send(self, export_id: str, attempt: int, chunk: int) -> None:
        """A chunk stands in a recipient's topic; in whatever order."""
        self.sent[export_id] = max(self.sent.get(export_id, (0, 0)), (attempt, chunk))


@dataclass(slots=True)
class ExportsFound:
    """What was done.

    Attributes:
        whole: exports that are whole again.
        attempts: open ones whose next attempt has a number of its own.
        unplaced: exports that were delivered and do not stand here, each with why.
    """

    whole: int = 0
    attempts: int = 0
    unplaced: dict[str, str] = field(default_factory=dict)


async def exports_again(
    uow: PortabilityUnit, told: ToldExports, waiting: Sequence[Export], now: datetime
) -> ExportsFound:
    """Write down what was told, while no stage makes exports.

    ``waiting``: exports that stand here and are neither whole nor void.
    """
    found = ExportsFound()
    keys: set[RequestKey] = {(PartnerId(e.partner_id), e.request_id) for e in told.delivered.values()}
    requests = dict(await uow.portability.requests(sorted(keys)))
    events: list[OutboxEvent] = []
    for export_id, event in told.delivered.items():
        stored = requests.get((PartnerId(event.partner_id), event.request_id))
        export = None if stored is None else _named(stored, export_id, event.occurred_at)
        if stored is None or export is None:
            found.unplaced[export_id] = _NO_REQUEST
            continue
        standing = await uow.portability.lock_export(export)
        if standing is None:
            # The next of a scheduled request: it was begun since.
            await uow.portability.add_exports([export])
            requests[stored.key] = stored = _moved_on(stored, export.number)
            await uow.portability.update_requests([stored])
            standing = export
        if standing.state in _OPEN:
            await uow.portability.update_export(_whole(standing, event))
            await uow.portability.finish_request(stored.key)
            # The disclosure log has forgotten it, too. Its recipient has the receipt.
            events.append(delivered_event(standing, event))
            found.whole += 1
    for export in waiting:
        found.attempts += await _pass_attempts(uow, export, told.sent, now)
    await uow.outbox.append(events)
    return found


async def _pass_attempts(
    uow: PortabilityUnit, export: Export, sent: Mapping[str, tuple[int, int]], now: datetime
) -> bool:
    """Let the next attempt at an open export be another than those that were made; the last is told as void then."""
    attempt, chunks = sent.get(export.export_id, (0, 0))
    standing = await uow.portability.lock_export(export)
    if standing is None or standing.state not in _OPEN or (attempt, chunks) <= (standing.attempt, standing.sent_chunks):
        return False
    passed = replace(
        standing,
        state=ExportState.SENDING,
        attempt=attempt,
        sent_chunks=chunks,
        leased_by=None,
        leased_until=None,
        changed_at=now,
    )
    await uow.portability.update_export(passed)
    return True


def _named(stored: StoredRequest, export_id: str, now: datetime) -> Export | None:
    """The export of a request that has this id, as it is begun."""
    request = stored.request
    numbered = (
        Export(
            partner_id=request.partner_id,
            request_id=request.request_id,
            number=number,
            consent_id=request.consent_id,
            state=ExportState.WAITING,
            attempt=0,
            search_from=None,
            created_at=now,
            changed_at=now,
        )
        for number in range(1, stored.exports + _AHEAD)
    )
    return next((e for e in numbered if e.export_id == export_id), None)


def _moved_on(stored: StoredRequest, number: int) -> StoredRequest:
    exports = max(stored.exports, number)
    due = stored.next_due_at and next_due(stored.request, stored.created_at, exports)
    return replace(stored, exports=exports, next_due_at=due)


def _whole(standing: Export, event: PortabilityEvent) -> Export:
    if event.receipt is None or event.attempt is None:
        raise AssertionError("what was delivered has a receipt and an attempt")
    return replace(
        standing,
        state=ExportState.COMPLETE,
        attempt=event.attempt,
        snapshot_at=manifest_of(event.receipt).snapshot_at,
        receipt=event.receipt,
        leased_by=None,
        leased_until=None,
        changed_at=event.occurred_at,
        sent_chunks=event.chunks or 0,
        sent_version=event.consent_version,
    )
