"""Orders for a later day on fakes: from their coming to their day, decided once whoever hands them on how often."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.base.calendar import day_of, day_start
from gateway.base.errors import StoreUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.consents.rules.limits import Usage
from gateway.identity.rules import link_of
from gateway.messaging.records import Outgoing, Record
from gateway.orders.room import BESIDE_OTHERS, HANDED_ON_AT_ONCE
from gateway.orders.scheduled.service import ScheduledOrderService, ScheduleSettings
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.transitions import apply_changes
from gateway.proving.memory import MemoryClock, MemoryPublisher
from gateway.proving.memory.network import Behaviour
from schemas.codec import encode
from schemas.consents import ConsentStatus, LowValueExemption, Period, PeriodLimit
from schemas.orders import PaymentOrder
from schemas.primitives import CustomerId, MerchantId, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import dispatch_topic
from tests.support.builders import DISPATCH, NETWORK, dispatched_record, numbered_order, order_record
from tests.support.consents import ISSUER, SUBJECT, FakeIdentities
from tests.support.domain_samples import NOW, consent, krw, merchant, purpose
from tests.support.instructions import cancellation, instruction_record
from tests.support.rig import Rig

TOMORROW = day_of(NOW) + timedelta(days=1)
DUE = day_start(TOMORROW)
EXPIRES = DUE + timedelta(hours=2)
S = PaymentState


@pytest.fixture
def rig() -> Rig:
    return Rig()


def schedule(rig: Rig, **settings: Any) -> ScheduledOrderService:
    return rig.new_schedule(orders=ScheduleSettings(**settings)).orders


def tomorrow(number: int = 1, **fields: Any) -> PaymentOrder:
    return numbered_order(number, **({"requested_execution_date": TOMORROW, "expires_at": EXPIRES} | fields))


def until(clock: MemoryClock, moment: Any) -> None:
    clock.advance((moment - clock.now()).total_seconds())


def handed_on(rig: Rig) -> list[Record]:
    return rig.kafka.records(dispatch_topic(NETWORK))


def told(rig: Rig) -> list[tuple[str, int]]:
    return [
        (e.event_type.removeprefix("kr.mypay.").removesuffix(".v1"), int(e.event_id.split(":")[1]))
        for e in rig.events()
    ]


async def accept(rig: Rig, *orders: PaymentOrder) -> None:
    await rig.initiation.take([order_record(o, offset=n) for n, o in enumerate(orders)])


async def test_an_order_waits_for_its_day_and_is_paid_then(rig: Rig) -> None:
    placed = tomorrow()
    await accept(rig, placed)
    waiting = rig.payment(1)
    assert (waiting.state, waiting.version, waiting.windows, waiting.funding_token) == (S.SCHEDULED, 1, (), None)
    assert (rig.kafka.topics(), rig.database.usage.rows) == ([], {})

    until(rig.clock, DUE - timedelta(microseconds=1))
    assert await schedule(rig).dispatch_due() == 0
    until(rig.clock, DUE)
    assert await schedule(rig).dispatch_due() == 1
    await rig.execute(handed_on(rig))

    paid = rig.payment(1)
    assert (paid.state, paid.version, paid.order_digest) == (S.APPROVED, 3, waiting.order_digest)
    assert (paid.decided_at, paid.ordered_at) == (DUE, waiting.ordered_at)
    assert paid.trace is not None
    # The time that it waited is not the gateway's.
    assert [span for span, _ in rig.observer.delays] == ["due_to_dispatch"]
    assert [n for n in told(rig) if n[0] != "payment.reported"] == [
        ("payment.scheduled", 1),
        ("payment.sent", 2),
        ("payment.approved", 3),
    ]


async def test_the_partner_s_own_bytes_and_signature_are_handed_on(rig: Rig) -> None:
    record = order_record(tomorrow(), offset=7, signature="theirs")
    await rig.initiation.take([record])
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    (sent,) = handed_on(rig)
    received = DISPATCH.read(sent, NetworkId(NETWORK)).judged
    assert (sent.value, sent.key) == (record.value, record.key)
    assert (received.signature, received.reference) == ("theirs", "mypay.orders/0/7")
    assert (received.ordered_at, received.judged_at) == (NOW, DUE)


async def test_what_is_handed_on_twice_is_paid_once_and_told_once(rig: Rig) -> None:
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    scheduler = schedule(rig, again_s=60)
    await scheduler.dispatch_due()
    rig.clock.advance(60)
    await scheduler.dispatch_due()
    first, second = handed_on(rig)
    await rig.execute([first, second])
    await rig.execute([second])
    assert [n for _, n in told(rig)] == [1, 2, 3]
    assert rig.ledger_kinds() == ["authorised"]
    rig.clock.advance(3600)
    assert await scheduler.dispatch_due() == 1
    assert await scheduler.dispatch_due() == 0
    assert len(handed_on(rig)) == 2


async def test_a_flood_of_one_day_is_handed_on_as_execution_has_room(rig: Rig) -> None:
    """All of it is due at one moment: it stood in line before everybody's orders of that moment."""
    taken = 0

    async def behind(_: NetworkId) -> int:
        return len(handed_on(rig)) - taken

    flood = [tomorrow(n) for n in range(1, HANDED_ON_AT_ONCE + 60)]
    await accept(rig, *flood)
    until(rig.clock, DUE)
    settings = ScheduleSettings(batch=500, again_s=1e6, again_max_s=1e6)
    scheduler = rig.new_schedule(orders=settings, behind=behind, ahead_max=80).orders
    line = 80 // BESIDE_OTHERS
    assert await scheduler.dispatch_due() == HANDED_ON_AT_ONCE
    # Execution takes nothing: the others stay where they wait.
    assert await scheduler.dispatch_due() == 0
    assert len(handed_on(rig)) == HANDED_ON_AT_ONCE
    longest = 0
    while len(handed_on(rig)) < len(flood):
        taken = len(handed_on(rig))
        await scheduler.dispatch_due()
        longest = max(longest, await behind(NetworkId(NETWORK)))
    assert 0 < longest <= line
    assert len({r.value for r in handed_on(rig)}) == len(flood)


@pytest.mark.parametrize("at_once", [1, 3, 50])
async def test_a_partner_s_flood_of_one_day_holds_no_other_partner_up(rig: Rig, at_once: int) -> None:
    rig.database.put_consent(consent(partner_id="partner-2"))
    rig.put_card("token-1", partners=["partner-1", "partner-2"])
    rig.verifier.owners["theirs"] = "partner-2"
    flood = [order_record(tomorrow(n), offset=n) for n in range(1, 60)]
    others = [order_record(tomorrow(n, partner_id="partner-2"), offset=n, signature="theirs") for n in (101, 102, 103)]
    await rig.initiation.take([*flood, *others])
    assert set(rig.states().values()) == {"scheduled"}
    until(rig.clock, DUE)
    scheduler = schedule(rig, batch=at_once)
    while len(handed_on(rig)) < 6:
        await scheduler.dispatch_due()
    in_order = [r.value for r in handed_on(rig)]
    assert {r.value for r in others} < set(in_order[:6])
    while await scheduler.dispatch_due():
        pass
    assert len(handed_on(rig)) == len({r.value for r in handed_on(rig)}) == len(flood) + len(others)


async def test_what_expires_while_there_is_no_room_is_rejected_all_the_same(rig: Rig) -> None:
    async def behind(_: NetworkId) -> int:
        return 1_000_000

    await accept(rig, *(tomorrow(n) for n in range(1, HANDED_ON_AT_ONCE + 3)))
    until(rig.clock, DUE)
    scheduler = rig.new_schedule(orders=ScheduleSettings(again_s=1e6, again_max_s=1e6), behind=behind).orders
    assert await scheduler.dispatch_due() == HANDED_ON_AT_ONCE
    assert await scheduler.dispatch_due() == 0
    until(rig.clock, EXPIRES)
    while await scheduler.dispatch_due():
        pass
    assert set(rig.states().values()) == {"rejected"}
    assert len(handed_on(rig)) == HANDED_ON_AT_ONCE


async def test_two_workers_do_not_both_decide_one_payment(rig: Rig) -> None:
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    (record,) = handed_on(rig)
    other = rig.new_execution()
    async with rig.results(), rig.results(other):
        await asyncio.gather(rig.execution.take([record]), other.take([record]))
        await rig.network.wait_idle()
        await rig.execution.results.written()
        await other.results.written()
    assert rig.payment(1).version == 3
    assert [n for _, n in told(rig)] == [1, 2, 3]


async def test_the_partner_s_record_again_is_a_repetition_and_pays_nothing_early(rig: Rig) -> None:
    record = order_record(tomorrow(), offset=0)
    await rig.initiation.take([record, record])
    await rig.initiation.take([record])
    until(rig.clock, DUE)
    await rig.initiation.take([record])
    assert (handed_on(rig), rig.payment(1).state) == ([], S.SCHEDULED)
    assert told(rig) == [("payment.scheduled", 1), *[("payment.reported", 1)] * 3]


async def test_another_order_under_the_id_of_one_that_waits_is_refused(rig: Rig) -> None:
    await accept(rig, tomorrow(), tomorrow(amount=krw(9)))
    await accept(rig, tomorrow(amount=krw(8)))
    assert rig.payment(1).amount_minor == 10_000
    assert [e.event_type for e in rig.events()].count("kr.mypay.order.refused.v1") == 2


async def test_an_order_dispatched_at_once_is_not_decided_while_a_payment_waits_under_its_id(rig: Rig) -> None:
    # Another worker of the intake took the same record for due, before it saw that this one had made it wait.
    record = order_record(tomorrow(), offset=0)
    await rig.initiation.take([record])
    await rig.execute([dispatched_record(tomorrow())])
    assert rig.payment(1).state is S.SCHEDULED
    assert told(rig)[-1] == ("payment.reported", 1)


async def test_a_cancelled_payment_is_neither_handed_on_nor_decided(rig: Rig) -> None:
    await accept(rig, tomorrow(1), tomorrow(2))
    until(rig.clock, DUE)
    scheduler = schedule(rig, batch=1)
    await scheduler.dispatch_due()
    first = handed_on(rig)
    async with rig.store.transaction() as uow:
        changes = [Change(rig.payment(n).key, PaymentEventKind.CANCELLED) for n in (1, 2)]
        await apply_changes(uow, changes, now=rig.clock.now())
    assert await scheduler.dispatch_due() == 1
    await rig.execute(first)
    assert handed_on(rig) == first
    assert rig.states() == {"order-1": "reversed", "order-2": "reversed"}
    assert rig.database.usage.rows == {}


REFUSED_WHEN_DUE = {
    "revoked": (consent(ConsentStatus.CANC), ReasonCode.MD01),
    "suspended": (consent(ConsentStatus.SUSP), ReasonCode.TKSP),
    "payee no longer allowed": (
        consent(payment=purpose(payees={"block_merchants": ("merchant-1",)})),
        ReasonCode.SL12,
    ),
    "over what is left of a limit": (
        consent(payment=purpose(period_limits=(PeriodLimit(period=Period.DAY, max_amount=krw(9_999)),))),
        ReasonCode.SL14,
    ),
}


@pytest.mark.parametrize("case", REFUSED_WHEN_DUE)
async def test_the_consent_of_the_day_decides(rig: Rig, case: str) -> None:
    changed, code = REFUSED_WHEN_DUE[case]
    await accept(rig, tomorrow())
    rig.database.put_consent(changed)
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    await rig.execute(handed_on(rig))
    ended = rig.payment(1)
    assert (ended.state, ended.version) == (S.REJECTED, 2)
    assert ended.reason is not None
    assert ended.reason.code is code
    assert told(rig) == [("payment.scheduled", 1), ("payment.rejected", 2)]
    assert rig.used() <= {Usage()}


async def test_what_was_reserved_for_a_due_payment_is_given_back_when_it_is_declined() -> None:
    rig = Rig(lambda _: Behaviour(code="51"))
    rig.database.put_consent(
        consent(payment=purpose(period_limits=(PeriodLimit(period=Period.DAY, max_amount=krw(10_000)),)))
    )
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    await rig.execute(handed_on(rig))
    assert rig.payment(1).state is S.DECLINED
    assert rig.payment(1).windows
    assert rig.used() == {Usage()}


async def test_a_merchant_who_left_or_whom_no_network_takes_is_told_from_the_schedule(rig: Rig) -> None:
    await accept(rig, tomorrow())
    rig.database.put_merchant(merchant(networks=frozenset({"net-z"})))
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    ended = rig.payment(1)
    assert handed_on(rig) == []
    assert (ended.state, ended.reason and ended.reason.code) == (S.REJECTED, ReasonCode.AGNT)
    rig.database.merchants.rows.pop(MerchantId("merchant-1"))
    await accept(rig, tomorrow(2))
    assert rig.payment(2).state is S.REJECTED


async def test_an_order_that_execution_did_not_reach_ends_when_it_expires(rig: Rig) -> None:
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    scheduler = schedule(rig)
    await scheduler.dispatch_due()
    while rig.clock.now() < EXPIRES:
        assert rig.payment(1).state is S.SCHEDULED
        rig.clock.advance(300)
        await scheduler.dispatch_due()
    assert rig.payment(1).reason == Reason(code=ReasonCode.TM01, text="the order is past its expires_at")
    # Handed on seldom: after 5, 15, 35, 75 … minutes.
    assert len(handed_on(rig)) == 5
    await rig.execute(handed_on(rig))
    assert rig.payment(1).version == 2


async def test_a_schedule_that_died_after_claiming_is_relieved(rig: Rig) -> None:
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    async with rig.store.transaction() as uow:
        await uow.schedule.claim(now=DUE, lease_until=DUE + timedelta(seconds=30), limit=10)
    assert await schedule(rig).dispatch_due() == 0
    rig.clock.advance(30)
    assert await schedule(rig).dispatch_due() == 1
    assert len(handed_on(rig)) == 1


async def test_an_order_that_was_cancelled_before_it_came_does_not_wait(rig: Rig) -> None:
    await rig.initiation.take([instruction_record(cancellation(1), 50)])
    await accept(rig, tomorrow(1), tomorrow(2))
    assert rig.states() == {"order-1": "rejected", "order-2": "scheduled"}
    reason = rig.payment(1).reason
    assert reason is not None
    assert reason.code is ReasonCode.DS02


async def test_a_partner_cancels_an_order_while_it_waits(rig: Rig) -> None:
    await accept(rig, tomorrow(1))
    await rig.initiation.take([instruction_record(cancellation(1), 50)])
    assert rig.payment(1).state is S.REVERSED
    until(rig.clock, DUE)
    assert await schedule(rig).dispatch_due() == 1
    assert handed_on(rig) == []
    assert rig.told(str(rig.payment(1).payment_id)) == [
        "payment.scheduled",
        "payment.reversed",
        "cancellation.accepted",
    ]


async def test_an_order_that_cannot_be_read_any_more_holds_nobody_up_and_ends(rig: Rig) -> None:
    await accept(rig, tomorrow(1), tomorrow(2))
    key = rig.payment(1).key
    row = rig.database.scheduled.rows[key]
    rig.database.scheduled.rows[key] = replace(row, order=replace(row.order, body=b"{}"))
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    await rig.execute(handed_on(rig))
    assert rig.states() == {"order-1": "scheduled", "order-2": "approved"}
    assert rig.observer.counted("schedule", "order_unreadable") == rig.observer.counted("schedule", "incident") == 1
    until(rig.clock, EXPIRES)
    await schedule(rig).dispatch_due()
    assert rig.states()["order-1"] == "rejected"


async def test_a_cancellation_and_the_decision_wait_for_each_other(rig: Rig) -> None:
    await accept(rig, tomorrow())
    until(rig.clock, DUE)
    await schedule(rig).dispatch_due()
    rig.faults.hold("payments.begin_scheduled")
    deciding = asyncio.create_task(rig.execute(handed_on(rig)))
    await rig.faults.reached("payments.begin_scheduled")

    async def cancel() -> None:
        async with rig.store.transaction() as uow:
            change = Change(rig.payment(1).key, PaymentEventKind.CANCELLED)
            await apply_changes(uow, [change], now=rig.clock.now())

    cancelling = asyncio.create_task(cancel())
    await asyncio.wait_for(rig.until_locked_out(), 60)
    rig.faults.open("payments.begin_scheduled")
    await asyncio.gather(deciding, cancelling)
    assert [n for _, n in told(rig)] == [1, 2, 3]


# --- keys and proofs ---


class ProvingRig(Rig):
    """The rig where intake and execution ask for proofs, and execution looks again at partners' keys."""

    def __init__(self) -> None:
        super().__init__()
        self.identities = FakeIdentities()
        self.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("customer-1")
        self.initiation = self.new_initiation(identities=self.identities)
        self.execution = self.new_stage(identities=self.identities).service

    async def pay(self) -> None:
        until(self.clock, DUE)
        await schedule(self).dispatch_due()
        await self.execute(handed_on(self))


def proven(rig: ProvingRig, placed: PaymentOrder, **fields: Any) -> PaymentOrder:
    token = rig.identities.issue(link_of(placed), now=NOW, **fields)  # type: ignore[arg-type]
    return placed.model_copy(update={"authentication": token})


@pytest.mark.parametrize("place", ["consents.read", "payments.insert"])
async def test_a_providers_key_that_is_revoked_while_the_database_is_away_lets_nothing_wait(place: str) -> None:
    rig = ProvingRig()
    rig.faults.hold(place)
    taking = asyncio.create_task(accept(rig, proven(rig, tomorrow(1)), proven(rig, tomorrow(2))))
    await rig.faults.reached(place)
    rig.identities.revoked.add("kid-0")
    rig.faults.plan(place, StoreUnavailableError("the server does not answer"))
    rig.faults.open(place)
    await taking
    assert rig.states() == {"order-1": "rejected", "order-2": "scheduled"}
    assert [p.reason and p.reason.code for p in (rig.payment(1), rig.payment(2))] == [ReasonCode.DS0C, None]


async def test_a_proof_is_judged_when_the_order_comes_and_is_not_asked_for_again() -> None:
    rig = ProvingRig()
    await accept(rig, proven(rig, tomorrow(1)), tomorrow(2))
    assert rig.states() == {"order-1": "scheduled", "order-2": "rejected"}
    # Hours later it would be too old, and its key is not known any more.
    rig.identities.made.clear()
    await rig.pay()
    assert rig.payment(1).state is S.APPROVED


async def test_a_proof_is_used_up_by_the_order_that_waits() -> None:
    rig = ProvingRig()
    first = proven(rig, tomorrow(1))
    await accept(rig, first)
    # One issuer gave one jti to two assertions: each is good by itself.
    await accept(rig, proven(rig, tomorrow(2), jti=rig.identities.made[0].jti))
    assert rig.states() == {"order-1": "scheduled", "order-2": "rejected"}
    reason = rig.payment(2).reason
    assert reason is not None
    assert reason.code is ReasonCode.DS15
    await rig.pay()
    assert rig.payment(2).version == 1


async def test_a_key_that_was_disabled_meanwhile_ends_the_payment_that_waits() -> None:
    rig = ProvingRig()
    await rig.initiation.take([order_record(proven(rig, tomorrow()), signature="stolen")])
    gone = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
    rig.verifier.refused["stolen"] = gone
    await rig.pay()
    assert (rig.payment(1).state, rig.payment(1).reason, rig.payment(1).version) == (S.REJECTED, gone, 2)
    assert told(rig) == [("payment.scheduled", 1), ("payment.rejected", 2)]


async def test_an_exemption_is_judged_on_the_day() -> None:
    rig = ProvingRig()
    exemption = LowValueExemption(max_amount=krw(10_000), max_count=1, max_sum=krw(10_000))
    rig.database.put_consent(consent(payment=purpose(low_value_exemption=exemption)))
    await accept(rig, tomorrow(1), tomorrow(2))
    assert rig.states() == {"order-1": "scheduled", "order-2": "scheduled"}
    await rig.pay()
    assert sorted(rig.states().values()) == ["approved", "rejected"]


class WithoutTopic(MemoryPublisher):
    """Kafka that knows no such topic."""

    def __init__(self, rig: Rig, missing: str) -> None:
        super().__init__(rig.kafka)
        self.missing = missing

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if any(r.topic == self.missing for r in records):
            raise TopicClosedError(self.missing)
        await super().publish(records)


async def test_a_network_without_a_topic_holds_up_no_order_for_another(rig: Rig) -> None:
    other = NetworkId("net-b")
    rig.networks.append(NetworkProfile(other, frozenset({"KRW"}), None, 1, 0, open=True))
    rig.database.put_merchant(
        structs.replace(merchant(networks=frozenset({"net-b"})), merchant_id=MerchantId("merchant-2"))
    )
    await accept(rig, tomorrow(1, merchant_id="merchant-2"), tomorrow(2))
    until(rig.clock, DUE)
    rig.publisher = WithoutTopic(rig, dispatch_topic(other))
    assert await schedule(rig).dispatch_due() == 2
    await rig.execute(handed_on(rig))
    assert rig.states() == {"order-1": "scheduled", "order-2": "approved"}
    rig.publisher.missing = ""
    rig.clock.advance(300)
    await schedule(rig).dispatch_due()
    assert len(rig.kafka.records(dispatch_topic(other))) == 1


async def test_a_slow_network_s_orders_hold_up_none_of_another(rig: Rig) -> None:
    """They are due before the others' and their line is full; each is looked at once, and goes as there is room."""
    other = NetworkId("net-b")
    rig.networks.append(NetworkProfile(other, frozenset({"KRW"}), None, 1, 0, open=True))
    elsewhere = structs.replace(merchant(networks=frozenset({"net-b"})), merchant_id=MerchantId("merchant-2"))
    rig.database.put_merchant(elsewhere)
    slow = [tomorrow(n) for n in range(1, 150)]
    quick = [tomorrow(n, merchant_id="merchant-2") for n in range(901, 911)]
    await accept(rig, *slow, *quick)
    until(rig.clock, DUE)
    taken = 0
    line = 80 // BESIDE_OTHERS

    async def behind(network_id: NetworkId) -> int:
        return len(handed_on(rig)) - taken if network_id == NETWORK else 0

    settings = ScheduleSettings(batch=500, again_s=1e6, again_max_s=1e6)
    scheduler = rig.new_schedule(orders=settings, behind=behind, ahead_max=80).orders
    looked_at = 0
    while some := await scheduler.dispatch_due():
        looked_at += some
    assert {r.value for r in rig.kafka.records(dispatch_topic(other))} == {encode(o) for o in quick}
    # No more than go before anybody looks for room.
    assert 0 < len(handed_on(rig)) <= HANDED_ON_AT_ONCE
    assert looked_at == len(slow) + len(quick)
    while len(handed_on(rig)) < len(slow):
        taken = before = len(handed_on(rig))
        await scheduler.dispatch_due()
        assert len(handed_on(rig)) - before <= line
    assert {r.value for r in handed_on(rig)} == {encode(o) for o in slow}
    rig.clock.advance(1)
    assert await scheduler.dispatch_due() == 0


async def test_what_is_held_for_a_slow_network_goes_elsewhere_once_that_is_closed(rig: Rig) -> None:
    other = NetworkId("net-b")
    rig.networks.append(NetworkProfile(other, frozenset({"KRW"}), None, 20, 0, open=True))
    either = structs.replace(merchant(networks=frozenset({NETWORK, "net-b"})), merchant_id=MerchantId("merchant-2"))
    rig.database.put_merchant(either)
    placed = [tomorrow(n, merchant_id="merchant-2") for n in range(1, 6)]
    await accept(rig, *placed)
    until(rig.clock, DUE)

    async def behind(network_id: NetworkId) -> int:
        return 1_000_000 if network_id == NETWORK and rig.networks[0].open else 0

    settings = ScheduleSettings(batch=2, again_s=1e6, again_max_s=1e6)
    scheduler = rig.new_schedule(orders=settings, behind=behind).orders
    while await scheduler.dispatch_due():
        pass
    assert (len(handed_on(rig)), rig.kafka.records(dispatch_topic(other))) == (2, [])
    rig.networks[0] = replace(rig.networks[0], open=False)
    while len(rig.kafka.records(dispatch_topic(other))) < 3:
        await scheduler.dispatch_due()
    sent = {r.value for r in (*handed_on(rig), *rig.kafka.records(dispatch_topic(other)))}
    assert sent == {encode(o) for o in placed}


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_flood_held_for_a_network_that_is_closed_since_takes_turns_at_the_next(rig: Rig, is_gone: bool) -> None:
    other = NetworkId("net-b")
    rig.networks.append(NetworkProfile(other, frozenset({"KRW"}), None, 20, 0, open=True))
    rig.database.put_merchant(merchant(networks=frozenset({NETWORK, "net-b"})))
    rig.database.put_consent(consent(partner_id="partner-2"))
    rig.put_card("token-1", partners=["partner-1", "partner-2"])
    rig.verifier.owners["theirs"] = "partner-2"
    flood = [tomorrow(n) for n in range(1, 151)]
    theirs = [tomorrow(n, partner_id="partner-2") for n in (901, 902, 903)]
    await accept(rig, *flood)
    await rig.initiation.take([order_record(o, offset=n, signature="theirs") for n, o in enumerate(theirs)])
    until(rig.clock, DUE)
    now = rig.clock.now()
    async with rig.store.transaction() as uow:
        due = await uow.schedule.claim(now=now, lease_until=now, limit=500)
        await uow.schedule.hold([(o, NetworkId(NETWORK)) for o in due if o.key[0] == "partner-1"], now=now)
        # Theirs are due once the flood is on its way.
        await uow.schedule.put_off([(o.key, now + timedelta(seconds=1)) for o in due if o.key[0] == "partner-2"])
    if is_gone:
        rig.networks.pop(0)
    else:
        rig.networks[0] = replace(rig.networks[0], open=False)
    taken = 0

    def at_other() -> list[bytes]:
        return [r.value for r in rig.kafka.records(dispatch_topic(other))]

    async def behind(network_id: NetworkId) -> int:
        return len(at_other()) - taken if network_id == other else 0

    settings = ScheduleSettings(again_s=1e6, again_max_s=1e6)
    scheduler = rig.new_schedule(orders=settings, behind=behind, ahead_max=80).orders
    await scheduler.dispatch_due()
    rig.clock.advance(1)
    while not {encode(o) for o in theirs} <= {*at_other()}:
        taken = len(at_other())
        await scheduler.dispatch_due()
    assert len(at_other()) < len(flood) / 2
    while len(at_other()) < len(flood) + len(theirs):
        taken = len(at_other())
        await scheduler.dispatch_due()
    assert sorted(at_other()) == sorted(encode(o) for o in (*flood, *theirs))
    assert handed_on(rig) == []


async def test_what_expires_while_it_is_held_for_a_slow_network_is_rejected(rig: Rig) -> None:
    rig.networks.append(NetworkProfile(NetworkId("net-b"), frozenset({"KRW"}), None, 20, 0, open=True))
    await accept(rig, *(tomorrow(n) for n in range(1, 6)))
    until(rig.clock, DUE)

    async def behind(network_id: NetworkId) -> int:
        return 1_000_000 if network_id == NETWORK else 0

    settings = ScheduleSettings(batch=2, again_s=1e6, again_max_s=1e6)
    scheduler = rig.new_schedule(orders=settings, behind=behind).orders
    while await scheduler.dispatch_due():
        pass
    assert len(handed_on(rig)) == 2
    until(rig.clock, EXPIRES)
    while await scheduler.dispatch_due():
        pass
    assert set(rig.states().values()) == {"rejected"}
    assert len(handed_on(rig)) == 2


async def test_an_order_too_large_for_its_topic_holds_up_no_other_and_expires(rig: Rig) -> None:
    await accept(rig, tomorrow(1), tomorrow(2), tomorrow(3))
    until(rig.clock, DUE)
    usual = rig.publisher

    class Small:
        async def publish(self, records: Sequence[Outgoing]) -> None:
            for n, record in enumerate(records):
                if b"order-2" in record.value:
                    raise TooLargeForTopicError(record.topic, frozenset([n]))
            await usual.publish(records)

    rig.publisher = Small()  # type: ignore[assignment]
    assert await schedule(rig).dispatch_due() == 3
    await rig.execute(handed_on(rig))
    assert rig.states() == {"order-1": "approved", "order-2": "scheduled", "order-3": "approved"}
    until(rig.clock, EXPIRES)
    await schedule(rig).dispatch_due()
    assert rig.states()["order-2"] == "rejected"
