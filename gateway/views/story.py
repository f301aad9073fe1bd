"""What happened to one payment, in order: the steps that its books tell."""

import json
from dataclasses import dataclass
from datetime import datetime

from gateway.views.payments import PaymentFacts, StoredRefusal
from gateway.views.wording import money
from schemas.events import EventType


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``source``: which book tells it."""

    at: datetime
    what: str
    detail: str
    source: str


def steps_of(facts: PaymentFacts) -> list[Step]:
    """What happened, by time; steps of one moment stand in the order of cause and effect."""
    payment = facts.payment
    steps = [Step(payment.ordered_at, "ordered", "the order reached Kafka", "payment")]
    steps += _event_steps(facts)
    if schedule := facts.schedule:
        handed_on = f"handed on {schedule.dispatches} times, valid until {schedule.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        steps.append(Step(schedule.due_at, "due", handed_on, "schedule"))
    for follow_up in facts.follow_ups:
        kind = follow_up.kind
        steps.append(Step(follow_up.queued_at, f"{kind} queued", f"STAN {follow_up.stan:06d}", kind))
        attempts = f"{follow_up.attempts} attempts, last answer {follow_up.last_code or 'none'}"
        if follow_up.closed_at is not None:
            done = "reversal confirmed" if kind == "reversal" else "inquiry over"
            steps.append(Step(follow_up.closed_at, done, attempts, kind))
        else:
            steps.append(Step(follow_up.next_attempt_at, f"next {kind} attempt", attempts, kind))
    for late in facts.late_answers:
        answer = f"{late.mti} {late.response_code}, {money(late.amount_minor, payment.currency)}: {late.outcome}"
        steps.append(Step(late.received_at, "late answer", answer, "network"))
    steps += [
        Step(t.posted_at, f"posted: {t.kind}", f"{money(t.amount_minor, t.currency)}: {t.debit} → {t.credit}", "ledger")
        for t in facts.transfers
    ]
    for c in facts.clearing:
        amount = f"cycle {c.cycle_id} record {c.record_no}: {c.kind} {money(c.amount_minor, c.currency)}"
        broken = f"break {c.break_kind}: {c.break_detail}; {amount}"
        steps.append(Step(c.imported_at, "cleared", broken if c.break_kind else amount, "clearing"))
        if c.superseded_at is not None:
            steps.append(Step(c.superseded_at, "clearing corrected", f"superseded: {amount}", "clearing"))
    return sorted(steps, key=lambda s: s.at)


def _event_steps(facts: PaymentFacts) -> list[Step]:
    payment = facts.payment
    steps = []
    told: set[int] = set()
    for event in facts.events:
        body = json.loads(event.body)
        version = body.get("version")
        if event.event_type != EventType.PAYMENT_REPORTED and version:
            told.add(version)
        reason = body.get("reason") or {}
        parts = [
            f"version {version}" if version else "",
            body.get("status", ""),
            body.get("effect", ""),
            " ".join(filter(None, (reason.get("code"), reason.get("text")))),
            f"network code {reason['network_code']}" if reason.get("network_code") else "",
            f"approval {body['approval_code']}" if body.get("approval_code") else "",
            "relayed" if event.relayed else "not yet relayed",
        ]
        what = event.event_type.removeprefix("kr.mypay.").removeprefix("payment.").rpartition(".v")[0].replace(".", " ")
        steps.append(Step(event.occurred_at, what, ", ".join(filter(None, parts)), "outbox"))
    # What the outbox no longer has: the first and the present state stand in the payment itself.
    if 1 not in told and facts.schedule is not None:
        steps.append(Step(payment.ordered_at, "scheduled", "accepted for a later day", "payment"))
    elif 1 not in told:
        sent = payment.trace is not None
        steps.append(Step(payment.decided_at, "sent" if sent else payment.state, "intent written", "payment"))
    if payment.version not in told and payment.version > 1:
        steps.append(Step(payment.changed_at, payment.state, f"version {payment.version}", "payment"))
    return steps


def missing_events(facts: PaymentFacts) -> int:
    """How many of its events the outbox does not hold any more."""
    states = [e for e in facts.events if e.event_type.startswith("kr.mypay.payment.")]
    told = {e.event_id for e in states if e.event_type != EventType.PAYMENT_REPORTED}
    return max(0, facts.payment.version - len(told))


def refusal_step(refusal: StoredRefusal) -> Step:
    """A refused order under the same order id."""
    detail = f"{refusal.reason_code} {refusal.reason_text}; order at {refusal.reference}"
    return Step(refusal.refused_at, "order refused", detail, "refusal")
