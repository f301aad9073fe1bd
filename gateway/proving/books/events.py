"""Checks of what partners were told: every version of every payment, once, in order, on the partner's own topic."""

from collections import defaultdict
from functools import lru_cache
from typing import Final

from gateway.proving.books.evidence import Checked, EventRow, Evidence, PaymentRow
from gateway.proving.books.report import Finding
from schemas.topics import ORDERS, events_topic

_NEXT: Final[dict[str | None, frozenset[str]]] = {
    None: frozenset(("sent", "rejected", "scheduled")),
    "scheduled": frozenset(("sent", "rejected", "reversed")),
    "sent": frozenset(("approved", "declined", "unknown", "rejected")),
    "unknown": frozenset(("unknown", "approved", "declined", "reversed")),
    "approved": frozenset(("settled", "reversing")),
    "reversing": frozenset(("reversed",)),
    "settled": frozenset(("approved",)),  # the network corrected its clearing
}
"""What a partner may be told next; after any other state, nothing."""


def events_complete(evidence: Evidence, *, redelivery: bool) -> Checked:
    """Each payment's versions 1, 2, 3 … were told once and in order, and the last one is its state.

    With ``redelivery`` an event may be there again under its own id, as a relay that crashed leaves it.
    """
    found = Finding("events_complete", "Partners were told every step of every payment, once and in order")
    told: dict[str, list[EventRow]] = defaultdict(list)
    for event in evidence.events:
        if event.kind.startswith("payment.") and event.kind != "payment.reported":
            told[event.subject].append(event)
    for payment in evidence.payments.values():
        found.looked_at += 1
        problem = _problem(payment, told.pop(str(payment.payment_id), []), redelivery=redelivery)
        if problem:
            found.wrong(f"payment {payment.payment_id}: {problem}")
    for subject in told:
        found.wrong(f"events of payment {subject}, which does not exist")
    return found.result()


def _problem(payment: PaymentRow, events: list[EventRow], *, redelivery: bool) -> str | None:
    seen: set[str] = set()
    state: str | None = None
    version = 0
    last: EventRow | None = None
    topic = _topic(payment.partner_id)
    for event in events:
        if event.topic != topic:
            return f"told on {event.topic}"
        if event.event_id in seen:
            if redelivery:
                continue
            return f"version {event.version} was told twice"
        seen.add(event.event_id)
        if event.version != version + 1:
            return f"version {event.version} was told after {version}"
        if event.state not in _NEXT.get(state, frozenset()) or event.kind != f"payment.{event.state}":
            return f"{event.kind} ({event.state}) was told after {state}"
        version, state, last = event.version, event.state, event
    if (version, state) != (payment.version, payment.state):
        return f"told up to version {version} ({state}), is at {payment.version} ({payment.state})"
    return None if last and last.reason_code == payment.reason_code else "told another reason than is recorded"


@lru_cache(maxsize=4096)
def _topic(partner_id: str) -> str:
    return events_topic(partner_id)


def refusals_told(evidence: Evidence, *, redelivery: bool) -> Checked:
    """Each refused order and transmission request was told to the partner that it names, with its reason."""
    title = "Every refused order and transmission request was told to its partner, with the reason"
    found = Finding("refusals_told", title)
    told: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    seen: set[str] = set()
    for event in evidence.events:
        if event.kind not in _REFUSALS:
            continue
        # Of a transmission request the event's id is the place of what is refused, its subject the consent.
        reference = event.event_id if event.kind == "portability.refused" else event.subject
        if event.event_id in seen and not redelivery:
            found.wrong(f"refusal of {reference} was told twice")
        seen.add(event.event_id)
        told[event.topic, reference].add(event.reason_code)
    for refusal in evidence.refusals:
        found.looked_at += 1
        if told.pop((_topic(refusal.partner_id), refusal.reference), None) != {refusal.reason_code}:
            found.wrong(f"refusal of {refusal.reference} was not told, or with another reason")
    for _, reference in told:
        found.wrong(f"refusal of {reference} was told, and is not recorded")
    return found.result()


_REFUSALS: Final = frozenset(("order.refused", "portability.refused"))
_NOT_STANDING: Final = frozenset(("rejected", "declined", "reversed"))
_LAPSED: Final = ":lapsed"


def cancellations_told(evidence: Evidence, *, redelivery: bool) -> Checked:
    """Each cancellation was answered once, as planned; nothing of what was accepted to be undone stands.

    One that was accepted while its payment was in flight may be refused by a second event: then that one counts.
    """
    found = Finding("cancellations_told", "Every cancellation was answered once, and what it was granted came true")
    told: dict[tuple[str, str], list[EventRow]] = defaultdict(list)
    seen: set[str] = set()
    for event in evidence.events:
        if event.kind.startswith("cancellation.") and not (redelivery and event.event_id in seen):
            seen.add(event.event_id)
            told[event.topic, event.event_id].append(event)
    for sent in evidence.cancellations:
        found.looked_at += 1
        reference = f"{ORDERS}/{sent.partition}/{sent.offset}"
        answers = told.pop((_topic(sent.partner_id), reference), [])
        lapsed = told.pop((_topic(sent.partner_id), reference + _LAPSED), [])
        if len(answers) != 1 or len(lapsed) > 1:
            found.wrong(f"cancellation {reference} was answered {len(answers)} times, and {len(lapsed)} times lapsed")
            continue
        answer = answers[0].reason_code or answers[0].state or ""
        if sent.answers and answer not in sent.answers:
            found.wrong(f"cancellation {reference}: {answer}, planned {' or '.join(sorted(sent.answers))}")
        payment = evidence.payments.get((sent.partner_id, sent.payment_id))
        granted = answers[0].kind == "cancellation.accepted" and not lapsed
        if granted and payment is not None and payment.state not in _NOT_STANDING:
            found.wrong(f"payment {payment.payment_id} is {payment.state} after its cancellation was accepted")
    for _, event_id in told:
        found.wrong(f"an answer to cancellation {event_id}, which was not sent")
    return found.result()


def consents_told(evidence: Evidence, *, redelivery: bool) -> Checked:
    """Each consent's changes 1, 2, 3 … were told to its partner once and in order."""
    found = Finding("consents_told", "Partners were told every change of every consent, once and in order")
    told: dict[tuple[str, str], list[EventRow]] = defaultdict(list)
    seen: set[str] = set()
    for event in evidence.events:
        if event.kind == "consent.changed" and not (redelivery and event.event_id in seen):
            seen.add(event.event_id)
            told[event.topic, event.subject].append(event)
    for (partner_id, consent_id), changes in evidence.consent_changes.items():
        found.looked_at += changes
        numbers = [e.version for e in told.pop((_topic(partner_id), consent_id), [])]
        if numbers != list(range(1, changes + 1)):
            found.wrong(f"consent {consent_id}: changes {numbers} were told of {changes}")
    for _, consent_id in told:
        found.wrong(f"changes of consent {consent_id}, which does not exist there")
    return found.result()


def outbox_relayed(evidence: Evidence) -> Checked:
    """Nothing waits in the outbox."""
    found = Finding("outbox_relayed", "Nothing is left in the outbox")
    found.looked_at = evidence.outbox_rows
    if evidence.outbox_unrelayed:
        found.wrong(f"{evidence.outbox_unrelayed} rows are past the relay's cursor")
    return found.result()
