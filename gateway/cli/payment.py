"""``mypay payment …``: payments by how they stand. One payment's story: ``mypay trace``."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Annotated, Any, Final

import typer

from gateway.app.hurrying import inquire_now
from gateway.cli.arguments import SomePartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    money_json,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
    say_if_cut,
)
from gateway.cli.operating import operated
from gateway.cli.operations import told
from gateway.cli.registered import of_partner
from gateway.cli.trace import read_name
from gateway.database.roles import Role
from gateway.network.iso8583.config import load_networks
from gateway.payments.rules.payment import Payment
from gateway.views.lists import ListsView
from gateway.views.payments import PaymentsView

app = typer.Typer(no_args_is_help=True)

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@unique
class OpenState(StrEnum):
    """States in which something is still awaited of a network."""

    SENT = "sent"
    UNKNOWN = "unknown"
    REVERSING = "reversing"


_AGE_MAX: Final = timedelta(days=36_500)


def _age(text: str | timedelta) -> timedelta:
    if isinstance(text, timedelta):
        return text  # the default
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise typer.BadParameter("a number with a unit: 90s, 15m, 2h or 3d")
    age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if age > _AGE_MAX:
        raise typer.BadParameter(f"at most {_AGE_MAX.days}d")
    return age


Older = Annotated[timedelta, typer.Option("--older", metavar="AGE", parser=_age, help="Than this: 90s, 15m, 2h, 3d.")]
State = Annotated[list[OpenState] | None, typer.Option(help="In this state; may be given several times.")]


@app.command("list")
def list_(
    state: State = None,
    older: Older = timedelta(),
    network: Annotated[str | None, typer.Option(help="Of this card network alone.")] = None,
    partner: SomePartnerOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most, the oldest first.")] = 100,
    json_: Json = False,
) -> None:
    """Show payments whose outcome is open, the oldest first: sent, unknown, or being undone."""
    settings = load_settings()
    now = datetime.now(UTC)

    async def read() -> list[Payment]:
        dsn = postgres_dsn(settings, Role.READONLY)
        async with ListsView.opened(dsn) as lists:
            states = [s.value for s in state or OpenState]
            found = await lists.open_payments(
                states, before=now - older, network_id=network, partner_id=partner, limit=limit
            )
        return await of_partner(dsn, partner, found)

    found = run(read())
    if network is not None and not found and network not in load_networks(settings.networks_dir):
        raise CliError(f"No network {network} is configured.", ExitCode.NOT_FOUND, hint="`mypay network list`")
    say_if_cut(found, limit)
    show(found, now, json_=json_)


@app.command()
@operated("payment inquire", lambda *, payment, **_: payment)
def inquire(
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="Payment id, or PARTNER/ORDER.")],
    partner: SomePartnerOption = None,
) -> None:
    """Let the network be asked about an unknown payment now, and not when it is next due.

    Of one that is being reversed the reversal is sent again. Nothing else changes: what the network answers decides.
    """
    dsn = postgres_dsn(load_settings())
    partner_id, _, payment_id = read_name(payment, partner)

    async def ask() -> str:
        async with PaymentsView.opened(dsn) as view:
            found = await view.find(payment_id, partner_id=partner_id)
        if len(found) != 1:
            raise CliError(
                f"There is no payment {payment}." if not found else f"Several partners have a payment {payment}.",
                ExitCode.NOT_FOUND,
                hint="`mypay payment list`" if not found else "Name one with --partner.",
            )
        return await inquire_now(dsn, found[0].key)

    say(told(ask()))


def show(found: Sequence[Payment], now: datetime, *, json_: bool) -> None:
    """Print payments, each with its age."""
    if json_:
        print_json([_json(p, now) for p in found])
        return
    rows = [
        (
            p.payment_id,
            f"{p.partner_id}/{p.order_id}",
            p.state.value,
            str(timedelta(seconds=_seconds(p, now))),
            p.network_id,
            money(p.amount_minor, p.currency),
            f"{p.reason.code} {p.reason.text}" if p.reason else "",
        )
        for p in found
    ]
    columns = ("payment", "order", "state", "age", "network", "amount", "reason")
    print_table("Open payments", columns, rows, right=("age", "amount"), whole=("payment",))


def _seconds(payment: Payment, now: datetime) -> int:
    return round((now - payment.decided_at).total_seconds())


def _json(p: Payment, now: datetime) -> dict[str, Any]:
    return {
        "payment_id": p.payment_id,
        "partner_id": p.partner_id,
        "order_id": p.order_id,
        "consent_id": p.consent_id,
        "state": p.state,
        "network_id": p.network_id,
        "amount": money_json(p.amount_minor, p.currency),
        "reason": p.reason,
        "decided_at": p.decided_at,
        "age_seconds": _seconds(p, now),
    }
