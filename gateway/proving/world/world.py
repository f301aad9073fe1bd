"""Everything that a run needs, on one machine: Kafka, PostgreSQL, card networks, registries and the gateway itself.

    async with open_world(WorldPlan(name="demo", home=Path("var")), cast, steps=steps) as world:
        …

All real, nothing mocked: the servers of :mod:`gateway.proving.stack` under a name of the run's own, the simulated
networks and the gateway's stages as processes of their own. Whatever ends the block, everything is stopped in order.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp

from gateway.app.registries import open_registries
from gateway.database.dsn import with_user
from gateway.database.grants import apply_roles
from gateway.database.migrate import migrate
from gateway.database.roles import RUNNING, Role
from gateway.disclosure.signing import create_key
from gateway.identity.jose.jwk import generate_key, write_private_key
from gateway.identity.jose.trust_files import policy_digest, read_trust_files
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicState, ensure_topics
from gateway.proving import stack as local
from gateway.proving.stack.certificates import Authority
from gateway.proving.stack.ports import free_ports
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.registering import register
from gateway.proving.world.children import Child, base_environment, find_marked, kill_leftovers, mark_of
from gateway.proving.world.networks import NETWORKS, Network
from gateway.sealing.sealing import MasterKeys
from schemas.topics import concrete_topics

READY_TIMEOUT_S: Final = 60.0
"""Ten times what a start takes on two cores."""

STOP_TIMEOUT_S: Final = 30.0
"""Above the 20 s that execution waits for answers when it is told to stop."""

_POLL_S: Final = 0.05
_SLOTS: Final = 8
_OF_TRUST: Final = frozenset(("MYPAY_ISSUERS_DIR", "MYPAY_ALLOW_NO_PROOF"))
# What is due is done soon: a run is short.
_PROMPT: Final = {
    "MYPAY_PORTABILITY_POLL_S": "0.1",
    "MYPAY_SHARING_INTERVAL_S": "0.2",
    "MYPAY_MARKETING_INTERVAL_S": "0.5",
    "MYPAY_MARKETING_END_INTERVAL_S": "0.2",
}
_SIMULATOR: Final = "from gateway.cli import main; main()"

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
        with_gateway: start the gateway's processes too; else call :func:`start_gateway` when it is time.
        with_proofs: the gateway trusts identity providers of both groups, asks for proofs of dear payments, and takes
            commands on consents; else it asks for none, and consents stay as they are registered.
        with_disclosure: every use of a consent is written into the disclosure log, with a root every few seconds.
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
            "MYPAY_DISCLOSURE_PERIOD_S": "3",
            "MYPAY_RECEIPT_KEY_FILE": str(self.receipt_key),
            **_PROMPT,
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


@asynccontextmanager
async def open_world(plan: WorldPlan, cast: Cast, *, steps: Steps) -> AsyncIterator[World]:
    """Build everything, wait until it works, and take it down at the end.

    Raises:
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be built; nothing is left running.
    """
    with _free_name(plan) as name:
        directory = plan.home.resolve() / f"{name}.run"
        world = World(plan, name, directory, cast)
        try:
            await _build(world, steps)
            yield world
        except BaseException:
            await close_world(world, delete=False)
            raise
        if not plan.keep:
            with steps("Stopping everything"):
                await close_world(world, delete=world.succeeded)


async def close_world(world: World, *, delete: bool) -> None:
    """Stop the gateway, the networks and the servers, in this order; with ``delete`` their data go too.

    It goes on to its end also when it is cancelled, and looks at the end that nothing runs any more.

    Raises:
        WorldError: something still runs; names it.
    """
    closing = asyncio.create_task(_close(world, delete=delete), name="closing")
    cancelled: asyncio.CancelledError | None = None
    while not closing.done():
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError as error:
            cancelled = error
    closing.result()
    if cancelled is not None:
        raise cancelled


async def _close(world: World, *, delete: bool) -> None:
    await asyncio.gather(*(s.stop(STOP_TIMEOUT_S) for s in world.stages))
    await asyncio.gather(*(s.stop(STOP_TIMEOUT_S) for s in world.simulators))
    end = local.reset if delete else local.down
    await asyncio.to_thread(end, world.name, home=world.plan.home)
    if left := await asyncio.to_thread(still_running, world):
        raise WorldError(f"Still running: {', '.join(left)}. `mypay {world.plan.name} --stop` ends them.")


def still_running(world: World) -> list[str]:
    """What of a run is still there: processes by their marks, servers by their records."""
    left = [f"process {pid}" for pid in find_marked(mark_of(world.directory))]
    standing = local.status(world.name, home=world.plan.home)
    servers = (("Kafka", standing.kafka), ("PostgreSQL", standing.postgres))
    left += [name for name, server in servers if server.state is local.ServerState.RUNNING]
    return left + list(standing.replicas)


def stop_kept(name: str, home: Path) -> int:
    """Stop what a run with ``keep`` left; return how many processes of ours there were."""
    killed = kill_leftovers(mark_of(home.resolve() / f"{name}.run"))
    local.reset(name, home=home)
    return killed


@contextmanager
def _free_name(plan: WorldPlan) -> Iterator[str]:
    """A name that no other living run uses. Names are used again, so that leftovers are found and cleared away."""
    plan.home.mkdir(parents=True, exist_ok=True)
    for number in range(1, _SLOTS + 1):
        name = plan.name if number == 1 else f"{plan.name}-{number}"
        with (plan.home / f".{name}.run").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield name
            return
    raise WorldError(f"{_SLOTS} runs of {plan.name} are under way already")


def refuse_secured_kafka(environment: Mapping[str, str]) -> None:
    """What a run sends and reads back goes to Kafka as anybody: it needs one on this machine that asks for no names.

    Raises:
        WorldError: the Kafka that is given is another's machine, or secured.
    """
    given = environment.get("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "")
    try:
        reachable = not given or bool(KafkaSettings(given).addresses)
    except ValueError:
        reachable = False
    if not reachable or environment.get("MYPAY_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT") != "PLAINTEXT":
        raise WorldError(
            "this run needs a Kafka on this machine without access rules: unset MYPAY_KAFKA_BOOTSTRAP_SERVERS and "
            "MYPAY_KAFKA_SECURITY_PROTOCOL to use one of its own"
        )


async def _build(world: World, steps: Steps) -> None:
    refuse_secured_kafka(os.environ)
    with steps("Clearing away an earlier run"):
        await asyncio.to_thread(stop_kept, world.name, world.plan.home)
        shutil.rmtree(world.directory, ignore_errors=True)
        for folder in (world.logs, world.inbox, world.directory / "networks"):
            folder.mkdir(parents=True)
    with steps("Starting the card network" + "s" * (world.plan.networks > 1)):
        _start_networks(world)
    with steps("Starting Kafka and PostgreSQL"):
        addresses = await asyncio.to_thread(
            local.up, world.name, home=world.plan.home, replicated=world.plan.replicated
        )
        world.kafka_bootstrap_servers = addresses.kafka_bootstrap_servers
    with steps("Making the database and the topics"):
        await asyncio.gather(_make_database(world, addresses.postgres_dsn), _make_topics(world))
    with steps("Registering partners, shops and customers"):
        for folder in world.key_folders.values():
            MasterKeys.create(folder)
        create_key(world.disclosure_keys, datetime.now(UTC))
        write_private_key(world.receipt_key, generate_key("ES256")[0])
        world.cast.identities.write(world.issuers)
        await _apply_policy(world)
        networks = [n.network_id for n in world.networks]
        await register(world.postgres_dsn, world.cast, networks=networks, master_keys=world.master_keys)
    if world.plan.with_gateway:
        await start_gateway(world, steps)


async def start_gateway(world: World, steps: Steps) -> None:
    """Start every stage that does not run yet, and wait until all are ready and signed on.

    Raises:
        WorldError, ChildError: they do not become ready.
    """
    with steps("Starting the gateway"):
        _start_stages(world, [name for name in _stage_names(world) if name not in world.http])
        await _until_ready(world, world.networks)


async def start_intake(world: World, steps: Steps) -> Child:
    """Start one worker of the intake and nothing else, and wait until it is ready.

    Raises:
        WorldError, ChildError: it does not become ready.
    """
    with steps("Starting one worker of the intake"):
        _start_stages(world, ["initiation"])
        await _until_ready(world, ())
    return world.stage("initiation")


def _clearing_key(world: World, network_id: str) -> Path:
    path = world.clearing_keys / network_id / "1.hmac"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(secrets.token_hex(32), encoding="ascii")
    return path


def _papers(world: World, network_id: str) -> Path:
    folder = world.directory / "tls" / network_id
    authority = Authority()
    authority.issue(folder, "host", names=["127.0.0.1"])
    authority.issue(folder, "gateway")
    return folder


def _start_networks(world: World) -> None:
    plan = world.plan
    ports = free_ports(3 * plan.networks)
    world.networks = tuple(
        Network(
            network_id,
            port,
            control,
            world.directory / f"{network_id}.ledger",
            world.inbox / network_id,
            _clearing_key(world, network_id),
            gateway_port=between if plan.with_proxies else port,
            asked=network_id in plan.asked,
            latency_ms=plan.latency_ms,
            has_habits=network_id in plan.with_habits,
            papers=_papers(world, network_id) if network_id in plan.tls else None,
        )
        for network_id, port, control, between in zip(NETWORKS, ports[::3], ports[1::3], ports[2::3], strict=False)
    )
    for network in world.networks:
        for_gateway = world.directory / "networks" / f"{network.network_id}.toml"
        for_gateway.write_text(network.gateway_file(window=world.plan.window), encoding="utf-8")
        child = make_simulator(world, network.network_id, network, cycle_seconds=plan.cycle_seconds)
        world.simulators.append(child)
        child.start()


def make_simulator(world: World, name: str, network: Network, *, cycle_seconds: float | None = None) -> Child:
    """Make a network's process, not started yet; ``name`` is that of its files."""
    simulator = world.directory / f"{name}.toml"
    text = network.simulator_file(seed=world.plan.seed, cycle_seconds=cycle_seconds)
    simulator.write_text(text, encoding="utf-8")
    arguments = ["-c", _SIMULATOR, "simulate", "network", "--config", str(simulator)]
    return make_child(world, f"network {name}", arguments, base_environment())


def make_child(world: World, name: str, arguments: Sequence[str], environment: dict[str, str]) -> Child:
    """Make a process of this run, not started yet: found by its mark, and its log is with the others."""
    log = world.logs / f"{name.replace(' ', '-')}.log"
    mark = mark_of(world.directory)
    return Child(name, arguments, mark=mark, log=log, cwd=world.directory, environment=environment)


async def _make_database(world: World, server_dsn: str) -> None:
    database = "mypay_" + world.name.replace("-", "_")
    await asyncio.to_thread(local.drop_database, server_dsn, database)
    world.postgres_dsn = await asyncio.to_thread(local.create_database, server_dsn, database)
    server = await asyncio.to_thread(local.status, world.name, home=world.plan.home)
    world.has_roles = server.postgres.state is not local.ServerState.GIVEN
    if world.has_roles:
        await apply_roles(world.postgres_dsn)
    await migrate(world.postgres_dsn)


async def _make_topics(world: World) -> None:
    receivers = world.cast.receivers
    topics = concrete_topics(
        partners=[p.partner_id for p in world.cast.partners],
        networks=[n.network_id for n in world.networks],
        recipients=[receivers.recipient.org_code] if receivers else (),
        affiliates=[a.affiliate_id for a in receivers.affiliates] if receivers else (),
    )
    replicas = 3 if world.plan.replicated else 1
    made = await ensure_topics(world.kafka, topics, replication_factor=replicas, apply=True)
    if any(t.state is not TopicState.CREATED for t in made):
        raise WorldError(
            f"Kafka at {world.kafka_bootstrap_servers} has topics of mypay already, and this run needs its own: "
            "unset MYPAY_KAFKA_BOOTSTRAP_SERVERS to use a local one"
        )


async def _apply_policy(world: World) -> None:
    files = read_trust_files(world.issuers) if world.plan.with_proofs else None
    async with open_registries(world.postgres_dsn) as registries:
        await registries.identities.apply_policy(policy_digest(files))


def _stage_names(world: World) -> list[str]:
    plan = world.plan
    stages = _numbered("initiation", plan.initiation_workers)
    stages += [s for n in world.networks for s in _numbered(f"execution {n.network_id}", plan.execution_workers)]
    stages += [*_numbered("relay", plan.relay_workers), "settlement"]
    stages += ["disclosure"] if plan.with_disclosure else []
    stages += ["portability", "sharing", "marketing"] if plan.with_receivers else []
    return [*stages, *(("consents", "schedule") if plan.with_proofs else ())]


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name} {n}" if n > 1 else name for n in range(1, count + 1)]


def _start_stages(world: World, names: Sequence[str]) -> None:
    for name, port in zip(names, free_ports(len(names)), strict=True):
        stage, *words = name.split(" ")
        arguments = ["-m", "streams", stage, *(["--network", words[0]] if stage == "execution" else [])]
        world.http[name] = f"http://127.0.0.1:{port}"
        # Each has its name to itself, and is started again under it.
        own = {"MYPAY_HTTP_PORT": str(port), "MYPAY_WORKER": name.replace(" ", "-")}
        child = make_child(world, name, arguments, {**world.environment, **own})
        world.stages.append(child)
        child.start()


async def _until_ready(world: World, networks: Sequence[Network]) -> None:
    """Wait until every stage that was started is ready, and signed on to these networks.

    Raises:
        ChildError: one has ended.
        WorldError: it takes too long.
    """
    waiting = "nothing"
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), aiohttp.ClientSession() as session:
            for name, url in world.http.items():
                waiting = f"{name} ({url}/readyz)"
                await _until(world, lambda url=url: _answers_ready(session, url))  # type: ignore[misc]
            for network in networks:
                waiting = f"the sign-on to {network.network_id}"
                await _until(world, lambda network=network: _signed_on(network))  # type: ignore[misc]
    except TimeoutError:
        raise WorldError(f"after {READY_TIMEOUT_S:.0f} s still waiting for {waiting}; logs: {world.logs}") from None


async def _until(world: World, holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():
        world.check()
        await asyncio.sleep(_POLL_S)


async def _answers_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _signed_on(network: Network) -> bool:
    try:
        return int((await network.state())["signed_on"]) > 0
    except aiohttp.ClientError:
        return False
