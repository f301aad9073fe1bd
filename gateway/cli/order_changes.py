"""``mypay order cancel`` and ``mypay order refund``: have an order undone, or give a payment's money back."""

from typing import Annotated, Any, Final

import typer
import uuid_utils

from gateway.cli.arguments import ConsentOption, PartnerOption
from gateway.cli.common import ExitCode, print_json, say
from gateway.cli.grouping import grouped
from gateway.cli.sending import Key, Sending, fail_in_silence, read_message, send, times
from gateway.payments.rules.lifecycle import PaymentState
from schemas.cancellation import PaymentCancellation
from schemas.codec import encode_json
from schemas.events import CancellationEffect, EventType
from schemas.refunds import PaymentRefund

OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")]

_EFFECTS: Final = {
    CancellationEffect.NOT_SENT: "the order will not be sent when it comes",
    CancellationEffect.CANCELLED: "the scheduled payment is cancelled",
    CancellationEffect.REVERSING: "the payment is being reversed at the network",
    CancellationEffect.ONCE_KNOWN: "the payment is in flight and will be reversed if it was approved",
}
_REFUNDED: Final = frozenset({PaymentState.APPROVED, PaymentState.SETTLED})


@grouped
def cancel(
    order: OrderArgument,
    partner: PartnerOption,
    consent: ConsentOption,
    key: Key,
    cancellation_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Default: a new one.")] = None,
    reason: Annotated[str | None, typer.Option(help="For your own records; no personal data.")] = None,
    *,
    sending: Sending,
) -> None:
    """Sign a cancellation and send it.

    With --wait the exit code is 0 if it was accepted, 1 if it was refused, 4 if time ran out.
    """
    fields = {
        "partner_id": partner,
        "cancellation_id": cancellation_id or uuid_utils.uuid7().hex,
        "consent_id": consent,
        "order_id": order,
        **times(),
        **({"reason_text": reason} if reason else {}),
    }
    body = encode_json(fields)
    message = read_message(PaymentCancellation, body)
    told = send(body, message, key, sending)
    accepted = told is not None and told["type"] == EventType.CANCELLATION_ACCEPTED
    if sending.json_:
        print_json({"cancellation_id": message.cancellation_id, "payment_id": message.payment_id, "event": told})
    elif told is None:
        say(f"Sent as cancellation {message.cancellation_id}. What becomes of it: mypay trace {message.payment_id}")
    elif accepted:
        say(f"Accepted: {_EFFECTS[CancellationEffect(told['effect'])]}.")
    _end(told, refused=not accepted, sending=sending)


@grouped
def refund(
    order: OrderArgument,
    amount: Annotated[str, typer.Option(metavar="VALUE", help="In the currency's decimals: 12500, or 12.50.")],
    partner: PartnerOption,
    consent: ConsentOption,
    key: Key,
    currency: Annotated[str, typer.Option(metavar="CODE", help="ISO 4217; the order's.")] = "KRW",
    refund_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The refund's own order id. Default: a new one.")
    ] = None,
    *,
    sending: Sending,
) -> None:
    """Sign a refund of an order's payment, in full or in part, and send it.

    With --wait the exit code is 0 if it was approved, 1 if it ended otherwise, 4 if time ran out.
    """
    fields = {
        "partner_id": partner,
        "order_id": refund_id or uuid_utils.uuid7().hex,
        "consent_id": consent,
        "original_order_id": order,
        "amount": {"currency": currency, "value": amount},
        **times(),
    }
    body = encode_json(fields)
    message = read_message(PaymentRefund, body)
    told = send(body, message, key, sending)
    refunded = told is not None and told.get("state") in _REFUNDED
    if sending.json_:
        print_json({"order_id": message.order_id, "payment_id": message.payment_id, "event": told})
    elif told is None:
        say(f"Sent as order {message.order_id}. What becomes of it: mypay trace {message.payment_id}")
    elif refunded:
        say(f"Refunded {amount} {currency} as order {message.order_id}: {told['state']}.")
    _end(told, refused=not refunded, sending=sending)


def _end(told: dict[str, Any] | None, *, refused: bool, sending: Sending) -> None:
    fail_in_silence(told, sending)
    if told is not None and refused:
        if not sending.json_:
            why = "{code} {text}".format(**told["reason"]) if "reason" in told else told.get("state", "")
            say(f"{str(told.get('state', 'refused')).capitalize()}: {why}.")
        raise typer.Exit(ExitCode.FAILED)
