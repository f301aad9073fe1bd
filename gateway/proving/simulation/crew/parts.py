"""What the stages of a world's workers are put together of: what is around them, and what several have alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.app.runtime import Runtime
from gateway.app.trust import Signers
from gateway.directory.funding import OwnedToken
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.network.exchange import CardData
from gateway.payments.dispatch import Dispatch
from gateway.proving.memory import Database, MemoryDeadLetters, MemoryKeySource, MemoryStore, MemoryVerifier
from gateway.proving.memory.kafka import Parked
from gateway.proving.simulation.crew.broker import Broker, Member
from gateway.proving.simulation.crew.worker import Worker
from gateway.proving.simulation.outcome import CountingObserver
from gateway.proving.simulation.script.scene import PARTNER, Script
from gateway.proving.simulation.wire.wire import Wire
from gateway.sealing.marks import RecordMarks

POLL_S: Final = 2.0
SELDOM_S: Final = 600.0
IDLE_S: Final = 5.0
"""How long a stage waits for records before it looks about: its group wakes it when some come."""

BATCH_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a world have around them.

    Attributes:
        verifier, affiliates: signatures of partners and of affiliates.
        is_closed: true of a topic that the relay may not write to now.
        parked: every dead letter, in order.
    """

    script: Script
    database: Database
    kafka: Broker
    wire: Wire
    observer: CountingObserver
    cards: dict[OwnedToken, CardData]
    verifier: MemoryVerifier
    affiliates: MemoryVerifier
    trust: TrustTable
    assertions: AssertionVerifier
    dispatch: Dispatch
    waiting_marks: RecordMarks
    is_closed: Callable[[str], bool]
    parked: list[Parked]


class Parts:
    """What every stage is given of them."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def runtime(self, worker: Worker) -> Runtime:
        """Store, clock and name."""
        return Runtime(
            store=MemoryStore(self.around.database, worker.boundary),
            observer=self.around.observer,
            clock=worker.clock,
            worker=worker.name,
            pause=worker.pause,
        )

    def member(self, worker: Worker, topic: str, group: str = "") -> Member:
        """A place in the stage's group, or in another."""
        member = Member(
            self.around.kafka,
            topic,
            group or worker.stage,
            rng=worker.rng,
            boundary=worker.boundary,
            joins=worker.join,
            batch_max=BATCH_MAX,
        )
        worker.members.append(member)
        return member

    def dead_letters(self, worker: Worker) -> MemoryDeadLetters:
        """Where records are parked."""
        letters = MemoryDeadLetters(worker.boundary)
        letters.parked = self.around.parked
        return letters

    def signers(self, worker: Worker) -> Signers:
        """Partners' keys, and customers' proofs."""
        around = self.around
        keys = MemoryKeySource([PARTNER], boundary=worker.boundary)
        return Signers(keys, around.verifier, around.trust, around.assertions)
