"""Everything that a run needs, on one machine: Kafka, PostgreSQL, card networks, registries and the gateway itself.

    async with open_world(WorldPlan(name="demo", home=Path("var")), cast, steps=steps) as world:
        …

All real, nothing mocked: the servers of :mod:`gateway.proving.stack` under a name of the run's own, the simulated
networks and the gateway's stages as processes of their own. Whatever ends the block, everything is stopped in order.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.app.registries import open_registries
from gateway.base.to_end import in_thread, to_end
from gateway.database.grants import apply_roles
from gateway.database.migrate import migrate
from gateway.disclosure.signing import create_key
from gateway.identity.jose.jwk import generate_key, write_private_key
from gateway.identity.jose.trust_files import policy_digest, read_trust_files
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicState, ensure_topics
from gateway.proving import stack as local
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.registering import register
from gateway.proving.world.children import find_marked, kill_leftovers, mark_of
from gateway.proving.world.simulators import start_networks
from gateway.proving.world.starting import start_gateway
from gateway.proving.world.world import STOP_TIMEOUT_S, Steps, World, WorldError, WorldPlan
from gateway.sealing.sealing import MasterKeys
from schemas.topics import concrete_topics

_SLOTS: Final = 8


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
    await to_end(_close(world, delete=delete), name="closing")


async def _close(world: World, *, delete: bool) -> None:
    await asyncio.gather(*(s.stop(STOP_TIMEOUT_S) for s in world.stages))
    await asyncio.gather(*(s.stop(STOP_TIMEOUT_S) for s in world.simulators))
    end = local.reset if delete else local.down
    await in_thread(end, world.name, home=world.plan.home)
    if left := await in_thread(still_running, world):
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
        await in_thread(stop_kept, world.name, world.plan.home)
        shutil.rmtree(world.directory, ignore_errors=True)
        for folder in (world.logs, world.inbox, world.directory / "networks"):
            folder.mkdir(parents=True)
    with steps("Starting the card network" + "s" * (world.plan.networks > 1)):
        start_networks(world)
    with steps("Starting Kafka and PostgreSQL"):
        addresses = await in_thread(local.up, world.name, home=world.plan.home, replicated=world.plan.replicated)
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


async def _make_database(world: World, server_dsn: str) -> None:
    database = "mypay_" + world.name.replace("-", "_")
    await in_thread(local.drop_database, server_dsn, database)
    world.postgres_dsn = await in_thread(local.create_database, server_dsn, database)
    server = await in_thread(local.status, world.name, home=world.plan.home)
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
