"""The local stack as a whole: start, stop, look at and delete a Kafka and a PostgreSQL of one's own."""

import concurrent.futures
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gateway.proving.stack.classes import archive_classes
from gateway.proving.stack.containers import ContainerServer
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.postgres import PostgresServer
from gateway.proving.stack.readiness import kafka_answers, wait_until_ready
from gateway.proving.stack.replicas import (
    NODES,
    KafkaNode,
    PostgresStandby,
    is_replicated,
    make_replicated,
    whichever_writes,
)
from gateway.proving.stack.secure import KafkaSecurity, security_of
from gateway.proving.stack.server import START_TIMEOUT_S, Server
from gateway.proving.stack.state import StackDir

ENV_KAFKA = "MYPAY_KAFKA_BOOTSTRAP_SERVERS"
ENV_POSTGRES = "MYPAY_POSTGRES_DSN"
# The empty servers take 200 MB; PostgreSQL may keep 2 GB of log, and a full disk stops both in a bad moment.
FREE_DISK_BYTES_MIN = 1 << 30
SERVERS = (KafkaServer.key, PostgresServer.key)

StackServer = Server | ContainerServer


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
    """Both servers of a stack, its directory, and what its Kafka asks clients for if it is secured.

    Of a replicated one `kafka` is the first broker, and `replicas` the further servers that run: title → pid.
    """

    name: str
    directory: Path
    kafka: ServerStatus
    postgres: ServerStatus
    security: KafkaSecurity | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)


def quiet(message: str) -> None:
    """Drop a progress message."""
    del message


def up(
    name: str = "default",
    *,
    home: Path,
    containers: bool = False,
    secure: bool = False,
    replicated: bool = False,
    progress: Callable[[str], None] = quiet,
) -> StackAddresses:
    """Start what is neither given nor running yet, both servers at once, and return the addresses.

    The servers outlive the caller. Called again, it returns the same addresses. With `secure` Kafka speaks TLS alone,
    asks every client who it is, and lets nobody but the administrator do anything until there are access rules.
    With `replicated` a new stack has three brokers and a synchronous standby; nothing of it may be given.

    Raises:
        LocalStackError: a server did not start; then nothing that this call started is left running.
    """
    stack = StackDir.of(name, home)
    with stack.locked():
        if replicated or is_replicated(stack):
            return _up_replicated(stack, progress)
        wanted = [
            _server(key, stack, progress, containers=containers, secure=secure) for key in SERVERS if not _given(key)
        ]
        if any(server.running() is None for server in wanted):
            _prepare_directory(stack)
        _start_all(wanted, progress)
        return StackAddresses(*(_given(key) or stack.read(key).address for key in SERVERS))


def down(name: str, *, home: Path, progress: Callable[[str], None] = quiet) -> None:
    """Stop both servers; their data stay. A stack that does not run, or does not exist, is left as it is."""
    stack = StackDir.of(name, home)
    if not stack.path.exists():
        return
    with stack.locked():
        _stop_all(_all_servers(stack, progress))


def reset(name: str, *, home: Path, progress: Callable[[str], None] = quiet) -> None:
    """Stop both servers and delete their data."""
    stack = StackDir.of(name, home)
    if not stack.path.exists():
        return
    with stack.locked():
        _at_once([server.discard for server in _all_servers(stack, progress)])
        shutil.rmtree(stack.path)


def status(name: str, *, home: Path) -> StackStatus:
    """Say how a stack stands, from the processes themselves."""
    stack = StackDir.of(name, home)
    replicas = {
        server.title: record.process.pid
        for server in _all_servers(stack, quiet)
        if server.key not in SERVERS and (record := server.running()) is not None and record.process is not None
    }
    kafka, postgres = _status("kafka", stack), _status("postgres", stack)
    return StackStatus(name, stack.path, kafka, postgres, _security(stack), replicas)


def start_kafka(name: str, *, home: Path) -> None:
    """Start a stopped or killed Kafka again, at the same address and with its data."""
    _start_again("kafka", name, home)


def stop_kafka(name: str, *, home: Path) -> None:
    """Shut Kafka down in order."""
    _server("kafka", StackDir.of(name, home), quiet).stop()


def kill_kafka(name: str, *, home: Path) -> None:
    """End Kafka at once, as a crash would."""
    _server("kafka", StackDir.of(name, home), quiet).kill()


def restart_kafka(name: str, *, home: Path) -> None:
    """Shut Kafka down in order and start it again at the same address."""
    stop_kafka(name, home=home)
    start_kafka(name, home=home)


def start_postgres(name: str, *, home: Path) -> None:
    """Start a stopped or killed PostgreSQL again, at the same address and with its data."""
    _start_again("postgres", name, home)


def stop_postgres(name: str, *, home: Path) -> None:
    """Shut PostgreSQL down in order, ending its sessions."""
    _server("postgres", StackDir.of(name, home), quiet).stop()


def kill_postgres(name: str, *, home: Path) -> None:
    """End PostgreSQL and its backends at once, as a crash would."""
    _server("postgres", StackDir.of(name, home), quiet).kill()


def restart_postgres(name: str, *, home: Path) -> None:
    """Shut PostgreSQL down in order and start it again at the same address."""
    stop_postgres(name, home=home)
    start_postgres(name, home=home)


def _up_replicated(stack: StackDir, progress: Callable[[str], None]) -> StackAddresses:
    if any(_given(key) for key in SERVERS) or (not is_replicated(stack) and stack.read(KafkaServer.key).address):
        raise LocalStackError(
            f"The stack '{stack.name}' is not replicated, or its servers are given.",
            f"Unset {ENV_KAFKA} and {ENV_POSTGRES}, or take another name.",
        )
    _prepare_directory(stack)
    make_replicated(stack)
    nodes, primary, standby = _replicated_servers(stack, progress)
    first = [*nodes, primary]
    _start_all(first, progress)
    bootstrap_servers = stack.read(KafkaServer.key).address
    wait_until_ready(
        f"The third broker of stack '{stack.name}'",
        lambda: kafka_answers(bootstrap_servers, brokers_min=len(NODES)),
        lambda: all(server.running() is not None for server in first),
        lambda: "",
        timeout_s=START_TIMEOUT_S,
    )
    _start_all([standby], progress)
    standby.follow_synchronously()
    return StackAddresses(bootstrap_servers, whichever_writes(primary, standby))


def _replicated_servers(
    stack: StackDir, progress: Callable[[str], None]
) -> tuple[list[KafkaNode], PostgresServer, PostgresStandby]:
    primary = PostgresServer(stack, progress)
    return [KafkaNode(stack, progress, n) for n in NODES], primary, PostgresStandby(stack, progress, primary)


def _all_servers(stack: StackDir, progress: Callable[[str], None]) -> list[StackServer]:
    """Every server that the stack has; of a replicated one the standby is the last."""
    if not is_replicated(stack):
        return [_server(key, stack, progress) for key in SERVERS]
    nodes, primary, standby = _replicated_servers(stack, progress)
    return [*nodes, primary, standby]


def kill_broker(name: str, number: int, *, home: Path) -> None:
    """End one of a replicated stack's brokers at once, as a crash would."""
    KafkaNode(StackDir.of(name, home), quiet, number).kill()


def fail_over(name: str, *, home: Path) -> str:
    """End the primary at once, and promote its standby; returns the address of what takes writes now."""
    _, primary, standby = _replicated_servers(StackDir.of(name, home), quiet)
    primary.kill()
    return standby.promote()


def _server(
    key: str,
    stack: StackDir,
    progress: Callable[[str], None],
    *,
    containers: bool = False,
    secure: bool = False,
) -> StackServer:
    """Make one server's handle; a stack stays what it was first started as."""
    record = stack.read(key)
    if secure and containers:
        raise LocalStackError(
            "A secured stack runs from packages, not containers.", "Leave out one of the two options."
        )
    if secure and key == KafkaServer.key and record.address and not record.secure:
        raise LocalStackError(
            f"The local stack '{stack.name}' was made without --secure.",
            "Take another --name, or delete it first with `mypay local reset`.",
        )
    if containers and record.address and record.container is None:
        raise LocalStackError(
            f"The local stack '{stack.name}' runs from packages, not containers.",
            "Take another --name, or delete it first with `mypay local reset`.",
        )
    if containers or record.container is not None:
        return ContainerServer(key, stack, progress)
    if key == KafkaServer.key:
        if is_replicated(stack):
            return KafkaNode(stack, progress, 1)
        return KafkaServer(stack, progress, secure=secure or record.secure)
    return PostgresServer(stack, progress)


def _given(key: str) -> str:
    return os.environ.get(ENV_KAFKA if key == KafkaServer.key else ENV_POSTGRES, "")


def _prepare_directory(stack: StackDir) -> None:
    stack.data.mkdir(parents=True, exist_ok=True)
    stack.logs.mkdir(exist_ok=True)
    free = shutil.disk_usage(stack.path).free
    if free < FREE_DISK_BYTES_MIN:
        raise LocalStackError(
            f"Only {free >> 20} MiB are free at {stack.path}; the local stack wants {FREE_DISK_BYTES_MIN >> 20}.",
            "Free some space, or choose another disk in MYPAY_HOME.",
        )


def _start_all(servers: Sequence[StackServer], progress: Callable[[str], None]) -> None:
    stopped = [server for server in servers if server.running() is None]
    for broker in [server for server in stopped if isinstance(server, KafkaServer)][:1]:
        archive_classes(broker)
    for server in stopped:
        progress(f"Starting {server.title} {server.version}")
    with concurrent.futures.ThreadPoolExecutor(max(1, len(servers))) as pool:
        jobs = [pool.submit(server.start) for server in servers]
    failures = [error for job in jobs if (error := job.exception()) is not None]
    if failures:
        _stop_all(stopped)
        raise failures[0]


def _stop_all(servers: Sequence[StackServer]) -> None:
    _at_once([server.stop for server in servers])


def _at_once(actions: Sequence[Callable[[], None]]) -> None:
    with concurrent.futures.ThreadPoolExecutor(max(1, len(actions))) as pool:
        jobs = [pool.submit(action) for action in actions]
    for job in jobs:
        job.result()


def _start_again(key: str, name: str, home: Path) -> None:
    stack = StackDir.of(name, home)
    with stack.locked():
        if not stack.read(key).address:
            raise LocalStackError(f"The local stack '{name}' was never started.", "Start it with `mypay local up`.")
        _server(key, stack, quiet).start(same_address=True)


def _security(stack: StackDir) -> KafkaSecurity | None:
    record = stack.read(KafkaServer.key)
    return security_of(stack.path, record.ports[2]) if record.secure and not _given(KafkaServer.key) else None


def _status(key: str, stack: StackDir) -> ServerStatus:
    if address := _given(key):
        return ServerStatus(ServerState.GIVEN, None, address, "", None, None)
    server = _server(key, stack, quiet)
    running = server.running()
    record = running or stack.read(key)
    pid = running.process.pid if running and running.process else None
    state = ServerState.STOPPED if running is None else ServerState.RUNNING
    return ServerStatus(state, pid, record.address, record.version or server.version, server.data, server.log)
