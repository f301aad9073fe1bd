"""What the bench is asked for, and what it found."""

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
from gateway.proving.books import Checked


class BenchError(Exception):
    """The measurement is not worth anything; the text says why."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        seconds: of the sustained run; latency_seconds: of the run at half the rate; baseline_seconds: of each baseline.
        lean_seconds: of the pipeline without features; 0: leave it out.
        partners: 2 sign with ES256; 4: half of them with Ed25519.
        disclosure: the disclosure log is written beside the pipeline.
        profile: name of a stage to record with py-spy during the sustained run, or None.
    """

    seconds: float = 60.0
    latency_seconds: float = 30.0
    baseline_seconds: float = 10.0
    lean_seconds: float = 10.0
    partners: int = 2
    initiation_workers: int = 1
    seed: int = 1
    disclosure: bool = False
    profile: str | None = None


class View(Protocol):
    """Shows the bench to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def line(self, text: str) -> None:
        """A line of numbers that changes."""


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
        lean: the pipeline without features, of the gateway's own parts; bare: of the least that works.
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
    half_rate_per_s: float = 0.0
    lean: Lean = field(default_factory=Lean)
    bare: Lean = field(default_factory=Lean)
    stored: Stored = field(default_factory=Stored)
    hot: Hot = field(default_factory=Hot)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    latencies: int = 0
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
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return bool(self.checked) and all(c.ok for c in self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"bench: settled_per_s={self.settled_per_s:.0f} p50_ms={self.p50_ms:.0f} p99_ms={self.p99_ms:.0f} "
            f"cpu_us_per_payment={sum(self.cpu_us.values()):.0f} "
            f"lean_ratio={_ratio(self.settled_per_s, self.lean.per_second):.3f} "
            f"floor_ratio={_ratio(self.settled_per_s, self.floor.per_second):.3f} "
            f"naive_ratio={_ratio(self.settled_per_s, self.naive.per_second):.1f}"
        )


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
