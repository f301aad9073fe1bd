"""How the result of ``mypay bench`` is told: tables for people, JSON for programs."""

import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.demo import books_json, show_books
from gateway.cli.live import results

if TYPE_CHECKING:
    from gateway.proving.bench.lean.figures import Lean
    from gateway.proving.bench.result import BenchResult, Latencies, Pair

_MIB: Final = 1 << 20
_OTHERS_CORES: Final = 0.1
"""What the bench itself and an idle system take."""

VcpuHourPrice = Annotated[
    float,
    typer.Option(
        help="US dollars for an hour of one virtual core: an assumption of ours, about what large clouds ask for a "
        "general machine.",
        min=0,
        max=1e4,
    ),
]
VCPU_HOUR_PRICE: Final = 0.04


def show(result: "BenchResult", vcpu_hour_price: float) -> None:
    """Tables for people; the price is US dollars."""
    from rich.table import Table  # noqa: PLC0415

    console = results()
    table = Table(title="What it reaches", title_justify="left", title_style="bold", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold")
    thirds = ", ".join(f"{n:,.0f}" for n in result.thirds_per_s)
    floor, naive = result.floor.per_second, result.naive.per_second
    rows = (
        ("settled", f"{result.settled_per_s:,.0f}/s", f"sustained for {result.plan.seconds:.0f} s; by thirds {thirds}"),
        *_latency_rows(result.half, f"at half of that, {result.half.per_s:,.0f}/s"),
        *(
            (h.name.replace("_", " "), f"{h.p50_ms:,.0f} ms", f"of that, in the middle; p99 {h.p99_ms:,.0f} ms")
            for h in result.hops
        ),
        *(_latency_rows(result.also, f"at {result.also.per_s:,.0f}/s, as was asked") if result.also.payments else ()),
        ("without features", f"{result.lean.per_second:,.0f}/s", _lean_words(result.lean, "the same parts, Faust")),
        *(
            (
                f"beside it, pair {number}",
                f"{pair.ratio:.2f}",
                _pair_words(pair),
            )
            for number, pair in enumerate(result.pairs, 1)
        ),
        ("at the least", f"{result.bare.per_second:,.0f}/s", _lean_words(result.bare, "a bare consumer, no checks")),
        ("floor", f"{floor:,.0f}/s", "consume → COPY → produce in batches of 2,000, no logic"),
        ("one at a time", f"{naive:,.0f}/s", "the same, message by message"),
        ("orders with proof", f"{_percent(result.proofs, result.settled)} %", "of both groups' providers, ES256"),
        ("decisions alone", f"{result.pure.per_second:,.0f}/s", _pure_words(result)),
        ("one Faust worker", f"{result.intake.per_second:,.0f}/s", _intake_words(result)),
        (
            "one hot consent",
            f"{result.hot.per_second:,.0f}/s",
            f"{result.hot.orders:,} payments sent under one consent",
        ),
        ("books", f"{result.settled:,}", f"of {result.produced:,} orders settled, confirmed on three sides"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _show_processes(result, vcpu_hour_price)
    show_books(result.checked)
    if result.profile is not None:
        console.print(f"Profile: {result.profile}", markup=False, soft_wrap=True)


def _pair_words(pair: "Pair") -> str:
    others = f"other programs kept {pair.others_cores:.1f} and {pair.lean.others_cores:.1f} cores busy"
    others += f", the gateway at rest {pair.idle_cores:.2f}"
    return f"{pair.settled_per_s:,.0f}/s to {pair.lean.per_second:,.0f}/s; {others}"


def _latency_rows(found: "Latencies", when: str) -> list[tuple[str, str, str]]:
    return [
        ("order → approved, p50", f"{found.p50_ms:,.0f} ms", when),
        ("order → approved, p99", f"{found.p99_ms:,.0f} ms", f"slowest {found.max_ms:,.0f} ms of {found.payments:,}"),
    ]


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _lean_words(lean: "Lean", what: str) -> str:
    if not lean.seconds:
        return "not measured"
    return f"{what}: read, insert, ask the network, update, tell; {sum(lean.cpu_us.values()):,.0f} µs of processor each"


def _pure_words(result: "BenchResult") -> str:
    pure = result.pure
    share = _percent(pure.with_proof, pure.orders)
    return f"a core: signature, proof ({share} %), consent and limits of {pure.orders:,} orders, by processor time"


def _intake_words(result: "BenchResult") -> str:
    intake = result.intake
    return f"initiation alone through {intake.orders:,} orders of a backlog; {intake.cpu_us:,.0f} µs of processor each"


def _show_processes(result: "BenchResult", vcpu_hour_price: float) -> None:
    from rich.table import Table  # noqa: PLC0415

    from gateway.proving.bench.costs import price_of_million, shares_of  # noqa: PLC0415 - an extra

    table = Table(title="What it costs", title_justify="left", title_style="bold", show_footer=True)
    table.add_column("process", footer="all")
    shares = shares_of(result.cpu_us)
    table.add_column("CPU µs a payment", justify="right", footer=f"{shares.all:,.0f}")
    table.add_column("$ a million", justify="right", footer=f"{price_of_million(shares.all, vcpu_hour_price):.4f}")
    table.add_column("of one core", justify="right")
    table.add_column("peak memory", justify="right")
    table.add_column("growth", justify="right")
    table.add_column("")
    for name, meter in result.meters.items():
        table.add_row(
            name,
            f"{result.cpu_us[name]:,.0f}",
            f"{price_of_million(result.cpu_us[name], vcpu_hour_price):.4f}",
            f"{100 * meter.cpu_seconds / result.plan.seconds:.0f} %",
            f"{meter.peak / _MIB:,.0f} MiB",
            f"{meter.growth / _MIB:+,.1f} MiB",
            "flat" if meter.flat else "[red]grows[/]",
        )
    console = results()
    console.print(table)
    around = 100 * shares.around / shares.all if shares.all else 0.0
    console.print(
        f"A million payments take {shares.paid:,.0f} CPU-seconds: the gateway {shares.gateway:,.0f}, "
        f"Kafka and PostgreSQL {shares.servers:,.0f}. "
        f"At ${vcpu_hour_price:.2f} an hour of a virtual core, which is an assumption, that is "
        f"${price_of_million(shares.paid, vcpu_hour_price):.3f}. "
        f"Load generator and simulated network took {shares.around:,.0f} more ({around:.0f} % of all): "
        "they are not the gateway.",
        markup=False,
        soft_wrap=True,
    )
    if result.signed_meanwhile:
        console.print(
            f"{result.signed_meanwhile:,} orders were signed while this was measured: it was faster than the warm-up.",
            style="yellow",
        )
    if result.others_cores > _OTHERS_CORES:
        console.print(
            f"Other programs kept {result.others_cores:.1f} of {os.cpu_count()} cores busy: alone it would be faster.",
            style="yellow",
        )


def as_json(result: "BenchResult", step_seconds: dict[str, float]) -> dict[str, Any]:
    """The result for programs."""
    return {
        "line": result.last_line(),
        "seconds": result.plan.seconds,
        "settled_per_s": result.settled_per_s,
        "thirds_per_s": list(result.thirds_per_s),
        "half_rate_per_s": result.half.per_s,
        "p50_ms": result.half.p50_ms,
        "p99_ms": result.half.p99_ms,
        "max_ms": result.half.max_ms,
        "also": {"per_s": result.also.per_s, "p50_ms": result.also.p50_ms, "p99_ms": result.also.p99_ms},
        "hops_ms": {h.name: {"p50": h.p50_ms, "p99": h.p99_ms} for h in result.hops},
        "lean_ratio": result.lean_ratio,
        "lean_pairs": [
            {
                "settled_per_s": pair.settled_per_s,
                "lean_per_s": pair.lean.per_second,
                "others_cores": [pair.others_cores, pair.lean.others_cores],
                "idle_cores": pair.idle_cores,
            }
            for pair in result.pairs
        ],
        "lean_per_s": result.lean.per_second,
        "lean_cpu_us_per_payment": dict(result.lean.cpu_us),
        "bare_per_s": result.bare.per_second,
        "bare_cpu_us_per_payment": dict(result.bare.cpu_us),
        "stored_bytes": {"wal": result.stored.wal, "database": result.stored.database, "kafka": result.stored.kafka},
        "cores": os.cpu_count(),
        "floor_per_s": result.floor.per_second,
        "naive_per_s": result.naive.per_second,
        "settled_with_proof": result.proofs,
        "pure_per_s_and_core": result.pure.per_second,
        "intake_per_s": result.intake.per_second,
        "intake_cpu_us_per_order": result.intake.cpu_us,
        "hot_consent_per_s": result.hot.per_second,
        "hot_consent_orders": result.hot.orders,
        "produced": result.produced,
        "settled": result.settled,
        "settled_in_window": result.settled_in_window,
        "others_cores": result.others_cores,
        "signed_meanwhile": result.signed_meanwhile,
        "processes": {
            name: {
                "cpu_us_per_payment": result.cpu_us[name],
                "cpu_seconds": meter.cpu_seconds,
                "peak_bytes": meter.peak,
                "growth_bytes": meter.growth,
                "flat": meter.flat,
                "memory_bytes": meter.memory,
            }
            for name, meter in result.meters.items()
        },
        "steps": step_seconds,
        "balanced": result.balanced,
        "books": books_json(result.checked),
    }
