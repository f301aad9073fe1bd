"""The network's judgement as scenarios: each step is a message and its answer, each end is what is booked."""

import re
from pathlib import Path

import pytest

from gateway.proving.counterparts.config import (
    Declines,
    MessageClass,
    OnClearedReversal,
    OnDuplicate,
    OnLateOriginal,
    Policy,
)
from gateway.proving.counterparts.ledger import Ledger
from gateway.proving.counterparts.records import Operation, Request
from gateway.proving.counterparts.rules import Book, Rules, apply

DECLINES = Declines(last4={"0009": "41"}, amount_suffixes={"51": "61", "051": "51", "9054": "54"})

# P purchase, F refund, R reversal, I inquiry; a number names the 0200 that it is or asks about; ' and " are further
# messages with numbers of their own; @ gives the amount, # the last digits of the card, ! another RRN.
SCENARIOS = {
    "a purchase is approved": ("P1=00", "1 approved"),
    "a refund is approved": ("F1=00", "1 approved"),
    "an amount ends in a suffix": ("P1@2051=51", "1 declined"),
    "the longest suffix wins": ("P1@2151=61 P2@19054=54", "1 declined, 2 declined"),
    "a card is refused": ("P1#0009=41", "1 declined"),
    "an amount of zero": ("P1@0=13", "1 declined"),
    "a repeated 0200 is answered alike": ("P1=00 P1=00 P1=00", "1 approved x3"),
    "a repeated decline is answered alike": ("P1@2051=51 P1@2051=51", "1 declined x2"),
    "a repeat with another amount is not the same": ("P1@1000=00 P1@1001=94", "1 approved x2"),
    "a repeat with another RRN is not the same": ("P1=00 P1!=94", "1 approved x2"),
    "a reversal": ("P1=00 R1=00", "1 reversed"),
    "a reversal repeated": ("P1=00 R1=00 R1=00 R1=00", "1 reversed"),
    "a second reversal finds nothing left": ("P1=00 R1=00 R1'=00", "1 reversed"),
    "a refund reversed": ("F1=00 R1=00", "1 reversed"),
    "a declined original has nothing to undo": ("P1@2051=51 R1@2051=00", "1 declined"),
    "a reversal of another amount": ("P1@1000=00 R1@999=12", "1 approved"),
    "a reversal with another RRN": ("P1=00 R1!=12", "1 approved"),
    "a 0200 repeated after its reversal stays reversed": ("P1=00 R1=00 P1=00", "1 reversed x2"),
    "an unknown original": ("R1=25", ""),
    "an unknown original, repeated": ("R1=25 R1=25", ""),
    "a late original is refused": ("R1=25 P1=12", "1 declined"),
    "a late original is refused, the reversal repeated": ("R1=25 P1=12 R1=25 R1'=00", "1 declined"),
    "an inquiry of an approval": ("P1=00 I1=00", "1 approved"),
    "an inquiry of a decline": ("P1@2051=51 I1=51", "1 declined"),
    "an inquiry of nothing": ("I1=25 P1=00 I1=00", "1 approved"),
    "an inquiry of what was reversed": ("P1=00 R1=00 I1=25", "1 reversed"),
    "neighbours do not touch": ("P1=00 P2=00 R2=00 I1=00 I2=25", "1 approved, 2 reversed"),
}
POLICIES = {
    "duplicates refused": (Policy(on_duplicate=OnDuplicate.REFUSE_94), "P1=00 P1=94", "1 approved x2"),
    "a late original reversed": (
        Policy(on_late_original=OnLateOriginal.REVERSE),
        "R1=25 P1=00 R1=25 R1'=00 I1=25",
        "1 reversed",
    ),
    "a host that forgets reversals": (
        Policy(on_late_original=OnLateOriginal.APPLY),
        "R1=25 P1=00 R1=00 R1=00",
        "1 reversed",
    ),
    "a late original with a code of its own": (Policy(late_original_code="06"), "R1=25 P1=06", "1 declined"),
    "no inquiry": (Policy(answers_inquiry=False), "P1=00 I1=40", "1 approved"),
}
ALL = {name: (Policy(), steps, end) for name, (steps, end) in SCENARIOS.items()} | POLICIES

_STEP = re.compile(r"([PFRI])(\d)('*)(?:@(\d+))?(?:#(\d{4}))?(!?)=(\w\w)").fullmatch


def parse(steps: str) -> list[tuple[Request, str]]:
    parsed = []
    for step in steps.split():
        match = _STEP(step)
        assert match, step
        kind, number, ticks, amount, last4, other_rrn, code = match.groups()
        original = f"TERM0001{int(number):06d}1123034500"
        own = original if kind in "PF" else f"TERM0001{ord(kind):02d}{len(ticks)}{int(number):03d}1123034600"
        classes = {"R": MessageClass.REVERSAL, "I": MessageClass.INQUIRY}
        request = Request(
            classes.get(kind, MessageClass.FINANCIAL),
            own,
            original,
            Operation.REFUND if kind == "F" else Operation.PURCHASE,
            int(amount or 1000),
            "KRW",
            f"{'9' if other_rrn else '0'}{int(number):011d}",
            "ACCEPTOR",
            last4 or "1234",
            None,
        )
        parsed.append((request, code))
    return parsed


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "batch each"])
def test_scenario(name: str, together: bool, tmp_path: Path) -> None:
    policy, steps, end = ALL[name]
    parsed = parse(steps)
    ledger = Ledger(tmp_path / "ledger.db", Rules(DECLINES, policy, seed=1))
    requests = [request for request, _ in parsed]
    batches = [requests] if together else [[request] for request in requests]
    answers = [ruling.response_code for batch in batches for ruling in ledger.process(batch, {}, 1)]
    assert answers == [code for _, code in parsed]
    rows = ledger._db.execute("SELECT CAST(substr(key, 9, 6) AS INT), state, times_seen FROM transactions ORDER BY seq")
    booked = ", ".join(f"{number} {state}" + (f" x{seen}" if seen > 1 else "") for number, state, seen in rows)
    ledger.close()
    assert booked == end


def test_an_approval_code_comes_with_approvals_alone_and_stays_the_same() -> None:
    rules, book = Rules(DECLINES, Policy(), seed=1), Book()
    codes = []
    for request, _ in parse("P1=00 P1=00 I1=00 P2@51=61 I2=61"):
        ruling = rules.judge(request, book, 1)
        apply(ruling, book)
        codes.append(ruling.approval_code)
    assert codes[0] is not None
    assert codes == [codes[0]] * 3 + [None] * 2


@pytest.mark.parametrize(
    ("policy", "code", "contra"), [(OnClearedReversal.ADJUST, "00", True), (OnClearedReversal.REFUSE, "12", False)]
)
def test_a_reversal_of_what_was_cleared(policy: OnClearedReversal, code: str, contra: bool) -> None:
    rules, book = Rules(DECLINES, Policy(on_cleared_reversal=policy), seed=1), Book()
    (purchase, _), (reversal, _) = parse("P1=00 R1=00")
    apply(rules.judge(purchase, book, 1), book)
    book.cleared_through = 1
    ruling = rules.judge(reversal, book, 2)
    assert (ruling.response_code, ruling.contra) == (code, contra)


def test_random_declines_depend_on_the_seed_and_the_message_alone() -> None:
    requests = [
        parse("P1=00")[0][0]._replace(key=f"TERM0001{stan:06d}1123034500", amount_minor=1000) for stan in range(2000)
    ]

    def declined(seed: int, order: list[Request]) -> set[str]:
        rules = Rules(Declines(random_rate=0.1, random_code="05"), Policy(), seed)
        return {request.key for request in order if rules.decline_code(request) == "05"}

    once = declined(7, requests)
    assert 150 < len(once) < 250
    assert declined(7, requests[::-1]) == once
    assert declined(8, requests) != once
