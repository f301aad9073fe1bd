"""``mypay prove mutants``: planted bugs that the checks of the simulation must find."""

import os
from typing import Annotated

import typer


def command(
    budget: Annotated[int, typer.Option(min=1, help="Worlds in which each bug is hunted.")] = 3_000,
    first: Annotated[int, typer.Option(min=0, help="Seed of the first world.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Hunt this bug alone; may be given several times.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; as many as there are cores by default.")] = None,
) -> None:
    """Plant one bug after the other into the running services, and run simulated worlds until a check finds it."""
    from rich.console import Console  # noqa: PLC0415 - only this command needs these
    from rich.progress import Progress  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from gateway.proving.simulation.bugs import MUTANTS  # noqa: PLC0415
    from gateway.proving.simulation.runner import hunt_all  # noqa: PLC0415

    if unknown := sorted(set(only or ()) - MUTANTS.keys()):
        raise typer.BadParameter(f"no such bug: {', '.join(unknown)}", param_hint="--only")
    names = [name for name in MUTANTS if not only or name in only]
    found = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("bugs", total=len(names))
        for hunted in hunt_all(dict.fromkeys(names, first), budget=budget, jobs=jobs or os.cpu_count() or 1):
            found[hunted.name] = hunted
            progress.advance(task)
    table = Table(title="Planted bugs", title_justify="left", box=None, pad_edge=False)
    for heading in ("bug", "what it does", "found by"):
        table.add_column(heading, justify="left")
    for heading in ("worlds", "seed"):
        table.add_column(heading, justify="right")
    for name in names:
        hunted = found[name]
        seed = "" if hunted.seed is None else str(hunted.seed)
        table.add_row(name, hunted.breaks, hunted.invariant or "NOT FOUND", f"{hunted.seeds:,}", seed)
    Console().print(table)
    caught = sum(1 for hunted in found.values() if hunted.invariant is not None)
    typer.echo(f"mutants: planted={len(names)} caught={caught}")
    if caught != len(names):
        raise typer.Exit(1)
