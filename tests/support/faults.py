"""Planned faults at the boundaries of the fakes."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from tests.support.deadline import in_time


@dataclass
class _Gate:
    visit: int | None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class Faults:
    """A boundary that raises what was planned for a place, in order, and remembers every place it was awaited at."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._visits: Counter[str] = Counter()
        self._visited = asyncio.Event()
        self._planned: dict[str, deque[Exception | None]] = {}
        self._gates: dict[str, _Gate] = {}

    def plan(self, place: str, *errors: Exception | None) -> None:
        """Raise these at the next visits of a place; None lets one visit pass."""
        self._planned.setdefault(place, deque()).extend(errors)

    def hold(self, place: str, *, visit: int | None = None) -> None:
        """Let nobody past a place until it is opened; or keep only this visit, counted from now (1: the next)."""
        self._gates[place] = _Gate(None if visit is None else self._visits[place] + visit)

    async def reached(self, place: str) -> None:
        """Return once somebody waits at a held place."""
        async with in_time(f"somebody at {place}"):
            await self._gates[place].reached.wait()

    async def visited(self, place: str, times: int) -> None:
        """Return once a place has been visited this often in all."""
        async with in_time(f"{times} visits of {place}"):
            while self._visits[place] < times:
                self._visited.clear()
                await self._visited.wait()

    def open(self, place: str) -> None:
        """Let everybody past a held place."""
        self._gates.pop(place).opened.set()

    @property
    def pending(self) -> int:
        """Planned faults that have not happened."""
        return sum(len(planned) for planned in self._planned.values())

    async def __call__(self, name: str) -> None:
        self.places.append(name)
        self._visits[name] += 1
        self._visited.set()
        gate = self._gates.get(name)
        if gate is not None and gate.visit in (None, self._visits[name]):
            gate.reached.set()
            await gate.opened.wait()
        planned = self._planned.get(name)
        if planned and (error := planned.popleft()) is not None:
            raise error
