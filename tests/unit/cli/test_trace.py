"""The story of a payment from the books that are left."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import structs

from gateway.console.words import KOREAN
from gateway.network.exchange import Operation, TraceNumbers
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, event_fields, event_type_of
from gateway.views.payments import (
    PaymentFacts,
    StoredClearing,
    StoredEvent,
    StoredFollowUp,
    StoredLateAnswer,
    StoredSchedule,
    StoredTransfer,
)
from gateway.views.story import missing_events, steps_of
from schemas.codec import encode_json
from schemas.primitives import payment_id_of
from tests.support.messages import NOW


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


PAYMENT = Payment(
    partner_id="acme",
    payment_id=payment_id_of("acme", "order-1"),
    order_id="order-1",
    consent_id="consent-1",
    consent_version=1,
    merchant_id="cafe-1",
    operation=Operation.PURCHASE,
    amount_minor=12_500,
    currency="KRW",
    funding_token="tok-1",
    order_digest=b"",
    state=PaymentState.SENT,
    version=1,
    reason=None,
    network_id="bcard",
    trace=TraceNumbers("GW000000", 1, "606100000001", NOW),
    approval_code=None,
    windows=(),
    ordered_at=at(0),
    decided_at=at(1),
    changed_at=at(1),
)
APPROVED = structs.replace(PAYMENT, state=PaymentState.APPROVED, version=2, approval_code="A00001", changed_at=at(2))
SETTLED = structs.replace(APPROVED, state=PaymentState.SETTLED, version=3, changed_at=at(90))


def event(payment: Payment, *, relayed: bool = True) -> StoredEvent:
    body = encode_json(event_fields(payment))
    name = f"{payment.payment_id}:{payment.version}"
    return StoredEvent(name, event_type_of(payment), payment.changed_at, body, relayed)


def test_a_payment_that_waits_tells_when_it_is_due() -> None:
    waiting = structs.replace(PAYMENT, state=PaymentState.SCHEDULED, network_id=None, trace=None, decided_at=at(0))
    facts = PaymentFacts(waiting, (), (), (), (), StoredSchedule(at(3600), at(7200), 0))
    steps = steps_of(facts)
    assert [s.what for s in steps] == ["ordered", "scheduled", "due"]
    assert steps[-1].at == at(3600)


def test_a_payment_that_waited_tells_that_it_did_when_its_events_are_gone() -> None:
    paid = structs.replace(APPROVED, version=3, decided_at=at(3600), changed_at=at(3601))
    facts = PaymentFacts(paid, (), (), (), (), StoredSchedule(at(3600), at(7200), 1))
    assert told(facts) == ["ordered", "scheduled", "due", "approved"]


def told(facts: PaymentFacts) -> list[str]:
    return [step.what for step in steps_of(facts)]


def test_a_settled_payment_in_order() -> None:
    facts = PaymentFacts(
        SETTLED,
        (event(PAYMENT), event(APPROVED), event(SETTLED, relayed=False)),
        (
            StoredTransfer("authorised", "a", "b", 12_500, "KRW", at(2)),
            StoredTransfer("settled", "b", "a", 12_500, "KRW", at(90)),
        ),
        (),
        (StoredClearing("c-1", 7, "purchase", 12_500, "KRW", None, None, at(90)),),
    )
    assert told(facts) == ["ordered", "sent", "approved", "posted: authorised", "settled", "posted: settled", "cleared"]
    details = [s.detail for s in steps_of(facts)]
    assert details[2].startswith("approval A00001, version 2, ")
    assert details[2].endswith(", relayed")
    assert "not yet relayed" in details[4]
    assert "cycle c-1 record 7" in details[6]


def test_a_story_has_no_english_word_of_ours_in_korean() -> None:
    facts = PaymentFacts(
        SETTLED,
        (event(PAYMENT), event(APPROVED), event(SETTLED, relayed=False)),
        (StoredTransfer("authorised", "a", "b", 12_500, "KRW", at(2)),),
        (
            StoredFollowUp("reversal", 500_001, at(16), 1, at(60), None, at(16), None),
            StoredFollowUp("inquiry", 500_001, at(16), 3, at(60), "68", at(16), at(30)),
        ),
        (
            StoredClearing("c-1", 7, "purchase", 12_500, "KRW", None, None, at(90), at(99)),
            StoredClearing("c-1", 8, "refund", 1, "KRW", "amount_differs", "1", at(90)),
        ),
        StoredSchedule(at(3600), at(7200), 1),
        (StoredLateAnswer(at(40), "0210", "00", 12_500, "ignored"),),
    )
    korean = [(KOREAN.get(s.what, s.what), s.told(lambda text: KOREAN.get(text, text))) for s in steps_of(facts)]
    # Codes stand in capitals, and are nobody's language.
    words = {word for told in korean for text in told for word in re.findall(r"[A-Za-z]*[a-z]{2,}", text)}
    assert words == {"Kafka"}


def test_the_story_goes_on_when_the_outbox_has_forgotten() -> None:
    facts = PaymentFacts(SETTLED, (), (), (), ())
    assert [(s.at, s.what, s.source) for s in steps_of(facts)] == [
        (at(0), "ordered", "payment"),
        (at(1), "sent", "payment"),
        (at(90), "settled", "payment"),
    ]


def test_a_cancellation_stands_in_the_story_and_is_no_step_of_the_payment() -> None:
    reversing = structs.replace(APPROVED, state=PaymentState.REVERSING, version=3, changed_at=at(30))
    body = encode_json({"effect": "reversing"})
    answer = StoredEvent("mypay.orders/0/1", "kr.mypay.cancellation.accepted.v1", at(30), body, True)
    facts = PaymentFacts(reversing, (event(PAYMENT), event(reversing), answer), (), (), ())
    steps = steps_of(facts)
    assert [s.what for s in steps] == ["ordered", "sent", "reversing", "cancellation accepted"]
    assert steps[-1].detail == "reversing, relayed"
    # The approval's event is gone: the answer does not stand for it.
    assert missing_events(facts) == 1


def test_a_payment_that_was_never_sent() -> None:
    rejected = structs.replace(PAYMENT, state=PaymentState.REJECTED, trace=None, network_id=None)
    assert told(PaymentFacts(rejected, (), (), (), ())) == ["ordered", "rejected"]


def test_a_reversal_that_goes_on_and_one_that_is_done() -> None:
    unknown = structs.replace(PAYMENT, state=PaymentState.UNKNOWN, version=2, changed_at=at(16))
    reversal = StoredFollowUp("reversal", 500_001, at(16), 3, at(60), "68", at(16), None)
    facts = PaymentFacts(unknown, (event(PAYMENT), event(unknown)), (), (reversal,), ())
    assert told(facts)[-3:] == ["unknown", "reversal queued", "next reversal attempt"]
    assert "3 attempts, last answer 68" in steps_of(facts)[-1].detail
    once = replace(facts, follow_ups=(replace(reversal, attempts=1),))
    assert "1 attempt, last answer 68" in steps_of(once)[-1].detail
    done = replace(facts, follow_ups=(replace(reversal, closed_at=at(61)),))
    assert told(done)[-1] == "reversal confirmed"


def test_an_inquiry_a_late_answer_and_the_reversal_after_it() -> None:
    unknown = structs.replace(PAYMENT, state=PaymentState.UNKNOWN, version=2, changed_at=at(16))
    inquiry = StoredFollowUp("inquiry", 500_001, at(16), 2, at(21), "25", at(16), at(30))
    reversal = StoredFollowUp("reversal", 500_002, at(30), 1, at(60), None, at(30), None)
    late = StoredLateAnswer(at(40), "0210", "00", 12_500, "ignored")
    facts = PaymentFacts(unknown, (event(PAYMENT), event(unknown)), (), (inquiry, reversal), (), late_answers=(late,))
    assert told(facts)[-5:] == [
        "inquiry queued",
        "inquiry over",
        "reversal queued",
        "late answer",
        "next reversal attempt",
    ]
    assert [s.detail for s in steps_of(facts) if s.what == "late answer"] == ["0210 00, 12,500 KRW: ignored"]


def test_a_break_is_told_as_one() -> None:
    broken = StoredClearing("c-1", 7, "purchase", 1, "KRW", "amount_differs", "cleared 1 KRW", at(90))
    [step] = [s for s in steps_of(PaymentFacts(APPROVED, (), (), (), (broken,))) if s.what == "cleared"]
    assert "break amount_differs: cleared 1 KRW" in step.detail


def test_a_repeated_order_shows_where_its_payment_stood() -> None:
    report = replace(event(APPROVED), event_id="x", event_type="kr.mypay.payment.reported.v1", occurred_at=at(3))
    facts = PaymentFacts(APPROVED, (event(PAYMENT), report), (), (), ())
    # The report does not stand in for the state's own event, which the outbox has forgotten here.
    assert told(facts) == ["ordered", "sent", "approved", "reported"]
    assert json.loads(report.body)["version"] == 2
    assert UUID(json.loads(report.body)["payment_id"]) == PAYMENT.payment_id
