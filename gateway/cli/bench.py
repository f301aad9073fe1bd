"""``mypay bench``: how many payments a second the gateway settles on this machine, and what each of them costs."""

import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.bench_report import VCPU_HOUR_PRICE, VcpuHourPrice, as_json, show
from gateway.cli.common import CliError, ExitCode, err, local_home, print_table
from gateway.cli.demo import run_to_end, show_books
from gateway.cli.live import LiveView, results

if TYPE_CHECKING:
    from gateway.proving.bench.flood import FloodResult, Sent
    from gateway.proving.bench.grown import GrownResult
    from gateway.proving.bench.pauses import PausesResult, Waits

T = TypeVar("T")


def command(
    *,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the sustained run: 60, or 15 with --against.", min=5)
    ] = None,
    latency_seconds: Annotated[
        float | None, typer.Option(help="Length of the run at half the rate: 30, or 12 with --against.", min=5)
    ] = None,
    baseline_seconds: Annotated[float, typer.Option(help="Length of each baseline.", min=1)] = 10.0,
    lean_seconds: Annotated[
        float, typer.Option(help="Length of each window of the pipeline without features; 0 leaves it out.", min=0)
    ] = 10.0,
    lean_rounds: Annotated[
        int, typer.Option(help="Such windows, in turns with the gateway's: the median of their ratios counts.", min=1)
    ] = 3,
    also_at: Annotated[
        float,
        typer.Option(help="Also tell the latencies at so many orders a second; 0: at half the rate alone.", min=0),
    ] = 0.0,
    vcpu_hour_price: VcpuHourPrice = VCPU_HOUR_PRICE,
    partners: Annotated[int, typer.Option(help="2: all sign with ES256. 4: half with Ed25519.", min=1, max=4)] = 2,
    initiation_workers: Annotated[int, typer.Option(help="Processes of the intake.", min=1, max=8)] = 1,
    disclosure: Annotated[
        bool, typer.Option("--disclosure", help="With the disclosure log: compare with a run without.")
    ] = False,
    replicated: Annotated[
        bool,
        typer.Option(
            "--replicated", help="On three brokers (replication 3, two must have a record) and a synchronous standby."
        ),
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="Also record this process with py-spy, e.g. 'execution bcard'. Costs speed.")
    ] = None,
    flood: Annotated[
        bool, typer.Option("--flood", help="Instead: how late one partner's orders are while another floods.")
    ] = False,
    soak: Annotated[
        float | None,
        typer.Option(help="Instead: so many minutes at 100 orders a second. Does any process's memory grow?", min=1),
    ] = None,
    pauses: Annotated[
        bool, typer.Option("--pauses", help="Instead: how long orders wait when a worker dies, leaves or comes.")
    ] = False,
    grown: Annotated[
        int | None,
        typer.Option(
            help="Instead: whether payments cost more where so many are stored already. Ten millions take 20 GB.",
            min=1,
            max=100_000_000,
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Instead: this tree and another commit in turns, e.g. 'HEAD~10'.")
    ] = None,
    without: Annotated[
        str | None,
        typer.Option(
            help="Instead: what parts cost, by stretches with and without them in turns: 'sharing,disclosure', "
            "'observability' or 'tracing'."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="With --against, --without or --grown: pairs of runs.", min=1)] = 3,
    orders: Annotated[
        int,
        typer.Option(
            help="With --without or --grown: of a stretch. More pairs of shorter ones even out more.", min=1000
        ),
    ] = 20_000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the result here.", dir_okay=False)
    ] = None,
) -> None:
    """Measure the gateway with everything it needs on this machine, beside baselines.

    A payment counts only when PostgreSQL and the network's own ledger both confirm it; the exit code is 0 only if the
    books agree over the whole run.
    """
    try:
        from gateway.proving.bench.bench import run_bench  # noqa: PLC0415
        from gateway.proving.bench.result import BenchPlan  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CliError(f"The bench needs the package {error.name}.", hint="Run `make install`.") from error
    if flood:
        _flood(initiation_workers)
        return
    if soak is not None:
        _soak(soak)
        return
    if pauses:
        _pauses()
        return
    if grown is not None:
        _grown(grown, rounds, orders)
        return
    if against is not None:
        _against(against, rounds, seconds or 15.0, latency_seconds or 12.0)
        return
    if without is not None:
        _without(without, rounds, orders, json_file)
        return
    plan = BenchPlan(
        seconds=seconds or 60.0,
        latency_seconds=latency_seconds or 30.0,
        baseline_seconds=baseline_seconds,
        lean_seconds=lean_seconds,
        lean_rounds=lean_rounds,
        also_per_s=also_at,
        partners=partners,
        initiation_workers=initiation_workers,
        disclosure=disclosure,
        profile=profile,
        replicated=replicated,
    )
    view = LiveView(err())
    result = _measured(run_bench(plan, local_home(), view=view), view)
    show(result, vcpu_hour_price)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(result, view.step_seconds), indent=2) + "\n", encoding="utf-8")
    typer.echo(result.last_line())
    if not result.balanced:
        raise typer.Exit(ExitCode.FAILED)


def _measured(measuring: Coroutine[Any, Any, T], view: LiveView) -> T:
    """Measure to the end, and tell why where that is worth nothing."""
    from gateway.proving.bench.result import BenchError  # noqa: PLC0415 - an extra that production does not install

    try:
        result = run_to_end(measuring)
    except BenchError as error:
        raise CliError(str(error)) from error
    view.settle()
    return result


def _against(commit: str, rounds: int, seconds: float, latency_seconds: float) -> None:
    from gateway.proving.bench.against import FIGURES, AgainstPlan, run_against  # noqa: PLC0415 - an extra

    view = LiveView(err())
    plan = AgainstPlan(commit, rounds, seconds, latency_seconds)
    result = _measured(run_against(plan, local_home(), view=view), view)
    console = results()
    for number, (ours, theirs) in enumerate(result.rounds, 1):
        pairs = ", ".join(
            f"{figure} {ours[figure]:,.0f} | {theirs[figure]:,.0f}" for figure in FIGURES if figure in ours
        )
        console.print(f"round {number}, this tree | {result.commit[:12]}: {pairs}", markup=False, soft_wrap=True)
    for figure in FIGURES:
        ratios = result.ratios(figure)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "none"
        console.print(f"{figure:<20} {result.median(figure):.3f} times, {spread}", markup=False)
    typer.echo(result.last_line())


def _without(given: str, rounds: int, orders: int, json_file: Path | None) -> None:
    from gateway.proving.bench.stretch import medians  # noqa: PLC0415 - an extra
    from gateway.proving.bench.without import Part, WithoutPlan, run_without  # noqa: PLC0415

    names = [name.strip() for name in given.split(",")]
    if unknown := sorted(set(names) - {p.value for p in Part}):
        known = ", ".join(p.value for p in Part)
        raise CliError(f"--without: there is no part {', '.join(unknown)}.", hint=f"Parts are {known}.")
    view = LiveView(err())
    plan = WithoutPlan(frozenset(map(Part, names)), rounds, orders)
    result = _measured(run_without(plan, local_home(), view=view), view)
    console = results()
    having, lacking = medians([w for w, _ in result.rounds]), medians([o for _, o in result.rounds])
    _show_costs("with | without", having, lacking)
    for number, (one, other) in enumerate(result.rounds, 1):
        busy = f"others kept {one.others_cores:.1f} | {other.others_cores:.1f} cores busy"
        console.print(f"round {number}: {one.all_us:,.0f} | {other.all_us:,.0f}; {busy}", markup=False)
    show_books(result.checked)
    if json_file is not None:
        told = {"line": result.last_line(), "with": having, "without": lacking, "share": result.share}
        json_file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    typer.echo(result.last_line())
    if not result.balanced:
        raise typer.Exit(ExitCode.FAILED)


def _show_costs(title: str, ones: Mapping[str, float], others: Mapping[str, float]) -> None:
    console = results()
    console.print(f"CPU µs a payment, {title}", markup=False)
    for name, us in ones.items():
        console.print(f"{name:<24} {us:>7,.1f} | {others.get(name, 0.0):>7,.1f}", markup=False)


def _end_with_books(result: "GrownResult | PausesResult") -> None:
    show_books(result.checked)
    typer.echo(result.last_line())
    if not result.balanced:
        raise typer.Exit(ExitCode.FAILED)


def _soak(minutes: float) -> None:
    from gateway.proving.bench.soak import FILLS_ITS_HEAP, SoakPlan, run_soak  # noqa: PLC0415 - an extra

    view = LiveView(err())
    result = _measured(run_soak(SoakPlan(minutes), local_home(), view=view), view)
    console = results()
    console.print("MiB at most, and growth from the second to the last quarter", markup=False)
    for name, meter in result.meters.items():
        peak, growth = meter.peak / 2**20, meter.growth / 2**20
        verdict = "flat" if meter.flat else "fills its heap" if name in FILLS_ITS_HEAP else "grows"
        console.print(f"{name:<24} {peak:>7,.1f} {growth:>+7,.1f}  {verdict}", markup=False)
    show_books(result.checked)
    typer.echo(result.last_line())
    if result.growing or not result.balanced:
        raise typer.Exit(ExitCode.FAILED)


def _grown(payments: int, rounds: int, orders: int) -> None:
    from gateway.proving.bench.grown import GrownPlan, run_grown  # noqa: PLC0415 - an extra
    from gateway.proving.bench.stretch import medians  # noqa: PLC0415

    view = LiveView(err())
    result = _measured(run_grown(GrownPlan(payments, rounds, orders), local_home(), view=view), view)
    news, growns = medians([n for n, _ in result.rounds]), medians([g for _, g in result.rounds])
    console = results()
    _show_costs("new | grown", news, growns)
    for number, (new, old) in enumerate(result.rounds, 1):
        told = f"{new.all_us:,.0f} | {old.all_us:,.0f} µs, {new.per_s:,.0f} | {old.per_s:,.0f} settled/s"
        busy = f"others kept {new.others_cores:.1f} | {old.others_cores:.1f} cores busy"
        console.print(f"round {number}: {told}; {busy}", markup=False)
    _end_with_books(result)


def _pauses() -> None:
    from gateway.proving.bench.pauses import PausesPlan, run_pauses  # noqa: PLC0415 - an extra

    view = LiveView(err())
    result = _measured(run_pauses(PausesPlan(), local_home(), view=view), view)
    rows = [
        (name, f"{len(w.sorted_ms):,}", f"{w.p50_ms:,.0f}", f"{w.p99_ms:,.0f}", f"{w.worst_ms:,}", *_in_doubt(w))
        for name, w in result.waits.items()
    ]
    columns = ("phase", "orders", "p50", "p99", "longest", "in doubt", "longest of these")
    print_table("From an order to its answer, in ms", columns, rows, right=columns[1:])
    _end_with_books(result)


def _in_doubt(waits: "Waits") -> tuple[str, str]:
    """How many payments, and how long."""
    return (f"{len(waits.doubts_ms):,}", f"{waits.doubt_ms:,}") if waits.doubts_ms else ("", "")


def _flood(initiation_workers: int) -> None:
    from gateway.proving.bench.flood import QUIET, FloodPlan, run_flood  # noqa: PLC0415

    view = LiveView(err())
    plan = FloodPlan(initiation_workers=initiation_workers)
    result = _measured(run_flood(plan, local_home(), view=view), view)
    console = results()
    for phase in (QUIET, *result.sent):
        sent = result.sent.get(phase)
        beside = ", alone" if sent is None else f", beside {_admitted(result, sent)}"
        latencies = result.latencies_ms[phase]
        ratio = "" if sent is None else f", {result.ratio(phase):.1f} times as late"
        console.print(
            f"{phase:<9} p50 {latencies[len(latencies) // 2]:,} ms, p99 {result.p99_ms(phase):,.0f} ms"
            f" of {len(latencies):,} orders{beside}{ratio}",
            markup=False,
            soft_wrap=True,
        )
    typer.echo(result.last_line())


def _admitted(result: "FloodResult", sent: "Sent") -> str:
    """How much of a flood was sent, and of that let in."""
    return (
        f"{sent.admitted:,} of {sent.offered:,} records of another that the brokers let in, "
        f"{sent.admitted_per_s:,.0f} orders/s, {result.times_capacity(sent.admitted_per_s):.1f} times what is taken"
    )
