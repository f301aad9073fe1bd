"""What a network may define DE39 to mean, and what it may not."""

import re
from pathlib import Path

import pytest

import gateway
from gateway.network.response_codes import RESPONSE_CODES, CodeClass, CodeDefinition, CodeDefinitionError, codes_of
from gateway.payments.rules.lifecycle import PaymentEventKind as E
from gateway.payments.unknown.rules import judge_inquiry, judge_late_answer
from gateway.payments.unknown.verdicts import judge, judge_reversal
from schemas.reasons import ReasonCode
from tests.unit.payments.test_resolution import ASKED, answered

# A definition → what it makes of an 0210, an 0110 and an 0430.
DEFINED = """
  class    settles  answer      reason  inquiry             reversal
  decline  no       declined    FRAD    inquiry_unanswered  alert
  decline  yes      declined    FRAD    inquiry_declined    alert
  unknown  no       unanswered  FRAD    inquiry_unanswered  alert
  retry    no       unanswered  FRAD    -                   retry
  approve  no       approved    -       inquiry_approved    alert
"""


@pytest.mark.parametrize("row", [line.split() for line in DEFINED.strip().splitlines()[1:]], ids=" ".join)
@pytest.mark.parametrize("code", ["N7", "78"])
def test_a_definition(code: str, row: list[str]) -> None:
    meaning, settles, event, reason, inquiry, reversal = row
    defined = CodeDefinition(CodeClass(meaning), ReasonCode.FRAD, "as told", settles_inquiry=settles == "yes")
    codes = codes_of({code: defined})
    verdict = judge(ASKED, answered(code), codes=codes)
    assert verdict.event.value == event
    assert (verdict.reason.code.value if verdict.reason else "-") == reason
    assert verdict.incident is None
    found = judge_inquiry(ASKED, answered(code), past_deadline=False, codes=codes)
    assert (found.verdict.event.value if found.verdict else "-") == inquiry
    assert judge_reversal(ASKED, answered(code), codes=codes).outcome.value == reversal
    late = judge_late_answer(ASKED, answered(code), inquiry_open=False, codes=codes)
    assert late.event is verdict.event
    # Nothing else changes.
    assert judge(ASKED, answered("51"), codes=codes).event is E.DECLINED
    assert judge(ASKED, answered("77"), codes=codes).event is E.UNANSWERED


def test_a_refusal_of_the_standard_can_be_narrowed_to_unknown() -> None:
    codes = codes_of({"91": CodeDefinition(CodeClass.UNKNOWN, ReasonCode.AB05)})
    assert judge(ASKED, answered("91"), codes=codes).event is E.UNANSWERED


@pytest.mark.parametrize("code", ["11", "16"])
def test_an_approval_of_the_standard_may_be_defined_as_one(code: str) -> None:
    codes = codes_of({code: CodeDefinition(CodeClass.APPROVE)})
    assert judge(ASKED, answered(code, approval_code="123456"), codes=codes).event is E.APPROVED


@pytest.mark.parametrize("meaning", [CodeClass.DECLINE, CodeClass.UNKNOWN, CodeClass.RETRY])
def test_a_definition_without_words_of_its_own_is_told_in_ours(meaning: CodeClass) -> None:
    codes = codes_of({"ZZ": CodeDefinition(meaning, ReasonCode.AB05)})
    reason = judge(ASKED, answered("ZZ"), codes=codes).reason
    assert reason is not None
    assert "network" in reason.text.partition(";")[0]
    undone = judge_reversal(ASKED, answered("ZZ"), codes=codes)
    if meaning is CodeClass.RETRY:
        assert codes.of_reversal("ZZ")[1], undone


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("00", CodeClass.DECLINE),
        ("00", CodeClass.APPROVE),
        ("25", CodeClass.RETRY),
        ("51", CodeClass.APPROVE),
        ("10", CodeClass.APPROVE),
        ("68", CodeClass.APPROVE),
    ],
)
def test_what_must_not_be_defined(code: str, meaning: CodeClass) -> None:
    with pytest.raises(CodeDefinitionError, match=code):
        codes_of({code: CodeDefinition(meaning)})


def test_no_reason_tells_what_happens_next() -> None:
    """A reason stays with a payment after that: the reversed payment's would still say that it is being reversed."""
    rooms = [Path(gateway.__path__[0], "payments"), Path(gateway.__path__[0], "network")]
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py")]
    texts = {text for source in sources for text in re.findall(r'"([^"\n]+)"', source)}
    assert {code.text for code in RESPONSE_CODES.values() if code.text} <= texts
    assert [t for t in sorted(texts) if re.search(r"\bbeing (reversed|settled|undone)\b", t)] == []
