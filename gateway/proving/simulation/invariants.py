"""What must be true of a world at rest: what was produced, the tables and the network's books, laid side by side."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from gateway.base.errors import NotAuthenticatedError
from gateway.network.exchange import ReversalRequest
from gateway.payments.rules.payment import Payment
from gateway.proving.memory.host import EntryState
from gateway.proving.simulation.asking import CAP, FREE_MINOR, AskingForProofs
from gateway.proving.simulation.audit import FINAL, STANDING, UNEXPECTED
from gateway.proving.simulation.forging import FORGED_PREFIX
from gateway.proving.simulation.scene import DISABLED_CODE, PAN, PARTNER, Kind, Produced
from schemas.topics import events_topic

if TYPE_CHECKING:
    from gateway.proving.simulation.world import World


def check_at_rest(world: "World") -> None:
    """Check everything; what is wrong is noted in the world."""
    told = _Told(world)
    _orders_end_once(world, told)
    _cancellations_hold(world, told)
    _bulks_whole(world, told)
    _refunds_fit(world)
    _nothing_parked(world)
    _nothing_forged_believed(world, told)
    _exempt_within_policy(world)
    _network_agrees(world)
    _reversed_by_message(world)
    _ledger_balances(world)
    _settled_by_one_record(world)
    _events_in_order(world, told)
    _nothing_waits(world)
    _no_card_number(world)


class _Told:
    """What partners read: events of the topic, the first of each id."""

    def __init__(self, world: "World") -> None:
        self.states: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.reported: dict[str, set[str]] = defaultdict(set)
        self.refused: Counter[str] = Counter()
        self.changes: dict[str, list[int]] = defaultdict(list)
        # Kind → reference of the record that is answered → the answers' bodies.
        self.answers: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        seen: set[str] = set()
        for record in world.kafka.records(events_topic(PARTNER)):
            headers = dict(record.headers)
            event_id = headers["ce_id"].decode()
            if event_id in seen:
                continue
            seen.add(event_id)
            kind = headers["ce_type"].decode().removeprefix("kr.mypay.").removesuffix(".v1")
            body = json.loads(record.value)
            if kind == "payment.reported":
                subject, _, rest = event_id.partition(":")
                self.reported[subject].add(rest.partition(":")[2])
            elif kind.startswith("payment."):
                self.states[body["payment_id"]].append((body["version"], body["state"]))
            elif kind == "order.refused":
                self.refused[body["reference"]] += 1
            elif kind == "consent.changed":
                self.changes[body["consent_id"]].append(body["change"])
            elif "reference" in body:
                self.answers[kind][body["reference"]].append(body)
            else:
                self.answers[kind][body.get("standing_order_id", "")].append(body)

    def answer(self, kind: str, reference: str) -> list[dict[str, Any]]:
        """Bodies of one kind that answer one record."""
        return self.answers[kind].get(reference, [])


def _orders_end_once(world: "World", told: _Told) -> None:
    payments = {str(p.order_id): p for p in world.database.payments.rows.values()}
    refused = {row.reference: row.reason.code for row in world.database.refusals.rows.values()}
    parked = {p.record.reference: p.error for p in world.parked if p.stage == "initiation"}
    lapsed = {reference for reference, error in parked.items() if _is_disabled(error)}
    mine: dict[str, list[str]] = defaultdict(list)
    known: set[str] = set()
    for produced, reference in world.written:
        known.update(produced.items)
        ends = ["parked"] if reference in parked and reference not in lapsed else []
        ends += _answers(produced, reference, told)
        if produced.kind is not Kind.REFUND or refused.get(reference) in {None, DISABLED_CODE}:
            # A refund that is refused for want of a payment uses no id up: it may be sent again.
            ends += _payment_end(produced, payments)
        if reference in refused and not (ends and refused[reference] == DISABLED_CODE):
            ends.append("refused")
        # A delivery is parked once the partner's key is disabled, also where an earlier one has come to its end.
        if reference in lapsed and not ends:
            ends.append("parked")
        if produced.kind is Kind.FORGED and told.refused[reference]:
            world.violated("nobody speaks for a partner", f"{produced.order_id} at {reference} was told")
        if len(ends) != 1:
            text = f"{produced.kind} {produced.order_id} at {reference}"
            world.violated("every order ends once", f"{text} ends as {ends or 'nothing'}")
        elif ends[0] == "payment":
            mine[produced.order_id].append(reference)
        if reference in refused and produced.kind in _PAYING and told.refused[reference] != 1:
            text = f"{produced.order_id} at {reference}"
            world.violated("every order is answered", f"{text}: refused, told {told.refused[reference]} times")
    _payments_ordered(world, told, payments, mine, known, refused.keys() | lapsed)


def _is_disabled(error: Exception) -> bool:
    return isinstance(error, NotAuthenticatedError) and error.reason.code == DISABLED_CODE


def _payments_ordered(
    world: "World",
    told: _Told,
    payments: Mapping[str, Payment],
    mine: Mapping[str, list[str]],
    known: Collection[str],
    refused: Collection[str],
) -> None:
    """Each payment is somebody's order, each repetition of it was answered, and it has ended."""
    for order_id, payment in payments.items():
        if order_id not in mine and order_id not in known:
            world.violated("every order ends once", f"a payment of {order_id}, which nobody ordered")
        # The first needs no answer but its payment's events.
        told_of = {*told.reported[str(payment.payment_id)], *refused}
        unanswered = [r for r in mine.get(order_id, ()) if r not in told_of]
        if len(unanswered) > 1:
            world.violated("every order is answered", f"{order_id}: its repeats at {unanswered} were not answered")
        if payment.state.value not in FINAL:
            world.violated("everything ends", f"{order_id} ended {payment.state}")


_PAYING = (Kind.ORDER, Kind.REFUND)
_ANSWERS = {
    Kind.CANCEL: ("cancellation.accepted", "cancellation.refused"),
    Kind.BULK: ("bulk.accepted", "bulk.refused", "bulk.reported"),
}


def _answers(produced: Produced, reference: str, told: _Told) -> list[str]:
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


def _standing_told(told: _Told, kind: str, standing_order_id: str) -> bool:
    return any(
        body["standing_order_id"] == standing_order_id
        for bodies in told.answers[f"standing-order.{kind}"].values()
        for body in bodies
    )


def _cancellations_hold(world: "World", told: _Told) -> None:
    payments = {str(p.order_id): p for p in world.database.payments.rows.values()}
    # Of an id's repetitions the first one's record is told of what came of it in the end.
    lapsed = {b["cancellation_id"] for bodies in told.answers["cancellation.refused"].values() for b in bodies}
    for reference, bodies in told.answers["cancellation.accepted"].items():
        payment = payments.get(bodies[0]["order_id"])
        # An order of that id under another consent is not the one that was cancelled.
        its_own = payment is not None and payment.consent_id == bodies[0]["consent_id"]
        stands = payment is not None and payment.state.value in STANDING
        if its_own and stands and bodies[0]["cancellation_id"] not in lapsed:
            text = f"{bodies[0]['order_id']} is cancelled by {reference}, and stands"
            world.violated("an accepted cancellation is kept", text)


def _bulks_whole(world: "World", told: _Told) -> None:
    payments = {str(p.order_id): p for p in world.database.payments.rows.values()}
    refused = {reference for _, reference in world.database.refusals.rows}
    for produced, reference in world.written:
        if produced.kind is not Kind.BULK:
            continue
        for body in told.answer("bulk.accepted", reference):
            turned_away = {r["order_id"] for r in body.get("rejected", ())}
            for number, missing in enumerate(produced.items, 1):
                # With the key disabled after they were handed on, items end refused, one by one.
                if missing in payments or missing in turned_away or f"{reference}#{number}" in refused:
                    continue
                world.violated("every order ends once", f"{missing} of an accepted bulk became nothing")
            for paid in turned_away & {i for i in produced.items if i in payments and payments[i].trace is not None}:
                world.violated("every order ends once", f"{paid} was turned away and sent")
        for body in told.answer("bulk.refused", reference):
            for made in set(produced.items) & payments.keys():
                world.violated("every order ends once", f"{made} of {body['bulk_id']}, which was refused as a whole")


def _refunds_fit(world: "World") -> None:
    given: Counter[str] = Counter()
    rows = world.database.payments.rows
    for payment in rows.values():
        if payment.original_payment_id is not None and payment.state.value in STANDING:
            given[str(payment.original_payment_id)] += payment.amount_minor
    for original in rows.values():
        stands = original.amount_minor if original.state.value in STANDING else 0
        if (back := given[str(original.payment_id)]) > stands:
            world.violated("never more is given back", f"{original.order_id}: {back} of {stands}")


def _nothing_forged_believed(world: "World", told: _Told) -> None:
    """What nobody of the gateway wrote for execution makes no payment, is told to nobody, and is told to operators."""
    for payment in world.database.payments.rows.values():
        if str(payment.order_id).startswith(FORGED_PREFIX):
            world.violated("execution believes the gateway alone", f"{payment.order_id} became {payment.state}")
    names = {body.get("order_id", "") for kind in told.answers.values() for bodies in kind.values() for body in bodies}
    refused = [r.order_id for r in world.database.refusals.rows.values()]
    for name in (*names, *refused):
        if str(name).startswith(FORGED_PREFIX):
            world.violated("execution believes the gateway alone", f"{name} was told to a partner")
    parked = {p.record.reference for p in world.parked if p.stage == "execution"}
    for reference in world.forged - parked:
        world.violated("execution believes the gateway alone", f"{reference} is parked nowhere")


def _exempt_within_policy(world: "World") -> None:
    """Where proofs are asked for, and nobody has one, no more passes than the policy says, whatever the terms do."""
    if not isinstance(world.trust, AskingForProofs):
        return
    passed: dict[str, list[int]] = defaultdict(list)
    for payment in world.database.payments.rows.values():
        bought = payment.operation.value == "purchase" and payment.amount_minor > FREE_MINOR
        if bought and payment.trace is not None and payment.amount_minor > CAP.max_amount_minor:
            world.violated("the policy caps what needs no proof", f"{payment.order_id} of {payment.amount_minor}")
        if bought and payment.state.value in STANDING:
            passed[payment.consent_id].append(payment.amount_minor)
    for consent_id, amounts in passed.items():
        if len(amounts) > CAP.max_count or sum(amounts) > CAP.max_sum_minor:
            world.violated("the policy caps what needs no proof", f"{consent_id}: {amounts}")


def _nothing_parked(world: "World") -> None:
    for parked in world.parked:
        if parked.record.reference in world.forged:
            continue
        if parked.stage not in ("initiation", "consents") or not isinstance(parked.error, NotAuthenticatedError):
            error = f"{type(parked.error).__name__}: {parked.error}"
            world.violated(UNEXPECTED, f"{parked.stage} parked {parked.record.reference}: {error}")


def _payment_end(produced: Produced, payments: dict[str, Payment]) -> list[str]:
    if produced.kind not in _PAYING or produced.order_id not in payments:
        return []
    digest = hashlib.sha256(produced.record.value).digest()
    return ["payment"] if payments[produced.order_id].order_digest == digest else []


def _network_agrees(world: "World") -> None:
    here = {p.trace.rrn: p for p in world.database.payments.rows.values() if p.trace is not None}
    booked: Counter[str] = Counter()
    for entry in world.host.entries.values():
        rrn = entry.trace.rrn
        booked[rrn] += 1
        payment = here.get(rrn)
        if payment is None:
            world.violated("network and gateway agree", f"the network booked {rrn}, which no payment has")
            continue
        stands = entry.state is EntryState.APPROVED
        if stands != (payment.state.value in STANDING) or entry.amount_minor != payment.amount_minor:
            text = f"{payment.order_id} is {payment.state}, at the network {entry.state} {entry.amount_minor}"
            world.violated("network and gateway agree", text)
        if entry.times_seen > 1 or booked[rrn] > 1:
            world.violated("sent once", f"the network saw {payment.order_id} more than once")
    for rrn, payment in here.items():
        if payment.state.value in STANDING and rrn not in booked:
            text = f"{payment.order_id} is {payment.state}, the network has nothing"
            world.violated("network and gateway agree", text)


def _reversed_by_message(world: "World") -> None:
    asked = {s.request.original.rrn for s in world.wire.sent if isinstance(s.request, ReversalRequest)}
    for payment in world.database.payments.rows.values():
        if payment.state.value == "reversed" and payment.trace is not None and payment.trace.rrn not in asked:
            world.violated("reversed is confirmed", f"{payment.order_id} is reversed, but no reversal was ever sent")


def _ledger_balances(world: "World") -> None:
    balances: Counter[str] = Counter()
    open_minor = 0
    for (key, *_), row in world.database.transfers.rows.items():
        balances[row.transfer.debit] += row.transfer.amount_minor
        balances[row.transfer.credit] -= row.transfer.amount_minor
        if key not in world.database.payments.rows:
            world.violated("ledger follows the states", f"a transfer of {key[1]}, which does not exist")
    for payment in world.database.payments.rows.values():
        if payment.state.value in {"approved", "reversing"}:
            open_minor += payment.amount_minor if payment.operation.value == "purchase" else -payment.amount_minor
    if sum(balances.values()) != 0 or sum(v for k, v in balances.items() if k.startswith("network:")) != open_minor:
        world.violated("ledger follows the states", f"{dict(balances)}, open {open_minor}")


def _settled_by_one_record(world: "World") -> None:
    """Each settled payment stands in one clearing record that is no break, and no other payment does."""
    settling = Counter(row.payment for row in world.database.clearing.rows.values() if row.found is None)
    for payment in world.database.payments.rows.values():
        found = settling[payment.key]
        if found != (payment.state.value == "settled"):
            world.violated("clearing settles", f"{payment.order_id} is {payment.state}, settled by {found} records")


def _events_in_order(world: "World", told: _Told) -> None:
    for payment in world.database.payments.rows.values():
        subject = str(payment.payment_id)
        want = list(enumerate(world.auditor.states.get(subject, []), 1))
        if told.states.get(subject, []) != want:
            world.violated(
                "events are transitions", f"{payment.order_id} went {want}, told was {told.states.get(subject)}"
            )
        if not want or want[-1] != (payment.version, payment.state.value):
            world.violated("events are transitions", f"{payment.order_id} is {payment.state}/{payment.version}: {want}")
    for key, mark in world.database.consent_marks.rows.items():
        if told.changes.get(key[1], []) != list(range(1, mark.changes + 1)):
            world.violated(
                "events are transitions", f"{key[1]}: {mark.changes} changes, told {told.changes.get(key[1])}"
            )


def _nothing_waits(world: "World") -> None:
    for key, row in world.database.usage.rows.items():
        if row.reserved_minor or row.reserved_count:
            world.violated("limits are exact", f"{key[1]} {key[2].limit_key}: something is reserved for ever")
    if world.database.locks.waiting:
        world.violated("everything ends", "a transaction waits for a lock")


def _no_card_number(world: "World") -> None:
    secret = PAN.encode()
    for topic in world.kafka.topics():
        for record in world.kafka.records(topic):
            if secret in record.value or any(secret in value for _, value in record.headers):
                world.violated("no card number leaves", f"in {record.reference}")
    for text in (*world.observer.notes, *(str(p.error) for p in world.parked)):
        if PAN in text:
            world.violated("no card number leaves", "in a note or an error")
