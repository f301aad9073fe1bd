"""What makes a stack survive one of its servers: three brokers that are controllers too, and a synchronous standby.

As the product's own guides ask for: replication 3 with ``min.insync.replicas`` 2, and ``synchronous_commit=on`` with a
standby that has written what was committed to its disk.
"""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from gateway.proving.stack import processes
from gateway.proving.stack.databases import execute
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.ports import LOOPBACK, free_ports
from gateway.proving.stack.postgres import PORT, SUPERUSER, PostgresServer, binary
from gateway.proving.stack.readiness import run
from gateway.proving.stack.state import StackDir

NODES: Final = (1, 2, 3)
STANDBY: Final = "postgres-2"
STANDBY_TITLE: Final = "PostgreSQL's standby"
PORTS_FILE: Final = "replicas.json"
_BASE_BACKUP_TIMEOUT_S: Final = 120.0
_NAME: Final = "mypay_standby"


def kafka_keys() -> tuple[str, ...]:
    """Names of the brokers' records: the first one's is that of a single broker."""
    return tuple("kafka" if n == 1 else f"kafka-{n}" for n in NODES)


def is_replicated(stack: StackDir) -> bool:
    """True if the stack was made so."""
    return (stack.path / PORTS_FILE).exists()


def make_replicated(stack: StackDir) -> None:
    """Choose every broker's ports at once, for each must know the others'."""
    if not is_replicated(stack):
        stack.path.mkdir(parents=True, exist_ok=True)
        (stack.path / PORTS_FILE).write_text(json.dumps(free_ports(2 * len(NODES))), encoding="ascii")


class KafkaNode(KafkaServer):
    """One of three brokers."""

    def __init__(self, stack: StackDir, progress: Callable[[str], None], number: int) -> None:
        super().__init__(stack, progress)
        self._number = number
        self.key = kafka_keys()[number - 1]  # type: ignore[misc]
        self.title = f"Kafka {number}"  # type: ignore[misc]
        ports = json.loads((stack.path / PORTS_FILE).read_bytes())
        self._ports: Mapping[int, tuple[int, int]] = {n: (ports[2 * n - 2], ports[2 * n - 1]) for n in NODES}

    @property
    def marker(self) -> str:
        """See `Server.marker`."""
        return f"{super().marker}#{self._number}"

    def address(self, ports: tuple[int, ...]) -> str:
        """All of the brokers, this one first: a client outlives any of them."""
        del ports
        nodes = sorted(NODES, key=lambda n: n != self._number)
        return ",".join(f"{LOOPBACK}:{self._ports[n][0]}" for n in nodes)

    def choose_ports(self, remembered: tuple[int, ...], *, same_address: bool) -> tuple[int, ...]:
        """Those that the others know."""
        del remembered, same_address
        return self._ports[self._number]

    def stop(self) -> None:
        """End it at once: asked to end in order, the last two would wait for a majority that is gone."""
        self.kill()

    @property
    def cluster_id(self) -> str:
        """The same at each of them."""
        return base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_URL, str(self.stack.path)).bytes).decode().rstrip("=")

    @property
    def config_file(self) -> str:
        """See `KafkaServer.config_file`."""
        return f"server-{self._number}.properties"

    def settings(self, ports: tuple[int, ...]) -> dict[str, str]:
        """See `KafkaServer.settings`."""
        port, controller = ports[0], ports[1]
        clients = f"PLAINTEXT://{LOOPBACK}:{port}"
        voters = ",".join(f"{n}@{LOOPBACK}:{self._ports[n][1]}" for n in NODES)
        kept = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        return {
            "node.id": str(self._number),
            "controller.quorum.voters": voters,
            "listeners": f"{clients},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": clients,
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            **{f"{topic}.replication.factor": "3" for topic in kept},
            **{f"{topic}.min.isr": "2" for topic in kept[1:]},
        }


class PostgresStandby(PostgresServer):
    """A copy that has on its disk whatever a commit of the primary was confirmed for."""

    key: ClassVar[str] = STANDBY
    title: ClassVar[str] = STANDBY_TITLE

    def __init__(self, stack: StackDir, progress: Callable[[str], None], primary: PostgresServer) -> None:
        super().__init__(stack, progress)
        self._primary = primary

    @property
    def socket_dir(self) -> Path:
        """A place of its own."""
        return super().socket_dir.with_name(f"{super().socket_dir.name}-2")

    def initialise(self, unfinished: Path, user: str | None) -> None:
        """Copy the primary, and follow it from there on."""
        primary = f"host={self._primary.socket_dir} port={PORT} user={SUPERUSER} application_name={_NAME}"
        argv = [str(binary("pg_basebackup")), "-D", str(unfinished), "-d", primary, "-R", "-c", "fast"]
        processes.run_to_end(
            "Copying PostgreSQL's data", argv, cwd=self.stack.data, timeout_s=_BASE_BACKUP_TIMEOUT_S, user=user
        )

    def promote(self) -> str:
        """Make a primary of it that waits for nobody; returns its address.

        The former primary must be down: two that take writes would be two databases.
        """
        run(execute(self.address(()), "SELECT pg_promote(true, 60)"))
        run(execute(self.address(()), "ALTER SYSTEM RESET synchronous_standby_names"))
        run(execute(self.address(()), "SELECT pg_reload_conf()"))
        return self.address(())

    def follow_synchronously(self) -> None:
        """Let the primary confirm no commit that is not on this one's disk."""
        run(execute(self._primary.address(()), f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'"))
        run(execute(self._primary.address(()), "SELECT pg_reload_conf()"))


def whichever_writes(primary: PostgresServer, standby: PostgresServer) -> str:
    """An address of both, for asyncpg and libpq alike: a client is led to the one that takes writes."""
    folders = ",".join(quote(str(s.socket_dir)) for s in (primary, standby))
    return f"postgresql://{SUPERUSER}@/postgres?host={folders}&target_session_attrs=read-write"
