"""``mypay demo``: signed orders of every kind through Kafka, the gateway and a card network, and the books checked."""

import asyncio
import json
import shlex
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from gateway.cli.common import CliError, ExitCode, err, local_home, money, money_json, run, say
from gateway.cli.live import LiveView, results
from gateway.database.roles import Role
from gateway.sealing.redaction import redact

if TYPE_CHECKING:
    from gateway.proving.books import Checked
    from gateway.proving.day import Counts
    from gateway.proving.demo import DemoResult
    from gateway.proving.world.world import World

NAME: Final = "demo"
ENV_KEEP: Final = "MYPAY_DEMO_KEEP"

T = TypeVar("T")


def command(
    *,
    orders: Annotated[int, typer.Option(help="Records to send, good and bad ones together.", min=150)] = 3000,
    seed: Annotated[int, typer.Option(help="Decides the mix: the same seed sends the same orders.", min=0)] = 1,
    networks: Annotated[int, typer.Option(help="Card networks: 2 adds one with packed messages.", min=1, max=2)] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", envvar=ENV_KEEP, help="Leave everything running and say how to look around.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop what an earlier run left running, and end.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the result here.", dir_okay=False)
    ] = None,
) -> None:
    """Run signed orders through everything on this machine, and check the books from three sides.

    The exit code is 0 only if every record that was sent ended exactly once and the books agree.
    """
    home = local_home()
    if stop:
        _stop(home)
        return
    # Loaded late: the other commands need none of it, and production does not install all of it.
    try:
        from gateway.proving.demo import run_demo  # noqa: PLC0415
        from gateway.proving.world.world import WorldPlan  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(f"The demo needs the package {error.name}.", hint="Run `make install`.") from error
    view = DemoView()
    plan = WorldPlan(
        NAME,
        home,
        networks=networks,
        seed=seed,
        keep=keep,
        with_proofs=True,
        with_disclosure=True,
        asked=("bcard",),
    )
    result = run_to_end(run_demo(plan, orders=orders, seed=seed, view=view))
    view.live.settle()
    show(result)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(result, view.live.step_seconds), indent=2) + "\n", encoding="utf-8")
    if keep and view.world is not None:
        _look_around(view.world, result)
    typer.echo(result.last_line())
    if not result.balanced:
        raise typer.Exit(ExitCode.FAILED)


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; Ctrl-C and SIGTERM end it in order, and what cannot be set up is told in a sentence.

    A second signal changes nothing: `make` hands on the one that its whole group got already, and what runs is being
    stopped. Whoever stops it has looked that nothing is left, or says what is.

    Raises:
        CliError: it could not be set up, a process of it died, or it was stopped.
    """
    from gateway.proving.world.children import ChildError  # noqa: PLC0415
    from gateway.proving.world.world import WorldError  # noqa: PLC0415

    async def guarded() -> T:
        task = asyncio.current_task()

        def stop() -> None:
            if task is not None and not task.cancelling():
                say("Stopping …")
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        return await main

    try:
        return run(guarded())
    except (ChildError, WorldError) as error:
        raise CliError(str(error)) from error
    except asyncio.CancelledError:
        raise CliError("Stopped; nothing is left running.") from None


class DemoView:
    """Implements :class:`gateway.proving.day.View` on standard error."""

    def __init__(self) -> None:
        self.live = LiveView(err())
        self.step = self.live.step
        self.scene = self.live.scene
        self.world: World | None = None

    def running(self, world: "World") -> None:
        """Remember what was built."""
        self.world = world

    def counts(self, counts: "Counts") -> None:
        """One line of numbers."""
        doubt = f", {counts.in_doubt} in doubt" if counts.in_doubt else ""
        self.live.line(
            f"sent {counts.sent:,} of {counts.orders:,} · ended {counts.ended:,} · settled {counts.settled:,}{doubt}"
        )


def show(result: "DemoResult") -> None:
    """Print the tables."""
    from rich.table import Table  # noqa: PLC0415

    from gateway.proving.traffic.mix import KINDS  # noqa: PLC0415

    ends: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for index, (record, ending) in enumerate(zip(result.evidence.produced, result.endings.of, strict=True)):
        ends[record.label]["answered again" if index in result.endings.repeats else ending] += 1
        if (reason := result.endings.reasons.get(index)) is not None:
            reasons[record.label][reason] += 1
    table = Table(title="What was sent, and how it ended", title_justify="left", title_style="bold")
    table.add_column("what was sent", overflow="fold")
    table.add_column("records", justify="right")
    table.add_column("ended", overflow="fold")
    table.add_column("reasons (ISO 20022)", overflow="fold")
    for kind, row in KINDS.items():
        if kind in ends:
            table.add_row(row.told, f"{ends[kind].total():,}", _words(ends[kind]), _words(reasons[kind], limit=4))
    results().print(table)
    _show_story(result)
    _show_numbers(result)
    _show_example(result)
    for line in result.disclosed:
        results().print(line, markup=False, highlight=False, soft_wrap=True)
    show_books(result.checked)


def _show_story(result: "DemoResult") -> None:
    from rich.table import Table  # noqa: PLC0415

    console = results()
    console.print()
    for who in dict.fromkeys(s.who for s in result.story):
        table = Table(title=who, title_justify="left", title_style="bold")
        table.add_column("step")
        table.add_column("what was sent", overflow="fold")
        table.add_column("event that came back", overflow="fold")
        for step in result.story:
            if step.who == who:
                table.add_row(step.step, step.sent, step.came_back, style=None if step.is_right else "red")
        console.print(table)


def _words(counts: Counter[str], limit: int = 9) -> str:
    shown = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.most_common(limit))
    return shown + (" …" if len(counts) > limit else "")


def _show_numbers(result: "DemoResult") -> None:
    console = results()
    settled = " and ".join(money(minor, currency) for currency, minor in sorted(result.settled_minor.items()))
    latency = result.latency
    console.print(f"\nSettled        {settled or 'nothing'}", markup=False)
    console.print(f"Pace           {result.per_second:,.0f} orders a second, as sent (`make bench` finds the most)")
    console.print(
        f"Order → result {latency.p50_ms:,.0f} ms in the middle (p50), {latency.p99_ms:,.0f} ms for the slowest in a "
        f"hundred (p99), Kafka to Kafka, {latency.measured:,} orders\n"
    )


def _show_example(result: "DemoResult") -> None:
    if result.example is None:
        return
    partner, payment_id = result.example
    events = [e for e in result.evidence.events if e.subject == payment_id and e.version is not None]
    order = next(p for p in result.evidence.produced if p.order and str(p.order.payment_id) == payment_id)
    console = results()
    console.print(f"One payment's story: {payment_id} of {partner}", style="bold", markup=False)
    console.print(f"  {'+0 ms':>10}  ordered   partition {order.partition}, offset {order.offset}", markup=False)
    for event in events:
        since = event.timestamp_ms - order.timestamp_ms
        reason = f"  {event.reason_code}" if event.reason_code else ""
        console.print(f"  {f'+{since:,} ms':>10}  {event.state:<9} version {event.version}{reason}", markup=False)
    console.print()


def show_books(checked: "list[Checked]") -> None:
    """Print the check of the books."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        title="The books: orders sent, PostgreSQL and Kafka, networks' and receivers' own books",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("check", overflow="fold")
    table.add_column("compared", justify="right")
    table.add_column("", overflow="fold")
    for check in checked:
        word = "[green]ok[/]" if check.ok else f"[red bold]{check.violation_count:,} wrong[/]"
        table.add_row(check.title, f"{check.looked_at:,}", word)
    console = results()
    console.print(table)
    for check in checked:
        for violation in check.violations:
            console.print(f"{check.name}: {violation}", style="red", markup=False, soft_wrap=True)
        if check.violation_count > len(check.violations):
            console.print(f"{check.name}: … and {check.violation_count - len(check.violations):,} more", style="red")


def as_json(result: "DemoResult", step_seconds: dict[str, float]) -> dict[str, Any]:
    """The result for programs."""
    return {
        "line": result.last_line(),
        "orders": len(result.endings.of),
        "endings": {ending.value: n for ending, n in result.endings.counts().items()},
        "repeated": len(result.endings.repeats),
        "story": [s._asdict() for s in result.story],
        "disclosed": result.disclosed,
        "settled": [money_json(minor, currency) for currency, minor in sorted(result.settled_minor.items())],
        "per_second": round(result.per_second, 1),
        "p50_ms": result.latency.p50_ms,
        "p99_ms": result.latency.p99_ms,
        "seconds": {**step_seconds, **result.seconds},
        "balanced": result.balanced,
        "books": books_json(result.checked),
    }


def books_json(checked: "list[Checked]") -> list[dict[str, Any]]:
    """The check of the books for programs."""
    return [
        {
            "name": c.name,
            "title": c.title,
            "ok": c.ok,
            "looked_at": c.looked_at,
            "violations": list(c.violations),
            "violation_count": c.violation_count,
        }
        for c in checked
    ]


def _look_around(world: "World", result: "DemoResult") -> None:
    console = results()

    def tell(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    console.print("\nEverything is still running:", style="bold")
    if (kept := result.kept) is not None:
        tell(f"  {'console':<18} {kept.console or 'not installed'}")
        if kept.console is not None:
            tell(f"  {'':<18} sign in as demo; the password: cat {kept.password}")
        tell(f"  {'Prometheus':<18} finds all metrics by file_sd_configs in {kept.targets}")
    tell("  metrics of")
    for name, url in world.http.items():
        tell(f"    {name:<16} {url}/metrics")
    for network in world.networks:
        tell(f"  {'network ' + network.network_id:<18} http://127.0.0.1:{network.control_port}/state")
    tell(f"  {'PostgreSQL':<18} {redact(world.dsn_of(Role.READONLY))}")
    tell(f"  {'Kafka':<18} {world.kafka_bootstrap_servers}")
    tell(f"  {'logs':<18} {world.logs}")
    tell("\nCommands to try, in this shell; the first line lets all of them be about the demo:")
    for line in _to_try(result):
        tell(f"  {line}")
    tell("\nTo stop it all: mypay demo --stop\n")


def _to_try(result: "DemoResult") -> Iterator[str]:
    """Lines for a shell: each can be run as it stands here, once those before it were."""
    if result.kept is not None:
        yield f". {shlex.quote(str(result.kept.settings))}"
    if shutil.which("mypay") is None:
        yield f'export PATH="{Path(sys.executable).parent}:$PATH"'
    yield "mypay doctor"
    if result.example is not None:
        yield f"mypay trace {result.example[1]}"
    if result.left is not None:
        yield f"mypay consent uses {result.left[1]} --partner {result.left[0]}     # of the consent that was revoked"
    for command in ("sharing list", "campaign list", "audit verify", "dead-letter list"):
        yield f"mypay {command}"
    if shutil.which("psql") is not None:
        yield 'psql "$MYPAY_POSTGRES_DSN_READONLY"'


def _stop(home: Path) -> None:
    from gateway.proving.world.opening import stop_kept  # noqa: PLC0415

    stopped = stop_kept(NAME, home)
    say(f"{stopped} processes of the demo were stopped; its Kafka and PostgreSQL are gone.")
