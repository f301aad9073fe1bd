"""``mypay order …``: sign orders as a partner does, send them, and see what becomes of them."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
import uuid_utils

from gateway.app.settings import Settings
from gateway.base.calendar import day_start
from gateway.base.validity import ORDER_VALIDITY_MAX
from gateway.cli.arguments import key_id
from gateway.cli.bulk import bulk
from gateway.cli.common import (
    SILENCE_HINT,
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    open_publisher,
    partner_principal,
    print_json,
    print_table,
    read_documents,
    run,
    say,
)
from gateway.cli.instruction_sending import timestamp
from gateway.cli.order_changes import cancel, refund
from gateway.cli.partner import default_kid
from gateway.identity.jose.jwk import PrivateKey, algorithm_of, public_jwk, read_private_key
from gateway.identity.jose.signature import sign_detached
from gateway.messaging.reader import TopicReader, open_reader
from gateway.messaging.records import Outgoing, Record
from gateway.payments.rules.lifecycle import TERMINAL, PaymentState
from schemas.codec import DecodeError, decode, encode, encode_json
from schemas.envelope import Envelope, EnvelopeError, read_envelope, write_envelope
from schemas.events import EventType
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.topics import ORDERS, events_topic

app = typer.Typer(help="Sign and send payment orders, their cancellations and refunds.", no_args_is_help=True)

FILLED_VALIDITY: Final = timedelta(minutes=10)
"""What --fill gives an order to live: enough for a person to watch it, too short to be forgotten."""

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
    key: Annotated[Path, typer.Option(help="The partner's private key (PEM).", dir_okay=False)],
    kid: Annotated[
        str | None,
        typer.Option(parser=key_id, metavar="KID", help="As registered. Default: from the key's thumbprint."),
    ] = None,
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
    private = read_private_key(key)
    orders = [_order(line, body, fill=fill, on=on.date() if on else None) for line, body in read_documents(file)]
    if len({o.partner_id for o in orders}) > 1:
        raise CliError("One key signs for one partner: the orders name several.", ExitCode.USAGE)
    followed = [_Followed(o, o.payment_id) for o in orders]
    signed_as = kid or default_kid(orders[0].partner_id, public_jwk(private), algorithm_of(private))
    records = [_record(o, private, signed_as) for o in orders]
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


def _record(order: PaymentOrder, private: PrivateKey, kid: str) -> Outgoing:
    body = encode(order)
    envelope = Envelope(
        id=order.order_id,
        source=f"/partners/{order.partner_id}",
        type=ORDER_TYPE,
        time=order.issued_at,
        signature=sign_detached(body, private, kid=kid, algorithm=algorithm_of(private), typ=ORDER_TYPE),
    )
    return Outgoing(topic=ORDERS, key=order.consent_id.encode(), value=body, headers=write_envelope(envelope))


async def _send(
    settings: Settings, records: Sequence[Outgoing], followed: list[_Followed], until: Until | None, seconds: float
) -> None:
    partner_id = followed[0].order.partner_id
    sender = partner_principal(partner_id)
    async with AsyncExitStack() as stack:
        reader = None
        if until is not None:
            # Before anything is sent, or the first events would be missed.
            reader = await stack.enter_async_context(
                open_reader(kafka(settings, sender), events_topic(partner_id), at_end=True)
            )
        publisher = await stack.enter_async_context(open_publisher(settings, sender))
        await publisher.publish(records)
        if reader is not None and until is not None:
            await _follow(reader, followed, until, seconds)


async def _follow(reader: TopicReader, followed: list[_Followed], until: Until, seconds: float) -> None:
    wanted = _WANTED[until]
    by_payment = {str(f.payment_id): f for f in followed}
    by_order = {str(f.order.order_id): f for f in followed}
    try:
        async with asyncio.timeout(seconds):
            async for records in reader.follow():
                for record in records:
                    _take(record, by_payment, by_order)
                if all(f.state in wanted for f in followed):
                    return
    except TimeoutError:
        return


def _take(record: Record, by_payment: dict[str, _Followed], by_order: dict[str, _Followed]) -> None:
    try:
        type_ = read_envelope(record.headers).type
        body = json.loads(record.value)
    except (EnvelopeError, ValueError):
        return
    if type_ == EventType.ORDER_REFUSED:
        found = by_order.get(body.get("order_id", ""))
        state = REFUSED
    else:
        found = by_payment.get(body.get("payment_id", ""))
        state = body.get("state", "")
    if found is not None:
        found.state, found.reason = state, body.get("reason")
        found.events.append({"type": type_, **body})


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
