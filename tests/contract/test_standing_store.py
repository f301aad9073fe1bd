"""StandingOrderStore; and that each day is made once, whoever races for it."""

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from gateway.base.calendar import day_start
from gateway.base.errors import StoreIntegrityError
from gateway.database.unit import Store
from gateway.orders.standing.occurrences import OccurrenceService, OccurrenceSettings
from gateway.orders.standing.rules import StandingKey, StandingOrder
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory import MemoryClock
from schemas.primitives import ConsentId, MerchantId, PartnerId, StandingOrderId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from schemas.standing import DayRule, Frequency, HolidayRule, StandingSchedule, StandingStatus
from tests.contract.conftest import Backend
from tests.support.builders import later
from tests.support.domain_samples import NOW, consent, krw, merchant
from tests.support.stages import timers

FIRST = date(2025, 5, 18)


def standing(name: str, **fields: Any) -> StandingOrder:
    defaults: dict[str, Any] = {
        "partner_id": PartnerId("partner-1"),
        "standing_order_id": StandingOrderId(name),
        "consent_id": ConsentId("consent-1"),
        "consent_version": 3,
        "merchant_id": MerchantId("merchant-1"),
        "amount": krw(10_000),
        "schedule": StandingSchedule(frequency=Frequency.DAILY, first_date=FIRST),
        "status": StandingStatus.ACTIVE,
        "version": 1,
        "occurrences": 0,
        "next_due_at": day_start(FIRST),
        "proven": False,
        "digest": b"d" * 32,
        "signature": "a..b",
        "reference": "mypay.orders/0/1",
        "ordered_at": NOW,
        "changed_at": NOW,
    }
    return StandingOrder(**(defaults | fields))


def key(name: str) -> StandingKey:
    return (PartnerId("partner-1"), StandingOrderId(name))


async def insert(store: Store, *orders: StandingOrder) -> frozenset[StandingKey]:
    async with store.transaction() as uow:
        return await uow.standing.insert(orders)


async def claim(store: Store, at: datetime, limit: int = 10) -> list[str]:
    async with store.transaction() as uow:
        return [o.standing_order_id for o in await uow.standing.claim_due(now=at, limit=limit)]


async def test_orders_come_back_as_they_were_and_the_first_of_an_id_stands(store: Store) -> None:
    full = StandingSchedule(
        frequency=Frequency.MONTHLY,
        interval=2,
        first_date=FIRST,
        last_date=date(2027, 1, 1),
        count=7,
        day_rule=DayRule.LAST_DAY,
        holiday_rule=HolidayRule.NEXT,
    )
    orders = [
        standing("a", schedule=full, proven=True, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
        standing(
            "b",
            status=StandingStatus.REFUSED,
            next_due_at=None,
            signature=None,
            reason=Reason(code=ReasonCode.DT01, text="no"),
        ),
    ]
    assert await insert(store, *orders) == {key("a"), key("b")}
    assert await insert(store, replace(orders[0], amount=krw(1))) == frozenset()
    async with store.transaction() as uow:
        assert await uow.standing.lock([key("b"), key("a"), key("c")]) == {o.key: o for o in orders}


async def test_due_ones_are_claimed_earliest_first_and_pass_by_what_is_held(store: Store) -> None:
    await insert(
        store,
        standing("a", next_due_at=later(3)),
        standing("b", next_due_at=later(1)),
        standing("c", next_due_at=later(2)),
        standing("over", status=StandingStatus.CANCELLED, next_due_at=None),
    )
    assert await claim(store, later(0.9)) == []
    assert await claim(store, later(2)) == ["b", "c"]
    assert await claim(store, later(9), limit=2) == ["b", "c"]
    async with store.transaction() as uow:
        await uow.standing.lock([key("b")])
        assert await claim(store, later(9)) == ["c", "a"]


async def test_who_has_many_due_holds_up_nobody_else(store: Store) -> None:
    early, other = day_start(FIRST) - timedelta(days=1), PartnerId("partner-2")
    await insert(
        store,
        *(standing(f"a-{n}", next_due_at=early) for n in range(6)),
        standing("z-1", partner_id=other),
        standing("z-2", partner_id=other),
    )
    assert await claim(store, day_start(FIRST), 3) == ["a-0", "a-1", "z-1"]
    async with store.transaction() as uow:
        # What somebody holds is no part of anybody's share.
        await uow.standing.lock([key("a-0"), (other, StandingOrderId("z-1"))])
        assert await claim(store, day_start(FIRST), 4) == ["a-1", "a-2", "z-2"]
    assert len(await claim(store, day_start(FIRST), 10)) == 8
    assert await claim(store, early, 10) == [f"a-{n}" for n in range(6)]


async def test_an_update_moves_it_on_and_an_ended_one_is_due_no_more(store: Store) -> None:
    first = standing("a")
    await insert(store, first)
    moved = replace(first, occurrences=3, next_due_at=later(60), changed_at=later(5))
    ended = replace(
        moved,
        status=StandingStatus.COMPLETED,
        version=2,
        next_due_at=None,
        reason=Reason(code=ReasonCode.MD01, text="over"),
    )
    for row in (moved, ended):
        async with store.transaction() as uow:
            await uow.standing.lock([key("a")])
            await uow.standing.update([replace(row, amount=krw(1))])
        async with store.transaction() as uow:
            assert await uow.standing.lock([key("a")]) == {key("a"): row}
    assert await claim(store, later(9999)) == []


async def test_an_active_order_has_a_next_day_and_no_other_has_one(store: Store) -> None:
    with pytest.raises(StoreIntegrityError):
        await insert(store, standing("a", next_due_at=None))
    with pytest.raises(StoreIntegrityError):
        await insert(store, standing("a", status=StandingStatus.CANCELLED))


async def test_nothing_asked_for_is_nothing_done(store: Store) -> None:
    assert await insert(store) == frozenset()
    async with store.transaction() as uow:
        await uow.standing.update([])
        assert await uow.standing.lock([]) == {}


async def test_workers_who_race_make_each_day_once_and_its_order_waits_to_be_handed_on(backend: Backend) -> None:
    store = backend.store
    await backend.put_consents(consent())
    await backend.put_merchants(merchant())
    names = [f"s{n}" for n in range(6)]
    schedule = StandingSchedule(frequency=Frequency.DAILY, first_date=FIRST, count=3)
    await insert(store, *(standing(n, schedule=schedule) for n in names))
    clock = MemoryClock(day_start(FIRST) + timedelta(days=2, hours=1))
    workers = [timers(store, clock, occurrences=OccurrenceSettings(batch=4, at_once=1)).occurrences for _ in range(4)]

    async def work(service: OccurrenceService) -> None:
        while await service.make_due():
            pass

    await asyncio.gather(*map(work, workers))
    # What one worker held when the others looked is there for the next look.
    await work(workers[0])
    keys = [
        (PartnerId("partner-1"), payment_id_of("partner-1", f"{n}+{FIRST + timedelta(days=d):%Y%m%d}"))
        for n in names
        for d in range(3)
    ]
    async with store.transaction() as uow:
        found = await uow.payments.find(keys)
        waiting = await uow.schedule.claim(now=clock.now(), lease_until=later(10**6), limit=100)
        rows = await uow.standing.lock([key(n) for n in names])
    states = [found[k].state for k in keys]
    assert states == [PaymentState.REJECTED, PaymentState.REJECTED, PaymentState.SCHEDULED] * len(names)
    assert {w.key for w in waiting} == {k for k in keys if found[k].state is PaymentState.SCHEDULED}
    assert {(r.status, r.version, r.occurrences) for r in rows.values()} == {(StandingStatus.COMPLETED, 2, 3)}


async def test_active_ones_are_walked_through_by_key_and_what_is_held_is_left(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.standing.insert([standing(n) for n in ("a", "b", "c", "d")])
        over = replace(standing("b"), status=StandingStatus.CANCELLED, next_due_at=None)
        await uow.standing.update([over])
    async with store.transaction() as uow, store.transaction() as other:
        first = await uow.standing.active(after=None, limit=2)
        assert [o.standing_order_id for o in first] == ["a", "c"]
        assert [o.standing_order_id for o in await other.standing.active(after=first[0].key, limit=9)] == ["d"]
        assert await other.standing.active(after=standing("d").key, limit=9) == []
