"""A network that is paused in the console is really sent nothing, on real parts, until two people resume it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.console.web import Console
from gateway.directory.console_roles import ConsoleRole, ConsoleUser
from gateway.proving.counterparts.books import Books
from gateway.sealing.passwords import hash_password
from schemas.primitives import NetworkId
from tests.support.causing import is_there, locked
from tests.support.console import PASSWORD, Browser, browsing, running
from tests.support.entries import BCARD, KCARD, Entry
from tests.support.scene import Scene

WAITS_FOR_LOCKS: Final = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'mypay-execution'"
)


def settings_over(scene: Scene, folder: Path) -> Settings:
    """A console over the scene's servers, with keys of its own."""
    return Settings(
        _env_file=None,
        postgres_dsn=scene.world.postgres_dsn,
        kafka_bootstrap_servers=scene.world.kafka_bootstrap_servers,
        networks_dir=Path(scene.world.environment["MYPAY_NETWORKS_DIR"]),
        home=folder,
        dead_letter_keys_dir=folder / "dead-letter",
        console_port=0,
    )


def booked(scene: Scene, network: str) -> int:
    """How many payments the network's own books hold."""
    with Books(scene.world.ledgers[network]) as books:
        return len(books.by_rrn())


async def payments_of(scene: Scene, entries: list[Entry]) -> set[UUID]:
    rows = await scene.fetch("SELECT payment_id FROM payment")
    return {r["payment_id"] for r in rows} & {e.payment_id for e in entries}


async def reported_again(scene: Scene, network: str) -> None:
    """Every worker of the network has reported since now."""
    since = datetime.now(UTC)

    async def reported() -> bool:
        rows = await scene.fetch(
            "SELECT min(reported_at) AS at FROM network_status WHERE network_id = $1 AND reported_at > $2",
            *(network, since - timedelta(seconds=5)),
        )
        return rows[0]["at"] is not None and rows[0]["at"] > since

    await scene.until(reported, f"the workers of {network} report")


async def waiting(console: Console, records: int) -> bool:
    """Whether the console says that so many wait for bcard in Kafka."""
    assert console.samples.backlog_view is not None
    found = await console.samples.backlog_view.look()
    of = [b.records for b in found or () if b.queue.network == BCARD and b.queue.stage == "execution"]
    return of == [records]


async def proposed(scene: Scene) -> str:
    rows = await scene.fetch(
        "SELECT proposal_id FROM operator_proposal p WHERE kind = 'network.resume'"
        " AND NOT EXISTS (SELECT FROM operator_decision d WHERE d.proposal_id = p.proposal_id)"
    )
    return str(rows[0]["proposal_id"])


async def test_what_is_paused_is_sent_nothing_and_goes_on_when_two_people_say_so(scene: Scene, tmp_path: Path) -> None:
    people = ("pauser", "approver")
    async with open_registries(scene.world.postgres_dsn) as registries:
        for name in people:
            await registries.console_users.add(ConsoleUser(name, ConsoleRole.APPROVER, hash_password(PASSWORD)))
    async with (
        running(settings_over(scene, tmp_path)) as console,
        browsing(console, "pauser") as one,
        browsing(console, "approver") as other,
    ):
        await _pause_and_resume(scene, console, one, other)
    await scene.settle()
    await scene.check_books()


async def _pause_and_resume(scene: Scene, console: Console, one: Browser, other: Browser) -> None:
    before = scene.payments(3, BCARD)
    await scene.send(before)
    await scene.until_states(before, "approved")
    assert (await one.act("network-pause", network_id=BCARD))[0] == 200
    # Its workers learn it with their next report, and finish what they began before the one after it.
    for _ in range(2):
        await reported_again(scene, BCARD)
    there = booked(scene, BCARD)
    held, beside = scene.payments(5, BCARD), scene.payments(5, KCARD)
    await scene.send(held)
    await scene.until(lambda: waiting(console, 5), "five orders wait for bcard")
    await scene.send(beside)
    # The rest of the gateway goes on, and has all the time to let one of them slip through.
    await scene.until_states(beside, "approved")
    assert (booked(scene, BCARD), await payments_of(scene, held)) == (there, set())
    page = (await one.get("/networks"))[1]
    assert all(text in page for text in ("paused", "pauser", "ticket 7"))
    # One person asks for it, and cannot let it happen.
    assert "Proposed" in (await one.act("network-resume", network_id=BCARD))[1]
    assert (await one.act("proposal-approve", proposal_id=await proposed(scene)))[0] == 409
    assert await payments_of(scene, held) == set()
    assert (await other.act("proposal-approve", proposal_id=await proposed(scene)))[0] == 200
    await scene.until_states(held, "approved")
    assert booked(scene, BCARD) == there + 5
    await scene.until(lambda: waiting(console, 0), "nothing waits for bcard")


async def test_what_a_worker_has_in_hand_as_its_network_is_paused_waits_as_well(scene: Scene) -> None:
    before = scene.payments(3, BCARD)
    await scene.send(before)
    await scene.until_states(before, "approved")
    there, held = booked(scene, BCARD), scene.payments(5, BCARD)
    async with open_registries(scene.world.postgres_dsn) as registries:
        async with locked(scene, "SELECT FROM consent FOR UPDATE"):
            await scene.send(held)
            await scene.until(lambda: is_there(scene, WAITS_FOR_LOCKS), "execution has orders in hand")
            assert await registries.directory.pause_network(NetworkId(BCARD), operator="kim", why="it is away")
        for _ in range(2):
            await reported_again(scene, BCARD)
        assert (booked(scene, BCARD), await payments_of(scene, held)) == (there, set())
        assert await registries.directory.resume_network(NetworkId(BCARD))
    await scene.until_states(held, "approved")
    assert booked(scene, BCARD) == there + 5
    await scene.settle()
    await scene.check_books()
