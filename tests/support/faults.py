"""Planned faults at the boundaries of the fakes."""

import asyncio
from collections import deque


class Faults:
    """A boundary that raises what was planned for a place, in order, and remembers every place it was awaited at."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._planned: dict[str, deque[Exception | None]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._first_only: set[str] = set()
        self._reached: dict[str, asyncio.Event] = {}
        self._visit = asyncio.Event()

    def plan(self, place: str, *errors: Exception | None) -> None:
        """Raise these at the next visits of a place; None lets one visit pass."""
        self._planned.setdefault(place, deque()).extend(errors)

    def hold(self, place: str, *, first_only: bool = False) -> None:
        """Let nobody past a place until it is opened, or only keep the first who comes there."""
        self._gates[place] = asyncio.Event()
        if first_only:
            self._first_only.add(place)
        self._reached[place] = asyncio.Event()

    async def reached(self, place: str) -> None:
        """Return once somebody waits at a held place."""
        await self._reached[place].wait()

    async def visited(self, place: str, times: int) -> None:
        """Return once a place has been visited this often in all."""
        while self.places.count(place) < times:
            self._visit.clear()
            await self._visit.wait()

    def open(self, place: str) -> None:
        """Let everybody past a held place."""
        self._gates.pop(place).set()

    @property
    def pending(self) -> int:
        """Planned faults that have not happened."""
        return sum(len(planned) for planned in self._planned.values())

    async def __call__(self, name: str) -> None:
        self.places.append(name)
        self._visit.set()
        gate = self._gates.get(name)
        if gate is not None and not (name in self._first_only and self._reached[name].is_set()):
            self._reached[name].set()
            await gate.wait()
        planned = self._planned.get(name)
        if planned and (error := planned.popleft()) is not None:
            raise error
