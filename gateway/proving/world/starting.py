"""The gateway's stages of a run: which there are, and their start; who waits for them waits until they are ready."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiohttp

from gateway.proving.stack.ports import free_ports
from gateway.proving.world.children import Child
from gateway.proving.world.networks import Network
from gateway.proving.world.world import Steps, World, WorldError, make_child

READY_TIMEOUT_S: Final = 180.0
"""Thirty times what a start takes on two cores: only a failure ever needs it."""

_POLL_S: Final = 0.05


async def start_gateway(world: World, steps: Steps) -> None:
    """Start every stage that does not run yet, and wait until all are ready and signed on.

    Raises:
        WorldError, ChildError: they do not become ready.
    """
    with steps("Starting the gateway"):
        _start_stages(world, [name for name in _stage_names(world) if name not in world.http])
        await _until_ready(world, world.networks)


async def start_stopped(world: World, names: Sequence[str]) -> None:
    """Start stages again that were stopped or killed, and wait until each of these is ready.

    Raises:
        WorldError, ChildError: one does not become ready.
    """
    wanted = [world.stage(name) for name in names]
    for stage in wanted:
        stage.start()
    waiting = ""
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), aiohttp.ClientSession() as session:
            for stage in wanted:
                waiting = stage.name
                while not await _answers_ready(session, world.http[stage.name]):
                    stage.check()
                    await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise WorldError(f"after {READY_TIMEOUT_S:.0f} s still waiting for {waiting}; logs: {world.logs}") from None


async def until_ready(world: World) -> None:
    """Wait until every stage that was started is ready and signed on.

    Raises:
        WorldError, ChildError: they do not become ready.
    """
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


def _stage_names(world: World) -> list[str]:
    plan = world.plan
    stages = _numbered("initiation", plan.initiation_workers)
    stages += [s for n in world.networks for s in _numbered(f"execution {n.network_id}", plan.execution_workers)]
    stages += [*_numbered("relay", plan.relay_workers), "settlement"]
    stages += ["disclosure"] if plan.with_disclosure else []
    stages += ["sharing"] if plan.with_sharing or plan.with_receivers else []
    stages += ["portability", "marketing"] if plan.with_receivers else []
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
