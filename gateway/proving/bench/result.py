"""What the bench is asked for, and what it found."""

import statistics
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.proving.bench.baselines import Baseline
from gateway.proving.bench.hops import Hop
from gateway.proving.bench.hot import Hot
from gateway.proving.bench.intake import Intake
from gateway.proving.bench.lean.figures import Lean
from gateway.proving.bench.meters import Meter
from gateway.proving.bench.pure import Pure
from gateway.proving.bench.storage import Stored
from gateway.proving.books import Checked, balanced


class BenchError(Exception):
    """The measurement is not worth anything; the text says why."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        seconds: of the sustained run; latency_seconds: of the run at half the rate; baseline_seconds: of each baseline.
        lean_seconds: of each window of the pipeline without features, and of the gateway beside it; 0: leave it out.
        lean_rounds: such pairs of windows.
        also_per_s: tell the latencies at so many orders a second, too; 0: at half of what was sustained alone.
        partners: 2 sign with ES256; 4: half of them with Ed25519.
        disclosure: the disclosure log is written beside the pipeline.
        replicated: on three brokers, and a PostgreSQL with a synchronous standby.
        profile: name of a stage to record with py-spy during the sustained run, or None.
    """

    seconds: float = 60.0
    latency_seconds: float = 30.0
    baseline_seconds: float = 10.0
    lean_seconds: float = 10.0
    lean_rounds: int = 3
    also_per_s: float = 0.0
    partners: int = 2
    initiation_workers: int = 1
    seed: int = 1
    disclosure: bool = False
    profile: str | None = None
    replicated: bool = False


class View(Protocol):
    """Shows the bench to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def line(self, text: str) -> None:
        """A line of numbers that changes."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """From an order's standing in Kafka to its approval's standing there, at a steady rate.

    Attributes:
        per_s: orders that were sent a second.
        payments: of how many it is told.
    """

    per_s: float = 0.0
    payments: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A window of the gateway and one of the pipeline without features, one right after the other.

    Attributes:
        settled_per_s: by the gateway; others_cores: what other programs kept busy meanwhile.
        idle_cores: what the gateway, which had nothing to do, kept busy beside the pipeline.
    """

    settled_per_s: float
    others_cores: float
    lean: Lean
    idle_cores: float = 0.0

    @property
    def ratio(self) -> float:
        """Of the gateway's payments a second."""
        return _ratio(self.settled_per_s, self.lean.per_second)


@dataclass(slots=True)
class BenchResult:
    """What was measured.

    Attributes:
        settled_per_s: over the sustained window.
        thirds_per_s: the same over each third of it: sustained means that they are alike.
        window: of the sustained load, in seconds since 1970; settled_in_window: payments settled in it.
        meters: processes over the window.
        produced, settled: over the whole run.
        pure: the decisions alone, in one thread; intake: one worker of the intake on a backlog.
        pairs: windows of the gateway and of the pipeline without features, of its own parts, one after the other.
        bare: that pipeline of the least that works.
        also: latencies at the rate that was asked for beside.
        stored: bytes that were written over the window.
        hops: where the time went at half the rate.
        hot: a stretch of orders under one consent.
        proofs: how many of the settled payments had a customer's proof.
        others_cores: cores that other programs of the machine kept busy over the window: they slow the gateway down.
        signed_meanwhile: orders that had to be signed while the gateway was measured: it is one of these programs.
        profile: where py-spy wrote, if it was asked to.
    """

    plan: BenchPlan
    floor: Baseline
    naive: Baseline
    pure: Pure
    intake: Intake
    settled_per_s: float = 0.0
    thirds_per_s: tuple[float, ...] = ()
    pairs: list[Pair] = field(default_factory=list)
    bare: Lean = field(default_factory=Lean)
    stored: Stored = field(default_factory=Stored)
    hot: Hot = field(default_factory=Hot)
    half: Latencies = field(default_factory=Latencies)
    also: Latencies = field(default_factory=Latencies)
    hops: list[Hop] = field(default_factory=list)
    meters: dict[str, Meter] = field(default_factory=dict)
    produced: int = 0
    settled: int = 0
    proofs: int = 0
    window: tuple[float, float] = (0.0, 0.0)
    settled_in_window: int = 0
    checked: list[Checked] = field(default_factory=list)
    others_cores: float = 0.0
    signed_meanwhile: int = 0
    profile: Path | None = None

    @property
    def cpu_us(self) -> dict[str, float]:
        """Microseconds of processor a payment that was settled in the window, by process."""
        settled = max(1, self.settled_in_window)
        return {name: m.cpu_seconds * 1e6 / settled for name, m in self.meters.items()}

    @property
    def lean(self) -> Lean:
        """The pipeline without features, of all its windows together."""
        return Lean.of([pair.lean for pair in self.pairs])

    @property
    def lean_ratio(self) -> float:
        """The gateway's payments a second by that pipeline's: the median of the pairs; 0 if there are none."""
        return statistics.median([pair.ratio for pair in self.pairs] or [0.0])

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return balanced(self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"bench: settled_per_s={self.settled_per_s:.0f} "
            f"p50_ms={self.half.p50_ms:.0f} p99_ms={self.half.p99_ms:.0f} "
            f"cpu_us_per_payment={sum(self.cpu_us.values()):.0f} "
            f"lean_ratio={self.lean_ratio:.3f} "
            f"floor_ratio={_ratio(self.settled_per_s, self.floor.per_second):.3f} "
            f"naive_ratio={_ratio(self.settled_per_s, self.naive.per_second):.1f}"
        )


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
