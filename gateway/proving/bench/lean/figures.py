"""What the pipeline without features reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lean:
    """What was measured; of nothing where it did not run.

    Attributes:
        payments: that PostgreSQL had answered in the window; seconds: its length.
        cpu_us: microseconds of processor a payment, by process.
        others_cores: as :class:`gateway.proving.bench.meters.Meters` has it.
    """

    payments: int = 0
    seconds: float = 0.0
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    others_cores: float = 0.0

    @property
    def per_second(self) -> float:
        """Payments a second."""
        return self.payments / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, windows: "Sequence[Lean]") -> "Lean":
        """All of them together; times and costs as their payments have them."""
        payments, seconds = sum(w.payments for w in windows), sum(w.seconds for w in windows)
        names = {name: None for w in windows for name in w.cpu_us}
        spent = {name: sum(w.cpu_us.get(name, 0.0) * w.payments for w in windows) for name in names}
        others = sum(w.others_cores * w.seconds for w in windows)
        return cls(
            payments,
            seconds,
            {name: us / max(1, payments) for name, us in spent.items()},
            others / seconds if seconds else 0.0,
        )
