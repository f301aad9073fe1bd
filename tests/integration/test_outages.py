"""Kafka, PostgreSQL and the networks away for a while, under load: waited out in place, nothing lost, nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from gateway.proving import stack as local
from tests.support.entries import BCARD, KCARD, REJECTED, REVERSED, SETTLED, Entry
from tests.support.scene import Scene

NETWORK = f"network {BCARD}"

ANY_END = SETTLED | REVERSED | REJECTED
"""An intent that could not leave in time because a server was away is withdrawn; a late answer is reversed."""

WITHDRAWN = {"TM01", "AB07"}
"""Why such an order is refused: not sent in time, or no link."""


@asynccontextmanager
async def light_load(scene: Scene) -> AsyncIterator[list[Entry]]:
    """Some twenty orders a second, for as long as the block lasts; yields those that Kafka has confirmed."""
    entries: list[Entry] = []
    stopping = asyncio.Event()

    async def send() -> None:
        while not stopping.is_set():
            some = [*scene.payments(1, BCARD, expected=ANY_END), *scene.payments(1, KCARD, expected=ANY_END)]
            await scene.send(some)
            entries.extend(some)
            await asyncio.sleep(0.1)

    sending = asyncio.create_task(send())
    try:
        yield entries
    finally:
        stopping.set()
        await sending


async def until_more_approved(scene: Scene, entries: list[Entry], more: int = 10) -> None:
    """Orders that are sent from now on go through."""
    sent_before = len(entries)

    async def approved() -> bool:
        new = entries[sent_before:]
        return bool(new) and await scene.count_in(new, "approved") >= more

    await scene.until(approved, f"{more} new orders approved")


async def until_told(scene: Scene, server: str) -> None:
    """Every stage says that it is not ready, and names the server; and lives."""

    async def told() -> bool:
        for name in scene.world.http:
            status, checks = await scene.readyz(name)
            if status != 503 or checks[server] == "ok":
                return False
        return True

    await scene.until(told, f"every stage misses {server}")
    for name in scene.world.http:
        assert await scene.healthz(name) == 200


STOPS: dict[str, tuple[Callable[..., None], Callable[..., None], Callable[..., None]]] = {
    "kafka": (local.stop_kafka, local.kill_kafka, local.start_kafka),
    "postgres": (local.stop_postgres, local.kill_postgres, local.start_postgres),
}


@pytest.mark.parametrize("server", ["postgres", "kafka"])
async def test_a_server_that_is_restarted_or_killed_is_waited_out_in_place(scene: Scene, server: str) -> None:
    # The relay may have published what its cursor, lost with the session, does not tell.
    scene.disturbed = True
    stop, kill, start = STOPS[server]
    pids = {name: scene.process(name).pid for name in scene.world.http}
    async with light_load(scene) as entries:
        await until_more_approved(scene, entries)
        for end in (stop, kill):
            await asyncio.to_thread(end, scene.stack.name, home=scene.stack.home)
            await until_told(scene, server)
            await asyncio.to_thread(start, scene.stack.name, home=scene.stack.home)
            await scene.until_ready()
            await until_more_approved(scene, entries)
    await scene.settle()
    assert {name: scene.process(name).pid for name in scene.world.http} == pids
    rows = (await scene.rows_of(entries)).values()
    assert len(rows) == len(entries)
    assert {r["reason_code"] for r in rows if r["state"] == "rejected"} <= WITHDRAWN
    assert sum(r["state"] == "settled" for r in rows) > len(rows) / 2
    await scene.check_books()


async def test_links_cut_in_flight_end_in_a_reversal(scene: Scene) -> None:
    network = scene.network(BCARD)

    async def both_are_up() -> bool:
        return int((await network.state())["signed_on"]) == 2

    entries: list[Entry] = []

    async def ends_by_the_loss() -> bool:
        """Not by waiting for an answer; on a busy machine that may be over before the links are cut: once more then."""
        await scene.until(both_are_up, "both links are up")
        in_flight = scene.payments(15, expected=REVERSED)
        entries.extend(in_flight)
        await scene.send(in_flight)
        await scene.until_states(in_flight, "sent", "unknown", "reversed", poll_s=0.02)
        assert await scene.cut_links() == 2
        await scene.until_states(in_flight, "unknown", "reversed", poll_s=0.02)
        return {r["reason_code"] for r in (await scene.rows_of(in_flight)).values()} == {"AB07"}

    await network.set_faults(drop_after_apply=1.0, classes=["financial"])
    await scene.until(ends_by_the_loss, "all are unknown by the loss of the links")
    await network.clear_faults()
    await scene.until_ready()
    later = scene.payments(5)
    await scene.send(later)
    await scene.until_states(later, "approved")
    await scene.until_states(entries, "reversed")
    await scene.settle()
    await scene.check_books()


async def test_while_a_network_is_dead_its_orders_wait_in_kafka_and_the_expired_ones_are_refused(scene: Scene) -> None:
    await scene.network().set_faults(silence="apply", classes=["financial"])
    counted = (await scene.counters())["approved"]
    in_flight = scene.payments(10, expected=REVERSED)
    await scene.send(in_flight)

    async def applied() -> bool:
        return (await scene.counters())["approved"] == counted + len(in_flight)

    await scene.until(applied, "the network has applied what it does not answer")
    await scene.kill(NETWORK)
    await scene.until_states(in_flight, "unknown")
    await scene.until(lambda: _is_closed(scene), f"{BCARD} is reported closed")

    waiting = scene.payments(10)
    await scene.send(waiting)
    await _until_they_wait(scene, len(waiting))
    short_lived, expiry = await _that_expire_while_they_wait(scene, behind=len(waiting))

    async def expired() -> bool:
        return datetime.now(UTC) > expiry

    await scene.until(expired, "some have expired")
    assert not await scene.rows_of([*waiting, *short_lived])
    # The other network goes on, and nobody takes the process for dead or unready.
    other = scene.payments(5, KCARD)
    await scene.send(other)
    await scene.until_states(other, "approved")
    assert (await scene.readyz(f"execution {BCARD}"))[0] == 200
    assert await scene.healthz(f"execution {BCARD}") == 200

    scene.start(NETWORK)
    await scene.until_states(waiting, "approved")
    await scene.until_states(short_lived, "rejected")
    await scene.until_states(in_flight, "reversed")
    rows = (await scene.rows_of(short_lived)).values()
    assert {(r["reason_code"], r["rrn"]) for r in rows} == {("TM01", None)}
    assert (await scene.counters())["approved"] == counted + len(in_flight) + len(waiting)
    await scene.settle()
    await scene.check_books()


async def _that_expire_while_they_wait(scene: Scene, *, behind: int) -> tuple[list[Entry], datetime]:
    """Orders that are handed on to the dead network before they expire, however busy the machine is; their expiry."""
    refused = 0
    for valid_s in (8, 16, 32):
        orders = [scene.order(valid_for=timedelta(seconds=valid_s)) for _ in range(5)]
        entries = [scene.entry(o, REJECTED) for o in orders]
        await scene.send(entries)
        refused = await _until_they_wait(scene, behind + len(entries), or_refused=entries)
        if not refused:
            return entries, max(o.expires_at for o in orders)
        # Intake has refused the others: too late to see them wait.
        behind += len(entries) - refused
    raise AssertionError(f"{refused} of 5 orders that were valid for {valid_s} s were refused before they could wait")


async def _until_they_wait(scene: Scene, n: int, *, or_refused: Sequence[Entry] = ()) -> int:
    """So many records of the dead network stay in Kafka, but for those that intake has refused; return how many."""
    group = f"mypay-execution-{BCARD}"
    seen: dict[str, int] = {}

    async def wait() -> bool:
        seen.clear()
        seen.update(await scene.lags())
        seen["refused"] = await scene.count_in(or_refused, "rejected")
        return (seen["mypay-initiation"], seen[group] + seen["refused"]) == (0, n)

    await scene.until(wait, lambda: f"{n} orders wait for the network: {seen}")
    return seen["refused"]


async def _is_closed(scene: Scene) -> bool:
    rows = await scene.fetch(
        "SELECT is_open FROM network_status WHERE network_id = $1 ORDER BY reported_at DESC LIMIT 1", BCARD
    )
    return bool(rows) and not rows[0]["is_open"]
