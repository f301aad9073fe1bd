"""``mypay standing …``: standing orders: give them, end them, see when they pay."""

from enum import StrEnum, unique
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import uuid_utils
from pydantic import TypeAdapter, ValidationError

from gateway.app.holidays import business_days
from gateway.app.settings import Settings
from gateway.base.calendar import BusinessDays
from gateway.cli.arguments import ConsentOption, PartnerOption, SomePartnerOption
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
    shown,
)
from gateway.cli.grouping import grouped
from gateway.cli.registered import of_partner
from gateway.cli.sending import Key, Sending, fail_in_silence, read_message, read_one, send, times
from gateway.database.roles import Role
from gateway.orders.standing.rules import StandingOrder, occurrence
from gateway.views.lists import ListsView
from gateway.views.standing_orders import StandingOrdersView
from schemas.codec import encode_json
from schemas.primitives import StandingOrderIdField
from schemas.standing import StandingOrderCancel, StandingOrderCreate
from schemas.wording import told

app = typer.Typer(no_args_is_help=True)

SHOWN_AHEAD = 5


def _standing_id(text: str) -> str:
    try:
        return str(TypeAdapter(StandingOrderIdField).validate_python(text))
    except ValidationError as error:
        raise typer.BadParameter(told(error.errors(include_input=False)[0])) from None


StandingArgument = Annotated[str, typer.Argument(metavar="STANDING-ORDER", parser=_standing_id)]


@app.command()
@grouped
def create(
    file: Annotated[Path, typer.Argument(help="A standing order as JSON; - reads standard input.")],
    key: Key,
    fill: Annotated[
        bool, typer.Option("--fill", help="Give it a new standing_order_id, issued_at and expires_at if it has none.")
    ] = False,
    *,
    sending: Sending,
) -> None:
    """Sign a standing order and send it."""
    fields = read_one(file)
    if fill:
        fields = {"standing_order_id": uuid_utils.uuid7().hex[:26], **times(), **fields}
    _send(encode_json(fields), StandingOrderCreate, key, sending)


@app.command()
@grouped
def cancel(
    standing_order_id: StandingArgument,
    partner: PartnerOption,
    consent: ConsentOption,
    key: Key,
    *,
    sending: Sending,
) -> None:
    """End a standing order: no occurrence is made any more. One that is made already is a payment of its own."""
    fields = {"partner_id": partner, "standing_order_id": standing_order_id, "consent_id": consent}
    body = encode_json(fields | {"issued_at": times()["issued_at"]})
    _send(body, StandingOrderCancel, key, sending)


@app.command()
def show(standing_order_id: StandingArgument, partner: SomePartnerOption = None, json_: Json = False) -> None:
    """Show a standing order, how often it has paid, and its next days."""
    settings = load_settings()
    orders = run(_look_up(settings, standing_order_id, partner))
    days = business_days(settings.holidays_file)
    if json_:
        print_json([_json(o, days) for o in orders])
        return
    for order in orders:
        print_table(f"Standing order {order.standing_order_id}", ("", ""), _summary(order))
        if ahead := _ahead(order, days):
            print_table("Next", ("day", "order"), ahead)


@unique
class _Status(StrEnum):
    ACTIVE = "active"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    REFUSED = "refused"


@app.command("list")
def list_(
    partner: SomePartnerOption = None,
    status: Annotated[_Status | None, typer.Option(help="With this status alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show standing orders, with the day of the next payment."""
    settings = load_settings()
    found = run(_all(settings, partner, status, limit))
    say_if_cut(found, limit)
    days = business_days(settings.holidays_file)
    if json_:
        print_json([_json(o, days) for o in found])
        return
    rows = [
        (
            *(o.standing_order_id, o.partner_id, o.consent_id, o.status, money(o.amount.minor, o.amount.currency)),
            *(o.occurrences, next((day for day, _ in _ahead(o, days)), "")),
        )
        for o in found
    ]
    columns = ("standing order", "partner", "consent", "status", "amount", "made", "next")
    print_table("Standing orders", columns, rows, right=("amount", "made"))


async def _all(settings: Settings, partner: str | None, status: str | None, limit: int) -> list[StandingOrder]:
    dsn = postgres_dsn(settings, Role.READONLY)
    async with ListsView.opened(dsn) as lists:
        found = await lists.standing_orders(partner_id=partner, status=status, limit=limit)
    return await of_partner(dsn, partner, found)


async def _look_up(settings: Settings, standing_order_id: str, partner: str | None) -> list[StandingOrder]:
    async with StandingOrdersView.opened(postgres_dsn(settings, Role.READONLY)) as orders:
        found = await orders.find(standing_order_id, partner_id=partner)
    if not found:
        raise CliError(f"There is no standing order {standing_order_id}.", ExitCode.NOT_FOUND)
    return found


def _send(
    body: bytes, model: type[StandingOrderCreate] | type[StandingOrderCancel], key: Path, sending: Sending
) -> None:
    message = read_message(model, body)
    told = send(body, message, key, sending)
    if sending.json_:
        print_json({"standing_order_id": message.standing_order_id, "event": told})
    elif not sending.wait:
        say(f"Sent. What became of it: mypay standing show {message.standing_order_id}")
    elif told is not None and "status" in told:
        following = f", next on {told['next_date']}" if "next_date" in told else ""
        say(f"Standing order {message.standing_order_id} is {told['status']}{following}.")
    elif told is not None:
        say("Refused: {code} {text}.".format(**told["reason"]))
    fail_in_silence(told, sending)
    if told is not None and "status" not in told:
        raise typer.Exit(ExitCode.FAILED)


def _ahead(order: StandingOrder, days: BusinessDays) -> list[tuple[str, str]]:
    if order.next_due_at is None:
        return []
    numbers = range(order.occurrences, order.occurrences + SHOWN_AHEAD)
    found = (occurrence(order.schedule, n, days) for n in numbers)
    return [(f"{o.day}", order.order_id(o)) for o in islice(found, SHOWN_AHEAD) if o is not None]


def _summary(order: StandingOrder) -> list[tuple[str, object]]:
    schedule = order.schedule
    every = f"{schedule.frequency}, every {schedule.interval}" if schedule.interval > 1 else schedule.frequency.value
    until = f"until {schedule.last_date}" if schedule.last_date else ""
    ends = " or ".join(filter(None, (until, f"{schedule.count} times" if schedule.count else "")))
    rows: list[tuple[str, object]] = [
        ("status", f"{order.status} (version {order.version})"),
        ("amount", money(order.amount.minor, order.amount.currency)),
        ("partner", order.partner_id),
        ("consent", order.consent_id),
        ("merchant", order.merchant_id),
        ("schedule", f"{every}, from {schedule.first_date}, {ends or 'without end'}"),
        ("day, holidays", f"{schedule.day_rule}, {schedule.holiday_rule}"),
        ("made so far", order.occurrences),
        ("changed", shown(order.changed_at)),
    ]
    if order.reason:
        rows.append(("reason", f"{order.reason.code} {order.reason.text}"))
    return rows


def _json(order: StandingOrder, days: BusinessDays) -> dict[str, Any]:
    return {
        "partner_id": order.partner_id,
        "standing_order_id": order.standing_order_id,
        "consent_id": order.consent_id,
        "merchant_id": order.merchant_id,
        "amount": money_json(order.amount.minor, order.amount.currency),
        "schedule": order.schedule.model_dump(mode="json", exclude_none=True),
        "status": order.status,
        "version": order.version,
        "occurrences": order.occurrences,
        "next": [{"date": day, "order_id": order_id} for day, order_id in _ahead(order, days)],
        "reason": order.reason,
        "changed_at": order.changed_at,
    }
