"""``mypay plan``: processes, partitions, cores, disk, terminals and money that payments a second need."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.bench_report import VCPU_HOUR_PRICE, VcpuHourPrice
from gateway.cli.common import CliError, Json, print_json
from gateway.cli.live import results

if TYPE_CHECKING:
    from gateway.proving.bench.capacity import Plan

_GB: Final = 1e9


def command(
    *,
    tps: Annotated[float, typer.Option(help="Payments a second.", min=0.1, max=1e7)],
    measured: Annotated[
        Path | None,
        typer.Option(help="A result of `mypay bench --json`; else what was measured of this version.", dir_okay=False),
    ] = None,
    hours: Annotated[float, typer.Option(help="Hours a day at this rate.", min=0.1, max=24)] = 24.0,
    vcpu_hour_price: VcpuHourPrice = VCPU_HOUR_PRICE,
    utilisation: Annotated[float, typer.Option(help="Of a core, on average.", min=0.05, max=1)] = 0.6,
    json_: Json = False,
) -> None:
    """Tell what so many payments a second need: processes, cores, disk, terminals, money.

    From what the bench measured that one of them costs. Measure on a machine like yours:
    `mypay bench --json result.json`, then `mypay plan --tps … --measured result.json`.
    """
    from gateway.proving.bench import capacity  # noqa: PLC0415 - slow to load

    source = measured or Path(capacity.__file__).with_name("measured.json")
    try:
        told: dict[str, Any] = json.loads(source.read_bytes())
        found = capacity.read_measured(told)
    except OSError as error:
        raise CliError(f"{source} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CliError(f"{source}: {error}.", hint="Make one with `mypay bench --json FILE`.") from error
    plan = capacity.plan_for(tps, found, hours=hours, vcpu_hour_price=vcpu_hour_price, utilisation=utilisation)
    of = told.get("measured", "as given")
    if json_:
        print_json({"tps": tps, "hours": hours, "measured": of, **_as_json(plan)})
        return
    lines = [
        f"{tps:,.0f} payments a second, {hours:g} hours a day. Costs: {of}, {found.cores} cores.",
        "",
        *_processes(plan),
        f"cores to have    {plan.cores}, {utilisation:.0%} used on average",
        f"terminals        {plan.terminals} at a network that takes every payment",
        f"disk             {_disk(plan, capacity.REPLICATION)}",
        f"price            ${plan.dollars_a_month:,.0f} a month for the cores",
        f"                 at ${vcpu_hour_price:.2f} an hour of one, which is an assumption",
    ]
    results().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    typer.echo(
        f"plan: tps={tps:g} cores={plan.cores} terminals={plan.terminals} usd_a_month={plan.dollars_a_month:.0f}"
    )


def _as_json(plan: "Plan") -> dict[str, Any]:
    return {
        "stages": plan.stages,
        "server_cores": plan.server_cores,
        "cores": plan.cores,
        "terminals": plan.terminals,
        "bytes_a_day": {"wal": plan.wal, "tables": plan.tables, "kafka": plan.kafka},
        "usd_a_month": plan.dollars_a_month,
    }


def _processes(plan: "Plan") -> list[str]:
    """A line a stage and a server."""
    lines: list[str] = []
    for stage in plan.stages:
        more = f", {stage.partitions} partitions (now {stage.partitions_now})" if stage.partitions else ""
        words = "process," if stage.processes == 1 else "processes,"
        lines.append(f"{stage.name:<16} {stage.processes:>3} {words:<10} {stage.cores:.2f} cores used{more}")
    return lines + [f"{name:<16} {'':<14} {cores:.2f} cores used" for name, cores in plan.server_cores.items()]


def _disk(plan: "Plan", replicas: int) -> str:
    if plan.wal is None or plan.tables is None or plan.kafka is None:
        return "not measured"
    log, tables, kafka = (f"{count / _GB:,.1f} GB" for count in (plan.wal, plan.tables, plan.kafka))
    return f"a day: PostgreSQL {log} of log and {tables} of tables, Kafka {kafka} in {replicas} replicas"
