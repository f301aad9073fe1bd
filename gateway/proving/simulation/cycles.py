"""The simulated network's clearing cycles: what stands in its books is cleared once, early or at rest."""

from collections.abc import Callable, Collection
from random import Random

from gateway.base.process import Clock
from gateway.proving.memory import MemoryHost
from gateway.proving.memory.host import EntryState
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.faults import Fault
from gateway.proving.simulation.script.clearing import clearing_messages


class ClearingCycles:
    """One network's.

    Args:
        known: RRNs that the gateway gave out; what else is in the books is no concern of clearing.
        rng: the network's own: how it clears changes nothing of what else happens in a world.
        caused: told of what is a fault.
    """

    def __init__(
        self,
        host: MemoryHost,
        kafka: MemoryKafka,
        clock: Clock,
        *,
        known: Callable[[], Collection[str]],
        rng: Random,
        caused: Callable[[Fault, str], None],
    ) -> None:
        self._host = host
        self._kafka = kafka
        self._clock = clock
        self._known = known
        self._rng = rng
        self._caused = caused
        self._cleared: set[str] = set()
        self._cycles = 0

    def clear_early(self) -> None:
        """Clear also what the gateway does not know of yet."""
        self.clear(early=True)

    def clear(self, *, early: bool = False) -> bool:
        """Clear what stands in the books and was not cleared before; False: there is nothing."""
        known = self._known()
        standing = [
            e
            for e in self._host.entries.values()
            if e.state is EntryState.APPROVED and e.trace.rrn not in self._cleared and e.trace.rrn in known
        ]
        if not standing:
            return False
        self._cycles += 1
        if early:
            self._caused(Fault.CLEARED_EARLY, f"{len(standing)} entries")
        self._cleared.update(e.trace.rrn for e in standing)
        for record in clearing_messages(standing, self._cycles, self._clock.now(), self._rng, self._corrected):
            self._kafka.write(record)
        return True

    def _corrected(self, text: str) -> None:
        self._caused(Fault.CLEARING_CORRECTED, text)
