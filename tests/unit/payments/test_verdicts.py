import string
from dataclasses import replace
from itertools import product

import pytest

from gateway.network.exchange import (
    Acceptor,
    Answered,
    CardData,
    ExchangeResult,
    FinancialRequest,
    NotSent,
    NotSentCause,
    Operation,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.network.response_codes import ReversalOutcome
from gateway.payments.rules.lifecycle import TRANSITIONS, PaymentEventKind, PaymentState
from gateway.payments.unknown.verdicts import UnknownPolicy, judge, judge_reversal
from tests.support.domain_samples import NOW

PAN = "4111111111111111"
REQUEST = FinancialRequest(
    trace=TraceNumbers("TERM0001", 17, "513703000001", NOW),
    operation=Operation.PURCHASE,
    amount_minor=12_500,
    currency="KRW",
    acceptor=Acceptor("ACCEPTOR1", "Shop Seoul KR", "5411"),
    card=CardData(PAN, "2712"),
)
APPROVAL = Answered("00", "A1B2C3", 12_500, "410", "513703000001")
TWO_CHARACTER_CODES = ["".join(pair) for pair in product(string.digits + string.ascii_letters, repeat=2)]

# DE39 of the answer to a 0200, written out: what is in no line here is unknown (MS03) and an incident.
OUTCOMES = """
  00 11 16              approved    -     -
  08                    mismatched  MS03  -
  10 32                 mismatched  AM12  -
  94                    mismatched  DUPL  incident
  09 22 68 90 96        unanswered  AB05  -
  01 02 05 39 42 44     declined    MS03  -
  52 53 55 60 75        declined    MS03  -
  04 07 33 35 36 38     declined    AC06  -
  41 43 54 62 67        declined    AC06  -
  03 12 40 57 58 93     declined    AG01  -
  13                    declined    AM12  -
  14 56                 declined    AC16  -
  15 31 92              declined    AGNT  -
  26                    declined    DUPL  -
  30                    declined    FF02  -
  34 37 59 63 66        declined    FRAD  -
  51                    declined    AM04  -
  61                    declined    AM14  -
  65                    declined    AM21  -
  91                    declined    AB08  -
"""
UNLISTED = ("unanswered", "MS03", "incident")


def outcomes() -> dict[str, tuple[str, str, str]]:
    table: dict[str, tuple[str, str, str]] = {}
    for line in OUTCOMES.strip().splitlines():
        *codes, event, reason, incident = line.split()
        table |= dict.fromkeys(codes, (event, reason, incident))
    return table


def test_every_response_code_has_one_meaning() -> None:
    table = outcomes()
    assert len(TWO_CHARACTER_CODES) == 62 * 62
    for code in TWO_CHARACTER_CODES:
        verdict = judge(REQUEST, replace(APPROVAL, response_code=code))
        reason = verdict.reason.code.value if verdict.reason else "-"
        told = (verdict.event.value, reason, "incident" if verdict.incident else "-")
        assert told == table.get(code, UNLISTED), code
        assert verdict.approval_code == ("A1B2C3" if told[0] == "approved" else None), code
        assert verdict.reason is None or verdict.reason.network_code == code


@pytest.mark.parametrize("code", ["06", "17", "19", "20", "21", "23", "25", "28", "76", "77", "78", "97", "98", "N7"])
def test_a_code_that_no_table_lists_is_asked_about_or_undone(code: str) -> None:
    answer = replace(APPROVAL, response_code=code)
    assert judge(REQUEST, answer).event is PaymentEventKind.UNANSWERED
    assert judge(REQUEST, answer, UnknownPolicy.INQUIRE).event is PaymentEventKind.INQUIRY_STARTED


@pytest.mark.parametrize("code", ["", "0", "000", "0 ", "  ", "\x00\x00", "٠٠", "é0", "--"])
def test_what_is_no_response_code_is_undone_not_guessed(code: str) -> None:
    verdict = judge(REQUEST, replace(APPROVAL, response_code=code))
    assert verdict.event is PaymentEventKind.MISMATCHED
    assert verdict.incident
    assert verdict.reason is not None
    assert verdict.reason.network_code is None
    assert judge_reversal(REQUEST, replace(APPROVAL, response_code=code)).outcome is ReversalOutcome.ALERT


@pytest.mark.parametrize("code", ["00", "51", "68", "10", "ZZ"])
@pytest.mark.parametrize(
    ("field", "value", "element"),
    [
        ("amount_minor", 12_499, "DE4"),
        ("amount_minor", 1_250_000, "DE4"),
        ("currency_numeric", "840", "DE49"),
        ("currency_numeric", "", "DE49"),
        ("rrn", "513703000002", "DE37"),
        ("rrn", "", "DE37"),
    ],
)
def test_an_answer_to_other_numbers_is_an_incident_whatever_it_says(
    code: str, field: str, value: object, element: str
) -> None:
    verdict = judge(REQUEST, replace(APPROVAL, response_code=code, **{field: value}))  # type: ignore[arg-type]
    assert verdict.event is PaymentEventKind.MISMATCHED
    assert verdict.incident is not None
    assert element in verdict.incident
    assert verdict.approval_code is None


def test_numbers_that_the_network_leaves_out_are_no_mismatch() -> None:
    verdict = judge(REQUEST, replace(APPROVAL, currency_numeric=None, rrn=None, approval_code=None))
    assert (verdict.event, verdict.approval_code) == (PaymentEventKind.APPROVED, None)


# How an exchange without a usable answer ends.
ENDS = """
  result                 event       reason  incident
  unanswered:timeout     unanswered  AB05    no
  unanswered:link_lost   unanswered  AB07    no
  unanswered:garbled     unanswered  MS03    yes
  not_sent:no_link       withdrawn   AB07    no
  not_sent:too_late      withdrawn   TM01    no
  not_sent:not_encodable withdrawn   FF02    yes
"""


def ended(spec: str) -> ExchangeResult:
    kind, cause = spec.split(":")
    return Unanswered(UnansweredCause(cause)) if kind == "unanswered" else NotSent(NotSentCause(cause), "DE43 too long")


def test_an_exchange_without_answer_ends_as_the_table_says() -> None:
    rows = [line.split() for line in ENDS.strip().splitlines()[1:]]
    assert len(rows) == len(UnansweredCause) + len(NotSentCause)
    for spec, event, reason, incident in rows:
        verdict = judge(REQUEST, ended(spec))
        assert verdict.reason is not None
        assert verdict.reason.network_code is None
        assert (verdict.event.value, verdict.reason.code.value) == (event, reason)
        assert ("yes" if verdict.incident else "no") == incident


def test_every_verdict_is_an_event_that_a_sent_payment_knows() -> None:
    results = [replace(APPROVAL, response_code=code) for code in TWO_CHARACTER_CODES]
    ends = [ended(line.split()[0]) for line in ENDS.strip().splitlines()[1:]]
    for result in (*results, *ends, replace(APPROVAL, amount_minor=1)):
        assert (PaymentState.SENT, judge(REQUEST, result).event) in TRANSITIONS


def test_no_verdict_tells_the_card() -> None:
    for result in (APPROVAL, replace(APPROVAL, rrn=PAN[:12]), replace(APPROVAL, response_code="51")):
        assert PAN[:12] not in repr(judge(REQUEST, result))
    assert PAN not in repr(REQUEST)


# DE39 of an 0430; every code that is not here refuses the reversal.
REVERSALS = {
    **dict.fromkeys(("00", "25", "94"), "confirmed"),
    **dict.fromkeys(("09", "19", "22", "68", "90", "91", "96"), "retry"),
}


def test_a_reversal_ends_only_when_the_network_confirms_it() -> None:
    for code in TWO_CHARACTER_CODES:
        verdict = judge_reversal(REQUEST, replace(APPROVAL, response_code=code))
        assert verdict.outcome.value == REVERSALS.get(code, "alert"), code
        assert verdict.network_code == code
        assert verdict.detail
        assert verdict.incident is None


def test_that_the_network_holds_nothing_of_what_it_approved_is_an_incident() -> None:
    for code in TWO_CHARACTER_CODES:
        verdict = judge_reversal(REQUEST, replace(APPROVAL, response_code=code), approved=True)
        assert verdict.outcome.value == REVERSALS.get(code, "alert"), code
        assert (verdict.incident is not None) == (code == "25"), code


@pytest.mark.parametrize("code", sorted(REVERSALS))
@pytest.mark.parametrize(
    ("field", "value", "element"),
    [
        ("amount_minor", 12_499, "DE4"),
        ("currency_numeric", "840", "DE49"),
        ("rrn", "513703000002", "DE37"),
        ("rrn", "", "DE37"),
    ],
)
def test_an_answer_to_anothers_reversal_confirms_nothing(code: str, field: str, value: object, element: str) -> None:
    answer = replace(APPROVAL, response_code=code, **{field: value})  # type: ignore[arg-type]
    verdict = judge_reversal(REQUEST, answer)
    assert (verdict.outcome, verdict.network_code) == (ReversalOutcome.ALERT, None)
    assert element in verdict.detail


def test_numbers_that_the_answer_to_a_reversal_leaves_out_are_no_mismatch() -> None:
    bare = replace(APPROVAL, amount_minor=0, currency_numeric=None, rrn=None)
    assert judge_reversal(REQUEST, bare).outcome is ReversalOutcome.CONFIRMED


def test_a_reversal_without_answer_is_repeated() -> None:
    for spec in (line.split()[0] for line in ENDS.strip().splitlines()[1:]):
        verdict = judge_reversal(REQUEST, ended(spec))
        assert verdict.network_code is None
        assert verdict.outcome.value == ("alert" if "not_encodable" in spec else "retry")
        assert spec.split(":")[1] in verdict.detail


@pytest.mark.parametrize("amount", [None, 0])
def test_an_approval_that_does_not_say_its_amount_is_undone(amount: int | None) -> None:
    """Only a reversal's answer may leave it out: of a purchase it may be another's, or a part of it."""
    verdict = judge(REQUEST, replace(APPROVAL, amount_minor=amount))
    assert verdict.event is PaymentEventKind.MISMATCHED
    assert verdict.reason is not None
