"""Processor time and memory of every process of a run, sampled once a second.

A server with child processes (PostgreSQL) is one line: the processor time of those that ended meanwhile is in their
parent's account. Memory is the resident set; of PostgreSQL, whose processes share most of theirs, the proportional set.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import psutil

INTERVAL_S: Final = 1.0
FLAT_SHARE: Final = 0.05
FLAT_BYTES: Final = 5 * 1024 * 1024
"""Growth from the second to the last quarter that still counts as flat: 5 % or 5 MiB, whichever is more."""


@dataclass(slots=True)
class Meter:
    """One process or server.

    Attributes:
        cpu_seconds: user and system, between the first and the last sample.
        memory: bytes, a value a sample.
        own: the part of it that is shared with nobody: a server's common cache fills up and then stays.
    """

    name: str
    cpu_seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Most memory, bytes."""
        return max(self.memory, default=0)

    @property
    def growth(self) -> int:
        """Of its own memory: median of the last quarter less that of the second one; the first is warming up."""
        quarter = len(self.own) // 4
        if quarter == 0:
            return 0
        early, late = self.own[quarter : 2 * quarter], self.own[-quarter:]
        return int(statistics.median(late) - statistics.median(early))

    @property
    def flat(self) -> bool:
        """True if memory does not grow over time."""
        return self.growth <= max(FLAT_BYTES, FLAT_SHARE * self.peak)


class Meters:
    """Samples a set of processes between :meth:`start` and :meth:`stop`.

    Args:
        pids: name → process id.
        trees: names whose child processes count with them.

    Attributes:
        seconds: between start and stop.
        others_cores: processor cores that everything else on the machine kept busy meanwhile.
    """

    def __init__(self, pids: Mapping[str, int], *, trees: frozenset[str] = frozenset()) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._trees = trees
        self._began: dict[str, float] = {}
        self._sampling: asyncio.Task[None] | None = None
        self._machine_began = 0.0
        self._began_at = 0.0
        self.meters = {name: Meter(name) for name in pids}
        self.seconds = 0.0
        self.others_cores = 0.0

    def start(self) -> None:
        """Begin now."""
        self._began = {name: self._cpu(name) for name in self.meters}
        self._machine_began = _machine_cpu()
        self._began_at = time.monotonic()
        self._sampling = asyncio.create_task(self._sample(), name="meters")

    async def stop(self) -> None:
        """End now."""
        for name, meter in self.meters.items():
            meter.cpu_seconds = self._cpu(name) - self._began[name]
        self.seconds = time.monotonic() - self._began_at
        others = _machine_cpu() - self._machine_began - sum(m.cpu_seconds for m in self.meters.values())
        self.others_cores = max(0.0, others / self.seconds)
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait([self._sampling])

    async def _sample(self) -> None:
        while True:
            for name, meter in self.meters.items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    memory, own = self._memory(name)
                    meter.memory.append(memory)
                    meter.own.append(own)
            await asyncio.sleep(INTERVAL_S)

    def _family(self, name: str) -> list[psutil.Process]:
        process = self._processes[name]
        return [process, *process.children(recursive=True)] if name in self._trees else [process]

    def _cpu(self, name: str) -> float:
        total = 0.0
        for process in self._family(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
                if name in self._trees:
                    total += times.children_user + times.children_system
        return total

    def _memory(self, name: str) -> tuple[int, int]:
        family = self._family(name)
        if len(family) == 1:
            resident = int(family[0].memory_info().rss)
            return resident, resident
        memory = own = 0
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                full = process.memory_full_info()
                memory += int(full.pss)
                own += int(full.uss)
        return memory, own


def _machine_cpu() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
