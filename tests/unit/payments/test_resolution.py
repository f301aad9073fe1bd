"""What answers to inquiries mean, and what late answers do."""

import string
from dataclasses import replace
from itertools import product

import pytest

from gateway.network.exchange import Answered, ExchangeResult, NotSent, NotSentCause, Unanswered, UnansweredCause
from gateway.payments.rules.lifecycle import PaymentEventKind as E
from gateway.payments.unknown.rules import InquiryStep, judge_inquiry, judge_late_answer
from gateway.payments.unknown.verdicts import UnknownPolicy, abandoned, judge, judge_reversal
from schemas.reasons import Reason
from tests.support.builders import payment

ASKED = payment(1)


def answered(code: str, **fields: object) -> Answered:
    assert ASKED.trace is not None
    plain = Answered(code, "123456" if code == "00" else None, ASKED.amount_minor, "410", ASKED.trace.rrn)
    return replace(plain, **fields)  # type: ignore[arg-type]


# What the network answers to the inquiry → what follows before the deadline, and after it.
ANSWERS = """
  00            settled    inquiry_approved    settled  inquiry_approved
  00,amount+1   reverse    inquiry_unanswered  reverse  inquiry_unanswered
  00,other_rrn  reverse    inquiry_unanswered  reverse  inquiry_unanswered
  51            settled    inquiry_declined    settled  inquiry_declined
  05            settled    inquiry_declined    settled  inquiry_declined
  10            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  25            reverse    inquiry_not_seen    reverse  inquiry_not_seen
  40            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  12            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  30            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  94            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  68            ask_again  -                   reverse  inquiry_unanswered
  91            ask_again  -                   reverse  inquiry_unanswered
  96            ask_again  -                   reverse  inquiry_unanswered
  #1            reverse    inquiry_unanswered  reverse  inquiry_unanswered
  timeout       ask_again  -                   reverse  inquiry_unanswered
  link_lost     ask_again  -                   reverse  inquiry_unanswered
  garbled       ask_again  -                   reverse  inquiry_unanswered
  no_link       ask_again  -                   reverse  inquiry_unanswered
  too_late      ask_again  -                   reverse  inquiry_unanswered
  not_encodable reverse    inquiry_unanswered  reverse  inquiry_unanswered
"""


def result_of(text: str) -> ExchangeResult:
    if text in set(UnansweredCause):
        return Unanswered(UnansweredCause(text))
    if text in set(NotSentCause):
        return NotSent(NotSentCause(text))
    code, _, change = text.partition(",")
    changes: dict[str, dict[str, object]] = {
        "amount+1": {"amount_minor": ASKED.amount_minor + 1},
        "other_rrn": {"rrn": "X" * 12},
        "": {},
    }
    return answered(code, **changes[change])


@pytest.mark.parametrize("row", [line.split() for line in ANSWERS.strip().splitlines()], ids=lambda r: r[0])
def test_an_inquirys_answer(row: list[str]) -> None:
    answer, step, event, late_step, late_event = row
    for past_deadline, told in ((False, (step, event)), (True, (late_step, late_event))):
        found = judge_inquiry(ASKED, result_of(answer), past_deadline=past_deadline)
        assert (found.step, found.verdict.event if found.verdict else "-") == told
    if answer == "00":
        assert found.verdict
        assert (found.verdict.reason, found.verdict.approval_code) == (None, "123456")


# DE39 of the answer to an inquiry, written out: what is in no line here settles nothing, and the payment is reversed.
INQUIRY_CODES = {
    **dict.fromkeys(["00", "11", "16"], ("settled", E.INQUIRY_APPROVED)),
    **dict.fromkeys(
        [
            "01",
            "02",
            "04",
            "05",
            "07",
            "33",
            "34",
            "35",
            "36",
            "37",
            "38",
            "39",
            "41",
            "42",
            "43",
            "44",
            "51",
            "52",
            "53",
            "54",
            "55",
            "56",
            "59",
            "61",
            "62",
            "65",
            "67",
            "75",
        ],
        ("settled", E.INQUIRY_DECLINED),
    ),
    **dict.fromkeys(["09", "19", "22", "68", "90", "91", "96"], ("ask_again", None)),
    "25": ("reverse", E.INQUIRY_NOT_SEEN),
}


def test_every_code_that_answers_an_inquiry_does_what_the_table_says() -> None:
    for code in ("".join(pair) for pair in product(string.digits + string.ascii_letters, repeat=2)):
        found = judge_inquiry(ASKED, answered(code), past_deadline=False)
        step, event = INQUIRY_CODES.get(code, ("reverse", E.INQUIRY_UNANSWERED))
        assert (found.step.value, found.verdict.event if found.verdict else None) == (step, event), code
        if found.step is not InquiryStep.SETTLED:
            late = judge_inquiry(ASKED, answered(code), past_deadline=True)
            assert late.step is InquiryStep.REVERSE, code


def test_an_unknown_outcome_is_settled_as_the_network_wants_it_and_nothing_else_changes() -> None:
    timeout = Unanswered(UnansweredCause.TIMEOUT)
    for policy, event in ((UnknownPolicy.REVERSE, E.UNANSWERED), (UnknownPolicy.INQUIRE, E.INQUIRY_STARTED)):
        assert judge(ASKED, timeout, policy).event is event
        assert judge(ASKED, answered("68"), policy).event is event
        assert abandoned(policy).event is event
        assert told(abandoned(policy).reason) == "AB05"
        assert judge(ASKED, answered("00"), policy).event is E.APPROVED
        assert judge(ASKED, answered("51"), policy).event is E.DECLINED
        assert judge(ASKED, answered("94"), policy).event is E.MISMATCHED
        assert judge(ASKED, NotSent(NotSentCause.NO_LINK), policy).event is E.WITHDRAWN


@pytest.mark.parametrize(("text", "event"), [("00", E.INQUIRY_APPROVED), ("51", E.INQUIRY_DECLINED)])
def test_a_late_answer_that_ends_an_inquiry_brings_what_the_answer_itself_would(text: str, event: E) -> None:
    """The approval code and the reason go to the partner: an answer that came late has them as one in time has."""
    in_time = judge(ASKED, answered(text))
    late = judge_late_answer(ASKED, answered(text), inquiry_open=True)
    assert (late.event, late.approval_code, late.reason) == (event, in_time.approval_code, in_time.reason)
    assert (late.approval_code, told(late.reason)) == (("123456", None) if text == "00" else (None, "AM04"))


def told(reason: Reason | None) -> str | None:
    return None if reason is None else reason.code.value


@pytest.mark.parametrize(
    ("text", "with_inquiry", "without"),
    [
        ("00", E.INQUIRY_APPROVED, E.APPROVED),
        ("51", E.INQUIRY_DECLINED, E.DECLINED),
        # The 0210 itself can refuse with any code: here it is no refusal of an inquiry.
        ("12", E.INQUIRY_DECLINED, E.DECLINED),
        ("68", E.UNANSWERED, E.UNANSWERED),
        ("00,amount+1", E.MISMATCHED, E.MISMATCHED),
        ("00,other_rrn", E.MISMATCHED, E.MISMATCHED),
    ],
)
def test_a_late_answer(text: str, with_inquiry: E, without: E) -> None:
    answer = result_of(text)
    assert isinstance(answer, Answered)
    assert judge_late_answer(ASKED, answer, inquiry_open=True).event is with_inquiry
    assert judge_late_answer(ASKED, answer, inquiry_open=False).event is without


@pytest.mark.parametrize("text", ["00", "51", "68", "00,amount+1", "00,other_rrn", "25", "12"])
def test_an_inquirys_verdict_tells_the_code_why_and_what_somebody_must_look_at(text: str) -> None:
    answer = result_of(text)
    assert isinstance(answer, Answered)
    found = judge_inquiry(ASKED, answer, past_deadline=False)
    assert (found.network_code, bool(found.detail)) == (answer.response_code, True)
    # An answer that belongs to another payment is somebody's to look at, wherever it is noticed.
    if "," in text:
        assert found.verdict is not None
        assert found.verdict.incident == judge(ASKED, answer).incident is not None
    if text == "51":
        assert found.verdict is not None
        assert found.verdict.reason == judge(ASKED, answer).reason is not None


def test_a_reversal_that_cannot_be_judged_says_why() -> None:
    assert judge_reversal(ASKED, answered("??")).detail


@pytest.mark.parametrize("past_deadline", [False, True])
def test_whatever_ends_an_inquiry_without_an_answer_says_why(*, past_deadline: bool) -> None:
    for result in (Unanswered(UnansweredCause.TIMEOUT), *(NotSent(cause) for cause in NotSentCause)):
        found = judge_inquiry(ASKED, result, past_deadline=past_deadline)
        assert str(result.cause) in found.detail, result
        if found.step is InquiryStep.REVERSE:
            assert found.verdict is not None
            assert told(found.verdict.reason) == "AB05", result


def test_a_reversal_after_an_inquiry_keeps_the_networks_code_for_the_partner() -> None:
    """Also where the deadline is what ends it."""
    for code, past_deadline in (("25", False), ("25", True), ("91", True)):
        found = judge_inquiry(ASKED, answered(code), past_deadline=past_deadline)
        assert found.verdict is not None
        assert found.verdict.reason is not None
        assert (found.network_code, found.verdict.reason.network_code) == (code, code)
