"""``mypay prove torture``: the whole gateway on real parts, under load, while everything is made to fail."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.common import CliError, ExitCode, err, local_home, say
from gateway.cli.demo import run_to_end, show_books
from gateway.cli.live import LiveView, results

if TYPE_CHECKING:
    from gateway.proving.torture.run import Standing, TortureResult
    from gateway.proving.world.world import WorldPlan

NAME: Final = "torture"

LATENCY_MS: Final = 250.0
"""As real networks have it: at every moment a few dozen payments are between the gateway and the networks."""

_DOUBT: Final = ("sent", "unknown", "reversing")


def command(
    *,
    minutes: Annotated[float, typer.Option(help="How long orders are sent and faults strike.", min=0.2)] = 10.0,
    seed: Annotated[int, typer.Option(help="Decides the orders, and when which fault strikes.", min=0)] = 1,
    per_second: Annotated[float, typer.Option(help="Orders a second.", min=5)] = 100.0,
    networks: Annotated[int, typer.Option(help="Card networks.", min=1, max=2)] = 2,
    short: Annotated[
        bool, typer.Option("--short", help="A quarter of a minute: every kind of fault once, in a fixed order.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop what an earlier run left running, and end.")] = False,
) -> None:
    """Kill, freeze and cut everything under load, let it come to rest, and check the books from three sides.

    Customers' data are handed over meanwhile: receivers' own books are checked beside the disclosure log, too.

    The seed fixes the orders and the schedule of faults. What a fault hits is not fixed: real processes keep no time.
    """
    try:
        from gateway.proving.torture.run import TorturePlan, run_torture  # noqa: PLC0415
        from gateway.proving.world.opening import stop_kept  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(f"This needs the package {error.name}.", hint="Run `make install`.") from error
    home = local_home()
    if stop:
        say(f"{stop_kept(NAME, home)} processes of a torture run were stopped; its Kafka and PostgreSQL are gone.")
        return
    plan = TorturePlan.short(seed) if short else TorturePlan(60 * minutes, seed, per_second=per_second)
    view = TortureView()
    result = run_to_end(run_torture(_world(home, networks, seed, keep=keep), plan, view=view))
    view.live.settle()
    show(result)
    if keep:
        results().print("Everything is still running. To stop it all: mypay prove torture --stop")
    elif not result.ok:
        results().print(f"The run's data are kept: mypay local up --name {result.logs.parent.stem}")
    typer.echo(result.last_line())
    if not result.ok:
        raise typer.Exit(ExitCode.FAILED)


def _world(home: Path, networks: int, seed: int, *, keep: bool) -> "WorldPlan":
    from gateway.proving.world.world import WorldPlan  # noqa: PLC0415

    return WorldPlan(
        NAME,
        home,
        networks=networks,
        seed=seed,
        initiation_workers=2,
        execution_workers=2,
        relay_workers=2,
        with_gateway=False,
        with_proofs=True,
        with_disclosure=True,
        with_receivers=True,
        with_proxies=True,
        # One network of each policy: asked what became of a payment, or told to undo it at once.
        asked=("bcard",),
        latency_ms=LATENCY_MS,
        # And one under mutual TLS, the other with a host that echoes little.
        tls=("bcard",),
        with_habits=("kcard",),
        keep=keep,
    )


class TortureView:
    """Implements :class:`gateway.proving.torture.run.View` on standard error."""

    def __init__(self) -> None:
        self.live = LiveView(err())
        self.step = self.live.step
        self.scene = self.live.scene
        self.waiting = self.live.line

    def standing(self, standing: "Standing") -> None:
        """One line of numbers."""
        states = standing.by_state
        ended = states.total() - sum(states[s] for s in _DOUBT)
        self.live.line(
            f"{standing.seconds:4.0f} s · {standing.sent:,} orders sent · {ended:,} payments decided, "
            f"{sum(states[s] for s in _DOUBT):,} in flight or doubt · {standing.strikes} faults, {standing.kills} kills"
        )


def show(result: "TortureResult") -> None:
    """Print the tables."""
    _show_faults(result)
    _show_endings(result)
    _show_numbers(result)
    show_books(result.checked)
    console = results()
    console.print(f"\nSeed {result.plan.seed}; logs: {result.logs}", markup=False, soft_wrap=True)


def _show_faults(result: "TortureResult") -> None:
    from rich.table import Table  # noqa: PLC0415

    from gateway.proving.torture.strikes import ROWS  # noqa: PLC0415

    table = Table(title="What was made to fail", title_justify="left", title_style="bold")
    table.add_column("fault", overflow="fold")
    table.add_column("times", justify="right")
    table.add_column("left out: down already", justify="right")
    for kind, row in ROWS.items():
        if result.struck[kind] or result.missed[kind]:
            table.add_row(row.told, f"{result.struck[kind]:,}", f"{result.missed[kind]:,}")
    table.add_section()
    table.add_row("all", f"{result.struck.total():,}", f"{result.missed.total():,}")
    console = results()
    console.print(table)
    hit = {n.removeprefix("fault_"): c for n, c in result.messages.items() if n.startswith("fault_")}
    words = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in hit.items())
    console.print(f"Messages that the hosts treated so: {words or 'none'}\n", markup=False)


def _show_endings(result: "TortureResult") -> None:
    from rich.table import Table  # noqa: PLC0415

    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for record, ending in zip(result.evidence.produced, result.endings.of, strict=True):
        ends[record.label][ending] += 1
    table = Table(title="What was sent, and how it ended", title_justify="left", title_style="bold")
    table.add_column("kind of order")
    table.add_column("records", justify="right")
    table.add_column("ended", overflow="fold")
    for label, counts in sorted(ends.items(), key=lambda item: -item[1].total()):
        words = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.most_common())
        table.add_row(label.replace("_", " "), f"{counts.total():,}", words)
    console = results()
    console.print(table)


def _show_numbers(result: "TortureResult") -> None:
    console = results()
    recovery = result.recovery
    console.print(
        f"\nUnder load: {result.revoked} consents revoked, {result.cancelled} orders cancelled, "
        f"{result.stolen} consents asked for over another customer's card, {result.cycles} clearing cycles closed",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"Kills of execution that left payments SENT: {recovery.kills}, {recovery.left:,} payments; "
        f"at worst taken over in {recovery.taken_over_s:.1f} s and ended in {recovery.ended_s:.1f} s",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"Payments in doubt: {recovery.doubts:,}, the longest for {recovery.in_doubt_s:.1f} s (whatever else was down)",
        markup=False,
        soft_wrap=True,
    )
    for what, counts in (
        ("ended by themselves", result.ended),
        ("restarted for saying that they were stuck", result.unhealthy),
        ("did not stop in time", result.overdue),
    ):
        if counts:
            words = ", ".join(f"{name} {n}" for name, n in counts.most_common())
            console.print(f"Processes that {what}: {words}", markup=False, soft_wrap=True)
    console.print()
