"""Checks between the sender and the gateway: every record ended, once, as planned, and payments are those orders."""

from collections import defaultdict
from operator import attrgetter

from gateway.proving.books.endings import Endings
from gateway.proving.books.evidence import Checked, Ending, Evidence, OrderFacts, PaymentKey, PaymentRow, Produced
from gateway.proving.books.report import Finding
from schemas.topics import ORDERS


def records_end_once(evidence: Evidence, endings: Endings) -> Checked:
    """No record without an end, none with two, and no end without a record."""
    found = Finding("records_end_once", "Every record that was sent ended, and ended once")
    found.looked_at = len(evidence.produced)
    for record, ending in zip(evidence.produced, endings.of, strict=True):
        if ending is Ending.UNKNOWN:
            found.wrong(f"{record.place} ({record.label}) has no end")
    for doubled in endings.doubled:
        found.wrong(f"{doubled}: more than one end")
    for stray in endings.strays:
        found.wrong(f"{stray}: no record was sent for it")
    return found.result()


def ends_as_planned(evidence: Evidence, endings: Endings) -> Checked:
    """Each record ended in a way that its sender's plan allows."""
    found = Finding("ends_as_planned", "Each ended as its sender planned it (a tampered order is parked, and so on)")
    for record, ending in zip(evidence.produced, endings.of, strict=True):
        if record.expected:
            found.looked_at += 1
            if ending not in record.expected:
                planned = " or ".join(sorted(record.expected))
                found.wrong(f"{record.place} ({record.label}): {ending}, planned {planned}")
    return found.result()


def payments_are_orders(evidence: Evidence) -> Checked:
    """Each payment has the content of an order that was sent: payee, amount, consent, time."""
    found = Finding("payments_are_orders", "Every payment is an order that was sent, to the digit")
    sent: dict[PaymentKey, list[Produced]] = defaultdict(list)
    for record in evidence.produced:
        if record.order is not None:
            sent[record.order.partner_id, record.order.payment_id].append(record)
    for key, payment in evidence.payments.items():
        found.looked_at += 1
        records = [r for r in sent.get(key, ()) if r.digest == payment.digest]
        if not records:
            found.wrong(f"payment {payment.payment_id}: no order with its bytes was sent")
        elif records[0].order is not None:
            if payment.operation != ("purchase" if records[0].order.original_payment_id is None else "refund"):
                found.wrong(f"payment {payment.payment_id}: a {payment.operation}, which is not what was sent")
            for name in _differences(payment, records[0].order):
                found.wrong(f"payment {payment.payment_id}: {name} is not the order's")
            if payment.ordered_at_ms not in {r.timestamp_ms for r in records}:
                found.wrong(f"payment {payment.payment_id}: ordered_at is not the record's time")
    return found.result()


def _differences(payment: PaymentRow, order: OrderFacts) -> list[str]:
    if _facts(payment) == order:
        return []
    return [name for name in OrderFacts._fields if getattr(payment, name) != getattr(order, name)]


_facts = attrgetter(*OrderFacts._fields)


def nothing_open(evidence: Evidence) -> Checked:
    """No payment is under way or in doubt, and what was approved was cleared."""
    found = Finding("nothing_open", "No payment is under way, in doubt, or approved and not settled")
    for payment in evidence.payments.values():
        found.looked_at += 1
        if payment.state not in {"settled", "declined", "rejected", "reversed"}:
            found.wrong(f"payment {payment.payment_id} is {payment.state}")
    return found.result()


def dead_letters_whole(evidence: Evidence) -> Checked:
    """Each dead letter keeps the original bytes of the record that it names, and says why."""
    found = Finding("dead_letters_whole", "Every dead letter holds the sender's own bytes and a reason")
    digests = {(ORDERS, r.partition, r.offset): r.digest for r in evidence.produced}
    digests |= {(f.topic, f.partition, f.offset): f.digest for f in evidence.forged}
    for letter in evidence.dead_letters:
        found.looked_at += 1
        place = f"dead letter of record {letter.partition}/{letter.offset}"
        if letter.digest is not None and letter.digest != digests.get((letter.topic, letter.partition, letter.offset)):
            found.wrong(f"{place}: other bytes")
        if not letter.error:
            found.wrong(f"{place}: no reason")
    return found.result()


def forged_refused(evidence: Evidence) -> Checked:
    """What somebody wrote for execution is parked for operators, becomes no payment, and is told to nobody."""
    found = Finding("forged_refused", "Forged records for execution are parked, never paid, and told to no partner")
    letters = {(d.topic, d.partition, d.offset): d for d in evidence.dead_letters}
    told = {e.subject for e in evidence.events}
    refused = {(r.partner_id, r.order_id) for r in evidence.refusals}
    for forged in evidence.forged:
        found.looked_at += 1
        place = f"{forged.topic}/{forged.partition}/{forged.offset}"
        letter = letters.get((forged.topic, forged.partition, forged.offset))
        if letter is None or letter.error != "UntrustedRecordError":
            found.wrong(f"{place}: {letter.error if letter else 'no dead letter'}")
        if (forged.partner_id, forged.payment_id) in evidence.payments:
            found.wrong(f"{place}: became a payment")
        if str(forged.payment_id) in told or (forged.partner_id, forged.order_id) in refused:
            found.wrong(f"{place}: was told to the partner that it names")
    return found.result()
