"""Real Kafka and PostgreSQL for the tests that ask for them: one stack a test session, started by the first."""

import fcntl
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.database.migrate import migrate
from gateway.proving import stack as local
from gateway.proving.stack.databases import DDL_TIMEOUT_S, database_dsn, execute
from gateway.proving.stack.postgres import SERVER_SETTINGS
from gateway.proving.stack.readiness import run

HOME = Path(os.environ.get("MYPAY_HOME") or Path(__file__).parents[2] / "var").resolve()
# Sessions that may run side by side on one machine.
SLOTS = 16


@dataclass(frozen=True)
class Stack:
    """A running local stack; its servers can be killed and started again by name."""

    name: str
    home: Path
    kafka: str
    postgres: str

    def kill_kafka(self) -> None:
        local.kill_kafka(self.name, home=self.home)

    def start_kafka(self) -> None:
        local.start_kafka(self.name, home=self.home)

    def restart_kafka(self) -> None:
        local.restart_kafka(self.name, home=self.home)

    def pause_kafka(self) -> None:
        """Let it stand still: connections stay, and what comes waits in them. Returns once each of its threads does."""
        pid = self._kafka_pid()
        os.kill(pid, signal.SIGSTOP)
        # The signal is there at once, and a thread that runs may go on for some milliseconds.
        deadline = time.monotonic() + 60
        while not all(_is_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()):
            assert time.monotonic() < deadline, "Kafka does not stand still"
            time.sleep(0.001)

    def resume_kafka(self) -> None:
        os.kill(self._kafka_pid(), signal.SIGCONT)

    def _kafka_pid(self) -> int:
        pid = local.status(self.name, home=self.home).kafka.pid
        assert pid is not None
        return pid

    def kill_postgres(self) -> None:
        local.kill_postgres(self.name, home=self.home)

    def start_postgres(self) -> None:
        local.start_postgres(self.name, home=self.home)

    def restart_postgres(self) -> None:
        local.restart_postgres(self.name, home=self.home)


def _is_stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def free_slot(prefix: str) -> Iterator[str]:
    """Hold a stack name that no other live session uses.

    Names are few and used again, so that a stack which a killed session left running is found and cleared away.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    for number in range(SLOTS):
        name = f"{prefix}-{number}"
        with (HOME / f".{name}.session").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return
    pytest.fail(f"{SLOTS} test sessions run already")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with free_slot("test") as name:
        local.reset(name, home=HOME)
        with pytest.MonkeyPatch.context() as patch:
            # Its transactions hold readers of the outbox back for a moment, its statistics change plans: at any time.
            patch.setitem(SERVER_SETTINGS, "autovacuum", "off")
            addresses = local.up(name, home=HOME)
        yield Stack(name, HOME, addresses.kafka_bootstrap_servers, addresses.postgres_dsn)
        local.reset(name, home=HOME)


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> str:
    """Bootstrap servers. Topics are shared by the whole session: give yours names of their own."""
    return stack.kafka


@pytest.fixture(scope="session")
def postgres_server(stack: Stack) -> str:
    """DSN of the superuser."""
    return stack.postgres


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    dsn = local.create_database(server, name)
    try:
        yield dsn
    finally:
        _leave(server, name)


def _leave(server: str, name: str) -> None:
    """End its sessions. It goes with the stack: a drop waits until all that the server holds is on disk."""
    run(execute(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    """DSN of an empty database of this test's own."""
    with fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template(postgres_server: str) -> str:
    """Name of a database that has our tables and nothing in them."""
    name = f"template_{uuid.uuid4().hex}"
    run(migrate(local.create_database(postgres_server, name)), timeout_s=DDL_TIMEOUT_S)
    return name


@pytest.fixture
def migrated_database(postgres_server: str, template: str) -> Iterator[str]:
    """DSN of a database of this test's own that has our tables already: a fifth of what it takes to make them."""
    name = f"test_{uuid.uuid4().hex}"
    run(execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template}"), timeout_s=DDL_TIMEOUT_S)
    try:
        yield database_dsn(postgres_server, name)
    finally:
        _leave(postgres_server, name)


@pytest.fixture(scope="module")
def module_database(postgres_server: str) -> Iterator[str]:
    """DSN of an empty database that the tests of one module share."""
    with fresh_database(postgres_server) as dsn:
        yield dsn
