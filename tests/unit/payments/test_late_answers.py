"""Answers that nobody waits for: kept, and doing what the lifecycle's table says."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from gateway.base.errors import StoreUnavailableError
from gateway.consents.rules.limits import Usage
from gateway.consents.store import UsageChange
from gateway.network.exchange import Answered, UnmatchedAnswer
from gateway.network.matching import MatchBy
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change
from gateway.payments.transitions import apply_changes
from gateway.payments.unknown.verdicts import UnknownPolicy
from schemas.primitives import NetworkId
from tests.support.builders import NETWORK, later, payment, window
from tests.support.rig import Rig

S = PaymentState
WINDOW = window()
PAID = payment(1, windows=(WINDOW,))


def answer(code: str = "00", *, number: int = 1, mti: str = "0210", **fields: Any) -> UnmatchedAnswer:
    trace = payment(number).trace
    assert trace is not None
    plain = Answered(code, "654321" if code == "00" else None, 10_000, "410", trace.rrn)
    return UnmatchedAnswer(
        NetworkId(NETWORK),
        mti,
        trace.terminal_id,
        trace.stan,
        f"{trace.transmitted_at:%m%d%H%M%S}",
        replace(plain, **fields),
    )


async def put(rig: Rig, state: PaymentState, *, inquiry: bool = False) -> None:
    """Payment 1 in ``state``, with what is reserved for it."""
    async with rig.store.transaction() as uow:
        await uow.payments.insert([structs.replace(PAID, state=S.SENT if inquiry else state)])
        key = (PAID.partner_id, PAID.consent_id, WINDOW)
        await uow.consents.add_usage([UsageChange(key, 10_000, 1)])
        if inquiry:
            await apply_changes(uow, [Change(PAID.key, PaymentEventKind.INQUIRY_STARTED)], now=later(1))


async def take(rig: Rig, *answers: UnmatchedAnswer) -> list[str]:
    """What each did, as it is kept."""
    service = rig.new_late_answers()
    for each in answers:
        service.take(each)
    assert await service.work() == len(answers)
    await service.written()
    return [late.outcome for late in rig.database.late_answers.rows.values()]


# state before, answer → what it did, state after, is it undone
CASES = """
  sent                    00           approved       approved   -
  sent                    51           declined       declined   -
  sent                    68           unknown        unknown    reversal
  unknown                 00           ignored        unknown    -
  unknown                 51           ignored        unknown    -
  unknown,inquiry         00           approved       approved   -
  unknown,inquiry         51           declined       declined   -
  unknown,inquiry         68           ignored        unknown    -
  unknown,inquiry         00,amount+1  ignored        unknown    -
  approved                00           ignored        approved   -
  approved                51           ignored        approved   -
  reversing               00           ignored        reversing  -
  reversed                00           undone         reversed   reversal
  reversed                51           ignored        reversed   -
  reversed                00,amount+1  undone         reversed   reversal
  declined                00           undone         declined   reversal
  declined                51           ignored        declined   -
  settled                 00           ignored        settled    -
  sent                    00,stan+1    other_numbers  sent       -
  sent                    00,mti=0430  other_numbers  sent       -
  sent                    00,no_rrn    unsolicited    sent       -
  sent                    00,rrn=none  unsolicited    sent       -
"""


def answer_of(text: str) -> UnmatchedAnswer:
    code, _, change = text.partition(",")
    plain = answer(code)
    changed = {
        "amount+1": replace(plain, answer=replace(plain.answer, amount_minor=10_001)),
        "stan+1": replace(plain, stan=plain.stan + 1),
        "mti=0430": replace(plain, mti="0430"),
        "no_rrn": replace(plain, answer=replace(plain.answer, rrn=None)),
        "rrn=none": replace(plain, answer=replace(plain.answer, rrn="000000000000")),
        "other_time": replace(plain, transmitted_at_raw="0101000000"),
        "no_time": replace(plain, transmitted_at_raw=""),
        "other_terminal": replace(plain, terminal_id="TERM9999"),
        "no_terminal": replace(plain, terminal_id=""),
    }
    return changed.get(change, plain)


# Which late answers are known as the payment's own, by what the network's answers are matched by.
MATCHED = """
  answer          strict         reference      terminal       stan
  -               approved       approved       approved       approved
  other_time      other_numbers  approved       approved       approved
  no_time         other_numbers  approved       approved       approved
  no_terminal     other_numbers  approved       other_numbers  approved
  other_terminal  other_numbers  other_numbers  other_numbers  other_numbers
  stan+1          other_numbers  other_numbers  other_numbers  other_numbers
  no_rrn          unsolicited    unsolicited    unsolicited    unsolicited
"""


@pytest.mark.parametrize("row", [line.split() for line in MATCHED.strip().splitlines()[1:]], ids=lambda r: r[0])
@pytest.mark.parametrize("by", ["strict", "reference", "terminal", "stan"])
async def test_a_late_answer_is_known_as_the_networks_answers_are(row: list[str], by: str) -> None:
    change, *outcomes = row
    expected = dict(zip(MATCHED.split()[1:5], outcomes, strict=True))[by]
    rig = Rig()
    await put(rig, S.SENT)
    service = rig.new_late_answers(match_by=MatchBy(by))
    service.take(answer_of(f"00,{change}"))
    await service.work()
    assert [late.outcome for late in rig.database.late_answers.rows.values()] == [expected]
    assert rig.states() == {"order-1": "approved" if expected == "approved" else "sent"}


@pytest.mark.parametrize("row", [line.split() for line in CASES.strip().splitlines()], ids=lambda r: f"{r[0]}-{r[1]}")
async def test_a_late_answer(row: list[str]) -> None:
    before, text, outcome, after, follow_up = row
    rig = Rig()
    state, _, inquiry = before.partition(",")
    await put(rig, S(state), inquiry=bool(inquiry))
    assert await take(rig, answer_of(text)) == [outcome]
    assert rig.states() == {"order-1": after}
    assert list(rig.database.reversals.rows) == ([PAID.key] if follow_up == "reversal" else [])
    if after == "approved" and state != "approved":
        assert rig.used() == {Usage(10_000, 1)}
        assert rig.ledger_kinds() == ["authorised"]
        assert rig.payment(1).approval_code == "654321"
    if inquiry:
        assert (rig.database.inquiries.rows[PAID.key].closed_at is None) == (outcome == "ignored")


@pytest.mark.parametrize(("text", "asked"), [("68", True), ("96", True), ("00,amount+1", False)])
async def test_one_that_tells_no_outcome_is_settled_as_the_network_wants_it(text: str, asked: bool) -> None:
    rig = Rig()
    await put(rig, S.SENT)
    late = rig.new_late_answers(policy=UnknownPolicy.INQUIRE)
    late.take(answer_of(text))
    await late.work()
    assert rig.states() == {"order-1": "unknown"}
    queued = list(rig.database.inquiries.rows), list(rig.database.reversals.rows)
    assert queued == (([PAID.key], []) if asked else ([], [PAID.key]))


async def test_the_second_copy_of_an_answer_does_nothing() -> None:
    rig = Rig()
    await put(rig, S.UNKNOWN, inquiry=True)
    assert await take(rig, answer(), answer()) == ["approved", "approved"]
    assert rig.told().count("payment.approved") == 1
    assert rig.used() == {Usage(10_000, 1)}


@pytest.mark.parametrize("unclear", ["68", "00,amount+1"])
async def test_an_unclear_answer_before_a_clear_one_does_not_take_its_place(unclear: str) -> None:
    rig = Rig()
    await put(rig, S.UNKNOWN, inquiry=True)
    assert await take(rig, answer_of(unclear), answer()) == ["approved", "approved"]
    assert rig.states() == {"order-1": "approved"}
    assert rig.used() == {Usage(10_000, 1)}


@pytest.mark.parametrize("late", ["00", "00,amount+1"])
@pytest.mark.parametrize("answer_lost", [False, True])
async def test_a_reversal_that_may_have_come_before_the_network_booked_it_begins_anew(
    late: str, answer_lost: bool
) -> None:
    rig = Rig()
    await put(rig, S.UNKNOWN, inquiry=True)
    async with rig.store.transaction() as uow:
        await uow.inquiries.take_away([PAID.key], now=later(2))
        await apply_changes(uow, [Change(PAID.key, PaymentEventKind.INQUIRY_NOT_SEEN)], now=later(2))
        (sent,) = await uow.reversals.claim(
            NetworkId(NETWORK), owner="w1", now=later(3), lease_until=later(99), limit=1
        )
        if answer_lost:
            await uow.reversals.retry([PAID.key], owner="w1", next_attempt_at=later(60), code="none")
    # The network has told w1 that there is nothing to undo, or would tell it so when that is repeated; before w1 writes
    # it down, it turns out to have been booked.
    assert await take(rig, answer_of(late)) == ["ignored"]
    async with rig.store.transaction() as uow:
        assert await uow.reversals.close({PAID.key: "25"}, owner="w1", now=later(5)) == frozenset()
    row = rig.database.reversals.rows[PAID.key]
    assert (row.closed_at, row.leased_by, row.follow_up.attempts) == (None, None, 0)
    assert row.follow_up.stan != sent.stan
    assert rig.states() == {"order-1": "unknown"}


async def test_whoever_asks_at_that_moment_finds_it_settled() -> None:
    rig = Rig()
    await put(rig, S.UNKNOWN, inquiry=True)
    async with rig.store.transaction() as uow:
        await uow.inquiries.claim(NetworkId(NETWORK), owner="w1", now=later(9), lease_until=later(99), limit=1)
    assert await take(rig, answer("51")) == ["declined"]
    async with rig.store.transaction() as uow:
        assert await uow.inquiries.close({PAID.key: "00"}, owner="w1", now=later(10)) == frozenset()


async def test_an_outage_is_waited_out_and_nothing_is_kept_twice() -> None:
    rig = Rig()
    await put(rig, S.SENT)
    rig.faults.plan("store.commit", StoreUnavailableError("away"))
    assert await take(rig, answer()) == ["approved"]


async def test_a_contradiction_is_an_incident() -> None:
    rig = Rig()
    await put(rig, S.APPROVED)
    await take(rig, answer("51"))
    assert rig.observer.counted("late_answer", "incident") == 1
