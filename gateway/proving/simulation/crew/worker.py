"""A worker: one process of a stage, in memory.

A crash ends every task of a worker at once and forgets what it held in memory; what had left its sockets goes on.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from random import Random
from typing import Any, Protocol

from gateway.proving.memory import MemoryDisclosureLog, MemoryOutboxReader
from gateway.proving.simulation.crew.adversary import Adversary, DefectError
from gateway.proving.simulation.crew.broker import Member
from gateway.proving.simulation.faults import Faults
from gateway.proving.simulation.loop import OWN_TASKS, SkewedClock, VirtualLoop
from gateway.proving.simulation.outcome import UNEXPECTED, Findings
from gateway.proving.simulation.script.scene import Stage
from gateway.proving.simulation.wire.links import SimulatedLinks


class Running(Protocol):
    """A stage, put together."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop."""


class Supervisor(Protocol):
    """Who starts workers, and knows what one of them means to the others."""

    def crash(self, worker: "Worker") -> None:
        """End it at once; another is started after a while."""

    def ended(self, worker: "Worker") -> None:
        """It has ended by itself; another is started after a while."""

    def freeze(self, worker: "Worker", seconds: float) -> None:
        """Stop it for a while."""

    def rebalance(self, stage: Stage) -> None:
        """Deal a stage's partitions out anew."""

    def depose_relay(self) -> None:
        """End the session of the relay that leads."""

    def meanwhile(self, worker: "Worker") -> None:
        """Change what permits that customers' data are used, while somebody is at it."""


class Worker:
    """One process. Implements :class:`gateway.proving.simulation.crew.adversary.Victim`.

    Attributes:
        name: never used again after its end.
        dead: True once it has crashed: nothing that it still does has any effect.
        frozen_until: virtual second until which it does nothing, as after SIGSTOP.
        stopping: set when it is told to stop.
        members: its places in consumer groups.
        links: its links to the card network, where it has any.
        reader: its session on the outbox, where it has one.
        log: its session on the disclosure log, where it has one.
        tasks: those that have not ended.
        needs: of its timers, by name, those that need no look now and then: whether there is something for them to do.
    """

    def __init__(
        self,
        stage: Stage,
        name: str,
        clock: SkewedClock,
        supervisor: Supervisor,
        *,
        loop: VirtualLoop,
        rng: Random,
        faults: Faults,
        findings: Findings,
    ) -> None:
        self.stage = stage
        self.name = name
        self.clock = clock
        self.dead = False
        self.frozen_until = 0.0
        self.stopping = asyncio.Event()
        self.rng = rng
        self.boundary = Adversary(self, loop=loop, rng=rng, faults=faults, findings=findings)
        self.members: list[Member] = []
        self.links: SimulatedLinks | None = None
        self.reader: MemoryOutboxReader | None = None
        self.log: MemoryDisclosureLog | None = None
        self.needs: dict[str, Callable[[], bool]] = {}
        self._supervisor = supervisor
        self._loop = loop
        self._findings = findings
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, stage: Running) -> None:
        """Begin to work."""
        context = copy_context()
        context.run(OWN_TASKS.set, self.tasks)
        main = self._loop.create_task(stage.run(self.stopping), name=self.name, context=context)
        main.add_done_callback(self._ended)

    def join(self) -> None:
        """One of its members has come to its group, or left it."""
        self._supervisor.rebalance(self.stage)

    async def pause(self, name: str, seconds: float) -> None:
        """Implements :data:`gateway.app.runtime.Pause`: a look that would find nothing is left out."""
        needed = self.needs.get(name)
        await asyncio.sleep(seconds)
        while needed is not None and not needed():  # noqa: ASYNC110 - a table tells nobody
            await asyncio.sleep(seconds)

    def end(self) -> None:
        """End at once."""
        if self.dead:
            return
        self.dead = True
        if self.links is not None:
            self.links.crash()
        if self.reader is not None:
            self.reader.lose_session()
        if self.log is not None:
            self.log.lose_session()
        for task in list(self.tasks):
            task.cancel()

    # --- what the adversary may do ---

    def crash(self) -> None:
        """End at once; another is started after a while."""
        self._supervisor.crash(self)

    def freeze(self, seconds: float) -> None:
        """Do nothing for a while."""
        self._supervisor.freeze(self, seconds)

    def rewind(self) -> None:
        """Take again from what its groups have committed."""
        for member in self.members:
            member.begin_anew()

    def redeliver(self) -> None:
        """Take some records again that its groups have committed."""
        for member in self.members:
            member.redeliver()

    def depose_relay(self) -> None:
        """End the session of the relay that leads."""
        self._supervisor.depose_relay()

    def meanwhile(self) -> None:
        """Change what permits that customers' data are used, while it is at it."""
        self._supervisor.meanwhile(self)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self.dead:
            # What its tasks still raised is nobody's any more.
            if not task.cancelled():
                task.exception()
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not _is_defect(error):
            self._findings.violated(UNEXPECTED, f"{self.name} ended: {type(error).__name__}: {error}")
        elif error is None and not self.stopping.is_set():
            self._findings.violated(UNEXPECTED, f"{self.name} ended, and nobody had told it to")
        self._supervisor.ended(self)


def _is_defect(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_defect, error.exceptions))
    return isinstance(error, DefectError)
