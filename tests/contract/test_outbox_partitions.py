"""Old partitions of the outbox are dropped whole, and never with an event in them that somebody still needs."""

from datetime import timedelta

from msgspec.structs import replace

from gateway.observability.recording import RecordingObserver
from gateway.outbox.retention import RetentionSettings
from gateway.proving.memory import MemoryClock
from tests.contract.conftest import Backend, postgres_backend
from tests.contract.test_outbox import append, leading
from tests.support.builders import NOW, later, outbox_event
from tests.support.leading import tell
from tests.support.stages import timers

OLD, YOUNG = -90, -5
TRANSACTIONS = 40
"""More than two partitions' worth: at least one lies whole within them."""


async def drop(backend: Backend) -> int:
    total = 0
    while True:
        async with backend.store.transaction() as uow:
            dropped = await uow.outbox.drop_partition(before=later(-60))
        total += dropped
        if not dropped:
            return total


async def fill(backend: Backend, name: str, age: float, transactions: int = TRANSACTIONS) -> None:
    for n in range(transactions):
        async with backend.store.transaction() as uow:
            await uow.outbox.append([replace(outbox_event(f"{name}-{n}"), occurred_at=later(age))])


async def relay_all(backend: Backend, *, park: str = "") -> list[str]:
    reader, told = await leading(backend), []
    while rows := await reader.read(7):
        told += [r.event.event_id for r in rows]
        await reader.advance(rows[-1], parked=[r for r in rows if r.event.event_id == park], reason="missing")
    await reader.release()
    await backend.disclose_all()
    await backend.share_all()
    return told


async def left(backend: Backend) -> set[str]:
    """What is still there."""
    return set(await backend.outbox_events())


async def test_what_is_old_and_relayed_is_dropped_partition_by_partition(backend: Backend) -> None:
    await backend.partition_outbox()
    await fill(backend, "old", OLD)
    await relay_all(backend)
    assert await drop(backend) >= 1
    kept = await left(backend)
    # From the oldest on, without a gap.
    assert kept == {f"old-{n}" for n in range(TRANSACTIONS - len(kept), TRANSACTIONS)}
    assert len(kept) < TRANSACTIONS
    await append(backend.store, "next")
    assert await relay_all(backend) == ["next"]


async def test_nothing_is_dropped_that_was_not_relayed(backend: Backend) -> None:
    await backend.partition_outbox()
    await fill(backend, "old", OLD)
    reader = await leading(backend)
    assert await drop(backend) == 0
    rows = await reader.read(TRANSACTIONS)
    await tell(reader, rows[0])
    await backend.disclose_all()
    await backend.share_all()
    await drop(backend)
    assert {r.event.event_id for r in rows[1:]} <= await left(backend)
    await tell(reader, (await reader.read(TRANSACTIONS))[-1])
    assert await drop(backend) == 0  # the disclosure log has not read them yet
    await backend.disclose_all()
    await backend.share_all()
    assert await drop(backend) >= 1


async def test_an_event_that_is_set_aside_keeps_its_partition_and_no_other(backend: Backend) -> None:
    await backend.partition_outbox()
    await fill(backend, "old", OLD, TRANSACTIONS * 2)
    # One that lies within a whole partition, with another one behind it.
    await relay_all(backend, park=f"old-{TRANSACTIONS // 2}")
    assert await drop(backend) >= 1
    kept = await left(backend)
    assert f"old-{TRANSACTIONS // 2}" in kept
    assert f"old-{TRANSACTIONS + 2}" not in kept


async def test_what_stands_behind_a_younger_one_stays(backend: Backend) -> None:
    await backend.partition_outbox()
    await fill(backend, "first", OLD)
    await fill(backend, "young", YOUNG, 1)
    await fill(backend, "last", OLD)
    await relay_all(backend)
    assert await drop(backend) >= 1
    kept = await left(backend)
    assert {"young-0"} | {f"last-{n}" for n in range(TRANSACTIONS)} <= kept


async def test_a_partition_in_which_a_running_transaction_may_still_write_stays(backend: Backend) -> None:
    await backend.partition_outbox()
    key = "held"
    async with backend.store.transaction() as slow:
        await slow.outbox.append([replace(outbox_event(key), occurred_at=later(OLD))])
        await fill(backend, "old", OLD)
        await relay_all(backend)
        before = await left(backend)
        await drop(backend)
        # Nothing from where it stands on has gone.
        assert {f"old-{n}" for n in range(TRANSACTIONS)} <= before & await left(backend)
        await slow.outbox.append([replace(outbox_event("more"), occurred_at=later(OLD))])
    assert {key, "more"} <= set(await relay_all(backend))
    assert await drop(backend) >= 1


async def test_partitions_are_made_ahead_once(backend: Backend) -> None:
    for _ in range(2):
        async with backend.store.transaction() as uow:
            made = await uow.outbox.make_partitions(ahead=1)
    assert made == 0


async def test_the_schedule_forgets_all_that_is_old_and_ends(backend: Backend) -> None:
    await backend.partition_outbox()
    await fill(backend, "old", OLD)
    await relay_all(backend)
    observer = RecordingObserver()
    settings = RetentionSettings(keep=timedelta(seconds=60))
    outbox = timers(backend.store, MemoryClock(NOW), observer, retention=settings).outbox
    while await outbox.keep_up():
        pass
    assert observer.counts["outbox", "partition_dropped", ""] >= 1
    assert len(await left(backend)) < TRANSACTIONS


async def test_what_sharing_has_not_read_stays(contract_dsn: str) -> None:
    async with postgres_backend(contract_dsn) as backend:
        await backend.partition_outbox()
        await fill(backend, "old", OLD)
        reader = await leading(backend)
        await tell(reader, (await reader.read(TRANSACTIONS))[-1])
        await backend.disclose_all()
        async with backend.store.transaction() as uow:
            await uow.sharing.follow()
        assert await drop(backend) == 0
        await backend.share_all()
        assert await drop(backend) >= 1


async def test_of_each_partition_a_few_rows_are_analyzed_and_no_body(contract_dsn: str) -> None:
    """A new one took no targets over, and thirty thousand bodies of it were read for what nobody asks."""
    async with postgres_backend(contract_dsn) as backend:
        # The first one is the test's own; all others are made as they always are.
        await backend.partition_outbox()
        found = await backend.connection.fetch(
            "WITH made AS (SELECT name FROM outbox_partition ORDER BY from_tx OFFSET 1)"
            " SELECT relname, attname, attstattarget FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
            " WHERE attnum > 0 AND relnamespace = 'public'::regnamespace"
            " AND (relname IN ('outbox', 'outbox_rest') OR relname IN (SELECT name FROM made))"
        )
    assert len({r["relname"] for r in found}) > 2
    unsearched = {"event_id", "traceparent", "body"}
    assert {(r["attname"], r["attstattarget"]) for r in found} == {
        (name, 0 if name in unsearched else 10) for name in {r["attname"] for r in found}
    }
