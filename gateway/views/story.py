"""What happened to one payment, in order: the steps that its books tell."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gateway.base.calendar import SEOUL
from gateway.payments.rules.ledger import TransferKind
from gateway.payments.rules.lifecycle import PaymentState
from gateway.settlement.rules import BreakKind
from gateway.views.payments import PaymentFacts, StoredClearing, StoredRefusal
from gateway.views.wording import money
from schemas.clearing import ClearingKind
from schemas.events import CancellationEffect, EventType


@dataclass(frozen=True, slots=True)
class Said:
    """A part of what is told. ``text`` has a name in braces for each of the values, so that it has other languages."""

    text: str
    values: Mapping[str, str] = field(default_factory=dict)

    def told(self, say: Callable[[str], str]) -> str:
        """As a sentence; ``say`` puts words into a language, and leaves alone what has none."""
        return say(self.text).format(**{name: say(value) for name, value in self.values.items()})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``source``: which book tells it."""

    at: datetime
    what: str
    said: tuple[Said, ...]
    source: str

    @property
    def detail(self) -> str:
        """What more there is to tell, in English."""
        return self.told(str)

    def told(self, say: Callable[[str], str]) -> str:
        """What more there is to tell, in the language of ``say``."""
        return ", ".join(part.told(say) for part in self.said)


_FOLLOW_UPS: Final = {
    "inquiry": ("inquiry queued", "inquiry over", "next inquiry attempt"),
    "reversal": ("reversal queued", "reversal confirmed", "next reversal attempt"),
}
"""Queue → what is told of an entry: it was put there, it is done, it goes on."""

_HANDED_ON: Final = (
    "handed on {times} time, valid until {until}",
    "handed on {times} times, valid until {until}",
)
_ATTEMPTS: Final = ("{attempts} attempt, last answer {code}", "{attempts} attempts, last answer {code}")
_CLEARED: Final = "cycle {cycle} record {record}: {kind} {money}"
_BROKEN: Final = "break {break_kind}: {break_detail}"
_SUPERSEDED: Final = f"superseded: {_CLEARED}"
_ORDERED, _LATER, _WRITTEN = "the order reached Kafka", "accepted for a later day", "intent written"
_RELAYED, _NOT_RELAYED = "relayed", "not yet relayed"
_NO_ANSWER: Final = "none"
_NETWORK_CODE, _APPROVAL, _VERSION = "network code {code}", "approval {code}", "version {version}"

_POSTED: Final = {kind.value: f"posted: {kind.value.replace('_', ' ')}" for kind in TransferKind}

_OF_THE_ORDER: Final = (
    EventType.PAYMENT_REPORTED,
    EventType.ORDER_REFUSED,
    EventType.CANCELLATION_ACCEPTED,
    EventType.CANCELLATION_REFUSED,
)


def _what(event_type: str) -> str:
    """``kr.mypay.payment.sent.v1`` → ``sent``."""
    return event_type.removeprefix("kr.mypay.").removeprefix("payment.").rpartition(".v")[0].replace(".", " ")


WORDS: Final[frozenset[str]] = frozenset(
    {
        *_HANDED_ON,
        *_ATTEMPTS,
        *(_CLEARED, _BROKEN, _SUPERSEDED, _ORDERED, _LATER, _WRITTEN, _RELAYED, _NOT_RELAYED, _NO_ANSWER),
        *(_NETWORK_CODE, _APPROVAL, _VERSION),
        *(word for words in _FOLLOW_UPS.values() for word in words),
        *_POSTED.values(),
        *(_what(kind) for kind in _OF_THE_ORDER),
        *(state.value for state in PaymentState),
        *(kind.value for kind in ClearingKind),
        *(kind.value for kind in BreakKind),
        *(effect.value for effect in CancellationEffect),
        *("ordered", "due", "late answer", "cleared", "clearing corrected", "ignored", "undone", "unsolicited"),
    }
)
"""What a story may say that has other languages."""


def steps_of(facts: PaymentFacts) -> list[Step]:
    """What happened, by time; steps of one moment stand in the order of cause and effect."""
    payment = facts.payment
    steps = [Step(payment.ordered_at, "ordered", (Said(_ORDERED),), "payment")]
    steps += _event_steps(facts)
    if schedule := facts.schedule:
        until = schedule.expires_at.astimezone(SEOUL).isoformat(sep=" ", timespec="seconds")
        handed_on = Said(_of(_HANDED_ON, schedule.dispatches), {"times": f"{schedule.dispatches:,}", "until": until})
        steps.append(Step(schedule.due_at, "due", (handed_on,), "schedule"))
    for follow_up in facts.follow_ups:
        kind = follow_up.kind
        queued, over, next_attempt = _FOLLOW_UPS[kind]
        steps.append(Step(follow_up.queued_at, queued, (_code(f"STAN {follow_up.stan:06d}"),), kind))
        code = follow_up.last_code or _NO_ANSWER
        attempts = Said(_of(_ATTEMPTS, follow_up.attempts), {"attempts": f"{follow_up.attempts:,}", "code": code})
        if follow_up.closed_at is not None:
            steps.append(Step(follow_up.closed_at, over, (attempts,), kind))
        else:
            steps.append(Step(follow_up.next_attempt_at, next_attempt, (attempts,), kind))
    for late in facts.late_answers:
        answer = f"{late.mti} {late.response_code}, {money(late.amount_minor, payment.currency)}"
        said = Said("{answer}: {outcome}", {"answer": answer, "outcome": late.outcome})
        steps.append(Step(late.received_at, "late answer", (said,), "network"))
    for t in facts.transfers:
        moved = _code(f"{money(t.amount_minor, t.currency)}: {t.debit} → {t.credit}")
        steps.append(Step(t.posted_at, _POSTED.get(t.kind, f"posted: {t.kind}"), (moved,), "ledger"))
    for c in facts.clearing:
        steps += _clearing_steps(c)
    return sorted(steps, key=lambda s: s.at)


def _clearing_steps(c: StoredClearing) -> list[Step]:
    values = {
        "cycle": c.cycle_id,
        "record": str(c.record_no),
        "kind": c.kind,
        "money": money(c.amount_minor, c.currency),
    }
    said = [Said(_CLEARED, values)]
    if c.break_kind:
        said.insert(0, Said(_BROKEN, {"break_kind": c.break_kind, "break_detail": c.break_detail or ""}))
    steps = [Step(c.imported_at, "cleared", tuple(said), "clearing")]
    if c.superseded_at is not None:
        steps.append(Step(c.superseded_at, "clearing corrected", (Said(_SUPERSEDED, values),), "clearing"))
    return steps


def _event_steps(facts: PaymentFacts) -> list[Step]:
    payment = facts.payment
    steps = []
    told: set[int] = set()
    for event in facts.events:
        body = json.loads(event.body)
        version = body.get("version")
        if event.event_type != EventType.PAYMENT_REPORTED and version:
            told.add(version)
        said = (*_said_of(body), Said(_RELAYED if event.relayed else _NOT_RELAYED))
        steps.append(Step(event.occurred_at, _what(event.event_type), said, "outbox"))
    # What the outbox no longer has: the first and the present state stand in the payment itself.
    if 1 not in told and facts.schedule is not None:
        steps.append(Step(payment.ordered_at, "scheduled", (Said(_LATER),), "payment"))
    elif 1 not in told:
        sent = payment.trace is not None
        steps.append(Step(payment.decided_at, "sent" if sent else payment.state, (Said(_WRITTEN),), "payment"))
    if payment.version not in told and payment.version > 1:
        said = (Said(_VERSION, {"version": str(payment.version)}),)
        steps.append(Step(payment.changed_at, payment.state, said, "payment"))
    return steps


def _said_of(body: Mapping[str, Any]) -> list[Said]:
    """What an event says. Why comes first: whoever looks here at night looks for it."""
    reason = body.get("reason") or {}
    said = [_code(" ".join(filter(None, (reason.get("code"), reason.get("text")))))]
    said += [
        Said(text, {name: str(value)})
        for text, name, value in (
            (_NETWORK_CODE, "code", reason.get("network_code")),
            (_APPROVAL, "code", body.get("approval_code")),
            ("{code}", "code", body.get("effect")),
            (_VERSION, "version", body.get("version")),
            ("{code}", "code", body.get("status")),
        )
        if value
    ]
    return [part for part in said if any(part.values.values())]


def _code(text: str) -> Said:
    """What is nobody's language."""
    return Said("{code}", {"code": text})


def _of(one_or_many: tuple[str, str], number: int) -> str:
    return one_or_many[number != 1]


def missing_events(facts: PaymentFacts) -> int:
    """How many of its events the outbox does not hold any more."""
    states = [e for e in facts.events if e.event_type.startswith("kr.mypay.payment.")]
    told = {e.event_id for e in states if e.event_type != EventType.PAYMENT_REPORTED}
    return max(0, facts.payment.version - len(told))


def refusal_step(refusal: StoredRefusal) -> Step:
    """A refused order under the same order id."""
    detail = f"{refusal.reason_code} {refusal.reason_text}; order at {refusal.reference}"
    return Step(refusal.refused_at, "order refused", (_code(detail),), "refusal")
