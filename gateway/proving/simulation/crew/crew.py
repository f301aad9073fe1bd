"""All workers of a world: who starts them, deals out their partitions, and starts others in their place."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any, Final

from gateway.proving.memory import Database
from gateway.proving.simulation.crew.broker import Member
from gateway.proving.simulation.crew.worker import Running, Worker
from gateway.proving.simulation.faults import Fault, Faults
from gateway.proving.simulation.loop import SkewedClock, VirtualLoop
from gateway.proving.simulation.outcome import Findings
from gateway.proving.simulation.script.scene import PARTITIONS, SKEW_MAX_S, Stage

FREEZE_NOTICED_S: Final = 3.0
"""A worker that is frozen for longer loses its partitions to another."""

STOPPED_WITHIN_S: Final = 10.0
"""Then a worker that was told to stop is ended, as a process is."""

WORKERS: Final = {
    Stage.INITIATION: 2,
    Stage.EXECUTION: 2,
    Stage.CONSENTS: 1,
    Stage.RELAY: 2,
    Stage.SETTLEMENT: 1,
    Stage.SCHEDULE: 1,
    Stage.DISCLOSURE: 2,
    Stage.SHARING: 2,
}
"""How many of each run in a world."""

DATA_WORKERS: Final = {Stage.PORTABILITY: 2, Stage.MARKETING: 2}
"""And in one that hands data over."""

OVERLAPS: Final = 0.7
"""How often a sequencer that lost the lead goes on."""


class Crew:
    """Implements :class:`gateway.proving.simulation.crew.worker.Supervisor`.

    Args:
        assembled: puts a worker's stage together.
        workers: how many of each stage run.

    Attributes:
        workers: those that live.
        on_meanwhile: told who is at it when what permits it is to change.
    """

    def __init__(
        self,
        assembled: Callable[[Worker], Running],
        database: Database,
        *,
        epoch: datetime,
        loop: VirtualLoop,
        rng: Random,
        faults: Faults,
        findings: Findings,
        workers: Mapping[Stage, int] = WORKERS,
    ) -> None:
        self._counts = workers
        self.workers: list[Worker] = []
        self.on_meanwhile: Callable[[Worker], None] | None = None
        self._assembled = assembled
        self._database = database
        self._epoch = epoch
        self._loop = loop
        self._rng = rng
        self._faults = faults
        self._findings = findings
        self._numbers: Counter[Stage] = Counter()
        self._tasks: list[Mapping[asyncio.Task[Any], None]] = []

    def start_all(self) -> None:
        """Start as many of each stage as run in a world."""
        for stage, count in self._counts.items():
            for _ in range(count):
                self.start(stage)

    def end_all(self) -> None:
        """End all of them at once."""
        for worker in self.workers:
            worker.end()

    async def gone(self) -> None:
        """End all of them; return once nothing of any that ever worked is left."""
        self.end_all()
        while left := [task for tasks in self._tasks for task in tasks]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def start(self, stage: Stage) -> None:
        """Start another worker of a stage, with a name that none had before."""
        self._numbers[stage] += 1
        clock = SkewedClock(self._loop, self._epoch)
        name = f"{stage}-{self._numbers[stage]}"
        if self._faults.on and self._rng.random() < 0.2:
            clock.skew_s = self._rng.choice((-1, 1)) * self._rng.choice((0.1, 1.0, SKEW_MAX_S))
            self._faults.note(self._loop.time(), Fault.CLOCK_SKEWED, f"{name} {clock.skew_s:+} s")
        worker = Worker(
            stage, name, clock, self, loop=self._loop, rng=self._rng, faults=self._faults, findings=self._findings
        )
        self.workers.append(worker)
        self._tasks.append(worker.tasks)
        worker.start(self._assembled(worker))

    def of(self, stage: Stage) -> list[Worker]:
        """A stage's workers."""
        return [w for w in self.workers if w.stage is stage]

    def crash(self, worker: Worker) -> None:
        """End a worker at once; another is started after a while."""
        if not worker.dead:
            worker.end()
            self._replace(worker)

    def ended(self, worker: Worker) -> None:
        """A worker has ended by itself; another is started after a while."""
        worker.end()
        self._replace(worker)

    def stop(self, worker: Worker) -> None:
        """Tell a worker to stop, as SIGTERM does; one that takes too long is ended."""
        worker.stopping.set()
        self._loop.call_later(STOPPED_WITHIN_S, self.crash, worker)

    def _replace(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.rebalance(worker.stage)
        self._loop.call_later(self._rng.uniform(0.1, 4.0), self.start, worker.stage)

    def freeze(self, worker: Worker, seconds: float) -> None:
        """Stop a worker for a while, as SIGSTOP does: its group goes on without it, and it does not know."""
        worker.frozen_until = max(worker.frozen_until, self._loop.time() + seconds)
        if seconds > FREEZE_NOTICED_S:
            self._loop.call_later(FREEZE_NOTICED_S, self.rebalance, worker.stage)
        # Somebody may have noticed it sooner: then it comes back to its partitions.
        self._loop.call_later(seconds + 0.01, self.rebalance, worker.stage)

    def rebalance(self, stage: Stage) -> None:
        """Deal the partitions of a stage's topics out to its workers that live and move."""
        by_group: dict[str, list[tuple[Worker, Member]]] = {}
        for worker in self.of(stage):
            for member in worker.members:
                if member.is_member:
                    by_group.setdefault(member.group, []).append((worker, member))
        for members in by_group.values():
            self._deal(members)

    def _deal(self, members: Sequence[tuple[Worker, Member]]) -> None:
        now = self._loop.time()
        moving = [m for w, m in members if w.frozen_until <= now]
        for _, member in members:
            if member not in moving:
                member.assign([])
        shift = self._rng.randrange(len(moving)) if moving else 0
        for place, member in enumerate(moving):
            member.assign(range((place + shift) % len(moving), PARTITIONS, len(moving)))

    def meanwhile(self, worker: Worker) -> None:
        """Change what permits that customers' data are used, while somebody is at it."""
        if self.on_meanwhile is not None:
            self.on_meanwhile(worker)

    def depose_relay(self) -> None:
        """End the session of the relay that leads, and take the lead from the sequencer of the disclosure log."""
        leader = self._database.outbox_leader
        for worker in self.workers:
            if worker.reader is not None and worker.reader is leader:
                worker.reader.lose_session()
        sequencer = self._database.disclosure_leader
        for worker in self.workers:
            if worker.log is not None and worker.log is sequencer:
                # Its session may go on, as behind a server that was failed over: then two believe to lead.
                (worker.log.lose_lead if self._rng.random() < OVERLAPS else worker.log.lose_session)()
