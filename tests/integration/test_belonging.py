"""A database and a Kafka of two gateways are told apart before anything is taken, told or restored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from gateway.app import belonging, restoring
from gateway.app.errors import AnothersKafkaError
from gateway.app.process import Process, consumer, publisher, started_process
from gateway.app.settings import Settings
from gateway.database.dsn import with_user
from gateway.database.grants import apply_roles
from gateway.database.migrate import migrate
from gateway.database.roles import RUNNING, Role
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.settings import KafkaSettings
from streams import app
from streams.app import FaustSubscription
from tests.support.cli import mypay
from tests.support.kafka_groups import fresh_topic

ANOTHER = "bm90aGVyIGdhdGV3YXk"
NETWORKS = Path(__file__).parents[2] / "deploy" / "networks"


@pytest.fixture
async def db(database: str) -> str:
    await apply_roles(database)
    await migrate(database)
    return database


@pytest.fixture
async def owner(db: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(db)
    yield connection
    await connection.close()


@pytest.fixture
async def ours(kafka: str) -> str:
    """What the running Kafka calls itself."""
    found = await KafkaProbe(KafkaSettings(kafka)).cluster_id(timeout_s=10)
    assert found
    return found


def settings_of(db: str, kafka: str) -> Settings:
    dsn = SecretStr(with_user(db, Role.RELAY.user))
    return Settings(postgres_dsn_relay=dsn, kafka_bootstrap_servers=kafka, log_level="error", networks_dir=NETWORKS)


async def noted(owner: asyncpg.Connection) -> list[str]:
    return [row["cluster_id"] for row in await owner.fetch("SELECT cluster_id FROM kafka_cluster")]


async def belongs_to_another(owner: asyncpg.Connection) -> None:
    await owner.execute("INSERT INTO kafka_cluster (cluster_id) VALUES ($1)", ANOTHER)


async def test_who_starts_first_notes_the_cluster_and_with_another_nobody_starts(
    db: str, kafka: str, owner: asyncpg.Connection, ours: str
) -> None:
    """Two gateways' processes were members of one group, and each parked and committed away the other's orders."""
    for _ in range(2):
        async with started_process(settings_of(db, kafka), "relay") as process:
            await process.together()
        assert await noted(owner) == [ours]
    await owner.execute("UPDATE kafka_cluster SET cluster_id = $1", ANOTHER)
    with pytest.raises(AnothersKafkaError, match=f"belongs to the Kafka cluster {ANOTHER}, and .* answers is {ours}"):
        async with started_process(settings_of(db, kafka), "relay"):
            pytest.fail("it started")
    assert await noted(owner) == [ANOTHER]


async def test_a_kafka_that_answers_only_later_is_asked_before_anything_is_read_or_written(
    db: str, kafka: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away when the process began, which then does what needs no Kafka, and ends once the wrong one is there."""
    answers, seen = asyncio.Event(), []
    ask = KafkaProbe.cluster_id

    async def away(probe: KafkaProbe, *, timeout_s: float) -> str | None:
        return await ask(probe, timeout_s=timeout_s) if answers.is_set() else None

    monkeypatch.setattr(KafkaProbe, "cluster_id", away)
    monkeypatch.setattr(belonging, "_ASK_S", 0.01)
    monkeypatch.setattr(app, "build_app", lambda *_: 1 / 0)
    await belongs_to_another(owner)
    topic = await fresh_topic(KafkaSettings(kafka))

    async def work(process: Process) -> None:
        orders = FaustSubscription(process, "initiation", topic, batch_max=10, batch_wait_s=0.1)
        taker = consumer(process, topics=[topic], group_id=f"mypay-{topic}")

        async def handle(*_: object) -> None:
            pytest.fail("an order was taken")

        async with publisher(process) as producer:
            joining = [
                asyncio.create_task(taker.start()),
                asyncio.create_task(producer.start()),
                # It ends where it would begin with Faust.
                asyncio.create_task(orders.run(handle, asyncio.Event())),  # type: ignore[arg-type]
            ]
            try:
                # Kafka is there all the time, and would have let them in by then.
                done, _ = await asyncio.wait(joining, timeout=1.0)
                seen.append(len(done))
                answers.set()
                await asyncio.Event().wait()
            finally:
                for task in joining:
                    task.cancel()
                await asyncio.wait(joining)
                await taker.stop()
                with suppress(Exception, asyncio.CancelledError):
                    await asyncio.gather(*joining)

    with pytest.raises(AnothersKafkaError):
        async with asyncio.timeout(30), started_process(settings_of(db, kafka), "relay") as process:
            await work(process)
    assert seen == [0]


async def test_once_the_right_kafka_answers_they_begin(
    db: str, kafka: str, owner: asyncpg.Connection, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [None, None, ours]

    async def cluster_id(*_: object, **__: object) -> str | None:
        return told.pop(0)

    monkeypatch.setattr(KafkaProbe, "cluster_id", cluster_id)
    monkeypatch.setattr(belonging, "_ASK_S", 0.01)
    async with started_process(settings_of(db, kafka), "relay") as process, publisher(process) as producer:
        await producer.start()
    assert (told, await noted(owner)) == ([], [ours])


@pytest.mark.parametrize("role", [r for r in RUNNING if r not in (Role.CONSOLE, Role.ARCHIVE, Role.READONLY)])
async def test_each_process_may_note_it(db: str, role: Role) -> None:
    connection = await asyncpg.connect(with_user(db, role.user))
    try:
        found = [await belonging.PostgresBelonging(connection).note(name) for name in ("first", "second")]
    finally:
        await connection.close()
    assert found == ["first", "first"]


async def test_no_restore_begins_with_another_gateways_kafka(db: str, kafka: str, owner: asyncpg.Connection) -> None:
    """Nothing was found there that was paid since, and all of it would have been paid again."""
    await belongs_to_another(owner)
    settings, to = settings_of(db, kafka), datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(AnothersKafkaError):
        await restoring.begin(settings, db, KafkaSettings(kafka), to, operator="kim")
    assert await owner.fetch("SELECT FROM network_pause") == []


def test_an_operator_lets_the_database_belong_to_the_kafka_that_it_has_moved_to(
    db: str, kafka: str, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare() -> None:
        connection = await asyncpg.connect(db)
        await belongs_to_another(connection)
        await connection.close()

    asyncio.run(prepare())
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", db)
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(NETWORKS))
    refused = mypay("topics", "apply").expect(2)
    assert ours in refused.err
    assert ANOTHER in refused.err
    assert "Moving to another Kafka" in refused.err

    def looked_at() -> tuple[str, str]:
        found = mypay("doctor", "--json")
        [one] = [f for f in found.json if f["check"] == "Kafka's cluster"]
        return one["state"], one["subject"]

    assert looked_at() == ("wrong", ours)
    assert "not another" in mypay("topics", "adopt", "another").expect(2).err
    assert looked_at() == ("wrong", ours)
    told = mypay("topics", "adopt", "--operator", "kim", "--why", "moved", "--json", "--", ours).expect().json
    assert told == {"cluster_id": ours, "before": ANOTHER}
    assert looked_at() == ("ok", ours)
    [action] = [a for a in mypay("operators", "log", "--json").expect().json if a["subject"] == ours]
    assert (action["command"], action["operator"], action["outcome"]) == ("topics adopt", "kim", "done")
    again = mypay("topics", "adopt", "--operator", "kim", "--why", "again", "--", ours).expect()
    assert " ".join(again.err.split()) == f"The database belongs to the Kafka cluster {ours}."
