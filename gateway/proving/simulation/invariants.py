"""What must be true of a world at rest: what was produced, the tables and the network's books, laid side by side."""

import hashlib
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from gateway.adapters.memory.host import EntryState
from gateway.domain.exchange import ReversalRequest
from gateway.domain.payment import Payment
from gateway.proving.simulation.audit import FINAL, STANDING, UNEXPECTED
from gateway.proving.simulation.script import JUNK, PAN, PARTNER, Kind, Produced
from schemas.envelope import read_envelope
from schemas.topics import events_topic

if TYPE_CHECKING:
    from gateway.proving.simulation.world import World


def check_at_rest(world: "World") -> None:
    """Check everything; what is wrong is noted in the world."""
    told = _Told(world)
    _orders_end_once(world, told)
    _nothing_parked(world)
    _network_agrees(world)
    _reversed_by_message(world)
    _ledger_balances(world)
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
        seen: set[str] = set()
        for record in world.kafka.records(events_topic(PARTNER)):
            envelope = read_envelope(record.headers)
            if envelope.id in seen:
                continue
            seen.add(envelope.id)
            kind = envelope.type.removeprefix("kr.mypay.").removesuffix(".v1")
            if kind == "payment.reported":
                subject, _, rest = envelope.id.partition(":")
                self.reported[subject].add(rest.partition(":")[2])
            elif kind.startswith("payment."):
                body = json.loads(record.value)
                self.states[body["payment_id"]].append((body["version"], body["state"]))
            elif kind == "order.refused":
                self.refused[json.loads(record.value)["reference"]] += 1
            elif kind == "consent.changed":
                body = json.loads(record.value)
                self.changes[body["consent_id"]].append(body["change"])


def _orders_end_once(world: "World", told: _Told) -> None:
    payments = {str(p.order_id): p for p in world.database.payments.rows.values() if p.operation.value == "purchase"}
    refused = {reference for _, reference in world.database.refusals.rows}
    dead = {p.record.reference for p in world.parked if p.stage == "initiation"}
    mine: dict[str, list[str]] = defaultdict(list)
    for produced, reference in world.written:
        text = f"{produced.order_id or 'junk'} at {reference}"
        ends = [*_payment_end(produced, payments), *(["refused"] if reference in refused else [])]
        ends += ["parked"] if reference in dead else []
        if len(ends) != 1:
            world.violated("every order ends once", f"{text} ends as {ends or 'nothing'}")
        elif ends[0] == "payment" and produced.order_id is not None:
            mine[produced.order_id].append(reference)
        if reference in refused and told.refused[reference] != 1:
            world.violated("every order is answered", f"{text}: refused, told {told.refused[reference]} times")
    for order_id, payment in payments.items():
        if order_id not in mine:
            world.violated("every order ends once", f"a payment of {order_id}, which nobody ordered")
        # The first needs no answer but its payment's events.
        unanswered = [r for r in mine[order_id] if r not in told.reported[str(payment.payment_id)]]
        if len(unanswered) > 1:
            world.violated("every order is answered", f"{order_id}: its repeats at {unanswered} were not answered")
        if payment.state.value not in FINAL and not _broken_off(world, payment):
            world.violated("everything ends", f"{order_id} ended {payment.state}")


def _nothing_parked(world: "World") -> None:
    for parked in world.parked:
        if parked.stage != "initiation" or parked.record.value != JUNK:
            error = f"{type(parked.error).__name__}: {parked.error}"
            world.violated(UNEXPECTED, f"{parked.stage} parked {parked.record.reference}: {error}")


def _payment_end(produced: Produced, payments: dict[str, Payment]) -> list[str]:
    if produced.kind is not Kind.ORDER or produced.order_id not in payments:
        return []
    digest = hashlib.sha256(produced.record.value).digest()
    return ["payment"] if payments[produced.order_id].order_digest == digest else []


def _broken_off(world: "World", payment: Payment) -> bool:
    """Approved, but its clearing came too early and was told as a break: people settle that."""
    if payment.state.value != "approved" or payment.trace is None:
        return False
    return any(r.record.rrn == payment.trace.rrn and r.found for r in world.database.clearing.rows.values())


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
    for (key, _), row in world.database.transfers.rows.items():
        balances[row.transfer.debit] += row.transfer.amount_minor
        balances[row.transfer.credit] -= row.transfer.amount_minor
        if key not in world.database.payments.rows:
            world.violated("ledger follows the states", f"a transfer of {key[1]}, which does not exist")
    for payment in world.database.payments.rows.values():
        if payment.state.value in {"approved", "reversing"}:
            open_minor += payment.amount_minor if payment.operation.value == "purchase" else -payment.amount_minor
    if sum(balances.values()) != 0 or sum(v for k, v in balances.items() if k.startswith("network:")) != open_minor:
        world.violated("ledger follows the states", f"{dict(balances)}, open {open_minor}")


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
