"""What a cancellation does to its order: every state of the payment, cut-overs, ids, and what waits for an outcome."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from gateway.network.exchange import Operation
from gateway.payments.cancellations.rules import (
    ORDER_CANCELLED,
    CancellationFacts,
    CutOver,
    HandledCancellation,
    ReceivedCancellation,
    carry_out,
    decide_cancellations,
    end_of_cycle,
)
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Payment
from schemas.cancellation import PaymentCancellation
from schemas.events import CancellationEffect
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import NETWORK, NOW, payment, trace

S, E, R = PaymentState, CancellationEffect, ReasonCode
SEOUL = ZoneInfo("Asia/Seoul")


def cancellation(number: int = 1, **fields: Any) -> PaymentCancellation:
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "cancellation_id": f"cancellation-{number}",
        "consent_id": "consent-1",
        "order_id": "order-1",
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(minutes=5),
    }
    return PaymentCancellation(**(defaults | fields))


def received(
    number: int = 1, *, digest: bytes | None = None, reference: str = "", **fields: Any
) -> ReceivedCancellation:
    message = cancellation(number, **fields)
    return ReceivedCancellation(
        message, digest or message.cancellation_id.encode(), reference or f"mypay.orders/0/{number}"
    )


def facts(*payments: Payment, **fields: Any) -> CancellationFacts:
    defaults: dict[str, Any] = {
        "consents": frozenset({("partner-1", "consent-1")}),
        "payments": {p.key: p for p in payments},
        "handled": {},
        "refunded": {},
        "cut_overs": {},
        "now": NOW,
    }
    return CancellationFacts(**(defaults | fields))


# state → (effect, or the reason of the refusal; whether the payment is changed)
BY_STATE: Mapping[S, tuple[E | R, bool]] = {
    S.SCHEDULED: (E.CANCELLED, True),
    S.SENT: (E.ONCE_KNOWN, False),
    S.UNKNOWN: (E.ONCE_KNOWN, False),
    S.APPROVED: (E.REVERSING, True),
    S.REVERSING: (E.REVERSING, False),
    S.SETTLED: (R.TM01, False),
    S.DECLINED: (R.NOOR, False),
    S.REJECTED: (R.NOOR, False),
    S.REVERSED: (R.ARDT, False),
}


def told(outcome: E | Reason) -> E | R:
    return outcome.code if isinstance(outcome, Reason) else outcome


def test_the_table_names_every_state() -> None:
    assert BY_STATE.keys() == set(S)


@pytest.mark.parametrize("state", S)
def test_every_state_has_its_answer(state: S) -> None:
    outcome, changes = BY_STATE[state]
    of = payment(1, state=state)
    decided = decide_cancellations([received()], facts(of))
    assert [told(o) for _, o in decided.answers] == [outcome]
    assert [(c.key, c.kind, c.reason) for c in decided.changes] == (
        [(of.key, PaymentEventKind.CANCELLED, ORDER_CANCELLED)] if changes else []
    )
    (handled,) = decided.handled
    assert (told(handled.outcome), handled.is_open) == (outcome, outcome is E.ONCE_KNOWN)


@pytest.mark.parametrize("state", S)
def test_a_refund_that_was_sent_is_never_undone(state: S) -> None:
    of = payment(1, state=state, operation=Operation.REFUND, original_payment_id=payment(9).payment_id)
    decided = decide_cancellations([received()], facts(of))
    if state in (S.SENT, S.UNKNOWN, S.APPROVED, S.SETTLED):
        assert [told(o) for _, o in decided.answers] == [R.AG13]
        assert not decided.changes
    else:
        assert [told(o) for _, o in decided.answers] == [BY_STATE[state][0]]


def test_an_order_that_has_not_come_will_not_be_sent() -> None:
    decided = decide_cancellations([received()], facts())
    assert [o for _, o in decided.answers] == [E.NOT_SENT]
    assert not decided.changes


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"consent_id": "consent-2"}, R.MD01),
        ({"issued_at": NOW + timedelta(seconds=61), "expires_at": NOW + timedelta(minutes=5)}, R.DT04),
        ({"expires_at": NOW}, R.TM01),
        ({"expires_at": NOW + timedelta(hours=24)}, R.DT01),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_what_is_not_current_or_not_under_a_consent_is_refused(
    fields: dict[str, Any], code: R, *, exists: bool
) -> None:
    decided = decide_cancellations([received(**fields)], facts(*[payment(1, state=S.APPROVED)] * exists))
    assert [told(o) for _, o in decided.answers] == [code]
    assert not decided.changes


def test_an_order_under_another_consent_is_not_found() -> None:
    both = frozenset({("partner-1", "consent-1"), ("partner-1", "consent-2")})
    decided = decide_cancellations(
        [received(consent_id="consent-2")], facts(payment(1, state=S.APPROVED), consents=both)
    )
    assert [told(o) for _, o in decided.answers] == [R.NOOR]


def test_what_was_refunded_is_not_reversed_too() -> None:
    of = payment(1, state=S.APPROVED)
    decided = decide_cancellations([received()], facts(of, refunded={of.key: 1}))
    (outcome,) = [o for _, o in decided.answers]
    assert isinstance(outcome, Reason)
    assert (outcome.code, outcome.text) == (
        R.ARDT,
        "1 KRW of the payment are refunded or being refunded: refund the rest instead",
    )
    assert not decided.changes


def test_an_id_is_answered_alike_and_changes_nothing_twice() -> None:
    of = payment(1, state=S.APPROVED)
    first = decide_cancellations([received()], facts(of))
    handled = {h.key: h for h in first.handled}
    again = facts(structs.replace(of, state=S.REVERSED), handled=handled)
    second = decide_cancellations([received(reference="mypay.orders/0/7")], again)
    assert [o for _, o in second.answers] == [E.REVERSING]
    assert not second.handled
    assert not second.changes


def test_an_id_with_other_content_is_refused_and_the_first_stands() -> None:
    first = decide_cancellations([received()], facts())
    handled = {h.key: h for h in first.handled}
    second = decide_cancellations([received(digest=b"other")], facts(payment(1, state=S.APPROVED), handled=handled))
    assert [told(o) for _, o in second.answers] == [R.AM05]
    assert not second.handled
    assert not second.changes


def test_cancellations_of_one_batch_see_each_other() -> None:
    of = payment(1, state=S.APPROVED)
    batch = [received(1), received(2), received(1, digest=b"other", reference="r"), received(1, reference="r2")]
    decided = decide_cancellations(batch, facts(of))
    assert [told(o) for _, o in decided.answers] == [E.REVERSING, E.REVERSING, R.AM05, E.REVERSING]
    assert len(decided.changes) == 1
    assert [h.cancellation_id for h in decided.handled] == ["cancellation-1", "cancellation-2"]


# --- cut-over ---


@pytest.mark.parametrize(
    ("sent", "at", "ends"),
    [
        ("2025-05-17T03:00:00", time(23, 30), "2025-05-17T14:30:00"),
        ("2025-05-17T14:29:59", time(23, 30), "2025-05-17T14:30:00"),
        ("2025-05-17T14:30:00", time(23, 30), "2025-05-18T14:30:00"),
        # In Seoul it is the next day already.
        ("2025-05-17T15:00:00", time(23, 30), "2025-05-18T14:30:00"),
        ("2025-12-31T16:00:00", time(0, 0), "2026-01-01T15:00:00"),
    ],
)
def test_a_cycle_ends_at_the_first_cut_over_after_the_payment(sent: str, at: time, ends: str) -> None:
    moment = datetime.fromisoformat(sent).replace(tzinfo=UTC)
    assert end_of_cycle(moment, CutOver(at, SEOUL)).astimezone(UTC).replace(tzinfo=None).isoformat() == ends


@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/New_York", "Europe/Berlin"])
def test_a_cycle_ends_after_the_payment_and_within_a_day_and_a_clock_change(zone: str) -> None:
    moment = datetime(2025, 3, 1, tzinfo=UTC)
    while moment < datetime(2025, 12, 1, tzinfo=UTC):
        for at in (time(0), time(1, 30), time(2, 30), time(23, 59)):
            ends = end_of_cycle(moment, CutOver(at, ZoneInfo(zone))).astimezone(UTC)
            assert timedelta(0) < ends - moment <= timedelta(hours=25)
        moment += timedelta(minutes=317)


@pytest.mark.parametrize(("now", "outcome"), [(-1, E.REVERSING), (0, R.TM01), (1, R.TM01)])
def test_an_approved_payment_is_reversed_until_the_cut_over(now: int, outcome: E | R) -> None:
    cut_over = CutOver(time(23, 30), SEOUL)
    ends = end_of_cycle(NOW, cut_over).astimezone(UTC)
    of = payment(1, state=S.APPROVED, trace=trace(1, at=NOW))
    at = ends + timedelta(seconds=now)
    message = received(issued_at=at - timedelta(seconds=1), expires_at=at + timedelta(seconds=1))
    decided = decide_cancellations([message], facts(of, cut_overs={NETWORK: cut_over}, now=at))
    assert [told(o) for _, o in decided.answers] == [outcome]
    elsewhere = facts(of, cut_overs={"net-b": cut_over}, now=at)
    assert [o for _, o in decide_cancellations([message], elsewhere).answers] == [E.REVERSING]


# --- what waits for an outcome ---


def waiting(number: int = 1) -> HandledCancellation:
    (handled,) = decide_cancellations([received(number)], facts(payment(1))).handled
    assert handled.is_open
    return handled


@pytest.mark.parametrize("state", S)
def test_what_waited_is_judged_by_the_state_that_was_found(state: S) -> None:
    of = payment(1, state=state)
    (judged,), changes = carry_out([waiting()], payments={of.key: of}, refunded={}, cut_overs={}, now=NOW)
    nothing_stands = state in (S.DECLINED, S.REJECTED, S.REVERSED)
    assert told(judged.outcome) == (E.ONCE_KNOWN if nothing_stands else BY_STATE[state][0])
    assert judged.is_open == (state in (S.SENT, S.UNKNOWN))
    assert [c.kind for c in changes] == ([PaymentEventKind.CANCELLED] if BY_STATE[state][1] else [])


def test_two_that_waited_for_one_payment_reverse_it_once() -> None:
    of = payment(1, state=S.APPROVED)
    judged, changes = carry_out([waiting(1), waiting(2)], payments={of.key: of}, refunded={}, cut_overs={}, now=NOW)
    assert [j.outcome for j in judged] == [E.REVERSING, E.REVERSING]
    assert len(changes) == 1


def test_what_waited_too_long_is_refused() -> None:
    of = payment(1, state=S.APPROVED)
    cut_over = CutOver(time(23, 30), SEOUL)
    for refunded, now, code in (({of.key: 1}, NOW, R.ARDT), ({}, end_of_cycle(NOW, cut_over), R.TM01)):
        (judged,), changes = carry_out(
            [waiting()], payments={of.key: of}, refunded=refunded, cut_overs={NETWORK: cut_over}, now=now
        )
        assert (told(judged.outcome), judged.is_open, changes) == (code, False, [])


def test_each_that_waited_is_judged_whatever_became_of_those_before_it() -> None:
    """One whose payment does not stand ends there; the next one's still does, and nothing of it was refunded."""
    gone, stands = payment(1, state=S.DECLINED), payment(2, state=S.APPROVED)
    two = replace(waiting(2), order_id=stands.order_id, payment_id=stands.payment_id)
    judged, changes = carry_out(
        [waiting(1), two], payments={p.key: p for p in (gone, stands)}, refunded={gone.key: 1}, cut_overs={}, now=NOW
    )
    assert [(j.key, j.is_open) for j in judged] == [(waiting(1).key, False), (two.key, False)]
    assert judged[1].outcome is E.REVERSING
    assert [c.key for c in changes] == [stands.key]


def test_a_cancellation_under_a_taken_id_is_told_which_id_and_what_differs() -> None:
    first, again = received(1), received(1, digest=b"other", order_id="order-2")
    answers = decide_cancellations([first, again], facts(payment(1), payment(2))).answers
    refused = answers[1][1]
    assert isinstance(refused, Reason)
    assert refused.text.startswith("cancellation_id was used before")
    assert "order_id differs" in refused.text


def test_a_cancellation_is_remembered_with_its_record_and_moment() -> None:
    (handled,) = decide_cancellations([received(1)], facts(payment(1))).handled
    assert (handled.reference, handled.handled_at, handled.digest) == ("mypay.orders/0/1", NOW, b"cancellation-1")


def test_a_cancellation_that_came_too_late_says_what_it_is() -> None:
    late = received(1, issued_at=NOW - timedelta(minutes=9), expires_at=NOW)
    ((_, refused),) = decide_cancellations([late], facts(payment(1))).answers
    assert isinstance(refused, Reason)
    assert refused.text == "the cancellation is past its expires_at"
