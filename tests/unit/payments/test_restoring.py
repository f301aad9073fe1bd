"""After a restore to a point in time: what was forgotten stands again, once, and nothing of it is sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.consents.rules.exemption import exempt_window
from gateway.identity.rules import Assertion, link_of
from gateway.network.trace import payment_trace
from gateway.payments.restoring.rules import (
    AFTER_SENT,
    RESTORED,
    Doubt,
    Executed,
    Told,
    UnplacedError,
    catch_up,
    number_of,
    settle_doubts,
    shops,
    told_further,
    trace_of,
)
from gateway.payments.restoring.service import NOT_HANDED_ON, Found, HandedOn, ambiguous, catch_up_with, find_again
from gateway.payments.rules.lifecycle import IGNORED, TRANSITIONS, PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey, event_fields
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.transitions import apply_changes
from schemas.consents import LowValueExemption
from schemas.events import PaymentEvent
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import DISPATCH, NETWORK, TERMINAL, dispatched_record, later, numbered_order, payment
from tests.support.domain_samples import NOW, consent, krw, purpose
from tests.support.rig import Rig

S, E = PaymentState, PaymentEventKind
TERMINALS = (TERMINAL,)


def event(of: Payment) -> PaymentEvent:
    return PaymentEvent.model_validate(event_fields(of))


def numbered(number: int, *, at: datetime = NOW, **fields: Any) -> Payment:
    """A payment under the numbers that execution gives."""
    return payment(number, **({"trace": payment_trace(number, TERMINALS, at)} | fields))


def told_of(number: int, *states: PaymentState, **fields: Any) -> Told:
    """What a partner was told: the states of versions 1, 2, 3 …"""
    told: Told | None = None
    for version, state in enumerate(states, 1):
        row = numbered(number, version=version, changed_at=later(version - 1), **fields)
        told = told_further(told, event(structs.replace(row, state=state)))
    assert told is not None
    return told


# --- what was told ---


@given(st.permutations(range(4)), st.lists(st.integers(0, 3)))
def test_what_was_told_is_the_same_in_whatever_order_and_however_often(order: list[int], again: list[int]) -> None:
    events = [
        event(numbered(7, version=n + 1, state=state, changed_at=later(n)))
        for n, state in enumerate((S.SENT, S.UNKNOWN, S.APPROVED, S.SETTLED))
    ]
    told: Told | None = None
    for n in [*order, *again]:
        told = told_further(told, events[n])
    assert told == Told(events[3], events[0])


@given(st.integers(1, 36**8 - 1), st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001
def test_the_numbers_of_an_event_are_those_that_it_was_sent_under(number: int, at: datetime) -> None:
    moment = at.replace(tzinfo=NOW.tzinfo)
    terminals = ("GW000001", "GW000002", "GW000003")
    sent = numbered(1, changed_at=moment)
    trace = payment_trace(number, terminals, moment)
    assert trace_of(event(structs.replace(sent, trace=trace)), terminals) == trace
    assert number_of(trace.rrn) == number


@pytest.mark.parametrize("rrn", ["000000000000", "1999!!!!!!!!", "00010000000Z"])
def test_an_rrn_that_cannot_be_ours_is_for_people(rrn: str) -> None:
    sent = numbered(1)
    assert sent.trace is not None
    with pytest.raises(UnplacedError):
        trace_of(event(structs.replace(sent, trace=structs.replace(sent.trace, rrn=rrn))), TERMINALS)


def test_whatever_was_told_of_a_payment_that_is_sent_here_is_a_step_of_the_lifecycle() -> None:
    assert set(AFTER_SENT) == set(PaymentState)
    for told, kind in AFTER_SENT.items():
        if kind is not None:
            # Told to have ended: it ends so, or is undone. Else recovery finds out.
            ended = TRANSITIONS[S.SENT, kind].state
            assert ended in {told, S.APPROVED if told is S.SETTLED else S.UNKNOWN}
    assert {t for t, kind in AFTER_SENT.items() if kind is None} == {S.SCHEDULED, S.SENT, S.UNKNOWN}


def test_nothing_that_is_told_makes_an_incident_here() -> None:
    for here in PaymentState:
        for told in PaymentState:
            kind = catch_up(here, told)
            if kind is not None:
                assert (here, kind) not in IGNORED or not IGNORED[here, kind].incident, (here, told)
    assert catch_up(S.APPROVED, S.REVERSED) is E.CANCELLED
    assert catch_up(S.APPROVED, S.SETTLED) is None
    assert catch_up(S.SETTLED, S.APPROVED) is None


# --- finding again ---


def handed_on(*numbers: int, at: datetime = NOW, network: str = NETWORK, **fields: Any) -> list[HandedOn]:
    found = []
    for n in numbers:
        read = DISPATCH.read(dispatched_record(numbered_order(n, **fields), offset=n, at=at), NetworkId(NETWORK))
        found.append(HandedOn(read.order(), NetworkId(network), at, f"mypay.dispatch.{network}/0/{n}"))
    return found


async def find(rig: Rig, batch: Sequence[HandedOn], *told: Told, at: datetime | None = None) -> Found:
    known: dict[PaymentKey, Told] = {t.key: t for t in told}
    async with rig.store.transaction() as uow:
        several = ambiguous(batch)
        return await find_again(uow, batch, known, terminals=TERMINALS, now=at or later(60), several=several)


async def test_what_was_told_as_sent_is_asked_about_under_its_own_numbers_and_never_sent() -> None:
    rig = Rig()
    found = await find(rig, handed_on(1), told_of(1, S.SENT))
    row = rig.payment(1)
    assert (found.again, found.in_doubt) == ([row.key], [])
    assert (row.state, row.version, row.sent_by) == (S.SENT, 2, RESTORED)
    assert row.trace == payment_trace(1, TERMINALS, NOW)
    assert row.decided_at == NOW
    # As what a dead worker left.
    assert await rig.take_over() == 1
    assert rig.states() == {"order-1": "unknown"}
    assert rig.told() == ["payment.sent", "payment.unknown"]
    assert list(rig.database.reversals.rows) == [row.key]


@pytest.mark.parametrize(
    ("told", "state", "version"),
    [
        ((S.SENT, S.APPROVED), S.APPROVED, 4),
        ((S.SENT, S.APPROVED, S.SETTLED), S.APPROVED, 5),
        ((S.SENT, S.DECLINED), S.DECLINED, 4),
        ((S.SENT, S.UNKNOWN), S.SENT, 3),
        ((S.SENT, S.UNKNOWN, S.REVERSED), S.UNKNOWN, 5),
        ((S.SENT, S.APPROVED, S.REVERSING), S.UNKNOWN, 5),
        ((S.SENT, S.REJECTED), S.REJECTED, 4),
    ],
)
async def test_a_payment_goes_on_from_what_was_told_of_it(
    told: tuple[PaymentState, ...], state: PaymentState, version: int
) -> None:
    rig = Rig()
    await find(rig, handed_on(1), told_of(1, *told))
    row = rig.payment(1)
    assert (row.state, row.version) == (state, version)
    # Never a version that was told already, and none left out.
    told_now = [int(e.event_id.rpartition(":")[2]) for e in rig.events()]
    assert told_now == list(range(len(told) + 1, version + 1))


async def test_what_is_undone_again_has_a_reversal_and_what_is_asked_for_has_its_ledger() -> None:
    rig = Rig()
    await find(rig, handed_on(1, 2), told_of(1, S.SENT, S.UNKNOWN, S.REVERSED), told_of(2, S.SENT, S.APPROVED))
    assert list(rig.database.reversals.rows) == [rig.payment(1).key]
    assert rig.ledger_kinds() == ["authorised"]


async def test_what_nobody_was_told_of_is_in_doubt_without_numbers_and_stays_so() -> None:
    rig = Rig()
    found = await find(rig, handed_on(1))
    row = rig.payment(1)
    assert (found.again, found.in_doubt) == ([], [row.key])
    assert (row.state, row.trace, row.network_id, row.version) == (S.UNKNOWN, None, NETWORK, 1)
    assert rig.told() == ["payment.unknown"]
    # Nobody asks under numbers that it has not, and nobody gives it up.
    assert await rig.take_over() == 0
    assert not rig.database.reversals.rows
    assert not rig.database.inquiries.rows


async def test_an_order_that_comes_again_is_never_sent() -> None:
    rig = Rig()
    await find(rig, handed_on(1, 2), told_of(1, S.SENT, S.APPROVED))
    network = rig.new_network()
    async with rig.results(rig.new_execution(network=network)):
        await rig.execute([dispatched_record(numbered_order(n), offset=n) for n in (1, 2)])
    assert not rig.host.entries
    assert rig.states() == {"order-1": "approved", "order-2": "unknown"}


async def test_all_of_it_may_be_done_again() -> None:
    rig = Rig()
    told = told_of(1, S.SENT, S.APPROVED)
    first = await find(rig, handed_on(1, 2), told)
    before = [rig.payment(1), rig.payment(2), len(rig.events())]
    again = await find(rig, handed_on(1, 2), told, at=later(90))
    assert (len(first.again), len(first.in_doubt)) == (1, 1)
    assert again == Found()
    assert [rig.payment(1), rig.payment(2), len(rig.events())] == before


async def test_what_does_not_fit_is_left_out_and_named_and_the_others_stand() -> None:
    rig = Rig()
    told = told_of(1, S.SENT)
    assert told.sent is not None
    wrong = structs.replace(told, sent=told.sent.model_copy(update={"rrn": "000000000000"}))
    found = await find(rig, handed_on(1, 2), wrong)
    assert list(found.unplaced) == [wrong.key]
    assert rig.states() == {"order-2": "unknown"}


# --- handed on more than once ---


async def test_a_payment_stands_on_the_network_that_it_was_told_to_be_sent_to() -> None:
    """A due order was handed to a network that was closed, and after a while to another, which executed it."""
    rig = Rig()
    told = told_of(1, S.SENT, S.APPROVED)
    elsewhere = handed_on(1, network="acard")
    found = await find(rig, [*elsewhere, *handed_on(1)], told)
    assert (found.again, found.unplaced) == ([told.key], {})
    assert (rig.payment(1).network_id, rig.payment(1).state) == (NETWORK, S.APPROVED)
    # Where the right one is not there, none stands: it is named when what was told is gone through.
    rig = Rig()
    assert await find(rig, elsewhere, told) == Found()
    assert rig.states() == {}


@pytest.mark.parametrize("told", [(), (S.SCHEDULED,)])
async def test_where_nobody_was_told_which_of_several_was_sent_people_decide(told: tuple[PaymentState, ...]) -> None:
    known = [told_of(1, *told, trace=None, network_id=None)] if told else []
    for other in (handed_on(1, network="acard"), handed_on(1, amount=krw(7_000))):
        if told and other[0].network_id == NETWORK:
            continue  # of another content than was told, so it is no payment's
        rig = Rig()
        found = await find(rig, [*other, *handed_on(1)], *known)
        (why,) = found.unplaced.values()
        assert other[0].place in why
        assert rig.states() == {}
    # What came twice, to one network with one content, is one.
    rig = Rig()
    assert (await find(rig, [*handed_on(1), *handed_on(1)], *known)).unplaced == {}
    assert rig.states() == {"order-1": "unknown"}


@pytest.mark.parametrize("fields", [{"consent_id": "consent-2"}, {"merchant_id": "merchant-2"}, {"amount": krw(1)}])
async def test_another_order_under_the_same_id_is_not_the_payment_that_was_told(fields: dict[str, Any]) -> None:
    rig = Rig()
    told = told_of(1, S.SENT, S.APPROVED)
    found = await find(rig, [*handed_on(1, **fields), *handed_on(1)], told)
    assert (found.again, found.unplaced) == ([told.key], {})
    row = rig.payment(1)
    assert (row.consent_id, row.merchant_id, row.amount_minor) == (
        told.last.consent_id,
        told.last.merchant_id,
        told.last.amount.minor,
    )


@pytest.mark.parametrize("state", [S.REJECTED, S.REVERSED])
async def test_what_was_told_to_have_ended_unsent_stands_so_and_takes_no_limit(state: PaymentState) -> None:
    """A scheduled payment that was cancelled while its network was paused was handed on, and never sent."""
    rig = Rig()
    told = told_of(1, S.SCHEDULED, state, trace=None, network_id=None)
    found = await find(rig, handed_on(1), told)
    row = rig.payment(1)
    assert (found.again, found.in_doubt) == ([row.key], [])
    assert (row.state, row.version, row.trace, row.windows) == (state, 2, None, ())
    assert rig.events() == []
    assert not rig.database.reversals.rows


@pytest.mark.parametrize("state", [S.REJECTED, S.REVERSED])
async def test_so_does_one_that_waits_for_its_day_here(state: PaymentState) -> None:
    rig = Rig()
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(1, state=S.SCHEDULED, order_digest=handed_on(1)[0].received.digest)])
    (one,) = handed_on(1)
    assert isinstance(one.received, ReceivedOrder)
    due = structs.replace(one, received=structs.replace(one.received, is_due=True, proven=True))
    found = await find(rig, [due], told_of(1, S.SCHEDULED, state, trace=None, network_id=None))
    row = rig.payment(1)
    assert (found.again, found.in_doubt) == ([row.key], [])
    assert (row.state, row.version, row.windows) == (state, 2, ())
    assert rig.events() == []


# --- catching up ---


async def catching_up(rig: Rig, here: Payment, *told: PaymentState) -> Payment:
    async with rig.store.transaction() as uow:
        await uow.payments.insert([here])
    async with rig.store.transaction() as uow:
        await catch_up_with(uow, [told_of(1, *told)], now=later(60))
    return rig.payment(1)


async def test_a_payment_that_stands_behind_is_brought_up_and_its_versions_go_on() -> None:
    row = await catching_up(Rig(), numbered(1), S.SENT, S.APPROVED, S.SETTLED)
    assert (row.state, row.version) == (S.APPROVED, 4)


async def test_what_was_undone_since_is_undone_again() -> None:
    rig = Rig()
    row = await catching_up(rig, numbered(1, state=S.APPROVED, version=2), S.SENT, S.APPROVED, S.REVERSING, S.REVERSED)
    assert (row.state, row.version) == (S.REVERSING, 5)
    assert list(rig.database.reversals.rows) == [row.key]


async def test_what_was_told_as_sent_and_stands_nowhere_is_named() -> None:
    """It was handed on before what was read. What never left, or waits for its day, comes again from Kafka."""
    rig = Rig()
    told = [told_of(1, S.SENT, S.APPROVED), told_of(2, S.REJECTED, trace=None), told_of(3, S.SCHEDULED, trace=None)]
    async with rig.store.transaction() as uow:
        found = await catch_up_with(uow, told, now=later(60))
    assert found == Found(unplaced={told[0].key: NOT_HANDED_ON})
    assert rig.states() == {}


async def test_what_was_told_as_sent_and_waits_for_its_day_here_is_named() -> None:
    """It was handed on before what was read: named, or it would be handed on once more, and paid twice."""
    rig = Rig()
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(1, state=S.SCHEDULED)])
    told = told_of(1, S.SCHEDULED, S.SENT, S.APPROVED)
    async with rig.store.transaction() as uow:
        found = await catch_up_with(uow, [told], now=later(60))
    assert found == Found(unplaced={told.key: NOT_HANDED_ON})
    assert rig.states() == {"order-1": "scheduled"}


@pytest.mark.parametrize(
    ("told", "state", "reversals"),
    [
        ((S.APPROVED,), S.APPROVED, 0),
        ((S.APPROVED, S.SETTLED), S.APPROVED, 0),
        ((S.DECLINED,), S.DECLINED, 0),
        ((S.REVERSED,), S.UNKNOWN, 1),
        ((S.APPROVED, S.REVERSING, S.REVERSED), S.UNKNOWN, 1),
    ],
)
async def test_what_is_asked_about_here_and_was_told_to_have_ended_is_asked_about_no_more(
    told: tuple[PaymentState, ...], state: PaymentState, reversals: int
) -> None:
    """A network that remembers it no more would say that it never saw it: what was settled would be undone."""
    rig = Rig()
    async with rig.store.transaction() as uow:
        await uow.payments.insert([numbered(1)])
        await apply_changes(uow, [Change(numbered(1).key, E.INQUIRY_STARTED)], now=later(1))
    async with rig.store.transaction() as uow:
        found = await catch_up_with(uow, [told_of(1, S.SENT, S.UNKNOWN, *told)], now=later(60))
    row = rig.payment(1)
    assert (row.state, row.version, found.caught_up) == (state, 3 + len(told), [row.key])
    assert [r.closed_at is not None for r in rig.database.inquiries.rows.values()] == [True]
    assert len(rig.database.reversals.rows) == reversals
    assert rig.ledger_kinds() == (["authorised"] if state is S.APPROVED else [])


@pytest.mark.parametrize("told", [S.REVERSED, S.APPROVED])
async def test_what_is_being_undone_here_goes_on_being_undone(told: PaymentState) -> None:
    rig = Rig()
    async with rig.store.transaction() as uow:
        await uow.payments.insert([numbered(1)])
        await apply_changes(uow, [Change(numbered(1).key, E.UNANSWERED)], now=later(1))
    async with rig.store.transaction() as uow:
        await catch_up_with(uow, [told_of(1, S.SENT, S.UNKNOWN, told)], now=later(60))
    assert (rig.payment(1).state, rig.payment(1).version) == (S.UNKNOWN, 3)
    assert [r.closed_at for r in rig.database.reversals.rows.values()] == [None]


async def test_what_stands_as_it_was_told_is_left_alone() -> None:
    rig = Rig()
    here = numbered(1, state=S.APPROVED, version=2)
    assert await catching_up(rig, here, S.SENT, S.APPROVED) == here
    assert rig.events() == []


async def test_a_scheduled_payment_that_was_rejected_on_its_day_is_so_again() -> None:
    rig = Rig()
    refused = Reason(code=ReasonCode.MD01, text="no consent")
    here = payment(1, state=S.SCHEDULED)
    async with rig.store.transaction() as uow:
        await uow.payments.insert([here])
    rejected = structs.replace(here, state=S.REJECTED, version=2, reason=refused)
    async with rig.store.transaction() as uow:
        await catch_up_with(uow, [told_further(told_further(None, event(here)), event(rejected))], now=later(60))
    row = rig.payment(1)
    assert (row.state, row.version, row.reason) == (S.REJECTED, 3, refused)


# --- doubts ---


def doubt(number: int, minor: int) -> Doubt:
    return Doubt(("partner-1", UUID(int=number)), ("purchase", "SHOP", minor, "KRW"))  # type: ignore[arg-type]


def executed(number: int, minor: int) -> Executed:
    return Executed("cycle-1", number, f"{number:012d}", number, TERMINAL, ("purchase", "SHOP", minor, "KRW"))


@pytest.mark.parametrize(
    ("doubts", "cleared", "complete", "ends"),
    [
        ("a100 b200", "1:100 2:200", False, "a=1 b=2"),
        ("a100 b200", "1:100", True, "a=1 b=no"),
        ("a100 b200", "1:100", False, "a=1 b=?"),
        ("a100", "", True, "a=no"),
        ("a100", "", False, "a=?"),
        # One amount, one shop: where only some were cleared people decide, for the first may have been declined.
        ("a100 b100", "1:100 2:100", True, "a=1 b=2"),
        ("a100 b100", "1:100", True, "a=? b=?"),
        ("a100 b100", "1:100", False, "a=? b=?"),
        ("a100 b100", "", True, "a=no b=no"),
        # What is cleared beyond them stays a break.
        ("a100", "1:100 2:100 3:300", True, "a=1"),
    ],
)
def test_doubts_are_settled_by_what_was_cleared(doubts: str, cleared: str, complete: bool, ends: str) -> None:
    names = {d[0]: n for n, d in enumerate(doubts.split(), 1)}
    ours = tuple(doubt(names[d[0]], int(d[1:])) for d in doubts.split())
    theirs = tuple(executed(int(c.partition(":")[0]), int(c.partition(":")[2])) for c in cleared.split())
    settled = settle_doubts(ours, theirs, complete=complete)
    found = {d.key: str(e.record_no) for d, e in settled.executed}
    found |= dict.fromkeys((d.key for d in settled.not_executed), "no") | dict.fromkeys(
        (d.key for d in settled.open), "?"
    )
    assert " ".join(f"{name}={found['partner-1', UUID(int=n)]}" for name, n in names.items()) == ends  # type: ignore[index]


@given(
    st.lists(st.sampled_from([100, 200]), max_size=6), st.lists(st.sampled_from([100, 200]), max_size=6), st.booleans()
)
def test_each_doubt_ends_once_and_each_record_is_of_one(ours: list[int], theirs: list[int], complete: bool) -> None:
    doubts = tuple(doubt(n, minor) for n, minor in enumerate(ours, 1))
    cleared = tuple(executed(n, minor) for n, minor in enumerate(theirs, 1))
    settled = settle_doubts(doubts, cleared, complete=complete)
    ended = [d for d, _ in settled.executed] + [*settled.not_executed, *settled.open]
    assert sorted(d.key for d in ended) == sorted(d.key for d in doubts)
    assert len({e.record_no for _, e in settled.executed}) == len(settled.executed)
    assert all(d.terms == e.terms for d, e in settled.executed)
    for minor in (100, 200):
        ends = {d.key for d in settled.open if d.terms[2] == minor}
        cleared_of, ours_of = theirs.count(minor), ours.count(minor)
        assert len(ends) == (ours_of if (0 < cleared_of < ours_of or not (complete or cleared_of)) else 0)


@pytest.mark.parametrize(
    ("acceptors", "same"),
    [
        (["A", "B"], "A B"),
        (["AC", "B"], "AC B"),
        # One that passed from a merchant to another makes them one, in whatever order they come.
        (["AC", "CB", "D"], "ACB D"),
        (["A", "B", "C", "ABC"], "ABC"),
        (["AB", "CD", "BC"], "ABCD"),
    ],
)
def test_all_acceptor_ids_of_a_merchant_have_one_name(acceptors: list[str], same: str) -> None:
    found = shops(acceptors)
    assert found.keys() == set("".join(acceptors))
    assert {frozenset(one) for one in same.split()} == {
        frozenset(a for a, name in found.items() if name == wanted) for wanted in found.values()
    }


# --- proofs ---


def proven(number: int, jti: str) -> HandedOn:
    placed = numbered_order(number)
    proof = Assertion(
        *("issuer-1", "subject-1", ("mypay",), NOW, None, later(600), NOW, jti, "2", ("pin",), link_of(placed), "kid-1")
    )
    read = DISPATCH.read(dispatched_record(placed, offset=number, proof=proof), NetworkId(NETWORK))
    return HandedOn(read.order(), NetworkId(NETWORK), NOW, f"mypay.dispatch.{NETWORK}/0/{number}")


async def test_a_proof_that_was_used_is_used_up_again() -> None:
    rig = Rig()
    await find(rig, [proven(1, "jti-1"), proven(2, "jti-2")], told_of(1, S.SENT, S.APPROVED))
    used = {(use.jti, use.used_by) for use in rig.database.used_assertions.rows.values()}
    # Of the payment in doubt, too: it may have been sent.
    assert used == {("jti-1", rig.payment(1).payment_id), ("jti-2", rig.payment(2).payment_id)}


async def test_what_was_paid_without_a_proof_counts_in_the_exemption_from_the_last_proof_on() -> None:
    rig = Rig()
    exemption = LowValueExemption(max_amount=krw(10_000), max_count=3, max_sum=krw(30_000))
    with_exemption = consent(payment=purpose(low_value_exemption=exemption))
    rig.database.put_consent(with_exemption)
    told = [told_of(n, S.SENT, S.APPROVED) for n in (1, 2, 3)]
    await find(rig, [*handed_on(1), proven(2, "jti-2"), *handed_on(3)], *told)
    windows = [[w for w in rig.payment(n).windows if w.limit_key.startswith("exempt")] for n in (1, 2, 3)]
    assert windows[0] == [exempt_window(with_exemption.terms, None)]
    assert windows[1] == []
    assert windows[2] == [exempt_window(with_exemption.terms, NOW)]
