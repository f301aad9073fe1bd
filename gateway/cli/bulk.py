"""``mypay order bulk``: many orders in one signed message."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uuid_utils

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
)
from gateway.cli.grouping import grouped
from gateway.cli.sending import Key, Sending, fail_in_silence, read_message, read_one, send, times
from gateway.database.roles import Role
from gateway.views.lists import ListsView, StoredBulk
from schemas.bulk import BULK_BYTES_MAX, BulkStatus, PaymentBulk
from schemas.codec import encode_json
from schemas.primitives import decimal_of, minor_of

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    # A callback keeps "show" a command of its own while it is the only one.
    pass


@app.command()
def show(
    bulk_id: Annotated[str, typer.Argument(metavar="BULK", help="The bulk's id.")],
    partner: SomePartnerOption = None,
    json_: Json = False,
) -> None:
    """Show what was decided of a bulk, its items that were turned away, and whether the others were handed on."""
    found = run(_find(bulk_id, partner))
    if json_:
        print_json([_json(b) for b in found])
        return
    for b in found:
        reason = f"{b.reason_code} {b.reason_text}" if b.reason_code else None
        rows: list[tuple[str, object]] = [
            ("partner", b.partner_id),
            ("status", b.status),
            ("reason", reason),
            ("items", b.items),
            ("sum", money(b.control_minor, b.currency)),
            ("decided", b.decided_at),
            ("handed on", b.dispatched_at or ("not yet" if b.status == BulkStatus.ACCEPTED else None)),
            ("came as", b.reference),
        ]
        print_table(f"Bulk {b.bulk_id}", ("", ""), [row for row in rows if row[1] is not None])
        _print_rejected(json.loads(b.rejected))


async def _find(bulk_id: str, partner: str | None) -> list[StoredBulk]:
    async with ListsView.opened(postgres_dsn(load_settings(), Role.READONLY)) as lists:
        found = await lists.bulks(bulk_id, partner_id=partner)
    if not found:
        raise CliError(f"There is no bulk {bulk_id}.", ExitCode.NOT_FOUND)
    return found


def _json(b: StoredBulk) -> dict[str, Any]:
    return {
        "partner_id": b.partner_id,
        "bulk_id": b.bulk_id,
        "status": b.status,
        "items": b.items,
        "control_sum": money_json(b.control_minor, b.currency),
        "rejected": json.loads(b.rejected),
        "reason": {"code": b.reason_code, "text": b.reason_text} if b.reason_code else None,
        "reference": b.reference,
        "decided_at": b.decided_at,
        "dispatched_at": b.dispatched_at,
    }


@grouped
def bulk(
    file: Annotated[Path, typer.Argument(help="A bulk as one JSON object; - reads standard input.")],
    key: Key,
    fill: Annotated[
        bool, typer.Option("--fill", help="Give it bulk_id, times, acceptance partial and its totals, if it has none.")
    ] = False,
    *,
    sending: Sending,
) -> None:
    """Sign a bulk of orders and send it.

    With --wait the exit code is 0 if it was accepted with all of its items, 1 if not, 4 if time ran out.
    """
    fields = read_one(file)
    body = encode_json(_filled(fields) if fill else fields)
    message = read_message(PaymentBulk, body, bytes_max=BULK_BYTES_MAX)
    told = send(body, message, key, sending)
    if sending.json_:
        print_json({"bulk_id": message.bulk_id, "event": told})
    else:
        _print(message, told)
    fail_in_silence(told, sending)
    if told is not None and told.get("accepted") != len(message.items):
        raise typer.Exit(ExitCode.FAILED)


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"bulk_id": uuid_utils.uuid7().hex, "acceptance": "partial", **times()}
    try:
        amounts = [i["amount"] for i in fields["items"]]
        currency = amounts[0]["currency"]
        total = sum(minor_of(a["value"], currency) for a in amounts)
        sums = {"currency": currency, "value": decimal_of(total, currency)}
        given |= {"number_of_transactions": len(amounts), "control_sum": sums}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        # Not a bulk: reading it says what is wrong.
        pass
    return given | fields


def _print(message: PaymentBulk, told: dict[str, Any] | None) -> None:
    if told is None:
        say(f"Sent as bulk {message.bulk_id} with {len(message.items)} items.")
        return
    accepted = told.get("status") == BulkStatus.ACCEPTED
    why = "" if "reason" not in told else ": {code} {text}".format(**told["reason"])
    count = f"{told['accepted']} of {len(message.items)} items are accepted" if accepted else f"refused{why}"
    say(f"Bulk {message.bulk_id}: {count}.")
    _print_rejected(told.get("rejected", []))


def _print_rejected(turned_away: Sequence[dict[str, Any]]) -> None:
    if turned_away:
        rows = [(r["item"], r["order_id"], "{code} {text}".format(**r["reason"])) for r in turned_away]
        print_table("Not accepted", ("item", "order", "reason"), rows, right=("item",))
