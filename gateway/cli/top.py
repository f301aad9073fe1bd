"""``mypay top``: how the gateway stands, while it runs: read from the database, so from anywhere that reaches it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.app.networks import NETWORK_REPORT_FRESH_S
from gateway.base.errors import StoreUnavailableError
from gateway.cli.common import Json, load_settings, out, postgres_dsn, print_json, run, shown
from gateway.database.roles import Role
from gateway.views.attention import COUNTED_MAX, AttentionView, BreaksOfKind, Waiting
from gateway.views.networks import NetworkPause, NetworksView, OpenOnNetwork, WorkerReport, standing_of
from gateway.views.wording import age

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found at one moment. ``written``: payments ever; ``per_second``: since the look before."""

    at: datetime
    written: int
    per_second: float | None
    events: dict[str, int]
    reports: Sequence[WorkerReport]
    pauses: Sequence[NetworkPause]
    open_payments: Sequence[OpenOnNetwork]
    breaks: Sequence[BreaksOfKind]
    waiting: Waiting


def command(
    every: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    json_: Json = False,
) -> None:
    """Show payments a second, what is open, networks, events and breaks, until Ctrl-C. With --json: once."""
    dsn = postgres_dsn(load_settings(), Role.READONLY)
    if once or json_:
        found = run(look(dsn))
        if json_:
            print_json(_json(found))
        else:
            out().print(_shown(found))
        return
    run(_watch(dsn, every))


async def look(dsn: str, before: Standing | None = None, took: float = 0.0) -> Standing:
    """Ask for everything, on one connection a view.

    Raises:
        StoreUnavailableError: the server is away.
    """
    async with AttentionView.opened(dsn) as attention:
        written = await attention.rows_written()
        events, breaks, waiting = (
            await attention.recent_events(limit=1000),
            await attention.breaks_by_kind(),
            await attention.waiting(),
        )
    async with NetworksView.opened(dsn) as networks:
        reports, pauses = await networks.reports(), await networks.pauses()
        still_open = await networks.open_payments()
    rate = None if before is None or took <= 0 else max(0, written - before.written) / took
    return Standing(datetime.now(UTC), written, rate, events, reports, pauses, still_open, breaks, waiting)


async def _watch(dsn: str, every: float) -> None:
    from rich.live import Live  # noqa: PLC0415 - of this command alone
    from rich.text import Text  # noqa: PLC0415

    found: Standing | None = None
    looked = time.monotonic()
    with Live(console=out(), auto_refresh=False, screen=out().is_terminal) as live:
        while True:
            try:
                now = time.monotonic()
                found = await look(dsn, found, now - looked)
                looked = now
                live.update(_shown(found), refresh=True)
            except StoreUnavailableError as error:
                live.update(Text(f"The database is not available: {error}. It is asked again.", "red"), refresh=True)
            await asyncio.sleep(every)


def _shown(found: Standing) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
        made = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
        )
        for column in columns:
            made.add_column(column)
        for row in rows:
            made.add_row(*(Text(shown(cell)) for cell in row))
        return made

    rate = "" if found.per_second is None else f", {found.per_second:,.1f} a second"
    head = Text(f"{shown(found.at)}   {found.written:,} payments written{rate}", "bold")
    since = found.at - timedelta(seconds=NETWORK_REPORT_FRESH_S)
    paused = {p.network_id for p in found.pauses}
    fresh = {
        n: [r for r in found.reports if r.network_id == n and r.reported_at >= since]
        for n in sorted({r.network_id for r in found.reports} | paused)
    }
    networks = [(n, standing_of(own, is_paused=n in paused), len(own)) for n, own in fresh.items()]
    still = [(o.network_id, o.state, o.payments, _age(o.oldest, found.at)) for o in found.open_payments]
    waits = f"more than {COUNTED_MAX:,}" if found.waiting.rows > COUNTED_MAX else f"{found.waiting.rows:,}"
    events = [(kind.removeprefix("kr.mypay."), n) for kind, n in sorted(found.events.items(), key=lambda e: -e[1])[:8]]
    return Group(
        head,
        table("\nNetworks", ("network", "is", "workers"), networks),
        table("\nOpen payments", ("network", "state", "payments", "oldest"), still),
        table(
            "\nOutbox",
            ("waiting", "oldest", "parked"),
            [(waits, _age(found.waiting.oldest, found.at), found.waiting.parked)],
        ),
        table(
            "\nBreaks",
            ("network", "kind", "breaks", "oldest"),
            [(b.network_id, b.break_kind, b.breaks, _age(b.oldest, found.at)) for b in found.breaks],
        ),
        table("\nLast 1,000 rows of events", ("event", "rows of it"), events),
    )


def _age(since: datetime | None, now: datetime) -> str:
    return "" if since is None else " ".join(map(str, age(now - since)))


def _json(found: Standing) -> dict[str, Any]:
    return {
        "at": found.at,
        "payments_written": found.written,
        "networks": found.reports,
        "paused": found.pauses,
        "open_payments": found.open_payments,
        "outbox": found.waiting,
        "breaks": found.breaks,
        "recent_events": found.events,
    }
