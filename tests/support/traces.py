"""Traces without a collector: spans as stages make them."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.observability.sampling import Allowance, Sampling
from gateway.observability.tracing import Span, StageTraces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = PARENT[3:35]


@dataclass
class Spans:
    """What one process makes.

    Attributes:
        made: in the order in which they ended. untold: spans and fields that were held back.
    """

    made: list[Span] = field(default_factory=list)
    untold: int = 0

    def named(self, name: str) -> list[Span]:
        return [s for s in self.made if s.name == name]

    @property
    def names(self) -> Counter[str]:
        return Counter(s.name for s in self.made)

    def traces(
        self,
        *,
        ratio: float = 1.0,
        partner_ratio: float = 1.0,
        per_s: float = 1_000.0,
        spans_per_s: float = 100_000.0,
        seed: int = 0,
        monotonic: Callable[[], float] = lambda: 0.0,
        is_harmless: Callable[[str], bool] = lambda _: True,
    ) -> StageTraces:
        """As a process has them, with a clock that stands still where none is given."""

        def count() -> None:
            self.untold += 1

        bits = random.Random(seed).getrandbits
        sampling = Sampling(
            ratio=ratio,
            partner_ratio=partner_ratio,
            allowance=Allowance(per_s, monotonic=monotonic),
            is_harmless=is_harmless,
            bits=bits,
        )
        allowance = Allowance(spans_per_s, monotonic=monotonic)
        return StageTraces(self.made.append, sampling=sampling, allowance=allowance, untold=count)
