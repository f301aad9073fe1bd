"""``mypay bench --against COMMIT``: another commit and this tree in turns, A B A B …, compared round by round.

The other commit is taken out of git into a folder of its own, gets a ``.venv`` of its own by its own ``make install``,
and runs its own ``mypay bench``: so it may be any that has one. What else keeps the machine busy comes and goes over
minutes; two runs of one round meet about the same of it, and a ratio of theirs says more than two figures do.
"""

import asyncio
import json
import re
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.proving.bench.result import BenchError, View

OF_EACH: Final = ("settled_per_s", "cpu_us_per_payment", "p50_ms", "p99_ms")
"""Of the last line of each; of the first more is better, of the others less. The latencies are each at half of what
that one settles."""

AT_ONE_LOAD: Final = ("same_load_p50_ms", "same_load_p99_ms")
"""Of both at half of what the other commit settles: who settles more is measured under more otherwise."""

FIGURES: Final = (*OF_EACH, *AT_ONE_LOAD)

_ROOT: Final = Path(__file__).resolve().parents[3]
_FIGURE: Final = re.compile(r"(\w+)=([0-9.]+)")
_STOP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class AgainstPlan:
    """What to compare; ``seconds`` and ``latency_seconds`` as of the bench itself."""

    commit: str
    rounds: int = 3
    seconds: float = 15.0
    latency_seconds: float = 12.0


@dataclass(slots=True)
class Comparison:
    """Figures of each round: of this tree, of the other commit."""

    commit: str
    rounds: list[tuple[Mapping[str, float], Mapping[str, float]]] = field(default_factory=list)

    def ratios(self, figure: str) -> list[float]:
        """This tree's by the other commit's, round by round."""
        return [o[figure] / t[figure] for o, t in self.rounds if o.get(figure) and t.get(figure)]

    def median(self, figure: str) -> float:
        """Of the ratios; 0 if there are none."""
        return statistics.median(self.ratios(figure) or [0.0])

    def last_line(self) -> str:
        """The line for machines: medians of the ratios."""
        told = " ".join(f"{figure}_ratio={self.median(figure):.3f}" for figure in FIGURES)
        return f"against: commit={self.commit[:12]} rounds={len(self.rounds)} {told}"


def figures_in(output: str) -> dict[str, float]:
    """The figures of a bench by its last line, of this version or an older one.

    Raises:
        BenchError: there is no such line, or it lacks one of :data:`OF_EACH`.
    """
    line = next((li for li in reversed(output.splitlines()) if li.startswith("bench: ")), "")
    found = {name: float(value) for name, value in _FIGURE.findall(line)}
    if missing := [name for name in OF_EACH if name not in found]:
        raise BenchError(f"the bench's last line lacks {', '.join(missing)}")
    return found


def at_one_load(
    ours: Mapping[str, float], told: Mapping[str, Any], theirs: Mapping[str, float]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Figures of one round, with those at one load: the other commit's own, at half of what it settles.

    Args:
        ours: of this tree's last line.
        theirs: of the other's.
        told: this tree's report, which has the latencies at that load.
    """
    also = told.get("also", {})
    same = {name: float(also.get(name.removeprefix("same_load_"), 0.0)) for name in AT_ONE_LOAD}
    return {**ours, **same}, {**theirs, **{name: theirs[name.removeprefix("same_load_")] for name in AT_ONE_LOAD}}


async def run_against(plan: AgainstPlan, home: Path, *, view: View) -> Comparison:
    """Compare.

    Raises:
        BenchError: the commit is not there or cannot be installed, or one of the runs failed.
    """
    found = await _run("git", "rev-parse", "--verify", "--quiet", f"{plan.commit}^{{commit}}", cwd=_ROOT)
    commit = found.strip()
    folder = _folder(home, commit)
    comparison = Comparison(commit)
    try:
        with view.step(f"Installing {commit[:12]}"):
            await _install(commit, folder)
        for number in range(1, plan.rounds + 1):
            with view.step(f"Round {number} of {plan.rounds}: {commit[:12]}"):
                theirs, _ = await _bench(plan, folder / "tree", folder / "var", ())
            load = theirs["settled_per_s"] / 2
            with view.step(f"Round {number} of {plan.rounds}: this tree"):
                ours, told = await _bench(
                    plan, _ROOT, folder / "var", ("--lean-seconds", "0", "--also-at", f"{load:.1f}")
                )
            comparison.rounds.append(at_one_load(ours, told, theirs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return comparison


def _folder(home: Path, commit: str) -> Path:
    return home.resolve() / f"against-{commit[:12]}"


async def _install(commit: str, folder: Path) -> None:
    tree = _fresh(folder)
    archive = folder / "tree.tar"
    await _run("git", "archive", "--format=tar", "-o", str(archive), commit, cwd=_ROOT)
    await _run("tar", "-xf", str(archive), "-C", str(tree), cwd=folder)
    python = getattr(sys, "_base_executable", sys.executable)
    await _run("make", "install", f"PYTHON={python}", cwd=tree)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    return tree


async def _bench(
    plan: AgainstPlan, tree: Path, home: Path, more: Sequence[str]
) -> tuple[dict[str, float], Mapping[str, Any]]:
    report = _no_report(home)
    # Of this tree it is the interpreter that runs already: its .venv may be anywhere.
    python = sys.executable if tree == _ROOT else str(tree / ".venv" / "bin" / "python")
    argv = [python, "-c", "from gateway.cli import main; main()", "bench", "--seconds", str(plan.seconds)]
    argv += ["--latency-seconds", str(plan.latency_seconds), "--baseline-seconds", "1", "--json", str(report), *more]
    output = await _run("env", f"MYPAY_HOME={home}", *argv, cwd=tree)
    told = _told(report)
    return figures_in(str(told.get("line", "")) or output), told


def _no_report(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    report = home / "bench.json"
    report.unlink(missing_ok=True)
    return report


def _told(report: Path) -> Mapping[str, Any]:
    try:
        told: Any = json.loads(report.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


async def _run(*argv: str, cwd: Path) -> str:
    """Run to its end; return what it said. Whoever is cancelled meanwhile stops it in order first.

    Raises:
        BenchError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C reaches this process alone, which then stops the other.
        start_new_session=True,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        await asyncio.shield(_end(process))
        raise
    output = said.decode(errors="replace")
    if process.returncode:
        raise BenchError(f"`{' '.join(argv[:3])} …` in {cwd} ended with {process.returncode}:\n{output[-2000:]}")
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
