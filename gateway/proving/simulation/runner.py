"""Many worlds, on all cores: the same seeds give the same worlds in whatever process they run."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Final

from gateway.base.garbage_collection import collect_rarely
from gateway.proving.simulation.faults import Fault
from gateway.proving.simulation.hunting import Hunted, hunt
from gateway.proving.simulation.outcome import Outcome
from gateway.proving.simulation.world import hands_over, simulate

CHUNK: Final = 50
FAILURES_KEPT: Final = 20
"""Worlds that are told in full; all are counted."""


@dataclass(slots=True)
class Summary:
    """What many worlds came to.

    Attributes:
        violations: worlds in which a promise was broken.
        failures: the first of them.
    """

    seeds: int = 0
    violations: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    @property
    def faults_total(self) -> int:
        """Faults caused in all worlds."""
        return sum(self.faults.values())

    def add(self, outcome: Outcome) -> None:
        """Count one world."""
        self.seeds += 1
        self.faults.update(outcome.faults)
        self.endings.update(outcome.endings)
        self.seen.update(outcome.seen)
        if outcome.violations:
            self.violations += 1
            self.failures.append(outcome)

    def merge(self, other: "Summary") -> None:
        """Count what another process counted."""
        self.seeds += other.seeds
        self.violations += other.violations
        self.faults.update(other.faults)
        self.endings.update(other.endings)
        self.seen.update(other.seen)
        self.failures = sorted([*self.failures, *other.failures], key=lambda o: o.seed)[:FAILURES_KEPT]


def run_seeds(first: int, count: int, *, jobs: int, of_data: bool = False) -> Iterator[Summary]:
    """Run the worlds of ``count`` seeds from ``first``; yield the sum so far after every chunk, at last the whole.

    With ``of_data`` those alone that hand customers' data over: one in five.
    """
    total = Summary()
    with workers(jobs) as pool:
        chunks: list[Future[Summary]] = [
            pool.submit(run_chunk, start, min(CHUNK, first + count - start), of_data=of_data)
            for start in range(first, first + count, CHUNK)
        ]
        for chunk in as_completed(chunks):
            total.merge(chunk.result())
            yield total


def run_chunk(first: int, count: int, *, of_data: bool = False) -> Summary:
    """Run some worlds in this process, which :func:`workers` has made."""
    summary = Summary()
    for seed in range(first, first + count):
        if not of_data or hands_over(seed):
            summary.add(simulate(seed))
    return summary


def replay(seed: int) -> Outcome:
    """Run one world as any other process would, and write everything down that happens in it."""
    with workers(1) as pool:
        return pool.submit(simulate, seed, traced=True).result()


def hunt_all(first: Mapping[str, int], *, budget: int, jobs: int) -> Iterator[Hunted]:
    """Hunt planted bugs, each in its own block of a process; yield how each hunt ended, as they end.

    Args:
        first: the bugs, and the seed of each one's first world.
        budget: worlds in which each is hunted.
        jobs: processes.
    """
    with workers(jobs) as pool:
        for hunted in as_completed([pool.submit(hunt, name, seed, budget) for name, seed in first.items()]):
            yield hunted.result()


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that all iterate over sets in one order: Python's own would be another in each."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _prepare() -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    # Their time is virtual: whoever runs beside them in real time goes first.
    os.nice(10)
    # Worlds are dropped whole: looking for garbage while one runs costs a tenth of its time.
    collect_rarely()


def _end_with_parent() -> None:
    """A process of a pool waits for ever for work from a parent that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
