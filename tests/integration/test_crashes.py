"""SIGKILL in the middle of every stage's work, at points that do not depend on luck: nothing lost, nothing twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.proving.counterparts.books import Books
from tests.support.entries import BCARD, KCARD, REJECTED, REVERSED, SETTLED
from tests.support.scene import Scene

EXECUTION = f"execution {BCARD}"


@asynccontextmanager
async def locked(scene: Scene, sql: str, *arguments: Any) -> AsyncIterator[Any]:
    """Hold what ``sql`` locks or inserts; rolled back at the end, so that nobody ever sees it."""
    connection = await asyncpg.connect(scene.world.postgres_dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(sql, *arguments)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def until_blocked(scene: Scene, application: str) -> None:
    """A stage waits for a lock: it stands in the middle of a transaction."""

    async def waits() -> bool:
        return bool(await blocked(scene, application))

    await scene.until(waits, f"{application} waits for a lock", poll_s=0.02)


async def blocked(scene: Scene, application: str) -> list[int]:
    rows = await scene.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = $1",
        application,
    )
    return [r["pid"] for r in rows]


async def end_sessions(scene: Scene, application: str) -> None:
    """End what a killed process left running in the database, as the loss of its machine would."""

    async def none_left() -> bool:
        rows = await scene.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1",
            application,
        )
        return not rows

    await scene.until(none_left, f"no session of {application}")


async def test_execution_killed_between_intent_and_result(scene: Scene) -> None:
    """Three windows at once: the network never saw it, booked it silently, or answered what could not be written."""
    network = scene.network(BCARD)
    before = await scene.counters()
    await network.set_faults(drop_before_apply=0.4, drop_after_apply=0.5, late=1.0, late_ms=500, classes=["financial"])
    entries = scene.payments(40, expected=REVERSED)

    async def met_each() -> bool:
        faults = await scene.counters() - before
        return min(faults[f"fault_{name}"] for name in ("drop_before_apply", "drop_after_apply", "late")) > 0

    # An approval's transaction writes there, and no intent's. One batch of results is written at a time, so those that
    # nobody answers wait behind it.
    async with locked(scene, "LOCK TABLE ledger_transfer IN SHARE ROW EXCLUSIVE MODE"):
        await scene.send(entries)
        await scene.until_states(entries, "sent", poll_s=0.02)
        await scene.until(met_each, "the network has met each fault")
        await until_blocked(scene, "mypay-execution")
        await scene.kill(EXECUTION)
    await network.clear_faults()
    # Every intent had committed, and no result: this is the window, not beside it.
    assert await scene.count_in(entries, "sent") == len(entries)

    scene.start(EXECUTION)
    await scene.until_states(entries, "reversed")
    await scene.settle()
    for events in (await scene.told(entries)).values():
        assert [(e.kind, e.body["version"]) for e in events] == [
            ("payment.sent", 1),
            ("payment.unknown", 2),
            ("payment.reversed", 3),
        ]
    with Books(network.ledger) as books:
        totals = books.totals()
    assert (totals.duplicates_seen, totals.doubled_rrns) == (0, 0)
    await scene.check_books()


async def test_initiation_killed_in_the_middle_of_a_batch(scene: Scene) -> None:
    refused = scene.entry(scene.order(merchant_id="no-such-shop"), REJECTED)
    entries = scene.payments(40)
    # Whoever wants to insert the same payment waits for this transaction.
    async with locked(
        scene,
        "INSERT INTO payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id, operation,"
        " amount_minor, currency, order_digest, state, version, limit_windows, ordered_at, decided_at, changed_at)"
        " VALUES ($1, $2, 'x', 'x', 0, 'x', 'purchase', 1, 'KRW', 'x', 'rejected', 1, '', now(), now(), now())",
        refused.facts.partner_id,
        refused.payment_id,
    ):
        await scene.send([*entries[:20], refused, *entries[20:]])
        await until_blocked(scene, "mypay-initiation")
        await scene.kill("initiation")
    assert (await scene.lags())["mypay-initiation"] > 0

    scene.start("initiation")
    await scene.until_states(entries, "approved")
    await scene.until_states([refused], "rejected")
    await scene.settle()
    await scene.check_books()


async def test_a_relay_killed_after_publishing_tells_again_and_loses_nothing(scene: Scene) -> None:
    # The table, not its row: a row's lock makes this a writing transaction, behind which the relay reads nothing.
    async with locked(scene, "LOCK TABLE outbox_cursor IN EXCLUSIVE MODE"):
        entries = scene.payments(20)
        await scene.send(entries)
        await until_blocked(scene, "mypay-relay")
        await scene.kill("relay")
        # The cursor's move is on its way already: without this it would happen after the relay's death.
        await end_sessions(scene, "mypay-relay")
    await scene.until_states(entries, "approved")
    published = {i: [e.headers["ce_id"] for e in events] for i, events in (await scene.told(entries)).items()}
    assert any(published.values())

    scene.start("relay")
    await scene.settle()
    for payment_id, events in (await scene.told(entries)).items():
        ids = [e.headers["ce_id"] for e in events]
        # What was published before the crash is there again, the same and in order, and then the rest.
        assert ids[: len(published[payment_id])] == published[payment_id]
        assert ids[len(published[payment_id]) :] == [f"{payment_id}:{v}".encode() for v in (1, 2, 3)]
        first = {e.headers["ce_id"]: e for e in reversed(events)}
        assert all(e == first[e.headers["ce_id"]] for e in events)
    await scene.check_books()


async def test_settlement_killed_in_the_middle_of_a_cycle(scene: Scene) -> None:
    entries = scene.payments(40)
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.until_quiet()
    async with locked(scene, "SELECT 1 FROM payment WHERE payment_id = $1 FOR UPDATE", entries[20].payment_id):
        await scene.network().close_cycle()
        await until_blocked(scene, "mypay-settlement")
        await scene.kill("settlement")
    assert await scene.count_in(entries, "approved") == len(entries)

    scene.start("settlement")
    await scene.until_states(entries, "settled")
    await scene.settle()
    await scene.check_books()


async def test_execution_told_to_stop_writes_every_result_first(scene: Scene) -> None:
    network = scene.network(BCARD)
    await network.set_faults(drop_after_apply=0.5, late=1.0, late_ms=1200, classes=["financial"])
    entries = scene.payments(30, expected=SETTLED | REVERSED)
    await scene.send(entries)
    await scene.until_states(entries, "sent", "approved", "unknown", poll_s=0.02)
    # By itself, within the time that it has.
    assert await scene.stop(EXECUTION) == {EXECUTION: 0}
    await network.clear_faults()
    # Answered or in doubt, but nobody waits for anybody; and what was taken is committed, so nothing comes again.
    ended = {state: await scene.count_in(entries, state) for state in ("approved", "unknown")}
    assert sum(ended.values()) == len(entries)
    assert min(ended.values()) > 0
    assert (await scene.lags())[f"mypay-{EXECUTION.replace(' ', '-')}"] == 0

    later = scene.payments(5)
    await scene.send(later)
    scene.start(EXECUTION)
    await scene.until_states(later, "approved")
    await scene.until_states(entries, "approved", "reversed")
    assert await scene.count_in(entries, "approved") == ended["approved"]
    await scene.settle()
    await scene.check_books()


async def test_all_stages_told_to_stop_under_load_end_cleanly_and_go_on_later(scene: Scene) -> None:
    # With slow answers there is work in every stage's hands when it is told to stop.
    for network in scene.world.networks:
        await network.set_faults(late=1.0, late_ms=400, classes=["financial"])
    entries = [*scene.payments(300, BCARD), *scene.payments(300, KCARD)]
    await scene.send(entries)

    async def under_way() -> bool:
        return sum((await scene.states_of(entries)).values()) >= 20

    await scene.until(under_way, "some are taken", poll_s=0.01)
    stages = list(scene.world.http)
    assert await scene.stop(*stages) == dict.fromkeys(stages, 0)
    assert await scene.count_in(entries, "sent") == 0
    for network in scene.world.networks:
        await network.clear_faults()
    # A relay that is stopped may have published what its cursor does not tell yet.
    scene.disturbed = True

    scene.start(*stages)
    await scene.until_states(entries, "approved")
    await scene.settle()
    await scene.check_books()
