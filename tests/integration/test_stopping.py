"""SIGTERM: a process ends within seconds whatever is away, nothing is lost by it, and a clean stop says nothing bad."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.test_outages import ANY_END, STOPS, light_load, until_more_approved, until_told
from tests.support.entries import KCARD
from tests.support.scene import Scene

END_S: Final = 90.0
"""Past this a test gives up on a process: longer than execution's 17 s and everybody's 5 s, on a busy machine."""

SAID_ON_PURPOSE: Final = ("no_customers_proof_is_asked_for",)
"""What a world without identity providers is warned of."""

SERVERS: Final = ["postgres", "kafka"]


async def end_all(scene: Scene) -> dict[str, int | None]:
    """SIGTERM to every stage; return how each ended. -9: it had to be killed."""
    names = list(scene.world.http)
    scene.down.update(names)
    codes = await asyncio.gather(*(scene.process(n).stop(END_S) for n in names))
    return dict(zip(names, codes, strict=True))


async def start_all(scene: Scene) -> None:
    scene.start(*scene.world.http)
    await scene.until_ready()


class Logs:
    """What the stages write from now on."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._sizes = {name: self._path(name).stat().st_size for name in scene.world.http}

    def _path(self, name: str) -> Path:
        return self._scene.process(name).log

    def lines(self, name: str) -> list[dict[str, Any]]:
        # What follows the last end of a line is being written.
        whole, _, _ = self._path(name).read_bytes()[self._sizes[name] :].rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def errors(self) -> list[str]:
        """Lines that say that something is wrong with the gateway itself."""
        lines = [(name, line) for name in self._scene.world.http for line in self.lines(name)]
        return [f"{name}: {line}" for name, line in lines if line["level"] in ("error", "critical")]

    async def all_told(self, event: str) -> bool:
        return all(any(line["event"] == event for line in self.lines(name)) for name in self._scene.world.http)


async def test_a_clean_start_and_stop_says_nothing_bad(scene: Scene) -> None:
    await scene.settle()
    assert set((await end_all(scene)).values()) == {0}
    logs = Logs(scene)
    await start_all(scene)
    entries = [*scene.payments(5), *scene.payments(5, KCARD)]
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.settle()
    assert set((await end_all(scene)).values()) == {0}
    lines = [(name, line) for name in scene.world.http for line in logs.lines(name)]
    assert {line["event"] for _, line in lines} >= {"process_started", "process_stopped"}
    bad = sorted({f"{name}: {line}" for name, line in lines if line["level"] not in ("debug", "info")})
    assert "\n".join(line for line in bad if not any(said in line for said in SAID_ON_PURPOSE)) == ""
    await start_all(scene)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_stage_that_waits_for_a_server_to_start_with_ends_at_once(scene: Scene, server: str) -> None:
    scene.disturbed = True
    stop, _, start = STOPS[server]
    await end_all(scene)
    await asyncio.to_thread(stop, scene.stack.name, home=scene.stack.home)
    logs = Logs(scene)
    scene.start(*scene.world.http)
    await scene.until(lambda: logs.all_told("process_started"), "every stage has begun to start")
    codes = await end_all(scene)
    await asyncio.to_thread(start, scene.stack.name, home=scene.stack.home)
    await start_all(scene)
    assert -signal.SIGKILL not in codes.values(), codes
    if server == "postgres":
        # None of them had anything in hand.
        assert set(codes.values()) == {0}


@pytest.mark.parametrize("server", SERVERS)
async def test_a_stage_whose_server_is_away_ends_and_loses_nothing(scene: Scene, server: str) -> None:
    scene.disturbed = True
    stop, _, start = STOPS[server]
    async with light_load(scene) as entries:
        await until_more_approved(scene, entries)
        if server == "postgres":
            await asyncio.to_thread(stop, scene.stack.name, home=scene.stack.home)
            await until_told(scene, server)
            logs = Logs(scene)
            codes = await end_all(scene)
    if server == "kafka":
        await asyncio.to_thread(stop, scene.stack.name, home=scene.stack.home)
        logs = Logs(scene)
        codes = await end_all(scene)
    await asyncio.to_thread(start, scene.stack.name, home=scene.stack.home)
    assert logs.errors() == []
    await start_all(scene)
    assert -signal.SIGKILL not in codes.values(), codes
    after = scene.payments(5, expected=ANY_END)
    await scene.send(after)
    await scene.until_states(after, "approved")
    await scene.settle()
    assert len(await scene.rows_of([*entries, *after])) == len(entries) + len(after)
    await scene.check_books()


async def test_with_both_servers_away_every_process_ends_by_itself_and_says_nothing_worse_than_that(
    scene: Scene,
) -> None:
    scene.disturbed = True
    for server in SERVERS:
        await asyncio.to_thread(STOPS[server][0], scene.stack.name, home=scene.stack.home)
    await until_told(scene, "kafka")
    logs = Logs(scene)
    codes = await end_all(scene)
    for server in SERVERS:
        await asyncio.to_thread(STOPS[server][2], scene.stack.name, home=scene.stack.home)
    await start_all(scene)
    assert -signal.SIGKILL not in codes.values(), codes
    assert logs.errors() == []
    entries = scene.payments(3)
    await scene.send(entries)
    await scene.until_states(entries, "approved")
    await scene.settle()
    await scene.check_books()
