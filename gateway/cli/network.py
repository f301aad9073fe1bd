"""``mypay network …``: card networks as execution sees them, and pausing them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gateway.app.networks import NETWORK_REPORT_FRESH_S
from gateway.app.registries import PAUSED_WITHIN_S, open_registries
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
)
from gateway.cli.operating import current_actor, operated
from gateway.cli.operations import Propose, carry_out
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from gateway.views.networks import NetworkPause, NetworksView, WorkerReport, standing_of
from schemas.primitives import NetworkId

app = typer.Typer(no_args_is_help=True)

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help="As its file in MYPAY_NETWORKS_DIR names it.")]


def _subject(*, network: str, **_: object) -> str:
    return network


@dataclass(frozen=True, slots=True)
class _Standing:
    network_id: str
    standing: str
    workers: int
    open_workers: int
    paused_at: datetime | None
    paused_by: str | None
    why: str | None


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every network: open, closed, without a worker, or paused."""
    settings = load_settings()

    async def read() -> tuple[list[WorkerReport], list[NetworkPause]]:
        async with NetworksView.opened(postgres_dsn(settings, Role.READONLY)) as networks:
            return await networks.reports(), await networks.pauses()

    reports, pauses = run(read())
    since = datetime.now(UTC) - timedelta(seconds=NETWORK_REPORT_FRESH_S)
    fresh = [r for r in reports if r.reported_at >= since]
    paused = {p.network_id: p for p in pauses}
    known = sorted({*load_networks(settings.networks_dir), *(r.network_id for r in reports), *paused})
    found = [_standing(n, [r for r in fresh if r.network_id == n], paused.get(n)) for n in known]
    if json_:
        print_json(found)
        return
    columns = ("network", "standing", "workers", "of them open", "paused", "by", "why")
    rows = [(f.network_id, f.standing, f.workers, f.open_workers, f.paused_at, f.paused_by, f.why) for f in found]
    print_table("Networks", columns, rows, right=columns[2:4], whole=columns[:1])


def _standing(network_id: str, fresh: list[WorkerReport], pause: NetworkPause | None) -> _Standing:
    is_open = sum(r.is_open for r in fresh)
    standing = standing_of(fresh, is_paused=pause is not None)
    at, by, why = (pause.paused_at, pause.operator, pause.why) if pause else (None, None, None)
    return _Standing(network_id, standing, len(fresh), is_open, at, by, why)


@app.command()
@operated("network pause", _subject)
def pause(network: NetworkArgument) -> None:
    """Send nothing new to a network until it is resumed. What was sent is settled; new orders wait, or go elsewhere."""
    settings, actor = load_settings(), current_actor()
    if network not in load_networks(settings.networks_dir):
        raise CliError(f"No network {network} is configured.", ExitCode.NOT_FOUND, hint="`mypay network list`")

    async def write() -> bool:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.directory.pause_network(NetworkId(network), operator=actor.operator, why=actor.why)

    if not run(write()):
        raise CliError(f"Network {network} is paused already.", hint="`mypay network list` shows by whom.")
    say(f"Network {network} is paused: within {PAUSED_WITHIN_S:.0f} s nothing new is sent there.")


@app.command()
@operated("network resume", _subject)
def resume(network: NetworkArgument, propose: Propose = False, json_: Json = False) -> None:
    """Send payments to a network again; what has waited first."""
    told, proposed = carry_out(load_settings(), "network.resume", network, {"network_id": network}, propose=propose)
    if json_:
        print_json({"network_id": network, "proposal_id": proposed})
    else:
        say(told)
