"""What a stretch of orders cost, process by process."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """Microseconds of processor a payment, by process, and cores that other programs kept busy."""

    cpu_us: Mapping[str, float]
    others_cores: float

    @property
    def all_us(self) -> float:
        """Of all processes."""
        return sum(self.cpu_us.values())


def medians(stretches: Sequence[Stretch]) -> dict[str, float]:
    """The median of each process's microseconds over some stretches; 0 where it did not run."""
    names = dict.fromkeys(n for s in stretches for n in s.cpu_us)
    return {name: statistics.median(s.cpu_us.get(name, 0.0) for s in stretches) for name in names}
