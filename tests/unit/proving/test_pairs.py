"""The gateway's windows beside the pipeline without features: orders never run out, and all sent ones are counted."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.proving.bench import phases
from gateway.proving.bench.meters import Meters
from gateway.proving.bench.phases import Phases
from gateway.proving.bench.result import BenchError, BenchPlan
from gateway.proving.world.children import ChildError


class Load:
    """A load generator that sends until it is ended."""

    def __init__(self, *, lives: bool = True) -> None:
        self.pid = os.getpid()
        self.lives = lives

    def check(self) -> None:
        if not self.lives:
            raise ChildError("it has ended")


class Loads:
    """Signs nothing, and remembers what it was asked for."""

    def __init__(self, directory: Path, load: Load, starved_s: float) -> None:
        self.directory = directory
        self.load = load
        self.starved_s = starved_s
        self.ended = 0
        self.taken_up: list[str] = []
        self.signed: list[str] = []

    async def sign(self, count: int, name: str) -> list[Path]:
        path = self.directory / f"{name}.orders"
        path.touch()
        return [path]

    def left(self) -> list[Path]:
        return list(self.directory.iterdir())

    def start_ahead(self, orders: Sequence[Path], *, more: str = "") -> Load:
        self.taken_up.append(more)
        return self.load

    async def keep_signing(self, signed: int, seconds: float, name: str = "") -> None:
        self.signed.append(name)
        await asyncio.Event().wait()

    async def end(self, load: Load) -> float:
        self.ended += 1
        return self.starved_s

    async def settled_between(self, began: float, ended: float) -> int:
        return 10


def window_of(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> Phases:
    monkeypatch.setattr(phases, "FULL_S", 0.0)
    monkeypatch.setattr(phases, "POLL_S", 0.01)
    monkeypatch.setattr(phases, "meters_of", lambda _, load: Meters({"load": load.pid}))
    world: Any = SimpleNamespace(check=lambda: None)
    return Phases(BenchPlan(), world, *(None, loads, None))  # type: ignore[arg-type]


async def test_orders_are_signed_while_others_are_sent_each_window_under_names_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(tmp_path, Load(), 0.0)
    made = window_of(loads, monkeypatch)
    settled_per_s, _ = await made._window(0.05, 100.0, 1)
    await made._window(0.05, 100.0, 2)
    assert settled_per_s > 0
    assert loads.signed == loads.taken_up
    assert len({*loads.signed}) == loads.ended == 2
    assert not loads.left()


@pytest.mark.parametrize(
    ("load", "starved_s", "error"),
    [
        pytest.param(Load(lives=False), 0.0, ChildError, id="the load has ended"),
        pytest.param(Load(), 1.0, BenchError, id="there was nothing to send"),
    ],
)
async def test_what_a_window_sent_is_counted_whatever_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load, starved_s: float, error: type[Exception]
) -> None:
    """The check of the books is over all that is on the topic."""
    loads = Loads(tmp_path, load, starved_s)
    with pytest.raises(error):
        await window_of(loads, monkeypatch)._window(0.05, 100.0, 1)
    assert loads.ended == 1
