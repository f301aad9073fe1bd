"""Two commits in turns: which figures of a bench count, how rounds are compared, and that a stop ends what runs."""

import asyncio
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest

from gateway.cli import program
from gateway.proving.bench import against
from gateway.proving.bench.against import Comparison, _run, at_one_load, figures_in
from gateway.proving.bench.result import BenchError

OLD = "bench: settled_per_s=1111 p50_ms=222 p99_ms=742 cpu_us_per_payment=1698 floor_ratio=0.028 naive_ratio=8.6"
NEW = OLD.replace("floor_ratio", "lean_ratio=0.350 floor_ratio")


@pytest.mark.parametrize("line", [OLD, NEW, f"What it reaches\n{OLD}\n\n"])
def test_the_last_line_of_any_version_is_read(line: str) -> None:
    found = figures_in(line)
    assert (found["settled_per_s"], found["cpu_us_per_payment"], found["p50_ms"], found["p99_ms"]) == (
        1111.0,
        1698.0,
        222.0,
        742.0,
    )


@pytest.mark.parametrize("line", ["", "bench: settled_per_s=1111", f"not {OLD}"])
def test_an_output_without_figures_is_refused(line: str) -> None:
    with pytest.raises(BenchError, match="lacks"):
        figures_in(line)


def test_rounds_are_compared_pair_by_pair_and_the_median_counts() -> None:
    theirs = dict.fromkeys(("settled_per_s", "cpu_us_per_payment", "p50_ms", "p99_ms"), 100.0)
    comparison = Comparison("0123456789abcdef")
    for share in (1.5, 3.0, 1.0):
        comparison.rounds.append(({name: value * share for name, value in theirs.items()}, theirs))
    assert comparison.ratios("p99_ms") == [1.5, 3.0, 1.0]
    assert comparison.last_line().startswith("against: commit=0123456789ab rounds=3 settled_per_s_ratio=1.500 ")


def test_at_one_load_the_other_commits_own_latencies_count() -> None:
    ours = {"settled_per_s": 2_000.0, "p50_ms": 90.0, "p99_ms": 200.0}
    theirs = {"settled_per_s": 1_000.0, "p50_ms": 150.0, "p99_ms": 300.0}
    told = {"also": {"per_s": 500.0, "p50_ms": 60.0, "p99_ms": 90.0}}
    comparison = Comparison("0123456789abcdef", [at_one_load(ours, told, theirs)])
    assert comparison.ratios("p99_ms") == [pytest.approx(200 / 300)]
    assert comparison.ratios("same_load_p50_ms") == [0.4]
    assert comparison.ratios("same_load_p99_ms") == [0.3]
    assert comparison.last_line().endswith(" same_load_p50_ms_ratio=0.400 same_load_p99_ms_ratio=0.300")


def test_a_report_without_latencies_at_that_load_has_no_ratio_there() -> None:
    one = dict.fromkeys(("settled_per_s", "cpu_us_per_payment", "p50_ms", "p99_ms"), 1.0)
    assert Comparison("c", [at_one_load(one, {}, one)]).ratios("same_load_p99_ms") == []


async def test_both_are_run_in_turns_and_this_tree_at_the_others_load_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[list[str]] = []
    lines = {
        "theirs": OLD.replace("1111", "1000"),
        "ours": "bench: settled_per_s=2000 p50_ms=111 p99_ms=371 cpu_us_per_payment=849 lean_ratio=0.900",
    }

    async def run(*argv: str, cwd: Path) -> str:
        if "bench" not in argv:
            return "0123456789abcdef\n"
        whose = "ours" if cwd == against._ROOT else "theirs"
        runs.append([whose, *argv[argv.index("bench") :]])
        told: dict[str, Any] = {"line": lines[whose]}
        if whose == "ours":
            told["also"] = {"per_s": 500.0, "p50_ms": 55.5, "p99_ms": 74.2}
            Path(argv[argv.index("--json") + 1]).write_text(json.dumps(told))  # noqa: ASYNC240 - a few bytes
        # An older one may write no report, or tell its line alone.
        return f"What it reaches\n{lines[whose]}\n"

    monkeypatch.setattr(against, "_run", run)
    view = SimpleNamespace(step=lambda _: nullcontext(), line=lambda _: None)
    found = await against.run_against(against.AgainstPlan("HEAD~10", 2, 9.0, 7.0), tmp_path, view=view)  # type: ignore[arg-type]
    assert [r[0] for r in runs] == ["theirs", "ours"] * 2
    assert "--also-at" not in runs[0]
    assert runs[1][runs[1].index("--also-at") + 1] == "500.0"
    assert runs[1][runs[1].index("--lean-seconds") + 1] == "0"
    assert [r[r.index("--seconds") + 1] for r in runs] == ["9.0"] * 4
    assert found.last_line() == (
        "against: commit=0123456789ab rounds=2 settled_per_s_ratio=2.000 cpu_us_per_payment_ratio=0.500 "
        "p50_ms_ratio=0.500 p99_ms_ratio=0.500 same_load_p50_ms_ratio=0.250 same_load_p99_ms_ratio=0.100"
    )
    assert not [*tmp_path.iterdir()]  # noqa: ASYNC240 - likewise


def test_the_command_tells_each_round_and_ends_with_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"settled_per_s": 1_000.0, "cpu_us_per_payment": 1_698.0, "p50_ms": 222.0, "p99_ms": 742.0}
    ours = {"settled_per_s": 2_000.0, "cpu_us_per_payment": 849.0, "p50_ms": 111.0, "p99_ms": 371.0}
    told = {"also": {"per_s": 500.0, "p50_ms": 55.5, "p99_ms": 74.2}}

    async def compared(plan: against.AgainstPlan, *_: Any, **__: Any) -> Comparison:
        assert plan == against.AgainstPlan("HEAD~10", 2)
        return Comparison("0123456789abcdef", [at_one_load(ours, told, theirs), at_one_load(ours, {}, theirs)])

    monkeypatch.setattr(against, "run_against", compared)
    done = click.testing.CliRunner().invoke(program(), ["bench", "--against", "HEAD~10", "--rounds", "2"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "same_load_p99_ms 74 | 742" in lines[0]
    assert "p99_ms 371 | 742" in lines[1]
    assert lines[-1].startswith("against: commit=0123456789ab rounds=2 settled_per_s_ratio=2.000 ")
    assert lines[-1].endswith(" same_load_p99_ms_ratio=0.100")


async def test_a_program_that_fails_is_told_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such thing"):
        await _run(sys.executable, "-c", "raise SystemExit('no such thing')", cwd=tmp_path)


async def test_who_is_cancelled_stops_what_runs_first(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): pathlib.Path('ended').touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); pathlib.Path('began').touch(); time.sleep(60)"
    )
    running = asyncio.create_task(_run(sys.executable, "-c", program, cwd=tmp_path))
    while not (tmp_path / "began").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (tmp_path / "ended").exists()
