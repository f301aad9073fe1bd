"""The local stack on its real servers: it comes up, stays up, survives crashes and keeps apart."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.proving import stack as local
from gateway.proving.stack import server as server_module
from gateway.proving.stack import stack as stack_module
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.postgres import PostgresServer, binary, system_user
from gateway.proving.stack.state import StackDir
from tests.support.stack import HOME, Stack, free_slot

TOPIC = "kept"


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stack_module.ENV_KAFKA, raising=False)
    monkeypatch.delenv(stack_module.ENV_POSTGRES, raising=False)


@contextlib.contextmanager
def empty_stack(prefix: str) -> Iterator[str]:
    with free_slot(prefix) as name:
        local.reset(name, home=HOME)
        try:
            yield name
        finally:
            local.reset(name, home=HOME)


@pytest.fixture
def postgres_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A stack whose Kafka is given, so that only PostgreSQL starts: in half a second."""
    with empty_stack("postgres") as name:
        monkeypatch.setenv(stack_module.ENV_KAFKA, "127.0.0.1:1")
        yield name


async def execute(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def store(at: local.StackAddresses) -> None:
    """Put one row and one message into a stack."""
    await execute(at.postgres_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    admin = AIOKafkaAdminClient(bootstrap_servers=at.kafka_bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=at.kafka_bootstrap_servers, acks="all")
    await producer.start()
    await producer.send_and_wait(TOPIC, b"forty-two")
    await producer.stop()


async def stored(at: local.StackAddresses) -> tuple[int, bytes]:
    """Read the row and the message back."""
    (row,) = await execute(at.postgres_dsn, "SELECT answer FROM kept")
    consumer = AIOKafkaConsumer(bootstrap_servers=at.kafka_bootstrap_servers)
    await consumer.start()
    try:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        message = await asyncio.wait_for(consumer.getone(), timeout=60)
    finally:
        await consumer.stop()
    return row["answer"], message.value


def pids(name: str) -> tuple[int, int]:
    at = local.status(name, home=HOME)
    assert at.kafka.pid is not None
    assert at.postgres.pid is not None
    return at.kafka.pid, at.postgres.pid


async def test_a_stack_outlives_its_caller_and_crashes_beside_another(stack: Stack) -> None:
    with empty_stack("life") as name:
        command = [sys.executable, "-c", "from gateway.cli.local import app; app()", "up", "--json", "--name", name]
        environment = os.environ | {"MYPAY_HOME": str(HOME)}
        caller = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
        output, _ = await caller.communicate()
        assert caller.returncode == 0
        at = local.StackAddresses(**json.loads(output))
        assert at.kafka_bootstrap_servers != stack.kafka
        assert at.postgres_dsn != stack.postgres
        await store(at)

        before = pids(name)
        assert await asyncio.to_thread(local.up, name, home=HOME) == at
        assert pids(name) == before

        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert await asyncio.to_thread(local.up, name, home=HOME) == at
        assert not set(pids(name)) & set(before)
        assert await stored(at) == (42, b"forty-two")

        local.down(name, home=HOME)
        after = local.status(name, home=HOME)
        assert {after.kafka.state, after.postgres.state} == {local.ServerState.STOPPED}
        pids(stack.name)  # the other still runs
        local.reset(name, home=HOME)
        assert not (HOME / name).exists()


async def test_each_server_is_killed_and_started_again_at_its_address_with_its_data(postgres_only: str) -> None:
    at = local.up(postgres_only, home=HOME)
    await execute(at.postgres_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = await asyncpg.connect(at.postgres_dsn)
    try:
        await asyncio.to_thread(local.kill_postgres, postgres_only, home=HOME)
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await execute(at.postgres_dsn, "SELECT 1")
        await asyncio.to_thread(local.start_postgres, postgres_only, home=HOME)
        assert await execute(at.postgres_dsn, "SELECT answer FROM kept")
        await asyncio.to_thread(local.restart_postgres, postgres_only, home=HOME)
        assert await execute(at.postgres_dsn, "SELECT answer FROM kept")
    finally:
        busy.terminate()


def test_starting_again_what_never_ran_is_an_error() -> None:
    with (
        empty_stack("postgres") as name,
        pytest.raises(local.LocalStackError, match="never started"),
    ):
        local.start_kafka(name, home=HOME)


def test_two_starts_at_once_make_one_server(postgres_only: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(local.up, postgres_only, home=HOME) for _ in range(3)]
        assert len({job.result() for job in jobs}) == 1
    assert len(postmasters(postgres_only)) == 1


def postmasters(name: str) -> list[int]:
    marker = PostgresServer(StackDir.of(name, HOME), print).marker
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if marker in process.cmdline():
                found.append(process.pid)
    return found


async def test_a_server_that_a_killed_start_did_not_record_is_replaced(postgres_only: str) -> None:
    at = local.up(postgres_only, home=HOME)
    await execute(at.postgres_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    before = postmasters(postgres_only)
    (HOME / postgres_only / "postgres.json").unlink()
    assert await asyncio.to_thread(local.up, postgres_only, home=HOME) == at
    after = postmasters(postgres_only)
    assert len(after) == 1
    assert after != before
    assert await execute(at.postgres_dsn, "SELECT answer FROM kept")


def test_a_stranger_with_the_number_of_a_crashed_server_does_not_block_it(postgres_only: str) -> None:
    at = local.up(postgres_only, home=HOME)
    local.kill_postgres(postgres_only, home=HOME)
    directory = HOME / postgres_only
    locks = (directory / "data" / "postgres" / "postmaster.pid", directory / "run" / ".s.PGSQL.5432.lock")
    # PostgreSQL only asks whether a process of its own account has that number.
    user = system_user()
    stranger = subprocess.Popen(["sleep", "60"], user=user, cwd="/")
    try:
        for lock in locks:
            _, rest = lock.read_text().split("\n", 1)
            lock.write_text(f"{stranger.pid}\n{rest}")
        assert local.up(postgres_only, home=HOME) == at
    finally:
        stranger.kill()
        stranger.wait()


def test_an_initialisation_that_was_killed_is_begun_anew(postgres_only: str) -> None:
    unfinished = HOME / postgres_only / "data" / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    local.up(postgres_only, home=HOME)
    assert not unfinished.exists()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing_running(postgres_only: str) -> None:
    local.up(postgres_only, home=HOME)
    local.down(postgres_only, home=HOME)
    (HOME / postgres_only / "data" / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(local.LocalStackError, match="not compatible with this version") as caught:
        local.up(postgres_only, home=HOME)
    assert "stopped while it was starting" in str(caught.value)
    assert postmasters(postgres_only) == []


def test_a_server_that_never_answers_is_given_up_and_ended(postgres_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local.up(postgres_only, home=HOME)
    local.down(postgres_only, home=HOME)
    monkeypatch.setattr(server_module, "START_TIMEOUT_S", 1.0)

    def answers(server: PostgresServer, _: str) -> bool:
        """It is given all the time that it needs to say that it could."""
        ends = time.monotonic() + 60
        while b"ready to accept connections" not in server.log.read_bytes():
            assert time.monotonic() < ends
            time.sleep(0.02)
        return False

    monkeypatch.setattr(PostgresServer, "answers", answers)
    with pytest.raises(local.LocalStackError, match="did not answer within 1 s") as caught:
        local.start_postgres(postgres_only, home=HOME)
    assert "ready to accept connections" in str(caught.value), "the error ends with the server's log"
    assert postmasters(postgres_only) == []


def test_what_is_deleted_is_not_written_to_disk_before(postgres_only: str) -> None:
    local.up(postgres_only, home=HOME)
    server = PostgresServer(StackDir.of(postgres_only, HOME), lambda _: None)
    assert server.running() is not None
    server.discard()
    assert b"immediate shutdown" in server.log.read_bytes()
    assert not server.data.exists()
    assert postmasters(postgres_only) == []


def test_kafka_has_the_archive_of_its_classes_in_memory(stack: Stack) -> None:
    pid = local.status(stack.name, home=HOME).kafka.pid
    assert pid is not None
    option = "-XX:SharedArchiveFile="
    [archive] = [a.removeprefix(option) for a in psutil.Process(pid).cmdline() if a.startswith(option)]
    # One that the JVM finds wanting is not there.
    assert archive in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def test_a_new_kafka_s_storage_is_what_kafka_s_own_tool_writes(stack: Stack, tmp_path: Path) -> None:
    del stack  # it made sure that there is what the tool wrote once
    (tmp_path / "data").mkdir()
    server = KafkaServer(StackDir("formatted", tmp_path), lambda _: None)
    by_tool, as_before = tmp_path / "data" / "kafka", tmp_path / "data" / "before"
    server._format(by_tool)
    assert server._format_as_before(as_before)
    assert formatted(as_before) == formatted(by_tool)


def formatted(folder: Path) -> dict[str, object]:
    """Its files; of the one with ids what has none."""
    lines = (folder / "meta.properties").read_text(encoding="ascii").splitlines()
    ids = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return {
        "files": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
        "ids": {name: len(text) if name in {"cluster.id", "directory.id"} else text for name, text in ids.items()},
        "first records": (folder / "bootstrap.checkpoint").stat().st_size,
    }


async def test_the_server_is_durable_local_and_in_utc(postgres_server: str) -> None:
    rows = await execute(postgres_server, "SELECT name, setting FROM pg_settings")
    settings = {row["name"]: row["setting"] for row in rows}
    assert settings["fsync"] == settings["full_page_writes"] == settings["synchronous_commit"] == "on"
    assert settings["listen_addresses"] == ""
    assert settings["TimeZone"] == "UTC"
    assert settings["max_connections"] == "200"
    assert settings["server_encoding"] == "UTF8"


def test_psql_takes_the_dsn(database: str) -> None:
    query = [str(binary("psql")), database, "-XAtc", "SELECT current_database()"]
    shown = subprocess.run(query, check=True, capture_output=True, text=True)
    assert shown.stdout.strip() in database


async def test_a_database_is_empty_and_gone_afterwards(postgres_server: str) -> None:
    dsn = local.create_database(postgres_server, 'odd "name"')
    held = await asyncpg.connect(dsn)
    await held.execute("CREATE TABLE t ()")
    local.drop_database(postgres_server, 'odd "name"')
    names = [row["datname"] for row in await execute(postgres_server, "SELECT datname FROM pg_database")]
    assert 'odd "name"' not in names
    held.terminate()


async def test_topics_are_never_made_by_accident(kafka: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1000)
    await producer.start()
    try:
        with pytest.raises(Exception, match=r"(?i)unknown|metadata|timeout"):
            await asyncio.wait_for(producer.send_and_wait("misspelt", b""), timeout=60)
    finally:
        await producer.stop()
