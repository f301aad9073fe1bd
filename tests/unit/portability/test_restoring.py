"""After a restore: what was delivered is not delivered again, and no attempt has a number that was used before."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from gateway.app.restored_events import Events
from gateway.base.errors import PublisherUnavailableError
from gateway.messaging.records import Record
from gateway.portability.restoring import ExportsFound, ToldExports, exports_again
from gateway.portability.rules.records import Export, ExportState, RequestStatus
from schemas.envelope import Envelope, read_envelope, write_envelope
from schemas.portability import EXPORT_CHUNK_TYPE
from tests.support.builders import NOW
from tests.support.portability import PortabilityRig


@pytest.fixture
def rig() -> PortabilityRig:
    rig = PortabilityRig()
    rig.pay(1, 2, 3, 4, 5)
    return rig


def remembered(rig: PortabilityRig) -> Callable[[], None]:
    """A backup of what portability holds; called, it is restored. What was told stays told."""
    tables = (rig.database.transmissions, rig.database.exports)
    kept = [dict(t.rows) for t in tables]

    def restore() -> None:
        for table, rows in zip(tables, kept, strict=True):
            table.rows.clear()
            table.rows.update(rows)  # type: ignore[arg-type]

    return restore


async def again(rig: PortabilityRig, told_of: int = 0) -> ExportsFound:
    """As `mypay restore payments` does it, of what was told from the event of this number on."""
    events = Events()
    for row in list(rig.database.outbox)[told_of:]:
        e = row.event
        headers = tuple(write_envelope(Envelope(e.event_id, "/x", e.event_type, NOW)))
        events.add("partner-1", Record(e.topic, 0, 0, 0, b"", e.body, headers))
    told = ToldExports(events.delivered)
    for record in rig.kafka.records:
        envelope = read_envelope(tuple(record.headers))
        assert envelope.type == EXPORT_CHUNK_TYPE
        export_id, attempt, chunk = envelope.id.split(":")
        told.send(export_id, int(attempt), int(chunk))
    waiting = [e for e in rig.database.exports.rows.values() if e.state in (ExportState.WAITING, ExportState.SENDING)]
    async with rig.store.transaction() as uow:
        return await exports_again(uow, told, waiting, rig.clock.now())


def exports(rig: PortabilityRig) -> list[Export]:
    return [e for _, e in sorted(rig.database.exports.rows.items())]


async def test_what_was_delivered_stands_as_it_was_and_does_not_leave_again(rig: PortabilityRig) -> None:
    await rig.take(rig.record())
    restore = remembered(rig)
    await rig.make_all()
    stood, handed = exports(rig), rig.handed_over()
    restore()
    found = await again(rig)
    assert (found.whole, found.attempts, found.unplaced) == (1, 0, {})
    assert exports(rig) == stood
    assert [r.status for r in rig.database.transmissions.rows.values()] == [RequestStatus.DONE]
    assert await rig.make_all() == 0
    assert rig.handed_over() == handed
    # The log, which was restored too, has it again; its recipient was told before.
    assert rig.partner_told() == ["accepted", "delivered", "delivered"]
    assert len({row.event.body for row in rig.database.outbox if row.event.event_type.endswith("delivered.v1")}) == 1
    assert len(rig.reader().whole) == 1
    # Once more changes nothing.
    assert (await again(rig)).whole == 0
    assert len(rig.database.outbox) == 4


async def test_the_next_attempt_at_what_was_under_way_has_a_number_of_its_own(rig: PortabilityRig) -> None:
    await rig.take(rig.record())
    restore = remembered(rig)
    # The second attempt is cut off in the middle, and the first before it.
    for _ in range(2):
        rig.faults.plan("publisher.publish", None, None, PublisherUnavailableError("away"))
        await rig.make_all()
        rig.clock.advance(61)
    restore()
    found = await again(rig)
    assert (found.whole, found.attempts) == (0, 1)
    await rig.make_all()
    [export] = exports(rig)
    assert (export.state, export.attempt) == (ExportState.COMPLETE, 3)
    assert sorted(attempt for _, attempt in rig.handed_over()) == [1, 2, 3]
    [whole] = rig.reader().whole.values()
    assert whole.manifest.attempt == 3
    # The last one of before is told to be void, and logged, with all of its chunks.
    assert (export.export_id, 2) in rig.reader().void
    assert rig.unlogged() == []


async def test_an_export_of_a_later_cycle_that_was_delivered_since_is_not_begun_again(rig: PortabilityRig) -> None:
    await rig.take(rig.record(is_scheduled=True, fnd_cycle="1/m", add_cycle="1/w"))
    await rig.make_all()
    told = len(rig.database.outbox)
    restore = remembered(rig)
    rig.clock.advance(timedelta(days=7).total_seconds())
    assert await rig.schedule.begin_due() == 1
    await rig.make_all()
    stood, requests, handed = exports(rig), dict(rig.database.transmissions.rows), rig.handed_over()
    restore()
    found = await again(rig, told)
    assert (found.whole, found.unplaced) == (1, {})
    assert [(e.number, e.state, e.snapshot_at) for e in exports(rig)] == [
        (e.number, e.state, e.snapshot_at) for e in stood
    ]
    assert rig.database.transmissions.rows == requests
    assert await rig.schedule.begin_due() == 0
    assert await rig.make_all() == 0
    assert rig.handed_over() == handed


async def test_a_delivery_whose_request_is_forgotten_is_named(rig: PortabilityRig) -> None:
    restore = remembered(rig)
    await rig.take(rig.record())
    await rig.make_all()
    [export] = exports(rig)
    restore()
    found = await again(rig)
    assert list(found.unplaced) == [export.export_id]
    assert exports(rig) == []
