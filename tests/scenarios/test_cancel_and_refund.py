"""Cancellations and refunds on fakes, from the partner's record to the last event and the books of all three sides."""

import asyncio
import json
from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreConflictError
from gateway.consents.rules.limits import Usage
from gateway.directory.store import Unopened
from gateway.messaging.records import Record
from gateway.network.exchange import FinancialRequest, NetworkRequest, Operation, ReversalRequest
from gateway.payments.cancellations.rules import CutOver
from gateway.proving.memory import Behaviour, Fate
from schemas.codec import decode
from schemas.consents import ConsentStatus, Period, PeriodLimit
from schemas.events import CancellationAccepted, CancellationEffect, CancellationRefused, EventType, PaymentEvent
from schemas.primitives import FundingToken, NetworkId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from schemas.topics import dispatch_topic
from tests.scenarios.test_way_of_a_payment import clear, work
from tests.support.builders import NETWORK, numbered_order, order_record
from tests.support.domain_samples import consent, krw, order, purpose
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.rig import TAMPERED, Rig

LIMIT = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))
ORDER = order_record(numbered_order(1, amount=krw(10_000)), offset=0)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.database.put_consent(consent(payment=purpose(period_limits=(LIMIT,))))
    return rig


async def send(rig: Rig, *records: Record) -> None:
    """Hand partners' records to the intake in one batch, and let every stage work."""
    await rig.initiation.take(records)
    await work(rig)
    while await rig.waiting.work():
        pass
    await work(rig)


def answers_to_cancellations(rig: Rig) -> list[tuple[str, str, str]]:
    """(cancellation, effect or reason, reference) of every answer, in order."""
    told = []
    for event in rig.events():
        if event.event_type == EventType.CANCELLATION_ACCEPTED:
            accepted = decode(CancellationAccepted, event.body)
            told.append((accepted.cancellation_id, accepted.effect.value, event.event_id))
        elif event.event_type == EventType.CANCELLATION_REFUSED:
            refused = decode(CancellationRefused, event.body)
            told.append((refused.cancellation_id, refused.reason.code.value, event.event_id))
    return told


def refund_state(rig: Rig, number: int = 1) -> tuple[str, str | None]:
    payment = rig.database.payments.rows["partner-1", payment_id_of("partner-1", f"refund-{number}")]  # type: ignore[index]
    return payment.state.value, payment.reason and payment.reason.code.value


# --- cancellations ---


async def test_an_order_behind_its_cancellation_is_never_sent(rig: Rig) -> None:
    await send(rig, instruction_record(cancellation(), 0), order_record(numbered_order(1), offset=1))
    assert rig.states() == {"order-1": "rejected"}
    assert rig.payment().reason.code is ReasonCode.DS02  # type: ignore[union-attr]
    assert not rig.host.received
    assert answers_to_cancellations(rig) == [("cancellation-1", "not_sent", "mypay.orders/0/0")]


async def test_a_cancellation_catches_an_order_that_waits_for_its_network(rig: Rig) -> None:
    await rig.initiation.take([ORDER])
    await rig.initiation.take([instruction_record(cancellation(), 1)])
    await rig.execute(await rig.consumer(dispatch_topic(NETWORK)).take(10))
    assert rig.states() == {"order-1": "rejected"}
    assert not rig.host.received


async def test_an_order_that_never_comes_leaves_its_cancellation_alone(rig: Rig) -> None:
    await send(rig, instruction_record(cancellation(7), 0), ORDER)
    assert rig.states() == {"order-1": "approved"}
    assert answers_to_cancellations(rig) == [("cancellation-7", "not_sent", "mypay.orders/0/0")]


async def test_an_approved_payment_is_reversed_and_its_limits_given_back(rig: Rig) -> None:
    await send(rig, ORDER)
    assert rig.used() == {Usage(10_000, 1)}
    await send(rig, instruction_record(cancellation(), 1))
    assert rig.states() == {"order-1": "reversed"}
    assert rig.payment().reason.code is ReasonCode.DS02  # type: ignore[union-attr]
    assert answers_to_cancellations(rig) == [("cancellation-1", "reversing", "mypay.orders/0/1")]
    assert rig.told(str(rig.payment().payment_id)) == [
        "payment.sent",
        "payment.approved",
        "payment.reversing",
        "cancellation.accepted",
        "payment.reversed",
    ]
    assert rig.host.standing_minor() == {}
    assert rig.used() == {Usage()}
    assert set(rig.balances().values()) == {0}


async def test_a_settled_payment_is_not_undone(rig: Rig) -> None:
    await send(rig, ORDER)
    await clear(rig)
    await send(rig, instruction_record(cancellation(), 1))
    assert rig.states() == {"order-1": "settled"}
    assert answers_to_cancellations(rig) == [("cancellation-1", "TM01", "mypay.orders/0/1")]


async def test_past_the_cut_over_a_refund_is_advised(rig: Rig) -> None:
    rig.cut_overs[NetworkId(NETWORK)] = CutOver(time(23, 30), ZoneInfo("Asia/Seoul"))
    await send(rig, ORDER, order_record(numbered_order(2), offset=1))
    # It is 12:04:05 in Seoul.
    rig.clock.advance(timedelta(hours=11, minutes=25).total_seconds())
    await send(rig, instruction_record(cancellation(1), 2))
    rig.clock.advance(timedelta(minutes=1).total_seconds())
    await send(rig, instruction_record(cancellation(2), 3))
    assert rig.states() == {"order-1": "reversed", "order-2": "approved"}
    assert [a[:2] for a in answers_to_cancellations(rig)] == [
        ("cancellation-1", "reversing"),
        ("cancellation-2", "TM01"),
    ]


async def test_a_record_is_answered_once_and_an_id_alike(rig: Rig) -> None:
    first = instruction_record(cancellation(), 1)
    await send(rig, ORDER)
    await send(rig, first)
    for records in ([first], [first, first], [instruction_record(cancellation(), 2)]):
        await rig.initiation.take(records)
    await rig.initiation.take([instruction_record(cancellation(reason_text="other"), 3)])
    assert answers_to_cancellations(rig) == [
        ("cancellation-1", "reversing", "mypay.orders/0/1"),
        ("cancellation-1", "reversing", "mypay.orders/0/2"),
        ("cancellation-1", "AM05", "mypay.orders/0/3"),
    ]
    assert rig.payment().version == 4


async def test_a_cancellation_that_its_partner_did_not_sign_does_nothing(rig: Rig) -> None:
    await send(rig, ORDER, instruction_record(cancellation(), 1, signature=TAMPERED))
    assert rig.states() == {"order-1": "approved"}
    assert answers_to_cancellations(rig) == []
    assert rig.told("mypay.orders/0/1") == []
    assert [p.record.offset for p in rig.dead_letters.parked] == [1]


FAULTS = {
    # What is wrong: (the event, under which id, how the reason begins)
    "a reason that is too long": (
        b'"reason_text":"',
        b'"reason_text":"' + b"x" * 140,
        "cancellation.refused",
        "cancellation-1",
    ),
    "no order that can be read": (b'"order_id":"', b'"order_id":"/', "order.refused", "cancellation-1"),
    "no id that can be read": (b'"cancellation_id":"', b'"cancellation_id":"/', "order.refused", "mypay.orders/0/1"),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_a_cancellation_with_a_fault_is_answered_with_the_field(rig: Rig, case: str) -> None:
    old, new, kind, id_ = FAULTS[case]
    good = instruction_record(cancellation(reason_text="ordered twice"), 1)
    await send(rig, ORDER, replace(good, value=good.value.replace(old, new)))
    assert rig.states() == {"order-1": "approved"}
    (event,) = [e for e in rig.events() if e.event_id == "mypay.orders/0/1"]
    told = json.loads(event.body)
    assert event.event_type == f"kr.mypay.{kind}.v1"
    assert told["cancellation_id" if kind == "cancellation.refused" else "order_id"] == id_
    assert (told["reason"]["code"], told["reason"]["text"].partition(":")[0]) == ("FF01", old.decode().split('"')[1])


async def test_anothers_payment_is_out_of_reach(rig: Rig) -> None:
    foreign = cancellation(partner_id="partner-2")
    await send(rig, ORDER, instruction_record(foreign, 1))
    assert rig.states() == {"order-1": "approved"}
    assert [a[1] for a in answers_to_cancellations(rig)] == ["MD01"]


async def test_a_lost_race_for_the_transaction_is_run_again(rig: Rig) -> None:
    await send(rig, ORDER)
    rig.faults.plan("store.committed", StoreConflictError("lost"))
    await send(rig, instruction_record(cancellation(), 1))
    assert rig.states() == {"order-1": "reversed"}
    assert answers_to_cancellations(rig) == [("cancellation-1", "reversing", "mypay.orders/0/1")]


async def in_flight(rig: Rig) -> None:
    """Send the order, its answer kept back, and cancel it meanwhile."""
    rig.faults.hold("network.answer")
    await rig.initiation.take([ORDER])
    await rig.execution.take(await rig.consumer(dispatch_topic(NETWORK), "execution").take(10))
    await rig.faults.reached("network.answer")
    await rig.initiation.take([instruction_record(cancellation(), 1)])
    assert rig.states() == {"order-1": "sent"}
    assert await rig.waiting.work() == 0
    async with rig.results():
        rig.faults.open("network.answer")
        await rig.network.wait_idle()
        await rig.execution.results.written()


@pytest.mark.parametrize(
    ("behaviour", "state", "answers"),
    [
        (Behaviour(), "reversed", [CancellationEffect.ONCE_KNOWN]),
        (Behaviour(code="51"), "declined", [CancellationEffect.ONCE_KNOWN]),
        (Behaviour(code="68"), "reversed", [CancellationEffect.ONCE_KNOWN]),
    ],
)
async def test_what_is_in_flight_is_undone_once_it_is_known(
    behaviour: Behaviour, state: str, answers: list[str]
) -> None:
    rig = Rig(lambda r: behaviour if isinstance(r, FinancialRequest) else Behaviour())
    await in_flight(rig)
    await send(rig)
    assert rig.states() == {"order-1": state}
    assert [a[1] for a in answers_to_cancellations(rig)] == answers
    assert not any(row.is_open for row in rig.database.cancellations.rows.values())
    assert rig.host.standing_minor() == {}
    # Told again, it is what became of it.
    await rig.initiation.take([instruction_record(cancellation(), 2)])
    done = "reversing" if behaviour == Behaviour() else "once_known"
    assert answers_to_cancellations(rig)[-1] == ("cancellation-1", done, "mypay.orders/0/2")


async def test_what_was_settled_before_it_could_be_undone_is_told(rig: Rig) -> None:
    await in_flight(rig)
    await clear(rig)
    assert await rig.waiting.work() == 1
    assert await rig.waiting.work() == 0
    assert rig.states() == {"order-1": "settled"}
    assert answers_to_cancellations(rig) == [
        ("cancellation-1", "once_known", "mypay.orders/0/1"),
        ("cancellation-1", "TM01", "mypay.orders/0/1:lapsed"),
    ]


async def test_a_refund_waits_for_a_cancellation_that_is_being_carried_out(rig: Rig) -> None:
    await in_flight(rig)
    rig.faults.hold("cancellations.update")
    carrying_out = asyncio.create_task(rig.waiting.work())
    await rig.faults.reached("cancellations.update")
    refunding = asyncio.create_task(rig.execute([dispatched_refund(refund(), 2)]))
    while not rig.database.locks.waiting:
        assert not refunding.done()
        await asyncio.sleep(0)
    rig.faults.open("cancellations.update")
    await asyncio.gather(carrying_out, refunding)
    assert rig.states() == {"order-1": "reversing", "refund-1": "rejected"}
    assert refund_state(rig) == ("rejected", "ARDT")


# --- refunds ---


async def test_a_refund_goes_the_whole_way_and_the_books_agree(rig: Rig) -> None:
    await send(rig, ORDER)
    await send(rig, instruction_record(refund(1, 2_500), 1), instruction_record(refund(2, 7_500), 2))
    assert rig.states() == {"order-1": "approved", "refund-1": "approved", "refund-2": "approved"}
    assert rig.host.standing_minor() == {"KRW": 0}
    assert [r.operation for r in rig.host.received if isinstance(r, FinancialRequest)] == [
        Operation.PURCHASE,
        Operation.REFUND,
        Operation.REFUND,
    ]
    # What was paid stays counted: a refund gives no limit back.
    assert rig.used() == {Usage(10_000, 1)}
    assert set(rig.balances().values()) == {0}
    await clear(rig)
    assert set(rig.states().values()) == {"settled"}
    assert set(rig.balances().values()) == {0}
    events = [decode(PaymentEvent, e.body) for e in rig.events() if e.event_type.startswith("kr.mypay.payment.")]
    original = payment_id_of("partner-1", "order-1")
    assert {e.order_id: e.original_payment_id for e in events} == {
        "order-1": None,
        "refund-1": original,
        "refund-2": original,
    }


async def test_obligations_after_a_partial_refund_are_the_difference(rig: Rig) -> None:
    await send(rig, ORDER)
    await send(rig, instruction_record(refund(1, 2_500), 1))
    balances = rig.balances()
    assert sorted(balances.values()) == [-7_500, 7_500]
    await clear(rig)
    assert set(rig.balances().values()) == {0}


async def test_more_than_what_remains_is_not_refunded(rig: Rig) -> None:
    await send(rig, ORDER)
    await send(rig, *(instruction_record(refund(n, 4_000), n) for n in (1, 2, 3)))
    assert [refund_state(rig, n) for n in (1, 2, 3)] == [("approved", None), ("approved", None), ("rejected", "AM02")]
    assert rig.host.standing_minor() == {"KRW": 2_000}


async def test_a_refund_that_failed_leaves_its_amount_to_be_refunded(rig: Rig) -> None:
    declined = iter([Behaviour(code="57"), Behaviour(fate=Fate.ANSWER_LOST)])

    def script(request: NetworkRequest) -> Behaviour:
        is_refund = isinstance(request, FinancialRequest) and request.operation is Operation.REFUND
        return next(declined, Behaviour()) if is_refund else Behaviour()

    rig = Rig(script)
    await send(rig, ORDER)
    await send(rig, instruction_record(refund(1, 10_000), 1))
    assert refund_state(rig, 1) == ("declined", "AG01")
    # Booked by the network, its answer lost: undone, as any payment is.
    await send(rig, instruction_record(refund(2, 10_000), 2))
    assert refund_state(rig, 2)[0] == "reversed"
    assert [r.operation for r in rig.host.received if isinstance(r, ReversalRequest)] == [Operation.REFUND]
    assert rig.host.standing_minor() == {"KRW": 10_000}
    await send(rig, instruction_record(refund(3, 10_000), 3))
    assert refund_state(rig, 3) == ("approved", None)
    assert rig.host.standing_minor() == {"KRW": 0}


async def test_money_goes_back_whatever_became_of_the_consent(rig: Rig) -> None:
    await send(rig, ORDER)
    rig.database.put_consent(consent(ConsentStatus.CANC))
    await send(rig, instruction_record(refund(), 1))
    assert refund_state(rig) == ("approved", None)


async def test_what_is_refunded_is_not_cancelled_and_what_is_cancelled_is_not_refunded(rig: Rig) -> None:
    await send(rig, ORDER, order_record(numbered_order(2), offset=1))
    await send(rig, instruction_record(refund(1, 1), 2), instruction_record(cancellation(2), 3))
    await send(
        rig,
        instruction_record(cancellation(1), 4),
        instruction_record(refund(2, 1, original_order_id="order-2"), 5),
    )
    assert rig.states() == {
        "order-1": "approved",
        "order-2": "reversed",
        "refund-1": "approved",
        "refund-2": "rejected",
    }
    assert refund_state(rig, 2) == ("rejected", "ARDT")
    assert answers_to_cancellations(rig)[-1][:2] == ("cancellation-1", "ARDT")


async def test_a_refund_can_be_cancelled_only_before_it_is_sent(rig: Rig) -> None:
    await send(rig, ORDER)
    early = cancellation(5, order_id="refund-1")
    await send(rig, instruction_record(early, 1))
    await send(rig, instruction_record(refund(1), 2), instruction_record(refund(2), 3))
    await send(rig, instruction_record(cancellation(6, order_id="refund-2"), 4))
    assert refund_state(rig, 1) == ("rejected", "DS02")
    assert refund_state(rig, 2) == ("approved", None)
    assert [a[1] for a in answers_to_cancellations(rig)] == ["not_sent", "AG13"]


async def test_a_refund_without_an_original_uses_no_order_id_up(rig: Rig) -> None:
    await send(rig, instruction_record(refund(), 0))
    assert rig.states() == {}
    assert rig.told("mypay.orders/0/0") == ["order.refused"]
    await send(rig, order_record(numbered_order(1), offset=1))
    await send(rig, instruction_record(refund(), 2))
    assert refund_state(rig) == ("approved", None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"expires_at": order().issued_at + timedelta(seconds=0.5)}, "TM01"), ({"original_order_id": "order-9"}, "AG01")],
)
async def test_a_refund_that_no_network_needs_to_see_is_rejected_at_the_intake(
    rig: Rig, fields: dict[str, object], reason: str
) -> None:
    # order-9 was refused before it was sent.
    await send(rig, ORDER, order_record(numbered_order(9, amount=krw(60_000)), offset=1))
    await rig.initiation.take([instruction_record(refund(**fields), 2)])
    assert refund_state(rig) == ("rejected", reason)
    assert not await rig.consumer(dispatch_topic(NETWORK), "execution").take(1)


async def test_a_refund_that_one_worker_refuses_is_not_rejected_by_another_that_has_the_same_record(rig: Rig) -> None:
    record = instruction_record(refund(original_order_id="order-9"), 2)
    # The slow worker has looked for refusals, and not yet for the original.
    rig.faults.hold("payments.find", visit=1)
    slow = asyncio.create_task(rig.initiation.take([record]))
    await rig.faults.reached("payments.find")
    await rig.initiation.take([record])
    await send(rig, order_record(numbered_order(9, amount=krw(60_000)), offset=3))
    rig.faults.open("payments.find")
    await slow
    await work(rig)
    assert rig.states() == {"order-9": "rejected"}
    assert rig.told("mypay.orders/0/2") == ["order.refused"]


async def test_a_refund_delivered_again_is_told_again_and_one_under_its_id_is_refused(rig: Rig) -> None:
    record = instruction_record(refund(), 1)
    await send(rig, ORDER)
    await send(rig, record, record, instruction_record(refund(1, 2_000), 2))
    await rig.initiation.take([record, instruction_record(refund(1, 3_000), 3)])
    assert rig.told(str(refund().payment_id)) == [
        "payment.sent",
        "payment.reported",
        "order.refused",
        "payment.approved",
        "payment.reported",
        "order.refused",
    ]
    assert rig.host.standing_minor() == {"KRW": 9_000}


async def test_a_refund_whose_commit_was_not_confirmed_is_not_sent_twice(rig: Rig) -> None:
    await send(rig, ORDER)
    await rig.initiation.take([instruction_record(refund(1, 10_000), 1)])
    rig.faults.plan("store.committed", StoreConflictError("not confirmed"))
    await work(rig)
    # Nobody knows who would send it: recovery undoes it later, and until then it counts as refunded.
    assert refund_state(rig) == ("sent", None)
    await send(rig, instruction_record(refund(2, 1), 2))
    assert refund_state(rig, 2) == ("rejected", "AM02")
    assert rig.host.standing_minor() == {"KRW": 10_000}


async def test_what_is_no_refund_is_parked_beside_the_others(rig: Rig) -> None:
    await send(rig, ORDER)
    bad = replace(dispatched_refund(refund(1), 1), value=b"{}")
    await rig.execute([bad, dispatched_refund(refund(2), 2)])
    assert [p.record.offset for p in rig.dead_letters.parked] == [1]
    assert refund_state(rig, 2) == ("approved", None)


async def test_a_refund_goes_to_the_customers_card_whoever_may_pay_with_it_by_now(rig: Rig) -> None:
    await send(rig, ORDER)
    rig.database.put_token("token-1", "customer-1")
    await send(rig, instruction_record(refund(1, 4_000), offset=1))
    assert refund_state(rig) == ("approved", None)


async def test_a_refund_whose_card_does_not_open_is_rejected_alone_and_is_an_incident(rig: Rig) -> None:
    rig.put_card("token-2")
    rig.database.put_consent(consent(consent_id="second", payment=purpose(funding_token="token-2")))
    await send(rig, ORDER, order_record(numbered_order(2, consent_id="second"), offset=1))
    rig.vault.damaged[FundingToken("token-1")] = Unopened.CHANGED
    await send(
        rig,
        instruction_record(refund(1, 4_000), offset=2),
        instruction_record(refund(2, 4_000, consent_id="second", original_order_id="order-2"), offset=3),
    )
    assert refund_state(rig, 1) == ("rejected", "MS03")
    assert refund_state(rig, 2) == ("approved", None)
    assert rig.observer.counted("execution", "incident") == 1


@pytest.mark.parametrize("code", [ReasonCode.DS0C, ReasonCode.DS0E])
async def test_a_new_refund_whose_key_was_disabled_meanwhile_gives_nothing_back(rig: Rig, code: ReasonCode) -> None:
    await send(rig, ORDER)
    asked = len(rig.host.received)
    rig.verifier.refused["good"] = Reason(code=code, text="signing key is disabled")
    await rig.execute([dispatched_refund(refund(), 2)])
    assert rig.states() == {"order-1": "approved"}
    assert len(rig.host.received) == asked
    assert rig.told()[-1] == "order.refused"
    # Nor when it is delivered again, and the key is registered anew.
    rig.verifier.refused.clear()
    await rig.execute([dispatched_refund(refund(), 2)])
    assert rig.states() == {"order-1": "approved"}
    assert len(rig.host.received) == asked


async def test_of_two_refunds_that_one_key_signed_the_new_one_alone_is_refused_once_it_is_disabled(rig: Rig) -> None:
    await send(rig, ORDER)
    first = dispatched_refund(refund(amount=krw(1_000)), 2)
    await rig.execute([first])
    rig.verifier.refused["good"] = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
    second = refund(order_id="refund-2", amount=krw(1_000))
    await rig.execute([first, dispatched_refund(second, 3)])
    assert rig.states() == {"order-1": "approved", "refund-1": "approved"}
