"""``mypay bench --against COMMIT``: this tree and another commit in turns, A B A B …, compared round by round.

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

FIGURES: Final = ("settled_per_s", "cpu_us_per_payment", "p50_ms", "p99_ms")
"""Of the last line; of the first more is better, of the others less."""

_ROOT: Final = Path(__file__).resolve().parents[3]
_FIGURE: Final = re.compile(r"(\w+)=([0-9.]+)")
_STOP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class AgainstPlan:
    """What to compare; ``seconds`` and ``latency_seconds`` as of the bench itself."""

    commit: str
    rounds: int = 3
    seconds: float = 20.0
    latency_seconds: float = 15.0


@dataclass(slots=True)
class Comparison:
    """Figures of each round: of this tree, of the other commit."""

    commit: str
    rounds: list[tuple[Mapping[str, float], Mapping[str, float]]] = field(default_factory=list)

    def ratios(self, figure: str) -> list[float]:
        """This tree's by the other commit's, round by round."""
        return [ours[figure] / theirs[figure] for ours, theirs in self.rounds if theirs[figure]]

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
        BenchError: there is no such line, or it lacks one of :data:`FIGURES`.
    """
    line = next((li for li in reversed(output.splitlines()) if li.startswith("bench: ")), "")
    found = {name: float(value) for name, value in _FIGURE.findall(line)}
    if missing := [name for name in FIGURES if name not in found]:
        raise BenchError(f"the bench's last line lacks {', '.join(missing)}")
    return found


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
            figures = []
            for name, tree, more in (("this tree", _ROOT, ("--lean-seconds", "0")), (commit[:12], folder / "tree", ())):
                with view.step(f"Round {number} of {plan.rounds}: {name}"):
                    figures.append(await _bench(plan, tree, folder / "var", more))
            comparison.rounds.append((figures[0], figures[1]))
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


async def _bench(plan: AgainstPlan, tree: Path, home: Path, more: Sequence[str]) -> dict[str, float]:
    report = _no_report(home)
    # Of this tree it is the interpreter that runs already: its .venv may be anywhere.
    python = sys.executable if tree == _ROOT else str(tree / ".venv" / "bin" / "python")
    argv = [python, "-c", "from gateway.cli import main; main()", "bench", "--seconds", str(plan.seconds)]
    argv += ["--latency-seconds", str(plan.latency_seconds), "--baseline-seconds", "1", "--json", str(report), *more]
    output = await _run("env", f"MYPAY_HOME={home}", *argv, cwd=tree)
    return figures_in(_line_of(report) or output)


def _no_report(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    report = home / "bench.json"
    report.unlink(missing_ok=True)
    return report


def _line_of(report: Path) -> str:
    try:
        told: Any = json.loads(report.read_bytes())
    except (FileNotFoundError, ValueError):
        return ""
    return str(told.get("line", ""))


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
