"""``mypay order bulk``: many orders in one signed message."""

from pathlib import Path
from typing import Annotated, Any

import typer
import uuid_utils

from gateway.cli.common import ExitCode, print_json, print_table, say
from gateway.cli.grouping import grouped
from gateway.cli.sending import Key, Sending, fail_in_silence, read_message, read_one, send, times
from schemas.bulk import BULK_BYTES_MAX, BulkStatus, PaymentBulk
from schemas.codec import encode_json
from schemas.primitives import decimal_of, minor_of


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
    if turned_away := told.get("rejected"):
        rows = [(r["item"], r["order_id"], "{code} {text}".format(**r["reason"])) for r in turned_away]
        print_table("Not accepted", ("item", "order", "reason"), rows, right=("item",))
