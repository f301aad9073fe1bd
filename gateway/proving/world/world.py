"""What a run is: its plan, its files and settings, and the processes of it that run.

It is built, and taken down, by :mod:`gateway.proving.world.opening`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.database.dsn import with_user
from gateway.database.roles import RUNNING, Role
from gateway.messaging.settings import KafkaSettings
from gateway.proving.traffic.cast import Cast
from gateway.proving.world.children import Child, base_environment, mark_of
from gateway.proving.world.networks import Network
from gateway.sealing.sealing import MasterKeys

STOP_TIMEOUT_S: Final = 30.0
"""Above the 20 s that execution waits for answers when it is told to stop."""

_OF_TRUST: Final = frozenset(("MYPAY_ISSUERS_DIR", "MYPAY_ALLOW_NO_PROOF"))
# What is due is done soon: a run is short.
_PROMPT: Final = {
    "MYPAY_DISCLOSURE_PERIOD_S": "3",
    "MYPAY_DISCLOSURE_IDLE_S": "0.5",
    "MYPAY_PORTABILITY_POLL_S": "0.1",
    "MYPAY_SHARING_INTERVAL_S": "0.2",
    "MYPAY_MARKETING_INTERVAL_S": "0.5",
    "MYPAY_MARKETING_END_INTERVAL_S": "0.2",
}

Steps = Callable[[str], AbstractContextManager[None]]
"""Shows that a step of the start runs, for as long as the block lasts."""


class WorldError(Exception):
    """The run cannot start here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """What to build.

    Attributes:
        name: of the run; another run of this name at the same time gets ``name-2``, and so on.
        home: directory of all local stacks and runs.
        networks: 1 or 2.
        cycle_seconds: the networks close a clearing cycle this often; None: when they are told to.
        window: requests in flight towards a network.
        initiation_workers, execution_workers, relay_workers: processes of the stage; of execution per network.
        asked: network ids at which the gateway inquires before it reverses; it reverses at once at the others.
        latency_ms: what the networks take to answer.
        tls: network ids whose links are under mutual TLS.
        with_habits: network ids that stamp their own time into answers and leave the terminal out.
        with_proxies: the gateway reaches each network by a port of its own, where somebody is to listen and pass on.
        with_gateway: start the gateway's processes too; else call
            :func:`gateway.proving.world.starting.start_gateway` when it is time.
        with_proofs: the gateway trusts identity providers of both groups, asks for proofs of dear payments, and takes
            commands on consents; else it asks for none, and consents stay as they are registered.
        with_disclosure: every use of a consent is written into the disclosure log.
        prompt: what is due is done soon, for a run is short, and roots of the log are told every few seconds; else all
            is done at the pace that settings have by default.
        with_sharing: the cast's affiliates are given shares, and its receivers nothing else.
        with_receivers: the cast's receivers are given what customers let them have: exports, shares and offers.
        keep: leave everything running at the end.
        replicated: three brokers, of which two must have a record, and a PostgreSQL with a synchronous standby.
    """

    name: str
    home: Path
    networks: int = 1
    seed: int = 0
    cycle_seconds: float | None = None
    window: int = 512
    initiation_workers: int = 1
    execution_workers: int = 1
    relay_workers: int = 1
    asked: tuple[str, ...] = ()
    latency_ms: float = 0.0
    tls: tuple[str, ...] = ()
    with_habits: tuple[str, ...] = ()
    with_proxies: bool = False
    log_level: str = "info"
    with_gateway: bool = True
    with_proofs: bool = False
    with_disclosure: bool = False
    with_sharing: bool = False
    prompt: bool = True
    with_receivers: bool = False
    keep: bool = False
    replicated: bool = False


@dataclass(slots=True)
class World:
    """A running world.

    Attributes:
        postgres_dsn: as a superuser; see :meth:`dsn_of`.
        has_roles: each process is a user of its own in the database.
        directory: its files: ``logs``, ``networks``, ``keys``, the networks' ledgers, ``inbox``.
        http: process name → base URL of its ``/metrics``, ``/healthz`` and ``/readyz``.
        succeeded: set it when the run went well: then no data are kept.
    """

    plan: WorldPlan
    name: str
    directory: Path
    cast: Cast
    kafka_bootstrap_servers: str = ""
    postgres_dsn: str = ""
    has_roles: bool = False
    networks: tuple[Network, ...] = ()
    simulators: list[Child] = field(default_factory=list)
    stages: list[Child] = field(default_factory=list)
    http: dict[str, str] = field(default_factory=dict)
    succeeded: bool = False

    @property
    def logs(self) -> Path:
        """Directory of the processes' logs."""
        return self.directory / "logs"

    @property
    def inbox(self) -> Path:
        """Where clearing files arrive, each network's in a folder of its name."""
        return self.directory / "inbox"

    @property
    def cleared(self) -> Path:
        """Where clearing files end."""
        return self.directory / "clearing-state"

    @property
    def clearing_keys(self) -> Path:
        """What networks seal their clearing files with, a folder a network."""
        return self.directory / "clearing-keys"

    @property
    def keys(self) -> Path:
        """Directory of the rings of keys."""
        return self.directory / "keys"

    @property
    def disclosure_keys(self) -> Path:
        """Directory of the key that signs roots of the disclosure log."""
        return self.keys / "disclosure"

    @property
    def key_folders(self) -> dict[str, Path]:
        """Setting → directory of one ring of keys."""
        return {
            "MYPAY_MASTER_KEYS_DIR": self.keys / "master",
            "MYPAY_DEAD_LETTER_KEYS_DIR": self.keys / "dead-letter",
            "MYPAY_INTERNAL_KEYS_DIR": self.keys / "internal",
            "MYPAY_SHARING_KEYS_DIR": self.keys / "sharing",
        }

    @property
    def receipt_key(self) -> Path:
        """File of the private key that receipts of exports are signed with."""
        return self.keys / "receipt.pem"

    @property
    def issuers(self) -> Path:
        """Directory of the trust table: identity providers and the assurance policy."""
        return self.directory / "issuers"

    @property
    def master_keys(self) -> MasterKeys:
        """The keys that seal cards."""
        return MasterKeys.load(self.key_folders["MYPAY_MASTER_KEYS_DIR"])

    @property
    def dead_letter_keys(self) -> MasterKeys:
        """The keys that seal and mark dead letters."""
        return MasterKeys.load(self.key_folders["MYPAY_DEAD_LETTER_KEYS_DIR"])

    @property
    def ledgers(self) -> dict[str, Path]:
        """Network id → its own books."""
        return {n.network_id: n.ledger for n in self.networks}

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach Kafka."""
        return KafkaSettings(bootstrap_servers=self.kafka_bootstrap_servers, client_id="mypay-proving")

    @property
    def environment(self) -> dict[str, str]:
        """Settings that every process of the gateway gets."""
        trust = {"MYPAY_ISSUERS_DIR": str(self.issuers)} if self.plan.with_proofs else {"MYPAY_ALLOW_NO_PROOF": "1"}
        given = {k: v for k, v in base_environment().items() if k not in _OF_TRUST}
        return {
            **given,
            **trust,
            "MYPAY_HOME": str(self.directory),
            "MYPAY_STACK": self.name,
            "MYPAY_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            **{f"MYPAY_POSTGRES_DSN_{role.value.upper()}": self.dsn_of(role) for role in RUNNING},
            "MYPAY_NETWORKS_DIR": str(self.directory / "networks"),
            **{name: str(folder) for name, folder in self.key_folders.items()},
            "MYPAY_DISCLOSURE_KEYS_DIR": str(self.disclosure_keys),
            "MYPAY_RECEIPT_KEY_FILE": str(self.receipt_key),
            **(_PROMPT if self.plan.prompt else {}),
            "MYPAY_CLEARING_INBOX": str(self.inbox),
            "MYPAY_CLEARING_STATE_DIR": str(self.cleared),
            "MYPAY_CLEARING_KEYS_DIR": str(self.clearing_keys),
            "MYPAY_LOG_LEVEL": self.plan.log_level,
        }

    def dsn_of(self, role: Role) -> str:
        """The database as a role's user: each process is its own.

        On a given server, whose users are not ours to let in without passwords, it is the given one's.
        """
        return with_user(self.postgres_dsn, role.user) if self.has_roles else self.postgres_dsn

    def stage(self, name: str) -> Child:
        """One of the gateway's processes by its name."""
        return next(s for s in self.stages if s.name == name)

    def check(self) -> None:
        """Make sure that everything still runs.

        Raises:
            ChildError: a process has ended.
        """
        for child in (*self.simulators, *self.stages):
            child.check()


def make_child(world: World, name: str, arguments: Sequence[str], environment: dict[str, str]) -> Child:
    """Make a process of this run, not started yet: found by its mark, and its log is with the others.

    Args:
        world: the run.
        name: of the process and, with dashes, of its log.
        arguments: of Python.
        environment: all of it.
    """
    log = world.logs / f"{name.replace(' ', '-')}.log"
    mark = mark_of(world.directory)
    return Child(name, arguments, mark=mark, log=log, cwd=world.directory, environment=environment)
