"""Execution on fakes: intents before the wire, limits to the last won, every result written once."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.limits import Usage
from gateway.network.exchange import (
    Answered,
    CardData,
    FinancialRequest,
    NetworkRequest,
    NotSentCause,
    Operation,
    UnansweredCause,
)
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import Behaviour, Fate, MemoryCardNetwork
from schemas.consents import ConsentStatus, Period, PeriodLimit
from schemas.events import OrderRefused, PaymentEvent
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import NETWORK, NOW, dispatched_record, later, numbered_order, order_record
from tests.support.domain_samples import consent, krw, merchant, purpose
from tests.support.instructions import dispatched_refund, refund
from tests.support.rig import PAN, Rig

R = ReasonCode
AWAY = StoreUnavailableError("away")
DAY_LIMIT = purpose(period_limits=(PeriodLimit(period=Period.DAY, max_amount=krw(25_000)),))


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.database.put_consent(consent(payment=DAY_LIMIT))
    return rig


def orders(*numbers: int, **fields: Any) -> list[Any]:
    return [dispatched_record(numbered_order(n, **fields), offset=n) for n in numbers]


def sent(rig: Rig) -> list[FinancialRequest]:
    return [r for r in rig.host.received if isinstance(r, FinancialRequest)]


# --- intent before the wire ---


async def test_the_intent_has_committed_before_the_network_is_asked(rig: Rig) -> None:
    seen: list[str] = []

    def look(request: NetworkRequest) -> Behaviour:
        assert isinstance(request, FinancialRequest)
        (stored,) = [p for p in rig.database.payments.rows.values() if p.trace == request.trace]
        assert (stored.state, stored.version, stored.network_id) == (PaymentState.SENT, 1, NETWORK)
        assert stored.key in {(e.topic.rsplit(".", 1)[1], p.payment_id) for e, p in told_of(rig)}
        assert rig.used() == {Usage(20_000, 2)}
        assert not rig.database.locks.waiting
        seen.append(stored.order_id)
        return Behaviour()

    rig.network.script = look
    await rig.execute(orders(1, 2))
    assert seen == ["order-1", "order-2"]


def told_of(rig: Rig) -> list[tuple[Any, PaymentEvent]]:
    return [(e, PaymentEvent.model_validate_json(e.body)) for e in rig.events()]


async def test_nothing_is_asked_of_the_network_when_the_intent_does_not_commit(rig: Rig) -> None:
    rig.faults.hold("store.commit")
    taking = asyncio.create_task(rig.execution.take(orders(1)))
    await rig.faults.reached("store.commit")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert (rig.host.received, rig.states(), rig.told(), rig.network.reserved) == ([], {}, [], 0)


async def test_a_request_carries_the_card_the_merchant_and_numbers_of_its_own(rig: Rig) -> None:
    await rig.execute(orders(1, 2))
    first, second = sent(rig)
    assert first.card == CardData(PAN, "2912")
    assert first.acceptor == merchant().acceptor
    assert (first.amount_minor, first.currency) == (10_000, "KRW")
    assert first.trace.transmitted_at == NOW.replace(microsecond=0)
    assert first.trace.stan != second.trace.stan
    assert first.trace.rrn != second.trace.rrn
    assert rig.payment(1).trace == first.trace


async def test_the_wire_is_reached_in_time_or_never(rig: Rig) -> None:
    """A commit that takes longer than the promised bound withdraws the intent: a revocation may have come since."""
    rig.faults.hold("store.commit")
    rig.execution._settings = replace(rig.execution._settings, intent_to_wire_s=-1.0)
    async with rig.results():
        taking = asyncio.create_task(rig.execution.take(orders(1)))
        await rig.faults.reached("store.commit")
        rig.faults.open("store.commit")
        await taking
        await rig.network.wait_idle()
        await rig.execution.results.written()
    assert rig.host.received == []
    assert rig.told() == ["payment.sent", "payment.rejected"]
    assert rig.payment(1).reason.code is R.TM01  # type: ignore[union-attr]
    assert rig.used() == {Usage()}


# --- told to stop ---


async def test_whoever_waits_for_a_place_is_told_to_stop_and_what_is_decided_comes_to_its_end(rig: Rig) -> None:
    """A batch waited on while its network was away, and the process ended only as it was cut short."""
    rig.network.window = 3
    rig.faults.hold("network.answer")
    async with rig.results():
        # The third order has a place, the fourth has none: nothing is decided of either.
        await rig.execution.take(orders(1, 2))
        await rig.faults.reached("network.answer")
        reserved = rig.faults.places.count("network.reserve")
        taking = asyncio.create_task(rig.execution.take(orders(3, 4, amount=krw(1_000))))
        await rig.faults.visited("network.reserve", reserved + 2)
        rig.execution.give_up()
        await asyncio.wait([taking], timeout=10)
        assert (taking.cancelled(), rig.network.reserved) == (True, 0)
        rig.faults.open("network.answer")
        await rig.network.wait_idle()
        await rig.execution.results.written()
    assert rig.states() == dict.fromkeys(("order-1", "order-2"), "approved")


async def test_who_was_told_to_stop_waits_for_no_place(rig: Rig) -> None:
    async with rig.store.transaction() as uow:
        await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
        taking = asyncio.create_task(rig.execution.take(orders(1)))
        await rig.until_locked_out()
        rig.execution.give_up()
    # It was about to be decided.
    assert await taking == []
    with pytest.raises(asyncio.CancelledError):
        await rig.execution.take(orders(2))


async def test_who_was_told_to_stop_does_not_wait_for_the_database_anew(rig: Rig) -> None:
    """A lock that is not given, or a database that is away, kept the process until it was cut short."""
    rig.faults.hold("store.commit")
    rig.faults.plan("store.commit", AWAY)
    taking = asyncio.create_task(rig.execution.take(orders(1)))
    await rig.faults.reached("store.commit")
    rig.execution.give_up()
    rig.faults.open("store.commit")
    await asyncio.wait([taking], timeout=10)
    assert (taking.cancelled(), rig.states(), rig.network.reserved) == (True, {}, 0)


# --- paused ---


async def test_what_waits_for_places_as_its_network_is_paused_is_not_decided(rig: Rig) -> None:
    """A network that is away, and is paused for that, was sent a whole batch once it came back."""
    rig.network.window = 2
    rig.faults.hold("network.answer")
    async with rig.results():
        assert await rig.execution.take(orders(1, 2)) == []
        await rig.faults.reached("network.answer")
        reserved = rig.faults.places.count("network.reserve")
        taking = asyncio.create_task(rig.execution.take(orders(3, 4, amount=krw(1_000))))
        await rig.faults.visited("network.reserve", reserved + 1)
        rig.database.network_pauses.rows[NETWORK] = True
        rig.faults.open("network.answer")
        waiting = await taking
        await rig.network.wait_idle()
        await rig.execution.results.written()
    assert [r.offset for r in waiting] == [3, 4]
    assert (rig.states(), rig.network.reserved) == (dict.fromkeys(("order-1", "order-2"), "approved"), 0)
    del rig.database.network_pauses.rows[NETWORK]
    await rig.execute(waiting)
    assert rig.states() == {f"order-{n}": "approved" for n in (1, 2, 3, 4)}


@pytest.mark.parametrize("waits_for", ["a lock", "the database"])
async def test_a_pause_that_comes_while_a_batch_waits_is_seen_as_it_is_decided(rig: Rig, waits_for: str) -> None:
    if waits_for == "a lock":
        async with rig.store.transaction() as uow:
            await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
            taking = asyncio.create_task(rig.execution.take(orders(1)))
            await rig.until_locked_out()
            rig.database.network_pauses.rows[NETWORK] = True
    else:
        rig.faults.hold("store.commit")
        rig.faults.plan("store.commit", AWAY)
        taking = asyncio.create_task(rig.execution.take(orders(1)))
        await rig.faults.reached("store.commit")
        rig.database.network_pauses.rows[NETWORK] = True
        rig.faults.open("store.commit")
    [waiting] = await taking
    assert waiting.offset == 1
    assert (rig.states(), rig.told(), rig.host.received, rig.network.reserved) == ({}, [], [], 0)


async def test_a_pause_that_comes_while_a_batch_waits_for_a_payment_is_seen_as_well(rig: Rig) -> None:
    """A refund's original is locked after the consents, by whoever settles it: that can take as long."""
    await rig.execute(orders(1))
    before = len(rig.host.received)
    async with rig.store.transaction() as uow:
        await uow.payments.lock([rig.payment().key])
        taking = asyncio.create_task(rig.execution.take([dispatched_refund(refund(1), 2), *orders(3)]))
        await rig.until_locked_out()
        rig.database.network_pauses.rows[NETWORK] = True
    waiting = await taking
    assert [r.offset for r in waiting] == [2, 3]
    assert (rig.states(), len(rig.host.received), rig.network.reserved) == ({"order-1": "approved"}, before, 0)
    del rig.database.network_pauses.rows[NETWORK]
    await rig.execute(waiting)
    assert rig.states() == dict.fromkeys(("order-1", "refund-1", "order-3"), "approved")


# --- refused at the instant of truth ---


async def test_an_order_that_expired_while_it_waited_is_refused_and_its_neighbours_are_sent(rig: Rig) -> None:
    rig.clock.set(later(300))
    fresh = dispatched_record(numbered_order(2, expires_at=later(600)), offset=2)
    await rig.execute([*orders(1), fresh])
    assert rig.states() == {"order-1": "rejected", "order-2": "approved"}
    assert rig.payment(1).reason.code is R.TM01  # type: ignore[union-attr]
    assert rig.payment(1).trace is None
    assert [r.trace.rrn for r in sent(rig)] == [rig.payment(2).trace.rrn]  # type: ignore[union-attr]


async def test_time_is_read_after_the_locks(rig: Rig) -> None:
    async with rig.store.transaction() as uow:
        await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
        executing = asyncio.create_task(rig.execute(orders(1)))
        await rig.until_locked_out()
        rig.clock.set(later(301))
    await executing
    assert rig.states() == {"order-1": "rejected"}


async def test_a_revocation_that_has_the_lock_first_lets_no_further_intent_commit(rig: Rig) -> None:
    await rig.execute(orders(1))
    rig.faults.hold("consents.update")
    key = ("partner-1", "consent-1")
    revoking = asyncio.create_task(
        change_consent_status(rig.store, rig.clock, key, ConsentCommand.REVOKE)  # type: ignore[arg-type]
    )
    await rig.faults.reached("consents.update")
    executing = asyncio.create_task(rig.execute(orders(2)))
    await rig.until_locked_out()
    rig.faults.open("consents.update")
    changed = await revoking
    await executing
    assert (changed.status, changed.in_flight) == (ConsentStatus.CANC, ())
    assert rig.states() == {"order-1": "approved", "order-2": "rejected"}
    assert rig.payment(2).reason.code is R.MD01  # type: ignore[union-attr]
    assert len(sent(rig)) == 1


async def test_a_revocation_names_what_was_already_in_flight(rig: Rig) -> None:
    rig.faults.hold("network.answer")
    executing = asyncio.create_task(rig.execute(orders(1)))
    await rig.faults.reached("network.answer")
    key = ("partner-1", "consent-1")
    changed = await change_consent_status(rig.store, rig.clock, key, ConsentCommand.REVOKE)  # type: ignore[arg-type]
    assert changed.in_flight == (rig.payment(1).payment_id,)
    rig.faults.open("network.answer")
    await executing
    assert rig.states() == {"order-1": "approved"}


async def test_a_batch_reserves_its_limits_order_by_order(rig: Rig) -> None:
    batch = [
        dispatched_record(numbered_order(1, amount=krw(10_000)), offset=1),
        dispatched_record(numbered_order(2, amount=krw(20_000)), offset=2),
        dispatched_record(numbered_order(3, amount=krw(15_000)), offset=3),
        dispatched_record(numbered_order(4, amount=krw(1)), offset=4),
    ]
    await rig.execute(batch)
    assert rig.states() == {"order-1": "approved", "order-2": "rejected", "order-3": "approved", "order-4": "rejected"}
    assert rig.payment(4).reason.code is R.SL14  # type: ignore[union-attr]
    assert rig.used() == {Usage(25_000, 2)}


async def test_what_is_in_flight_counts_against_the_limits(rig: Rig) -> None:
    rig.faults.hold("network.answer")
    async with rig.results():
        await rig.execution.take(orders(1, 2))
        await rig.execution.take(orders(3))
        assert rig.payment(3).reason.code is R.SL14  # type: ignore[union-attr]
        rig.faults.open("network.answer")
        await rig.network.wait_idle()
        await rig.execution.results.written()
    assert rig.used() == {Usage(20_000, 2)}


async def test_a_decline_gives_its_reservation_back(rig: Rig) -> None:
    rig.network.script = lambda _: Behaviour(code="51")
    await rig.execute(orders(1, 2))
    assert rig.used() == {Usage()}
    rig.network.script = lambda _: Behaviour()
    await rig.execute(orders(3, 4))
    assert rig.used() == {Usage(20_000, 2)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rig: rig.vault.cards.clear(), R.MS03),
        (lambda rig: rig.database.put_merchant(merchant(active=False)), R.AC07),
        (lambda rig: rig.database.put_consent(consent(ConsentStatus.SUSP)), R.TKSP),
    ],
    ids=["card gone from the vault", "merchant left", "consent suspended"],
)
async def test_what_changed_since_the_intake_is_seen(rig: Rig, change: Any, reason: ReasonCode) -> None:
    change(rig)
    await rig.execute(orders(1))
    assert rig.payment(1).reason.code is reason  # type: ignore[union-attr]
    assert (rig.host.received, rig.network.reserved) == ([], 0)
    assert rig.told() == ["payment.rejected"]


async def test_an_unreadable_record_is_parked_and_its_neighbours_are_sent(rig: Rig) -> None:
    junk = order_record(b"junk", offset=9, topic=f"mypay.dispatch.{NETWORK}", key=b"consent-1")
    unstamped = order_record(numbered_order(8), offset=8, topic=f"mypay.dispatch.{NETWORK}")
    await rig.execute([*orders(1), junk, unstamped, *orders(2)])
    assert [(p.stage, p.record.offset) for p in rig.dead_letters.parked] == [("execution", 9), ("execution", 8)]
    assert rig.states() == {"order-1": "approved", "order-2": "approved"}


# --- the same order again ---


async def test_an_order_twice_in_a_batch_is_sent_once_and_told_again(rig: Rig) -> None:
    await rig.execute([*orders(1), *orders(1)])
    assert len(sent(rig)) == 1
    assert rig.told() == ["payment.sent", "payment.reported", "payment.approved"]
    assert rig.used() == {Usage(10_000, 1)}


async def test_an_order_again_after_its_end_is_told_and_not_sent(rig: Rig) -> None:
    await rig.execute(orders(1))
    await rig.execute(orders(1))
    assert len(sent(rig)) == 1
    assert PaymentEvent.model_validate_json(rig.events()[-1].body).state == "approved"
    assert rig.told()[-1] == "payment.reported"


async def test_other_content_under_a_taken_id_is_refused_once_and_the_first_stands(rig: Rig) -> None:
    other = dispatched_record(numbered_order(1, amount=krw(1)), offset=5)
    await rig.execute([*orders(1), other])
    await rig.execute([other])
    assert [r.amount_minor for r in sent(rig)] == [10_000]
    assert rig.told() == ["payment.sent", "order.refused", "payment.approved"]
    refused = OrderRefused.model_validate_json(rig.events()[1].body)
    assert (refused.payment_id, refused.reason.code) == (rig.payment(1).payment_id, R.AM05)
    # The partner's own record: the dispatched one it has never seen.
    assert refused.reference == "mypay.orders/0/5"


async def test_one_order_id_under_two_consents_at_two_workers_is_one_payment(rig: Rig) -> None:
    rig.database.put_consent(consent(consent_id="second"))
    other_worker = rig.new_execution()
    rig.faults.hold("payments.insert")
    async with rig.results(), rig.results(other_worker):
        first = asyncio.create_task(rig.execution.take(orders(1)))
        second = asyncio.create_task(other_worker.take(orders(1, consent_id="second")))
        await rig.faults.visited("payments.insert", 2)
        rig.faults.open("payments.insert")
        await asyncio.gather(first, second)
        await rig.network.wait_idle()
        await rig.execution.results.written()
        await other_worker.results.written()
    assert len(sent(rig)) == 1
    assert rig.payment(1).consent_id == "consent-1"
    assert sorted(rig.told()) == ["order.refused", "payment.approved", "payment.sent"]


# --- results ---


def alter(**fields: Any) -> Behaviour:
    def change(answer: Answered) -> Answered:
        return replace(answer, **fields)

    return Behaviour(alter=change)


HELD, TAKEN = Usage(10_000, 1), Usage(10_000, 1)
USED = {"approved": TAKEN, "declined": Usage(), "rejected": Usage(), "unknown": HELD}
F, C, N = Fate, UnansweredCause, NotSentCause
# fmt: off
ENDS: dict[str, tuple[Behaviour, str, ReasonCode | None, str | None, bool]] = {
    #                      what the network does                             state       reason  DE39  incident
    "approved":            (Behaviour(),                                     "approved", None,   None, False),
    "insufficient funds":  (Behaviour(code="51"),                            "declined", R.AM04, "51", False),
    "lost card":           (Behaviour(code="41"),                            "declined", R.AC06, "41", False),
    "unlisted code":       (Behaviour(code="Z3"),                            "unknown",  R.MS03, "Z3", True),
    "in part only":        (Behaviour(code="10"),                            "unknown",  R.AM12, "10", False),
    "too late for it":     (Behaviour(code="68"),                            "unknown",  R.AB05, "68", False),
    "seen as duplicate":   (Behaviour(code="94"),                            "unknown",  R.DUPL, "94", True),
    "no code at all":      (alter(response_code="?"),                        "unknown",  R.MS03, None, True),
    "another amount":      (alter(amount_minor=9_999),                       "unknown",  R.MS03, None, True),
    "another currency":    (alter(currency_numeric="840"),                   "unknown",  R.MS03, None, True),
    "another RRN":         (alter(rrn="X" * 12),                             "unknown",  R.MS03, None, True),
    "no RRN, no currency": (alter(rrn=None, currency_numeric=None),          "approved", None,   None, False),
    "request lost":        (Behaviour(F.REQUEST_LOST),                       "unknown",  R.AB05, None, False),
    "answer lost":         (Behaviour(F.ANSWER_LOST),                        "unknown",  R.AB05, None, False),
    "link lost":           (Behaviour(F.ANSWER_LOST, unanswered=C.LINK_LOST), "unknown", R.AB07, None, False),
    "answer garbled":      (Behaviour(F.ANSWER_LOST, unanswered=C.GARBLED),  "unknown",  R.MS03, None, True),
    "no link":             (Behaviour(F.NOT_SENT, not_sent=N.NO_LINK),       "rejected", R.AB07, None, False),
    "too late to send":    (Behaviour(F.NOT_SENT, not_sent=N.TOO_LATE),      "rejected", R.TM01, None, False),
    "not encodable":       (Behaviour(F.NOT_SENT, not_sent=N.NOT_ENCODABLE), "rejected", R.FF02, None, True),
}
# fmt: on


@pytest.mark.parametrize("case", ENDS)
async def test_every_end_of_an_exchange_has_its_state_and_effects(rig: Rig, case: str) -> None:
    behaviour, state, reason, network_code, incident = ENDS[case]
    rig.network.script = lambda _: behaviour
    await rig.execute(orders(1))
    stored = rig.payment(1)
    assert (stored.state, stored.version) == (state, 2)
    why = (stored.reason.code, stored.reason.network_code) if stored.reason else (None, None)
    assert why == (reason, network_code)
    assert rig.used() == {USED[state]}
    assert rig.ledger_kinds() == (["authorised"] if state == "approved" else [])
    assert list(rig.database.reversals.rows) == ([stored.key] if state == "unknown" else [])
    assert rig.told() == ["payment.sent", f"payment.{state}"]
    assert rig.observer.counted("execution", "incident") == incident
    assert rig.network.reserved == 0


async def test_an_approval_keeps_the_networks_code(rig: Rig) -> None:
    await rig.execute(orders(1))
    assert rig.payment(1).approval_code == f"{rig.payment(1).trace.stan:06d}"  # type: ignore[union-attr]


async def test_results_of_a_batch_each_go_to_their_own_payment(rig: Rig) -> None:
    rig.database.put_consent(consent())
    codes = {1: "00", 2: "51", 3: "00", 4: "05"}
    amounts = {krw(n).minor: code for n, code in codes.items()}

    def by_amount(request: NetworkRequest) -> Behaviour:
        return Behaviour(code=amounts[request.amount_minor])

    rig.network.script = by_amount
    await rig.execute([dispatched_record(numbered_order(n, amount=krw(n)), offset=n) for n in codes])
    assert rig.states() == {
        "order-1": "approved",
        "order-2": "declined",
        "order-3": "approved",
        "order-4": "declined",
    }


@pytest.mark.parametrize("fate", [Fate.ANSWERED_LATE, Fate.ANSWERED_TWICE])
async def test_an_answer_that_nobody_waits_for_changes_nothing(rig: Rig, fate: Fate) -> None:
    rig.network.script = lambda _: Behaviour(fate)
    await rig.execute(orders(1))
    await rig.network.wait_quiet()
    assert len(rig.unmatched) == 1
    state = "unknown" if fate is Fate.ANSWERED_LATE else "approved"
    assert rig.states() == {"order-1": state}
    assert rig.payment(1).version == 2


# --- outages and crashes ---


# fmt: off
OUTAGES = [
    ("consents.lock",       (AWAY,)),
    ("vault.open",          (AWAY,)),
    ("payments.insert",     (StoreConflictError("lost"), StoreConflictError("lost"))),
    ("consents.add_usage",  (AWAY,)),
    ("store.commit",        (StoreConflictError("lost"), AWAY)),
    ("payments.lock",       (StoreConflictError("deadlock"), AWAY)),
    ("outbox.append",       (None, AWAY)),
]
# fmt: on


@pytest.mark.parametrize(("place", "errors"), OUTAGES)
async def test_an_outage_is_waited_out_in_place_and_each_order_is_sent_once(
    rig: Rig, place: str, errors: tuple[Exception | None, ...]
) -> None:
    rig.faults.plan(place, *errors)
    await rig.execute(orders(1, 2))
    assert rig.faults.pending == 0
    assert rig.states() == {"order-1": "approved", "order-2": "approved"}
    assert len(rig.host.entries) == len(rig.host.received) == 2
    assert rig.told() == ["payment.sent", "payment.sent", "payment.approved", "payment.approved"]
    assert rig.used() == {Usage(20_000, 2)}


async def test_a_transaction_that_is_run_again_takes_new_trace_numbers(rig: Rig) -> None:
    rig.faults.plan("store.commit", AWAY)
    await rig.execute(orders(1))
    assert rig.payment(1).trace.stan == 2  # type: ignore[union-attr]


async def test_results_whose_commit_was_not_confirmed_are_written_once(rig: Rig) -> None:
    rig.faults.plan("store.committed", None, AWAY)
    await rig.execute(orders(1))
    assert rig.told() == ["payment.sent", "payment.approved"]
    assert rig.used() == {TAKEN}
    assert rig.observer.counts["execution", "ignored_result", "approved+approved"] == 1


async def test_intents_whose_commit_was_not_confirmed_are_never_sent_and_taken_over_later(rig: Rig) -> None:
    rig.faults.plan("store.committed", AWAY)
    await rig.execute(orders(1))
    assert (rig.states(), rig.host.received, rig.network.reserved) == ({"order-1": "sent"}, [], 0)
    assert await rig.take_over() == 1
    assert rig.states() == {"order-1": "unknown"}
    assert list(rig.database.reversals.rows) == [rig.payment(1).key]


@pytest.mark.parametrize(
    "place", ["consents.lock", "store.commit", "store.committed", "network.leave", "network.answer"]
)
async def test_a_worker_that_dies_anywhere_sends_nothing_twice(rig: Rig, place: str) -> None:
    rig.faults.hold(place)
    dying = asyncio.create_task(rig.execute(orders(1)))
    await rig.faults.reached(place)
    dying.cancel()
    rig.network.crash(requests_arrive=True)
    await asyncio.gather(dying, return_exceptions=True)
    rig.faults.open(place)

    survivor_network = rig.new_network()
    survivor = rig.new_execution(survivor_network)
    async with rig.results(survivor):
        await survivor.take(orders(1))
        await survivor_network.wait_idle()
        await survivor.results.written()
    assert len(rig.host.entries) <= 1
    assert sum(e.times_seen for e in rig.host.entries.values()) <= 1
    assert rig.states()["order-1"] in {"approved", "sent"}


async def test_an_intake_that_cannot_park_waits_for_kafka(rig: Rig) -> None:
    rig.faults.plan("dead_letters.park", PublisherUnavailableError("away"))
    await rig.execute([order_record(b"junk", offset=9, key=b"k"), *orders(1)])
    assert len(rig.dead_letters.parked) == 1
    assert rig.states() == {"order-1": "approved"}


# --- recovery ---


async def test_a_result_that_comes_after_the_takeover_changes_nothing(rig: Rig) -> None:
    rig.faults.hold("network.answer")
    executing = asyncio.create_task(rig.execute(orders(1)))
    await rig.faults.reached("network.answer")
    assert await rig.take_over() == 1
    rig.faults.open("network.answer")
    await executing
    assert rig.states() == {"order-1": "unknown"}
    assert rig.told() == ["payment.sent", "payment.unknown"]
    assert rig.used() == {HELD}
    assert rig.ledger_kinds() == []
    assert rig.observer.counts["execution", "ignored_result", "unknown+approved"] == 1


@pytest.mark.parametrize(("code", "state"), [("00", "approved"), ("51", "declined"), ("68", "unknown")])
async def test_a_result_that_comes_after_the_takeover_is_what_the_network_is_asked_for(
    rig: Rig, code: str, state: str
) -> None:
    rig.network.script = lambda _: Behaviour(code=code)
    rig.execution = rig.new_execution(policy=UnknownPolicy.INQUIRE)
    rig.faults.hold("network.answer")
    executing = asyncio.create_task(rig.execute(orders(1)))
    await rig.faults.reached("network.answer")
    assert await rig.take_over(policy=UnknownPolicy.INQUIRE) == 1
    rig.faults.open("network.answer")
    await executing
    assert rig.states() == {"order-1": state}
    (inquiry,) = rig.database.inquiries.rows.values()
    assert (inquiry.closed_at is None) == (state == "unknown")
    assert rig.database.reversals.rows == {}
    assert (rig.payment(1).approval_code is not None) == (state == "approved")
    assert rig.used() == {Usage() if state == "declined" else HELD}


async def test_no_card_number_is_in_anything_that_is_kept_or_told(rig: Rig) -> None:
    requests: list[NetworkRequest] = []

    def unencodable(request: NetworkRequest) -> Behaviour:
        requests.append(request)
        return Behaviour(Fate.NOT_SENT, not_sent=NotSentCause.NOT_ENCODABLE)

    rig.network.script = unencodable
    await rig.execute(orders(1))
    kept = repr((requests, rig.database.payments.rows, rig.events(), rig.observer, rig.dead_letters.parked))
    assert "order-1" in kept
    assert PAN not in kept


async def test_what_was_sent_is_not_refused_when_it_comes_again_after_its_key_was_disabled() -> None:
    rig = Rig()
    paid, bought = dispatched_record(numbered_order(1)), dispatched_refund(refund(1), 1)
    await rig.execute([paid])
    await rig.execute([bought])
    assert rig.told().count("payment.approved") == 2
    rig.verifier.refused["good"] = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
    await rig.execute([paid, bought, dispatched_record(numbered_order(3), offset=3)])
    assert rig.told().count("payment.reported") == 2
    assert rig.told().count("order.refused") == 1
    assert [r.reference for r in rig.database.refusals.rows.values()] == ["mypay.orders/0/3"]
    assert len(rig.host.received) == 2


# --- a network that is tried again after an outage ---


class OnTrial(MemoryCardNetwork):
    """Lets two requests at a time through, and gives nobody more who holds some."""

    async def reserve(self, wanted: int, *, follow_up: bool = False, held: int = 0) -> int:
        return 0 if held else await super().reserve(min(wanted, 2), follow_up=follow_up)


async def test_a_batch_is_sent_in_parts_where_a_trial_gives_no_more_places(rig: Rig) -> None:
    rig.database.put_consent(consent(payment=purpose()))
    rig.network = OnTrial(NetworkId(NETWORK), rig.host)
    rig.execution = rig.new_execution()
    async with asyncio.timeout(60):
        await rig.execute(orders(1, 2, 3, 4, 5))
    assert rig.states() == {f"order-{n}": "approved" for n in range(1, 6)}
    assert [r.trace.rrn for r in sent(rig)] == [rig.payment(n).trace.rrn for n in range(1, 6)]  # type: ignore[union-attr]
    assert rig.network.reserved == 0


# --- orders and refunds of one batch ---


async def test_the_orders_and_refunds_of_a_batch_are_decided_in_one_transaction(rig: Rig) -> None:
    await rig.execute(orders(1))
    before = len(rig.faults.places)
    await rig.execution.take([*orders(2), dispatched_refund(refund(1), 3), *orders(4, amount=krw(5_000))])
    once = ("consents.lock", "payments.lock", "payments.insert", "outbox.append", "store.commit")
    assert {place: rig.faults.places[before:].count(place) for place in once} == dict.fromkeys(once, 1)
    assert rig.states() == {"order-1": "approved", "order-2": "sent", "refund-1": "sent", "order-4": "sent"}


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
async def test_where_a_batch_ends_changes_nothing_of_what_is_decided(rig: Rig, cut: int) -> None:
    """Of a refund and an order under one id the first stands, as where they come in two batches."""
    await rig.execute(orders(1))
    batch = [
        dispatched_refund(refund(1), 1),
        dispatched_record(numbered_order(9, order_id="refund-1"), offset=2),
        dispatched_record(numbered_order(2), offset=3),
    ]
    for part in (batch[:cut], batch[cut:]):
        await rig.execute(part)
    assert rig.states() == {"order-1": "approved", "refund-1": "approved", "order-2": "approved"}
    assert [r.reference for r in rig.database.refusals.rows.values()] == ["mypay.orders/0/2"]
    assert [r.operation for r in sent(rig)] == [Operation.PURCHASE, Operation.REFUND, Operation.PURCHASE]


async def test_a_refund_of_what_its_own_batch_sends_is_too_early(rig: Rig) -> None:
    await rig.execute([*orders(1), dispatched_refund(refund(1), 2)])
    assert rig.states() == {"order-1": "approved", "refund-1": "rejected"}
