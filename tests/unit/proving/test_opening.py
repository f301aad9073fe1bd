"""Whatever stops a run while it is being built, nothing that was being started is left."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.proving import stack as local
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.world import opening
from gateway.proving.world.world import WorldPlan


class Servers:
    """Stands in for the local stack: a start that waits until it is let go, as one that waits for a lock does."""

    def __init__(self) -> None:
        self.running = False
        self.starting, self.go_on = threading.Event(), threading.Event()
        self.stopped = 0

    def up(self, name: str, **_: object) -> None:
        self.starting.set()
        assert self.go_on.wait(60)
        self.running = True

    def down(self, name: str, **_: object) -> None:
        self.running = False
        self.stopped += 1

    def status(self, name: str, **_: object) -> SimpleNamespace:
        state = local.ServerState.RUNNING if self.running else local.ServerState.STOPPED
        return SimpleNamespace(kafka=SimpleNamespace(state=state), postgres=SimpleNamespace(state=state), replicas={})


@contextmanager
def no_steps(_: str) -> Iterator[None]:
    yield


@pytest.mark.parametrize("signals", [1, 2])
async def test_servers_that_are_being_started_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    servers = Servers()
    for name in ("up", "down", "status"):
        monkeypatch.setattr(local, name, getattr(servers, name))
    monkeypatch.setattr(local, "reset", servers.down)
    monkeypatch.setattr(opening, "start_networks", lambda world: None)
    for variable in ("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "MYPAY_KAFKA_SECURITY_PROTOCOL"):
        monkeypatch.delenv(variable, raising=False)
    cast = make_cast({Role.PLAIN: 1}, partners=make_partners(1), now=datetime.now(UTC), seed=1)

    async def run() -> None:
        async with opening.open_world(WorldPlan("stopped", tmp_path), cast, steps=no_steps):
            raise AssertionError("it was to be stopped before")

    running = asyncio.create_task(run())
    assert await asyncio.to_thread(servers.starting.wait, 60)
    cleared = servers.stopped
    for _ in range(signals):
        running.cancel()
        # Long enough for whoever would clear up at once.
        await asyncio.to_thread(lambda: None)
    servers.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (servers.running, servers.stopped) == (False, cleared + 1)
