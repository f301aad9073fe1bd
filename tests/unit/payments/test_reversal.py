"""Reversals on fakes: 0420, then 0421, until the network confirms; one worker at a time; never dropped."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreUnavailableError
from gateway.consents.rules.limits import Usage
from gateway.directory.funding import OwnedToken
from gateway.directory.store import Unopened
from gateway.network.exchange import CardData, FinancialRequest, NetworkRequest, NotSentCause, ReversalRequest
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change
from gateway.payments.transitions import apply_changes
from gateway.payments.unknown.follow_ups import FollowUpSettings
from gateway.proving.memory import Behaviour, Fate
from gateway.proving.memory.host import EntryState
from schemas.consents import Period, PeriodLimit
from schemas.primitives import CustomerId, FundingToken
from tests.support.builders import TERMINAL, dispatched_record, numbered_order
from tests.support.domain_samples import consent, krw, merchant, purpose
from tests.support.faults import Faults
from tests.support.rig import PAN, Rig

AWAY = StoreUnavailableError("away")
HELD = Usage(10_000, 1)


@pytest.fixture
async def rig() -> Rig:
    """Order 1 was captured by the network, and its answer was lost."""
    rig = Rig(lambda _: Behaviour(Fate.ANSWER_LOST))
    limits = (PeriodLimit(period=Period.DAY, max_amount=krw(25_000)),)
    rig.database.put_consent(consent(payment=purpose(period_limits=limits)))
    await rig.execute([dispatched_record(numbered_order(1))])
    assert (rig.states(), rig.used()) == ({"order-1": "unknown"}, {HELD})
    rig.network.script = lambda _: Behaviour()
    return rig


def reversals(rig: Rig) -> Sequence[ReversalRequest]:
    return [r for r in rig.host.received if isinstance(r, ReversalRequest)]


def answer(rig: Rig, *behaviours: Behaviour) -> None:
    """The network's answers from now on; the last one stays."""
    left = list(behaviours)
    rig.network.script = lambda _: left.pop(0) if len(left) > 1 else left[0]


async def work_until_closed(rig: Rig, times: int) -> None:
    for _ in range(times):
        assert await rig.reversals.work() == 1
        rig.clock.advance(30)
    assert await rig.reversals.work() == 0


async def test_a_confirmed_reversal_ends_the_payment_and_gives_its_limits_back(rig: Rig) -> None:
    assert await rig.reversals.work() == 1
    (request,) = reversals(rig)
    sent = rig.host.received[0]
    assert isinstance(sent, FinancialRequest)
    assert (request.original, request.repeat) == (sent.trace, False)
    assert (request.amount_minor, request.currency, request.card) == (10_000, "KRW", CardData(PAN, "2912"))
    assert request.acceptor == sent.acceptor
    assert (request.trace.terminal_id, request.trace.rrn) == (TERMINAL, sent.trace.rrn)
    assert request.trace.stan != sent.trace.stan

    assert [e.state for e in rig.host.entries.values()] == [EntryState.REVERSED]
    assert rig.states() == {"order-1": "reversed"}
    assert rig.told() == ["payment.sent", "payment.unknown", "payment.reversed"]
    assert (rig.used(), rig.ledger_kinds(), rig.network.reserved) == ({Usage()}, [], 0)
    assert await rig.reversals.work() == 0


@pytest.mark.parametrize("code", ["25", "94"])
async def test_nothing_to_undo_is_a_confirmation_too(rig: Rig, code: str) -> None:
    answer(rig, Behaviour(code=code))
    await work_until_closed(rig, 1)
    assert rig.states() == {"order-1": "reversed"}
    assert rig.observer.counted("reversal", "incident") == 0
    assert [row.last_code for row in rig.database.reversals.rows.values()] == [code]


@pytest.mark.parametrize(("code", "incidents"), [("00", 0), ("25", 1), ("94", 0)])
async def test_that_the_network_holds_nothing_of_what_it_approved_is_told_to_people(code: str, incidents: int) -> None:
    rig = Rig()
    await rig.execute([dispatched_record(numbered_order(1))])
    async with rig.store.transaction() as uow:
        await apply_changes(uow, [Change(rig.payment(1).key, PaymentEventKind.CANCELLED)], now=rig.clock.now())
    assert rig.states() == {"order-1": "reversing"}
    answer(rig, Behaviour(code=code))
    await work_until_closed(rig, 1)
    assert rig.states() == {"order-1": "reversed"}
    assert rig.observer.counted("reversal", "incident") == incidents
    assert [row.last_code for row in rig.database.reversals.rows.values()] == [code]


# fmt: off
UNCONFIRMED = [
    # the first attempt                                              alerts
    (Behaviour(Fate.REQUEST_LOST),                                   0),
    (Behaviour(Fate.ANSWER_LOST),                                    0),
    (Behaviour(Fate.NOT_SENT),                                       0),
    (Behaviour(Fate.NOT_SENT, not_sent=NotSentCause.NOT_ENCODABLE),  1),
    (Behaviour(code="96"),                                           0),
    (Behaviour(code="91"),                                           0),
    (Behaviour(code="12"),                                           1),
    (Behaviour(code="?"),                                            1),
]
# fmt: on


@pytest.mark.parametrize(("first", "alert"), UNCONFIRMED)
async def test_what_is_not_confirmed_is_repeated_with_the_same_numbers(rig: Rig, first: Behaviour, alert: int) -> None:
    submitted: list[NetworkRequest] = []

    def script(request: NetworkRequest) -> Behaviour:
        submitted.append(request)
        return first if len(submitted) == 1 else Behaviour()

    rig.network.script = script
    assert await rig.reversals.work() == 1
    assert rig.states() == {"order-1": "unknown"}
    assert rig.used() == {HELD}
    assert rig.observer.counted("reversal", "alert") == alert
    rig.clock.advance(29.999)
    assert await rig.reversals.work() == 0
    rig.clock.advance(0.001)
    await work_until_closed(rig, 1)
    one, two = submitted
    assert isinstance(one, ReversalRequest)
    assert isinstance(two, ReversalRequest)
    assert (one.repeat, two.repeat) == (False, True)
    assert (one.trace, one.original) == (two.trace, two.original)
    assert rig.states() == {"order-1": "reversed"}


async def test_it_goes_on_for_as_long_as_it_takes_and_tells_people(rig: Rig) -> None:
    answer(rig, *[Behaviour(code="96")] * 9, Behaviour())
    for pause_s in (30, 60, 120, 240, 300, 300, 300, 300, 300, 300):
        assert await rig.reversals.work() == 1
        rig.clock.advance(pause_s - 1)
        assert await rig.reversals.work() == 0  # twice as long each time, up to five minutes
        rig.clock.advance(1)
    assert await rig.reversals.work() == 0
    assert [r.repeat for r in reversals(rig)] == [False] + [True] * 9
    # The sixth attempt comes after 750 s, the seventh after 1,050: past a quarter of an hour people are told.
    assert rig.observer.counted("reversal", "alert") == 3
    assert {n.event for n in rig.observer.notes} == {"reversal_open"}
    assert rig.states() == {"order-1": "reversed"}


async def test_two_workers_never_send_the_same_reversal_at_once(rig: Rig) -> None:
    rig.faults.hold("network.arrive")
    first = asyncio.create_task(rig.reversals.work())
    await rig.faults.reached("network.arrive")
    assert await rig.new_reversals("worker-2").work() == 0
    rig.faults.open("network.arrive")
    assert await first == 1
    assert len(reversals(rig)) == 1


async def test_a_dead_workers_reversal_is_repeated_when_its_lease_is_over(rig: Rig) -> None:
    rig.faults.hold("network.answer")
    dying = asyncio.create_task(rig.reversals.work())
    await rig.faults.reached("network.answer")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    rig.network.crash(requests_arrive=True)
    rig.faults.open("network.answer")

    survivor = rig.new_reversals("worker-2", rig.new_network())
    rig.clock.advance(60)
    assert await survivor.work() == 0
    rig.clock.advance(0.001)
    assert await survivor.work() == 1
    assert [r.repeat for r in reversals(rig)] == [False, True]
    assert rig.states() == {"order-1": "reversed"}
    assert rig.told().count("payment.reversed") == 1


async def test_an_answer_to_a_worker_that_was_told_to_stop_is_taken_by_nobody(rig: Rig) -> None:
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    rig.faults.hold("network.answer")
    stopping = asyncio.create_task(rig.reversals.work())
    await rig.faults.reached("network.answer")
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    rig.faults.open("network.answer")
    await rig.network.wait_idle()
    await asyncio.sleep(0)
    assert errors == []
    assert rig.states() == {"order-1": "unknown"}


async def test_a_worker_that_lost_its_lease_changes_nothing_with_its_late_answer(rig: Rig) -> None:
    rig.faults.hold("network.answer")
    slow = asyncio.create_task(rig.reversals.work())
    await rig.faults.reached("network.answer")
    rig.clock.advance(61)
    elsewhere = Faults()
    elsewhere.hold("network.answer")
    other = asyncio.create_task(rig.new_reversals("worker-2", rig.new_network(faults=elsewhere)).work())
    await elsewhere.reached("network.answer")

    rig.faults.open("network.answer")
    assert await slow == 1
    row = rig.database.reversals.rows[rig.payment(1).key]
    assert (row.closed_at, row.leased_by) == (None, "worker-2")
    assert rig.states() == {"order-1": "unknown"}

    elsewhere.open("network.answer")
    assert await other == 1
    assert rig.told().count("payment.reversed") == 1
    assert (rig.states(), rig.used()) == ({"order-1": "reversed"}, {Usage()})


@pytest.mark.parametrize(
    "place",
    ["reversals.claim", "payments.find", "vault.open", "reversals.close", "payments.lock", "store.commit"],
)
async def test_an_outage_is_waited_out_in_place(rig: Rig, place: str) -> None:
    rig.faults.plan(place, AWAY)
    assert await rig.reversals.work() == 1
    assert rig.faults.pending == 0
    assert len(reversals(rig)) == 1
    assert rig.states() == {"order-1": "reversed"}
    assert rig.told().count("payment.reversed") == 1
    assert rig.network.reserved == 0


async def test_a_confirmation_whose_commit_was_not_confirmed_counts_once(rig: Rig) -> None:
    rig.faults.plan("store.committed", None, AWAY)
    assert await rig.reversals.work() == 1
    assert rig.told().count("payment.reversed") == 1
    assert rig.used() == {Usage()}


@pytest.mark.parametrize("missing", ["card", "merchant"])
async def test_a_reversal_that_cannot_be_sent_stays_open_and_is_told(rig: Rig, missing: str) -> None:
    await _second_unknown(rig, card="token-2", merchant_id="merchant-2")
    if missing == "card":
        rig.vault.damaged[FundingToken("token-1")] = Unopened.NO_KEY
    else:
        rig.database.merchants.rows.pop("merchant-1")  # type: ignore[call-overload]
    assert await rig.reversals.work() == 2
    assert rig.states() == {"order-1": "unknown", "order-2": "reversed"}
    notes = [(n.event, n.fields["payment_id"]) for n in rig.observer.notes]
    assert ("follow_up_not_possible", rig.payment(1).payment_id) in notes
    assert rig.network.reserved == 0

    rig.vault.damaged.clear()
    rig.database.put_merchant(merchant())
    rig.clock.advance(30)
    await work_until_closed(rig, 1)
    assert rig.states()["order-1"] == "reversed"


async def _second_unknown(rig: Rig, *, card: str, merchant_id: str) -> None:
    rig.put_card(card)
    rig.database.put_consent(consent(consent_id="second", payment=purpose(funding_token=card)))
    rig.database.put_merchant(replace(merchant(), merchant_id=merchant_id))  # type: ignore[arg-type]
    answer(rig, Behaviour(Fate.ANSWER_LOST))
    order = numbered_order(2, consent_id="second", merchant_id=merchant_id)
    await rig.execute([dispatched_record(order)])
    answer(rig, Behaviour())


async def test_nothing_is_claimed_while_the_network_is_away(rig: Rig) -> None:
    rig.network.cut()
    waiting = asyncio.create_task(rig.reversals.work())
    await rig.faults.visited("network.wait_open", 1)
    assert rig.database.reversals.rows[rig.payment(1).key].leased_by is None
    rig.network.open()
    assert await waiting == 1
    assert rig.states() == {"order-1": "reversed"}


async def test_an_original_that_arrives_after_its_reversal_captures_nothing(rig: Rig) -> None:
    await rig.reversals.work()
    rig.faults.hold("network.arrive", visit=1)
    executing = asyncio.create_task(rig.execute([dispatched_record(numbered_order(2))]))
    await rig.faults.reached("network.arrive")
    rig.network.cut(requests_arrive=True)
    await executing
    assert rig.states()["order-2"] == "unknown"
    assert await rig.new_reversals("worker-2", rig.new_network()).work() == 1
    assert rig.states()["order-2"] == "reversed"

    rig.faults.open("network.arrive")
    await rig.network.wait_quiet()
    assert [e.state for e in rig.host.entries.values()] == [EntryState.REVERSED, EntryState.DECLINED]
    assert (rig.host.standing_minor(), rig.used()) == ({}, {Usage()})


async def test_a_flood_is_worked_off_a_batch_at_a_time(rig: Rig) -> None:
    rig.database.put_consent(consent())
    answer(rig, Behaviour(Fate.REQUEST_LOST))
    await rig.execute([dispatched_record(numbered_order(n), offset=n) for n in range(2, 252)])
    answer(rig, Behaviour())
    sizes = []
    while n := await rig.reversals.work():
        sizes.append(n)
    assert sizes == [100, 100, 51]
    assert set(rig.states().values()) == {PaymentState.REVERSED.value}
    assert len({r.trace.stan for r in reversals(rig)}) == 251


async def test_one_payment_that_cannot_be_written_takes_no_other_with_it(rig: Rig) -> None:
    """Its windows hold nothing to release: a bug that the database's rule stops."""
    rig.database.put_consent(consent(consent_id="second", payment=purpose()))
    answer(rig, Behaviour(Fate.ANSWER_LOST))
    await rig.execute([dispatched_record(numbered_order(n, consent_id="second")) for n in (2, 3)])
    answer(rig, Behaviour())
    broken = rig.payment(1)
    for window in broken.windows:
        rig.database.usage.rows[broken.partner_id, broken.consent_id, window] = Usage()
    assert await rig.reversals.work() == 3
    assert rig.states() == {"order-1": "unknown", "order-2": "reversed", "order-3": "reversed"}
    assert rig.database.reversals.rows[broken.key].closed_at is None
    assert ("payment_unwritable", broken.payment_id) in {
        (n.event, n.fields.get("payment_id")) for n in rig.observer.notes
    }
    # It waits for its lease to run out, and is tried again for ever: a reversal is never dropped.
    assert await rig.reversals.work() == 0
    rig.clock.advance(61)
    assert await rig.reversals.work() == 1


async def test_a_card_that_does_not_open_holds_up_no_other_reversal() -> None:
    rig = Rig(lambda _: Behaviour(Fate.ANSWER_LOST))
    rig.database.put_consent(consent(payment=purpose(funding_token=FundingToken("token-bad"))))
    rig.put_card("token-bad")
    await rig.execute([dispatched_record(numbered_order(1))])
    rig.database.put_consent(consent())
    await rig.execute([dispatched_record(numbered_order(2), offset=1)])
    rig.network.script = lambda _: Behaviour()
    rig.vault.damaged[FundingToken("token-bad")] = Unopened.CHANGED
    assert await rig.new_reversals("worker-2").work() == 2
    assert rig.states() == {"order-1": "unknown", "order-2": "reversed"}
    row = rig.database.reversals.rows[rig.payment(1).key]
    assert (row.closed_at, row.leased_by) == (None, None)


async def test_in_order_a_card_that_does_not_open_holds_up_no_other_reversal_of_its_terminal() -> None:
    """The oldest of a terminal goes first, unless it cannot go at all."""
    rig = Rig(lambda _: Behaviour(Fate.ANSWER_LOST))
    rig.put_card("token-2")
    rig.database.put_consent(consent(consent_id="second", payment=purpose(funding_token=FundingToken("token-2"))))
    await rig.execute([dispatched_record(numbered_order(1))])
    rig.clock.advance(1)
    await rig.execute([dispatched_record(numbered_order(2, consent_id="second"), offset=1)])
    rig.network.script = lambda _: Behaviour()
    rig.vault.damaged[FundingToken("token-1")] = Unopened.CHANGED
    ordered = rig.new_reversals("worker-2", settings=FollowUpSettings(in_order=True))
    assert await ordered.work() == 1
    assert rig.states() == {"order-1": "unknown", "order-2": "unknown"}
    assert await ordered.work() == 1
    assert rig.states() == {"order-1": "unknown", "order-2": "reversed"}
    rig.vault.damaged.clear()
    rig.clock.advance(30)
    assert await ordered.work() == 1
    assert rig.states() == {"order-1": "reversed", "order-2": "reversed"}


async def test_a_reversal_asks_nothing_of_permissions(rig: Rig) -> None:
    """It undoes what was paid while the partner was allowed to; the owner alone must be right."""
    rig.database.put_token("token-1", "customer-1")
    assert await rig.reversals.work() == 1
    assert rig.states() == {"order-1": "reversed"}


async def test_a_reversal_opens_its_card_as_the_consents_customers(rig: Rig) -> None:
    rig.vault.cards = {OwnedToken(FundingToken("token-1"), CustomerId("customer-2")): CardData(PAN)}
    assert await rig.reversals.work() == 1
    assert rig.states() == {"order-1": "unknown"}
