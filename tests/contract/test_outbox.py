"""Outbox and OutboxReader: every committed event once, in an order that cannot change, to one relay at a time."""

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreUnavailableError
from gateway.database.unit import Store
from gateway.disclosure.rules.sequence import append as append_uses
from gateway.outbox.bundles import BUNDLED_MAX, members_of
from gateway.outbox.rules.ahead import AHEAD_MAX
from gateway.outbox.store import TOO_LARGE, UNREADABLE, OutboxReader
from tests.contract.conftest import Backend, rolled_back
from tests.support.builders import later, outbox_event, payment
from tests.support.leading import led


async def append(store: Store, *names: str) -> None:
    async with store.transaction() as uow:
        await uow.outbox.append([outbox_event(name) for name in names])


async def leading(backend: Backend) -> OutboxReader:
    return await led(backend.reader())


async def names(reader: OutboxReader, limit: int = 100) -> list[str]:
    return [row.event.event_id for row in await reader.read(limit)]


async def drained(reader: OutboxReader, limit: int) -> list[str]:
    """What a relay publishes that reads ``limit`` rows at a time."""
    told: list[str] = []
    while rows := await reader.read(limit):
        assert len(rows) <= limit
        told.extend(row.event.event_id for row in rows)
        await reader.advance(rows[-1])
    return told


async def test_events_come_whole_and_in_order(backend: Backend) -> None:
    full = outbox_event("full", key="payment-7", topic="mypay.settlements")
    async with backend.store.transaction() as uow:
        await uow.outbox.append([])
        await uow.outbox.append([full, outbox_event("next")])
    await append(backend.store, "last")
    rows = await (await leading(backend)).read(10)
    assert [r.event for r in rows] == [full, outbox_event("next"), outbox_event("last")]


async def test_a_bundle_comes_whole_in_its_place(backend: Backend) -> None:
    """Each of its events has a number of its own, and the row that of its last one."""
    several = [outbox_event(f"b{n}") for n in range(BUNDLED_MAX + 2)]
    other = [outbox_event(f"c{n}", topic="mypay.settlements") for n in range(2)]
    async with backend.store.transaction() as uow:
        await uow.outbox.append_bundled([])
        await uow.outbox.append([outbox_event("before")])
        await uow.outbox.append_bundled([other[0], *several, other[1]])
        await uow.outbox.append([outbox_event("behind")])
    await append(backend.store, "last")
    rows = await (await leading(backend)).read(10)
    held = [members_of(r.id, r.event) for r in rows]
    assert [[e.event_id for _, e in events] for events in held] == [
        ["before"],
        [e.event_id for e in several[:BUNDLED_MAX]],
        [e.event_id for e in several[BUNDLED_MAX:]],
        ["c0", "c1"],
        ["behind"],
        ["last"],
    ]
    numbers = [number for events in held for number, _ in events]
    assert len(numbers) == len(set(numbers))
    assert [e for events in held[1:4] for _, e in events] == [*several, *other]
    assert [r.id for r in rows] == [events[-1][0] for events in held] == sorted(r.id for r in rows)


async def test_rows_come_again_until_the_cursor_moves_past_them(backend: Backend) -> None:
    await append(backend.store, "a", "b", "c")
    reader = await leading(backend)
    rows = await reader.read(2)
    assert await names(reader, 2) == ["a", "b"]
    await reader.advance(rows[0])
    assert await names(reader) == ["b", "c"]


async def test_the_cursor_outlives_its_reader(backend: Backend) -> None:
    await append(backend.store, "a", "b")
    first = await leading(backend)
    await first.advance((await first.read(1))[0])
    await first.release()
    assert await names(await leading(backend)) == ["b"]


async def test_one_reader_leads_at_a_time(backend: Backend) -> None:
    first, second = await leading(backend), backend.reader()
    assert not await second.acquire()
    with pytest.raises(StoreUnavailableError):
        await second.read(1)
    await first.release()
    await led(second)
    with pytest.raises(StoreUnavailableError):
        await first.read(1)


async def test_what_was_rolled_back_is_never_told_and_holds_nothing_up(backend: Backend) -> None:
    async with rolled_back(backend.store) as uow:
        await uow.outbox.append([outbox_event("lost")])
    await append(backend.store, "kept")
    assert await names(await leading(backend)) == ["kept"]


async def test_an_earlier_transaction_that_commits_later_is_not_skipped(backend: Backend) -> None:
    reader = await leading(backend)
    async with backend.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow-1")])
        await append(backend.store, "fast-1")
        told = await drained(reader, 10)
        await slow.outbox.append([outbox_event("slow-2")])
        await append(backend.store, "fast-2")
        told += await drained(reader, 10)
    told += await drained(reader, 10)
    assert sorted(told) == ["fast-1", "fast-2", "slow-1", "slow-2"]
    assert told.index("slow-1") < told.index("slow-2")
    assert told.index("fast-1") < told.index("fast-2")


async def test_what_has_committed_is_told_once_however_long_an_earlier_transaction_runs(backend: Backend) -> None:
    reader = await leading(backend)
    async with backend.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow")])
        await append(backend.store, "fast-1", "fast-2", "fast-3")
        assert await drained(reader, 2) == ["fast-1", "fast-2", "fast-3"]
        assert await drained(reader, 2) == []
        await append(backend.store, "fast-4")
        assert await drained(reader, 2) == ["fast-4"]
    assert await drained(reader, 2) == ["slow"]
    assert await drained(reader, 2) == []


async def test_who_follows_tells_again_what_was_told_ahead_and_misses_nothing(backend: Backend) -> None:
    await append(backend.store, "before")
    reader = await leading(backend)
    assert await drained(reader, 9) == ["before"]
    async with backend.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow")])
        await append(backend.store, "fast")
        assert await drained(reader, 9) == ["fast"]
        await reader.release()
        reader = await leading(backend)
        assert await drained(reader, 9) == ["fast"]
    assert await drained(reader, 9) == ["slow"]
    await reader.release()
    assert await drained(await leading(backend), 9) == []


async def test_the_cursor_follows_though_nothing_more_comes(backend: Backend) -> None:
    reader = await leading(backend)
    async with rolled_back(backend.store) as slow:
        await slow.outbox.append([outbox_event("lost")])
        await append(backend.store, "fast")
        assert await drained(reader, 9) == ["fast"]
    assert await drained(reader, 9) == []
    await reader.release()
    assert await drained(await leading(backend), 9) == []


async def test_no_more_is_told_ahead_than_is_looked_past_cheaply(backend: Backend) -> None:
    reader = await leading(backend)
    many = [f"fast-{n:04d}" for n in range(AHEAD_MAX + 100)]
    async with backend.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow")])
        await append(backend.store, *many)
        ahead = await drained(reader, 100)
        assert ahead == many[:AHEAD_MAX]
    assert sorted(ahead + await drained(reader, 100)) == [*many, "slow"]


async def test_rows_that_are_set_aside_ahead_of_the_cursor_are_set_aside_once(backend: Backend) -> None:
    reader = await leading(backend)
    async with backend.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow")])
        await append(backend.store, "aside")
        [row] = await reader.read(9)
        await reader.advance(row, parked=[row], reason="missing")
        assert await reader.read(9) == []
        await reader.release()
        reader = await leading(backend)
        [again] = await reader.read(9)
        await reader.advance(again, parked=[again], reason="missing")
    assert await drained(reader, 9) == ["slow"]
    assert await reader.read_parked(row.event.topic, 9) == [row]


async def test_many_writers_at_once_lose_and_repeat_nothing(backend: Backend) -> None:
    reader = await leading(backend)

    async def write(worker: int) -> None:
        for turn in range(5):
            async with backend.store.transaction() as uow:
                await uow.outbox.append([outbox_event(f"{worker}-{turn}-0")])
                await asyncio.sleep(0)
                await uow.outbox.append([outbox_event(f"{worker}-{turn}-1")])

    writers = asyncio.gather(*(write(w) for w in range(6)))
    told: list[str] = []
    while not writers.done():
        told += await drained(reader, 3)
        await asyncio.sleep(0)
    await writers
    told += await drained(reader, 3)
    assert len(told) == len(set(told)) == 60
    for worker in range(6):
        mine = [name for name in told if name.startswith(f"{worker}-")]
        assert mine == sorted(mine)


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_one_payments_events_keep_the_order_of_its_locks(backend: Backend, limit: int) -> None:
    """The transaction that began first waits for the second one's payment, and tells of it later."""
    one, other = payment(1), payment(2)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([one, other])

    async def settle() -> None:
        async with backend.store.transaction() as uow:
            # Its first lock gives this transaction the lower number.
            await uow.payments.lock([other.key])
            began.set()
            await may_go_on.wait()
            await uow.payments.lock([one.key])
            await uow.outbox.append([outbox_event("version-3", key="one")])

    began, may_go_on = asyncio.Event(), asyncio.Event()
    settling = asyncio.create_task(settle())
    await began.wait()
    async with backend.store.transaction() as uow:
        await uow.payments.lock([one.key])
        may_go_on.set()
        await backend.until_blocked(settling)
        await uow.outbox.append([outbox_event("version-2", key="one")])
    await settling
    await append(backend.store, "afterwards")
    assert await drained(await leading(backend), limit) == ["version-2", "version-3", "afterwards"]


async def test_times_and_traces_of_events_are_kept(backend: Backend) -> None:
    event = outbox_event("traced")
    exact = type(event)(
        event.topic, event.key, event.event_id, event.event_type, later(0.000001), b"\x00\xff", "00-trace"
    )
    async with backend.store.transaction() as uow:
        await uow.outbox.append([exact])
    assert [r.event for r in await (await leading(backend)).read(1)] == [exact]


async def test_rows_are_set_aside_with_the_move_of_the_cursor_and_come_back_in_order(backend: Backend) -> None:
    reader = await leading(backend)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([replace(outbox_event(n), topic=f"t-{n[0]}") for n in ("a1", "b1", "a2", "b2", "b3")])
    rows = await reader.read(10)
    aside = [r for r in rows if r.event.topic == "t-b"]
    await reader.advance(rows[-1], parked=aside[::-1], reason="missing")
    assert await reader.read(10) == []
    assert await reader.parked_topics() == {"t-b"}
    assert await reader.read_parked("t-b", 2) == aside[:2]
    assert await reader.read_parked("t-a", 2) == []
    await reader.unpark(aside[:2])
    await reader.release()

    successor = await leading(backend)
    assert await successor.parked_topics() == {"t-b"}
    assert await successor.read_parked("t-b", 9) == aside[2:]
    await successor.unpark(aside)
    assert await successor.parked_topics() == frozenset()


async def test_what_is_too_large_is_set_aside_beside_its_topic_and_told_smallest_first(backend: Backend) -> None:
    reader = await leading(backend)
    async with backend.store.transaction() as uow:
        await uow.outbox.append([replace(outbox_event(n), topic=f"t-{n[0]}") for n in ("a-large", "b-l", "a-l", "a-m")])
    a_large, b, a_small, a_medium = rows = await reader.read(10)
    await reader.advance(rows[-1], parked=[a_medium], reason="missing", large=[a_large, b, a_small])
    assert await reader.parked_topics() == {"t-a"}
    assert await reader.read_parked("t-a", 9) == [a_medium]
    assert await reader.read_large() == [a_small, b]
    await reader.unpark([a_small])
    await reader.set_alone([a_medium], TOO_LARGE)
    await reader.release()

    successor = await leading(backend)
    assert await successor.parked_topics() == frozenset()
    assert await successor.read_parked("t-a", 9) == []
    assert await successor.read_large() == [a_medium, b]
    await successor.unpark([a_medium, b])
    assert await successor.read_large() == [a_large]


async def test_what_cannot_be_read_is_set_aside_beside_its_topic_and_comes_back_in_order(backend: Backend) -> None:
    reader = await leading(backend)
    await append(backend.store, "a", "b", "c", "d")
    a, b, c, d = rows = await reader.read(10)
    await reader.advance(rows[-1], parked=[b], reason="missing", large=[c], unreadable=[d, a])
    assert await reader.read_unreadable(9) == [a, d]
    assert await reader.read_unreadable(1) == [a]
    assert (await reader.read_parked(b.event.topic, 9), await reader.read_large()) == ([b], [c])
    await reader.set_alone([b, c], UNREADABLE)
    await reader.unpark([a])
    await reader.release()

    successor = await leading(backend)
    assert await successor.read_unreadable(9) == [b, c, d]
    assert (await successor.parked_topics(), await successor.read_large()) == (frozenset(), [])


async def test_relayed_events_are_forgotten_from_the_oldest_on_and_nothing_else(backend: Backend) -> None:
    await backend.partition_outbox(ending=False)
    async with backend.store.transaction() as uow:
        ages = {"a": -90, "b": -80, "young": -5, "c": -70, "parked": -95, "unrelayed": -99}
        await uow.outbox.append([replace(outbox_event(n), occurred_at=later(age)) for n, age in ages.items()])
    reader = await leading(backend)
    rows = {r.event.event_id: r for r in await reader.read(10)}
    *_, parked, _unrelayed = rows.values()
    await reader.advance(parked, parked=[parked])
    log = await led(backend.disclosure_log())
    head, read = await log.head(), await log.read((0, 0), 10)
    await log.write(append_uses(head, [], read.to, b"", later(0), timedelta(hours=1)))
    await backend.share_all()

    async def purge(limit: int = 10) -> int:
        async with backend.store.transaction() as uow:
            return await uow.outbox.purge(before=later(-60), limit=limit)

    assert await purge(limit=1) == 1
    assert await purge() == 1  # "c" is old, but stands behind one that is not
    assert await purge() == 0
    assert await names(reader) == ["unrelayed"]
    assert len(await reader.read_parked(parked.event.topic, 5)) == 1
