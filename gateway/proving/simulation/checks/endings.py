"""Every order, and all that follows one, ends once and is answered."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from gateway.base.errors import NotAuthenticatedError
from gateway.payments.rules.payment import Payment
from gateway.proving.simulation.checks.states import FINAL, STANDING
from gateway.proving.simulation.checks.told import Remains, Told
from gateway.proving.simulation.script.forging import FORGED_PREFIX
from gateway.proving.simulation.script.scene import DISABLED_CODE, Kind, Produced


def check_endings(remains: Remains, told: Told) -> None:
    """What was produced, laid beside the tables and what was told."""
    _orders_end_once(remains, told)
    _cancellations_hold(remains, told)
    _bulks_whole(remains, told)
    _refunds_fit(remains)
    _nothing_forged_believed(remains, told)


def _orders_end_once(remains: Remains, told: Told) -> None:
    payments = {str(p.order_id): p for p in remains.database.payments.rows.values()}
    refused = {row.reference: row.reason.code for row in remains.database.refusals.rows.values()}
    parked = {p.record.reference: p.error for p in remains.parked if p.stage == "initiation"}
    lapsed = {reference for reference, error in parked.items() if _is_disabled(error)}
    mine: dict[str, list[str]] = defaultdict(list)
    known: set[str] = set()
    for produced, reference in remains.written:
        known.update(produced.items)
        outcomes = ["parked"] if reference in parked and reference not in lapsed else []
        outcomes += _answers(produced, reference, told)
        if produced.kind is not Kind.REFUND or refused.get(reference) in {None, DISABLED_CODE}:
            # A refund that is refused for want of a payment uses no id up: it may be sent again.
            outcomes += _payment_end(produced, payments)
        if reference in refused and not (outcomes and refused[reference] == DISABLED_CODE):
            outcomes.append("refused")
        # A delivery is parked once the partner's key is disabled, also where an earlier one has come to its end.
        if reference in lapsed and not outcomes:
            outcomes.append("parked")
        if produced.kind is Kind.FORGED and told.refused[reference]:
            remains.violated("nobody speaks for a partner", f"{produced.order_id} at {reference} was told")
        if len(outcomes) != 1:
            text = f"{produced.kind} {produced.order_id} at {reference}"
            remains.violated("every order ends once", f"{text} ends as {outcomes or 'nothing'}")
        elif outcomes[0] == "payment":
            mine[produced.order_id].append(reference)
        if reference in refused and produced.kind in _PAYING and told.refused[reference] != 1:
            text = f"{produced.order_id} at {reference}"
            remains.violated("every order is answered", f"{text}: refused, told {told.refused[reference]} times")
    _payments_ordered(remains, told, payments, mine, known, refused.keys() | lapsed)


def _is_disabled(error: Exception) -> bool:
    return isinstance(error, NotAuthenticatedError) and error.reason.code == DISABLED_CODE


def _payments_ordered(
    remains: Remains,
    told: Told,
    payments: Mapping[str, Payment],
    mine: Mapping[str, list[str]],
    known: Collection[str],
    refused: Collection[str],
) -> None:
    """Each payment is somebody's order, each repetition of it was answered, and it has ended."""
    for order_id, payment in payments.items():
        if order_id not in mine and order_id not in known:
            remains.violated("every order ends once", f"a payment of {order_id}, which nobody ordered")
        # The first needs no answer but its payment's events.
        told_of = {*told.reported[str(payment.payment_id)], *refused}
        unanswered = [r for r in mine.get(order_id, ()) if r not in told_of]
        if len(unanswered) > 1:
            remains.violated("every order is answered", f"{order_id}: its repeats at {unanswered} were not answered")
        if payment.state.value not in FINAL:
            remains.violated("everything ends", f"{order_id} ended {payment.state}")


_PAYING = (Kind.ORDER, Kind.REFUND)
_ANSWERS = {
    Kind.CANCEL: ("cancellation.accepted", "cancellation.refused"),
    Kind.BULK: ("bulk.accepted", "bulk.refused", "bulk.reported"),
}


def _answers(produced: Produced, reference: str, told: Told) -> list[str]:
    """How a record that is no payment of its own was answered, once for all of its answers: it may be told again."""
    if produced.kind is Kind.STANDING:
        # Its events name it, not the record: repetitions are told as such.
        return ["created"] if _standing_told(told, "created", produced.order_id) else []
    answered = [kind for kind in _ANSWERS.get(produced.kind, ()) if told.answer(kind, reference)]
    if produced.kind is Kind.CANCEL:
        accepted = told.answer("cancellation.accepted", reference)
        lapsed = [r for r in told.answer("cancellation.refused", reference) if accepted]
        # One that was accepted while its payment was in flight may be refused once more is known.
        if accepted and accepted[0]["effect"] == "once_known" and lapsed:
            answered.remove("cancellation.refused")
    if produced.kind is Kind.BULK and len(answered) > 1:
        # A record that is delivered again is told again; what became of the bulk stays.
        answered = [a for a in answered if a != "bulk.reported"]
    return answered


def _standing_told(told: Told, kind: str, standing_order_id: str) -> bool:
    return any(
        body["standing_order_id"] == standing_order_id
        for bodies in told.answers[f"standing-order.{kind}"].values()
        for body in bodies
    )


def _cancellations_hold(remains: Remains, told: Told) -> None:
    payments = {str(p.order_id): p for p in remains.database.payments.rows.values()}
    # Of an id's repetitions the first one's record is told of what came of it in the end.
    lapsed = {b["cancellation_id"] for bodies in told.answers["cancellation.refused"].values() for b in bodies}
    for reference, bodies in told.answers["cancellation.accepted"].items():
        payment = payments.get(bodies[0]["order_id"])
        # An order of that id under another consent is not the one that was cancelled.
        its_own = payment is not None and payment.consent_id == bodies[0]["consent_id"]
        stands = payment is not None and payment.state.value in STANDING
        if its_own and stands and bodies[0]["cancellation_id"] not in lapsed:
            text = f"{bodies[0]['order_id']} is cancelled by {reference}, and stands"
            remains.violated("an accepted cancellation is kept", text)


def _bulks_whole(remains: Remains, told: Told) -> None:
    payments = {str(p.order_id): p for p in remains.database.payments.rows.values()}
    refused = {reference for _, reference in remains.database.refusals.rows}
    for produced, reference in remains.written:
        if produced.kind is not Kind.BULK:
            continue
        for body in told.answer("bulk.accepted", reference):
            turned_away = {r["order_id"] for r in body.get("rejected", ())}
            for number, missing in enumerate(produced.items, 1):
                # With the key disabled after they were handed on, items end refused, one by one.
                if missing in payments or missing in turned_away or f"{reference}#{number}" in refused:
                    continue
                remains.violated("every order ends once", f"{missing} of an accepted bulk became nothing")
            for paid in turned_away & {i for i in produced.items if i in payments and payments[i].trace is not None}:
                remains.violated("every order ends once", f"{paid} was turned away and sent")
        for body in told.answer("bulk.refused", reference):
            for made in set(produced.items) & payments.keys():
                remains.violated("every order ends once", f"{made} of {body['bulk_id']}, which was refused as a whole")


def _refunds_fit(remains: Remains) -> None:
    given: Counter[str] = Counter()
    rows = remains.database.payments.rows
    for payment in rows.values():
        if payment.original_payment_id is not None and payment.state.value in STANDING:
            given[str(payment.original_payment_id)] += payment.amount_minor
    for original in rows.values():
        stands = original.amount_minor if original.state.value in STANDING else 0
        if (back := given[str(original.payment_id)]) > stands:
            remains.violated("never more is given back", f"{original.order_id}: {back} of {stands}")


def _nothing_forged_believed(remains: Remains, told: Told) -> None:
    """What nobody of the gateway wrote for execution makes no payment, is told to nobody, and is told to operators."""
    for payment in remains.database.payments.rows.values():
        if str(payment.order_id).startswith(FORGED_PREFIX):
            remains.violated("execution believes the gateway alone", f"{payment.order_id} became {payment.state}")
    names = {body.get("order_id", "") for kind in told.answers.values() for bodies in kind.values() for body in bodies}
    refused = [r.order_id for r in remains.database.refusals.rows.values()]
    for name in (*names, *refused):
        if str(name).startswith(FORGED_PREFIX):
            remains.violated("execution believes the gateway alone", f"{name} was told to a partner")
    parked = {p.record.reference for p in remains.parked if p.stage == "execution"}
    for reference in remains.forged - parked:
        remains.violated("execution believes the gateway alone", f"{reference} is parked nowhere")


def _payment_end(produced: Produced, payments: dict[str, Payment]) -> list[str]:
    if produced.kind not in _PAYING or produced.order_id not in payments:
        return []
    digest = hashlib.sha256(produced.record.value).digest()
    return ["payment"] if payments[produced.order_id].order_digest == digest else []
