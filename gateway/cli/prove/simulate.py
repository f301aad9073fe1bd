"""``mypay prove simulate``: whole worlds of workers, each determined by its seed."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.proving.simulation.outcome import Outcome
    from gateway.proving.simulation.runner import Summary

_SHOWN = 3
"""Broken worlds that are shown; the command for each brings back the rest."""


def command(
    seeds: Annotated[int, typer.Option(min=1, help="How many worlds.")] = 10_000,
    first: Annotated[int, typer.Option(min=0, help="Seed of the first world.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Replay this one world, and write down what happens.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; as many as there are cores by default.")] = None,
) -> None:
    """Run the real services in simulated worlds where everything fails, and check what must hold at every commit."""
    from gateway.proving.simulation.runner import Summary, replay  # noqa: PLC0415 - only this command needs it

    if seed is None:
        summary = _run(first, seeds, jobs or os.cpu_count() or 1)
    else:
        outcome = replay(seed)
        for line in outcome.trace or ():
            typer.echo(line)
        summary = Summary()
        summary.add(outcome)
    _show(summary)
    for failure in summary.failures[:_SHOWN]:
        show_failure(failure)
    typer.echo(f"simulate: seeds={summary.seeds} faults={summary.faults_total} violations={summary.violations}")
    if summary.violations:
        raise typer.Exit(1)


def _run(first: int, seeds: int, jobs: int) -> "Summary":
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from gateway.proving.simulation.runner import Summary, run_seeds  # noqa: PLC0415

    summary = Summary()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("worlds", total=seeds)
        for summary in run_seeds(first, seeds, jobs=jobs):
            progress.update(task, completed=summary.seeds)
    return summary


def _show(summary: "Summary") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from gateway.proving.simulation.faults import Fault  # noqa: PLC0415

    console = Console()
    for title, rows in (
        ("Faults caused", [(fault.value, summary.faults[fault]) for fault in Fault]),
        ("How orders ended", summary.endings.most_common()),
        ("Steps of payments", [(name, n) for name, n in summary.seen.most_common() if " → " in name]),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(min_width=36)
        table.add_column(justify="right")
        for name, n in rows:
            table.add_row(name, f"{n:,}")
        console.print(table)
        console.print()


def show_failure(outcome: "Outcome") -> None:
    """Tell what was broken in a world, what had been caused there, and how to see it happen again."""
    typer.echo(f"seed {outcome.seed}: {len(outcome.violations)} violations")
    for violation in outcome.violations[:10]:
        typer.echo(f"  {violation.at:9.3f} s  {violation.invariant}: {violation.text}")
    typer.echo("  faults:")
    for at, fault, where in outcome.fault_log:
        typer.echo(f"    {at:9.3f} s  {fault.value}: {where}")
    typer.echo(f"  replay it: mypay prove simulate --seed {outcome.seed}")
    typer.echo("")
