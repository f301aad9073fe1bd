"""The local stack as a whole: start, stop, look at and delete a Kafka and a PostgreSQL of one's own."""

import concurrent.futures
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gateway.local.errors import LocalStackError
from gateway.local.kafka import KafkaServer
from gateway.local.postgres import PostgresServer
from gateway.local.server import Server
from gateway.local.state import StackDir

ENV_KAFKA = "MYPAY_KAFKA_BOOTSTRAP_SERVERS"
ENV_POSTGRES = "MYPAY_POSTGRES_DSN"
ENV_HOME = "MYPAY_HOME"
# The empty servers take 200 MB; PostgreSQL may keep 2 GB of log, and a full disk stops both in a bad moment.
FREE_DISK_BYTES_MIN = 1 << 30


class ServerState(StrEnum):
    """How a server of the stack stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    GIVEN = "given"  # the user's own, named by an environment variable


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where clients find the stack. The DSN is a superuser's."""

    kafka_bootstrap_servers: str
    postgres_dsn: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server: its pid while it runs here, its last known address, version and files."""

    state: ServerState
    pid: int | None
    address: str
    version: str
    data: Path | None
    log: Path | None


@dataclass(frozen=True, slots=True)
class StackStatus:
    """Both servers of a stack, and its directory."""

    name: str
    directory: Path
    kafka: ServerStatus
    postgres: ServerStatus


def default_home() -> Path:
    """Return the directory of all stacks: `$MYPAY_HOME`, or `var` in the working directory."""
    return Path(os.environ.get(ENV_HOME) or "var")


def quiet(message: str) -> None:
    """Drop a progress message."""
    del message


def up(
    name: str = "default", *, home: Path, containers: bool = False, progress: Callable[[str], None] = quiet
) -> StackAddresses:
    """Start what is neither given nor running yet, both servers at once, and return the addresses.

    The servers outlive the caller. Called again, it returns the same addresses.

    Raises:
        LocalStackError: a server did not start; then nothing that this call started is left running.
    """
    del containers
    stack = StackDir.of(name, home)
    with stack.locked():
        wanted: list[Server] = [server for server in _servers(stack, progress) if not _given(server)]
        if any(server.running() is None for server in wanted):
            _prepare_directory(stack)
        _start_all(wanted, progress)
        return _addresses(stack)


def down(name: str, *, home: Path) -> None:
    """Stop both servers; their data stay. A stack that does not run, or does not exist, is left as it is."""
    stack = StackDir.of(name, home)
    if not stack.path.exists():
        return
    with stack.locked(), concurrent.futures.ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(server.stop) for server in _servers(stack, quiet)]:
            job.result()


def reset(name: str, *, home: Path) -> None:
    """Stop both servers and delete their data."""
    down(name, home=home)
    stack = StackDir.of(name, home)
    if not stack.path.exists():
        return
    with stack.locked():
        for server in _servers(stack, quiet):
            if isinstance(server, PostgresServer) and server.socket_dir.parent != stack.path:
                shutil.rmtree(server.socket_dir, ignore_errors=True)
        shutil.rmtree(stack.path)


def status(name: str, *, home: Path) -> StackStatus:
    """Say how a stack stands, from the processes themselves."""
    stack = StackDir.of(name, home)
    kafka, postgres = _servers(stack, quiet)
    return StackStatus(name, stack.path, _status(kafka), _status(postgres))


def start_kafka(name: str, *, home: Path) -> None:
    """Start a stopped or killed Kafka again, at the same address and with its data."""
    _start_again(KafkaServer, name, home)


def stop_kafka(name: str, *, home: Path) -> None:
    """Shut Kafka down in order."""
    KafkaServer(StackDir.of(name, home), quiet).stop()


def kill_kafka(name: str, *, home: Path) -> None:
    """End Kafka at once, as a crash would."""
    KafkaServer(StackDir.of(name, home), quiet).kill()


def restart_kafka(name: str, *, home: Path) -> None:
    """Shut Kafka down in order and start it again at the same address."""
    stop_kafka(name, home=home)
    start_kafka(name, home=home)


def start_postgres(name: str, *, home: Path) -> None:
    """Start a stopped or killed PostgreSQL again, at the same address and with its data."""
    _start_again(PostgresServer, name, home)


def stop_postgres(name: str, *, home: Path) -> None:
    """Shut PostgreSQL down in order, ending its sessions."""
    PostgresServer(StackDir.of(name, home), quiet).stop()


def kill_postgres(name: str, *, home: Path) -> None:
    """End PostgreSQL and its backends at once, as a crash would."""
    PostgresServer(StackDir.of(name, home), quiet).kill()


def restart_postgres(name: str, *, home: Path) -> None:
    """Shut PostgreSQL down in order and start it again at the same address."""
    stop_postgres(name, home=home)
    start_postgres(name, home=home)


def _servers(stack: StackDir, progress: Callable[[str], None]) -> tuple[KafkaServer, PostgresServer]:
    return KafkaServer(stack, progress), PostgresServer(stack, progress)


def _given(server: Server) -> str:
    return os.environ.get(ENV_KAFKA if isinstance(server, KafkaServer) else ENV_POSTGRES, "")


def _addresses(stack: StackDir) -> StackAddresses:
    kafka, postgres = (_given(server) or stack.read(server.key).address for server in _servers(stack, quiet))
    return StackAddresses(kafka, postgres)


def _prepare_directory(stack: StackDir) -> None:
    try:
        stack.data.mkdir(parents=True, exist_ok=True)
        stack.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise LocalStackError(
            f"The directory {stack.path} cannot be made: {error.strerror}.", "Choose another one in MYPAY_HOME."
        ) from error
    free = shutil.disk_usage(stack.path).free
    if free < FREE_DISK_BYTES_MIN:
        raise LocalStackError(
            f"Only {free >> 20} MiB are free at {stack.path}; the local stack wants {FREE_DISK_BYTES_MIN >> 20}.",
            "Free some space, or choose another disk in MYPAY_HOME.",
        )


def _start_all(servers: list[Server], progress: Callable[[str], None]) -> None:
    running = {server.key for server in servers if server.running() is not None}
    for server in servers:
        if server.key not in running:
            progress(f"Starting {server.title} {server.version}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(server.start) for server in servers]
    failures = [error for job in jobs if (error := job.exception()) is not None]
    if failures:
        for server in servers:
            if server.key not in running:
                server.stop()
        raise failures[0]


def _start_again(kind: type[Server], name: str, home: Path) -> None:
    stack = StackDir.of(name, home)
    with stack.locked():
        if not stack.read(kind.key).address:
            raise LocalStackError(f"The local stack '{name}' was never started.", "Start it with `mypay local up`.")
        kind(stack, quiet).start(same_address=True)


def _status(server: Server) -> ServerStatus:
    if address := _given(server):
        return ServerStatus(ServerState.GIVEN, None, address, "", None, None)
    running = server.running()
    record = running or server.stack.read(server.key)
    pid = running.process.pid if running and running.process else None
    state = ServerState.STOPPED if running is None else ServerState.RUNNING
    return ServerStatus(state, pid, record.address, record.version or server.version, server.data, server.log)
