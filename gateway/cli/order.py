"""``mypay order …``: sign orders as a partner does, send them, and see what becomes of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
import uuid_utils

from gateway.app.settings import Settings
from gateway.base.calendar import day_start
from gateway.base.validity import ORDER_VALIDITY_MAX
from gateway.cli.bulk import bulk
from gateway.cli.common import (
    SILENCE_HINT,
    CliError,
    ExitCode,
    Json,
    load_settings,
    print_json,
    print_table,
    read_documents,
    run,
    say,
)
from gateway.cli.order_changes import cancel, refund
from gateway.cli.sending import FILLED_VALIDITY, Key, Kid, open_partner, timestamp
from gateway.client import Event, read_signer, signed
from gateway.messaging.records import Outgoing
from gateway.payments.rules.lifecycle import TERMINAL, PaymentState
from schemas.codec import DecodeError, decode, encode_json
from schemas.events import EventType
from schemas.orders import PaymentOrder

app = typer.Typer(no_args_is_help=True)

REFUSED: Final = "refused"

_OUTCOMES: Final = frozenset({REFUSED, PaymentState.APPROVED, *TERMINAL})
_GOOD: Final = frozenset({PaymentState.APPROVED, PaymentState.SETTLED, PaymentState.SCHEDULED})


@unique
class Until(StrEnum):
    """What to wait for."""

    ACCEPTED = "accepted"  # scheduled for its day, or any outcome
    OUTCOME = "outcome"  # approved, or final
    FINAL = "final"  # settled, declined, rejected, reversed, refused


_WANTED: Final = {
    Until.ACCEPTED: _OUTCOMES | {PaymentState.SCHEDULED},
    Until.OUTCOME: _OUTCOMES,
    Until.FINAL: _OUTCOMES - {PaymentState.APPROVED},
}


@dataclass(slots=True)
class _Followed:
    """An order and what was told of it."""

    order: PaymentOrder
    payment_id: UUID
    state: str = ""
    reason: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)


app.command()(bulk)
app.command()(cancel)
app.command()(refund)


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="An order as JSON, or JSON lines; - reads standard input.")],
    key: Key,
    kid: Kid = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Give orders without order_id, issued_at or expires_at new ones.")
    ] = False,
    on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Pay on this day in Seoul, not at once: requested_execution_date."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the partner's events and print what became of them.")
    ] = False,
    until: Annotated[Until, typer.Option(help="What --wait waits for.")] = Until.OUTCOME,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that --wait waits.")] = 60.0,
    json_: Json = False,
) -> None:
    """Sign orders and send them: all of them, or none if one is not an order.

    With --wait the exit code is 0 if every one was approved, settled or, with --until accepted, scheduled; 1 if one
    ended otherwise, 4 if time ran out.
    """
    settings = load_settings()
    orders = [_order(line, body, fill=fill, on=on.date() if on else None) for line, body in read_documents(file)]
    if len({o.partner_id for o in orders}) > 1:
        raise CliError("One key signs for one partner: the orders name several.", ExitCode.USAGE)
    followed = [_Followed(o, o.payment_id) for o in orders]
    signer = read_signer(key, orders[0].partner_id, kid)
    records = [signed(signer, o) for o in orders]
    run(_send(settings, records, followed, until if wait else None, timeout))
    _print(followed, waited=wait, json_=json_)
    if wait:
        wanted = _WANTED[until]
        if any(f.state not in wanted for f in followed):
            raise CliError(
                f"Not every order had its {until} within {timeout:g} s.", ExitCode.UNAVAILABLE, hint=SILENCE_HINT
            )
        if any(f.state not in _GOOD for f in followed):
            raise typer.Exit(ExitCode.FAILED)


def _order(line: int, body: bytes, *, fill: bool, on: date | None) -> PaymentOrder:
    try:
        return decode(PaymentOrder, _filled(body, fill=fill, on=on) if fill or on else body)
    except DecodeError as error:
        hint = "--fill gives order_id, issued_at and expires_at." if not fill else ""
        raise CliError(f"line {line}: {error}; nothing was sent.", hint=hint) from None


def _filled(body: bytes, *, fill: bool, on: date | None) -> bytes:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict):
        return body
    now = datetime.now(UTC)
    if on is not None:
        fields["requested_execution_date"] = on.isoformat()
    if not fill:
        return encode_json(fields)
    # An order for a later day has that whole day.
    expires_at = now + FILLED_VALIDITY if on is None else max(day_start(on) + ORDER_VALIDITY_MAX, now + FILLED_VALIDITY)
    missing = {
        "order_id": uuid_utils.uuid7().hex,
        "issued_at": timestamp(now),
        "expires_at": timestamp(expires_at),
    }
    return encode_json({**missing, **fields})


async def _send(
    settings: Settings, records: Sequence[Outgoing], followed: list[_Followed], until: Until | None, seconds: float
) -> None:
    partner_id = followed[0].order.partner_id
    async with open_partner(settings, partner_id) as client:
        if until is None:
            await client.send(records)
            return
        # Before anything is sent, or the first events would be missed.
        async with client.events(partner_id) as events:
            await client.send(records)
            await events.first(_story_told(followed, _WANTED[until]), seconds=seconds)


def _story_told(followed: list[_Followed], wanted: frozenset[str]) -> Callable[[Event], bool]:
    """Notes each event, and tells when every order is where it is waited for."""
    by_payment = {str(f.payment_id): f for f in followed}
    by_order = {str(f.order.order_id): f for f in followed}

    def note(event: Event) -> bool:
        if event.type == EventType.ORDER_REFUSED:
            found, state = by_order.get(event.body.get("order_id", "")), REFUSED
        else:
            found, state = by_payment.get(event.body.get("payment_id", "")), event.body.get("state", "")
        if found is None:
            return False
        found.state, found.reason = state, event.body.get("reason")
        found.events.append({"type": event.type, **event.body})
        return all(f.state in wanted for f in followed)

    return note


def _print(followed: Sequence[_Followed], *, waited: bool, json_: bool) -> None:
    if json_:
        fields = ("payment_id", "state", "reason", "events") if waited else ("payment_id",)
        print_json([{"order_id": f.order.order_id} | {name: getattr(f, name) for name in fields} for f in followed])
        return
    if not waited:
        print_table("Sent", ("order", "payment"), [(f.order.order_id, f.payment_id) for f in followed])
        say(f"What becomes of it: mypay trace {followed[-1].payment_id}")
        return
    rows = [
        (f.order.order_id, f.payment_id, " → ".join(_path(f)), "{code} {text}".format(**f.reason) if f.reason else "")
        for f in followed
    ]
    print_table("Orders", ("order", "payment", "states", "reason"), rows)


def _path(followed: _Followed) -> list[str]:
    return [e.get("state", REFUSED) for e in followed.events] or ["nothing was told yet"]
