"""What the pipeline without features reached."""

from collections.abc import Mapping
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
