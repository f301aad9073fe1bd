"""ScheduleStore: orders that wait, claimed under leases; and that a due payment is decided once, whoever races."""

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreIntegrityError
from gateway.database.unit import Store
from gateway.messaging.records import Record
from gateway.network.exchange import CardData
from gateway.payments.execution import ExecutionService
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.proving.memory import (
    MemoryCardNetwork,
    MemoryClock,
    MemoryHost,
    MemoryVault,
)
from schemas.codec import encode
from schemas.orders import ORDER_TYPE
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import Backend, rolled_back
from tests.support.builders import DISPATCH, NETWORK, as_record, later, numbered_order, payment, trace, window
from tests.support.domain_samples import NOW, USE, consent, merchant
from tests.support.stages import execution_stage


def waiting(number: int, **fields: Any) -> ScheduledOrder:
    defaults: dict[str, Any] = {
        "key": payment(number).key,
        "due_at": later(number),
        "expires_at": later(3600),
        "order_type": ORDER_TYPE,
        "body": b'{"n":%d}' % number,
        "signature": "a..b",
        "proven": number % 2 == 0,
        "reference": f"mypay.orders/0/{number}",
        "ordered_at": NOW,
        "traceparent": None,
    }
    return ScheduledOrder(**(defaults | fields))


async def keep(store: Store, *orders: ScheduledOrder) -> None:
    async with store.transaction() as uow:
        await uow.schedule.keep(orders)


async def claim(
    store: Store, *, at: float, lease: float = 30, limit: int = 10, after: str = "", held_for: str = ""
) -> list[ScheduledOrder]:
    async with store.transaction() as uow:
        return list(
            await uow.schedule.claim(
                now=later(at), lease_until=later(at + lease), limit=limit, after=after, held_for=held_for
            )
        )


async def claim_expired(store: Store, *, at: float, limit: int = 10) -> list[ScheduledOrder]:
    async with store.transaction() as uow:
        return list(await uow.schedule.claim_expired(now=later(at), lease_until=later(at + 30), limit=limit))


def of_claim(order: ScheduledOrder) -> ScheduledOrder:
    """As a claim would have told of it, of one that none was made of."""
    return dataclasses.replace(order, dispatches=-1)


def keys(*numbers: int) -> list[PaymentKey]:
    return [payment(n).key for n in numbers]


async def test_orders_are_claimed_when_due_earliest_first_and_come_back_as_they_were(store: Store) -> None:
    orders = [waiting(3), waiting(1, signature=None), waiting(2, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")]
    await keep(store, *orders)
    assert await claim(store, at=0.999) == []
    assert await claim(store, at=2, limit=1) == [orders[1]]
    assert await claim(store, at=2) == [orders[2]]
    assert await claim(store, at=2) == []
    assert await claim(store, at=3) == [orders[0]]


async def test_of_those_that_are_due_only_the_expired_ones_are_claimed_where_that_is_asked(store: Store) -> None:
    orders = [waiting(1), waiting(2, expires_at=later(10)), waiting(30, expires_at=later(11))]
    await keep(store, *orders)
    assert await claim_expired(store, at=9.999) == []
    assert await claim_expired(store, at=10) == [orders[1]]
    assert await claim_expired(store, at=11) == []
    assert await claim(store, at=10) == [orders[0]]
    assert [o.dispatches for o in await claim_expired(store, at=40)] == [1, 0]


async def test_what_expired_first_is_claimed_first_and_only_what_is_open(store: Store) -> None:
    await keep(store, *(waiting(n, expires_at=later(40 - n)) for n in (1, 2, 3, 4)))
    async with store.transaction() as uow:
        await uow.schedule.close(keys(4), now=NOW)
    assert [o.key for o in await claim_expired(store, at=50, limit=1)] == keys(3)
    assert sorted(o.key for o in await claim_expired(store, at=50)) == sorted(keys(1, 2))


# --- partners take turns ---


def of(partner: str, *numbers: int, **fields: Any) -> list[ScheduledOrder]:
    return [waiting(n, key=(partner, payment(n).payment_id), **fields) for n in numbers]


def owners(orders: Sequence[ScheduledOrder]) -> list[str]:
    return [o.key[0] for o in orders]


async def test_partners_take_turns_and_the_rest_is_theirs_who_have_more(store: Store) -> None:
    await keep(store, *of("a", *range(1, 9)), *of("b", 9), *of("c", 10, 11))
    claimed = await claim(store, at=20, limit=8)
    assert owners(claimed) == ["a", "b", "c", "a", "c", "a", "a", "a"]
    # Each one's earliest first.
    assert [o.due_at for o in claimed if o.key[0] == "a"] == [later(n) for n in range(1, 6)]
    assert owners(await claim(store, at=20, limit=8)) == ["a"] * 3


async def test_where_the_last_turn_ended_the_next_one_begins(store: Store) -> None:
    """However few are claimed at a time, everybody comes to their turn: also who is behind all the others."""
    due = {"due_at": later(1)}
    await keep(store, *of("a", *range(1, 9), **due), *of("b", *range(9, 17), **due), *of("c", *range(17, 25), **due))
    turns: list[str] = []
    for _ in range(3):
        turns += owners(await claim(store, at=20, limit=2, after=turns[-1] if turns else ""))
    assert turns == ["a", "b", "c", "a", "b", "c"]
    assert owners(await claim(store, at=20, limit=4, after="bb")) == ["c", "a", "b", "c"]
    assert owners(await claim(store, at=20, limit=4, after="b")) == ["c", "a", "b", "c"]


async def test_who_has_nothing_due_takes_no_turn(store: Store) -> None:
    await keep(store, *of("a", 30), *of("b", 1, 2, 3), *of("c", 4))
    async with store.transaction() as uow:
        await uow.schedule.close([of("c", 4)[0].key], now=NOW)
    assert owners(await claim(store, at=20)) == ["b"] * 3
    assert await claim(store, at=20) == []


async def test_who_has_nothing_due_here_leaves_their_turn_to_others(store: Store) -> None:
    """Whether what they have is of another day, closed, or held for a network."""
    another_day, closed, held = {"due_at": later(99)}, of("c", 6, due_at=later(1)), of("d", 8, due_at=later(1))
    await keep(store, *of("a", 1, 2, 3), *of("b", 4, **another_day), *of("c", 5, **another_day))
    await keep(store, *of("d", 7, **another_day), *closed, *held)
    async with store.transaction() as uow:
        await uow.schedule.close([closed[0].key], now=later(1))
        await uow.schedule.hold([(of_claim(held[0]), NetworkId(NETWORK))], now=later(1))
    # The last of them at this very moment.
    assert owners(await claim(store, at=3, limit=3)) == ["a", "a", "a"]
    assert owners(await claim(store, at=3, held_for=NETWORK)) == ["d"]


async def test_what_is_not_due_here_is_nobody_s_second_turn(store: Store) -> None:
    closed, held = of("b", 6, due_at=later(1)), of("b", 7, due_at=later(1))
    await keep(store, *of("a", 1, 2, 3), *of("b", 4, due_at=later(2)), *of("b", 5, due_at=later(99)), *closed, *held)
    async with store.transaction() as uow:
        await uow.schedule.close([closed[0].key], now=later(1))
        await uow.schedule.hold([(of_claim(held[0]), NetworkId(NETWORK))], now=later(1))
    claimed = await claim(store, at=3, limit=4)
    assert owners(claimed) == ["a", "b", "a", "a"]
    assert claimed[1].key[1] == payment(4).payment_id


async def test_whose_orders_are_held_is_found_whoever_else_has_others(store: Store) -> None:
    held = [*of("c", 1, due_at=later(1)), *of("a", 2, due_at=later(1))]
    await keep(store, *of("z", 3), *of("b", 4), *held)
    async with store.transaction() as uow:
        await uow.schedule.hold([(of_claim(o), NetworkId(NETWORK)) for o in held], now=later(1))
    assert owners(await claim(store, at=20, held_for=NETWORK)) == ["a", "c"]
    assert owners(await claim(store, at=20)) == ["b", "z"]


async def test_whose_only_order_is_due_this_moment_has_a_turn(store: Store) -> None:
    await keep(store, *of("a", 1, 2), *of("b", 3))
    assert owners(await claim(store, at=3, limit=2)) == ["a", "b"]


async def test_two_who_claim_at_once_share_each_partner_s_orders(store: Store) -> None:
    await keep(store, *of("a", 1, 2, 3, 4), *of("b", 5, 6))
    async with store.transaction() as uow:
        first = list(await uow.schedule.claim(now=later(9), lease_until=later(35), limit=4))
        second = await claim(store, at=9, limit=4)
    assert owners(first) == ["a", "b", "a", "b"]
    assert {o.key for o in [*first, *second]} == {o.key for o in [*of("a", 1, 2, 3, 4), *of("b", 5, 6)]}
    assert owners(second) == ["a", "a"]


async def test_a_lease_runs_out_and_every_dispatch_is_counted(store: Store) -> None:
    await keep(store, waiting(1))
    assert [o.dispatches for o in await claim(store, at=1, lease=30)] == [0]
    assert await claim(store, at=30.9) == []
    assert [o.dispatches for o in await claim(store, at=31)] == [1]


async def test_an_order_is_put_off_and_closed(store: Store) -> None:
    await keep(store, waiting(1), waiting(2))
    await claim(store, at=2)
    async with store.transaction() as uow:
        await uow.schedule.put_off([(keys(1)[0], later(10)), (keys(2)[0], later(20)), (keys(9)[0], later(5))])
    assert [o.key for o in await claim(store, at=19)] == keys(1)
    async with store.transaction() as uow:
        await uow.schedule.close(keys(1, 2, 9), now=later(19))
        await uow.schedule.put_off([(keys(2)[0], later(20))])
    assert await claim(store, at=9999) == []


async def test_what_is_closed_leaves_the_others_waiting(store: Store) -> None:
    await keep(store, *(waiting(n) for n in (3, 2, 1)))
    async with store.transaction() as uow:
        await uow.schedule.close(keys(2), now=NOW)
    assert [o.key for o in await claim(store, at=9)] == keys(1, 3)


async def test_a_claim_passes_by_what_another_is_claiming(store: Store) -> None:
    await keep(store, waiting(1), waiting(2))
    async with store.transaction() as uow:
        first = await uow.schedule.claim(now=later(5), lease_until=later(35), limit=1)
        assert [o.key for o in first] == keys(1)
        assert [o.key for o in await claim(store, at=5)] == keys(2)


async def test_nothing_is_kept_of_what_was_rolled_back_and_nothing_twice(store: Store) -> None:
    async with rolled_back(store) as uow:
        await uow.schedule.keep([waiting(1)])
    assert await claim(store, at=5) == []
    await keep(store, waiting(1))
    with pytest.raises(StoreIntegrityError):
        await keep(store, waiting(1))


async def test_nothing_asked_for_is_nothing_done(store: Store) -> None:
    async with store.transaction() as uow:
        await uow.schedule.keep([])
        await uow.schedule.put_off([])
        await uow.schedule.close([], now=NOW)
        await uow.payments.begin_scheduled([])


async def test_what_was_decided_of_a_due_payment_is_written_in_full(store: Store) -> None:
    scheduled = [payment(n, state=PaymentState.SCHEDULED) for n in (1, 2)]
    sent = payment(
        1,
        version=2,
        consent_version=3,
        windows=(window(),),
        trace=trace(7, at=later(60)),
        decided_at=later(60),
        changed_at=later(60),
    )
    refused = replace(
        scheduled[1],
        state=PaymentState.REJECTED,
        version=2,
        reason=Reason(code=ReasonCode.MD01, text="revoked"),
        decided_at=later(61),
        changed_at=later(61),
    )
    async with store.transaction() as uow:
        await uow.payments.insert(scheduled)
    async with store.transaction() as uow:
        await uow.payments.lock(keys(1, 2))
        await uow.payments.begin_scheduled([sent, refused])
    async with store.reading() as uow:
        assert await uow.payments.find(keys(1, 2)) == {sent.key: sent, refused.key: refused}
    with pytest.raises(StoreIntegrityError):
        async with store.transaction() as uow:
            await uow.payments.begin_scheduled([sent])


# --- held for a network ---


async def test_what_is_held_for_a_network_is_claimed_for_that_alone_and_as_if_it_had_not_been(store: Store) -> None:
    await keep(store, *of("a", 1, 2), *of("b", 3, 4))
    claimed = await claim(store, at=9)
    async with store.transaction() as uow:
        assert await uow.schedule.held_for() == []
        await uow.schedule.hold([(o, NetworkId(NETWORK)) for o in claimed[:3]], now=later(9))
        await uow.schedule.hold([(claimed[3], NetworkId("net-z"))], now=later(9))
        await uow.schedule.hold([], now=later(9))
    async with store.transaction() as uow:
        assert sorted(await uow.schedule.held_for()) == [NETWORK, "net-z"]
    assert await claim(store, at=9) == []
    # Due as it was, earliest first, in turns; and the first time was none.
    again = await claim(store, at=9, held_for=NETWORK, limit=2)
    assert (owners(again), [o.dispatches for o in again]) == (["a", "b"], [0, 0])
    assert again == claimed[:2]
    assert await claim(store, at=9, held_for=NETWORK) == [claimed[2]]
    assert await claim(store, at=9, held_for="net-z") == [claimed[3]]
    async with store.transaction() as uow:
        await uow.schedule.close([o.key for o in claimed], now=later(9))
        await uow.schedule.hold([(claimed[0], NetworkId("net-y"))], now=later(9))
        assert await uow.schedule.held_for() == []


async def test_what_was_due_before_its_day_is_so_while_it_is_held(store: Store) -> None:
    """Whoever hurried it has said so by when it is looked at alone."""
    await keep(store, waiting(50))
    async with store.transaction() as uow:
        await uow.schedule.put_off([(keys(50)[0], later(5))])
    (claimed,) = await claim(store, at=5)
    async with store.transaction() as uow:
        await uow.schedule.hold([(claimed, NetworkId(NETWORK))], now=later(6))
    assert [o.key for o in await claim(store, at=6, held_for=NETWORK)] == keys(50)


async def test_what_is_held_expires_as_everything(store: Store) -> None:
    await keep(store, waiting(1, expires_at=later(10)))
    async with store.transaction() as uow:
        (claimed,) = await uow.schedule.claim(now=later(1), lease_until=later(31), limit=1)
        await uow.schedule.hold([(claimed, NetworkId(NETWORK))], now=later(1))
    assert await claim_expired(store, at=9) == []
    assert [o.key for o in await claim_expired(store, at=10)] == keys(1)


async def test_what_is_held_twice_counts_as_held_once(store: Store) -> None:
    """As it is where nobody heard that the first time was committed."""
    await keep(store, waiting(1))
    claimed = await claim(store, at=9)
    for _ in range(2):
        async with store.transaction() as uow:
            await uow.schedule.hold([(claimed[0], NetworkId(NETWORK))], now=later(9))
    assert await claim(store, at=9, held_for=NETWORK) == claimed


async def test_what_was_claimed_anew_is_not_held_by_who_had_it_before(store: Store) -> None:
    await keep(store, waiting(1))
    claimed = await claim(store, at=1, lease=30)
    again = await claim(store, at=31, lease=30)
    async with store.transaction() as uow:
        await uow.schedule.hold([(claimed[0], NetworkId(NETWORK))], now=later(32))
        assert await uow.schedule.held_for() == []
    assert [o.dispatches for o in (*again, *await claim(store, at=61))] == [1, 2]


# --- a due payment, raced for -----------------------------------------------------------------------------------------


def worker(store: Store, clock: MemoryClock, host: MemoryHost, name: str) -> ExecutionService:
    vault = MemoryVault({USE.owned: CardData("4111111111111111", "2912")})
    network = MemoryCardNetwork(NetworkId(NETWORK), host)
    return execution_stage(store, network, vault, clock=clock, worker=name).service


async def accepted(backend: Backend, due_at: datetime, numbers: range) -> list[Record]:
    """Orders that wait, and the records that the schedule hands on when they are due."""
    await backend.put_consents(consent())
    await backend.put_merchants(merchant())
    payments: list[Payment] = []
    records: list[Record] = []
    for n in numbers:
        placed = numbered_order(
            n, requested_execution_date=due_at.date() + timedelta(days=1), expires_at=due_at + timedelta(hours=1)
        )
        order = waiting(n, body=encode(placed), due_at=due_at, expires_at=placed.expires_at)
        payments.append(payment(n, state=PaymentState.SCHEDULED, order_digest=sha256(order.body).digest()))
        records.append(as_record(DISPATCH.due(order, placed, NetworkId(NETWORK), due_at), n))
        await keep(backend.store, order)
    async with backend.store.transaction() as uow:
        await uow.payments.insert(payments)
    return records


async def test_workers_who_race_for_due_payments_send_each_once(backend: Backend) -> None:
    due_at = datetime.fromisoformat("2025-05-17T15:00:00Z")
    records = await accepted(backend, due_at, range(1, 21))
    clock, host = MemoryClock(due_at), MemoryHost()
    workers = [worker(backend.store, clock, host, f"w{n}") for n in range(3)]
    results = [asyncio.create_task(w.results.run()) for w in workers]
    try:
        # The same batch, backwards, and one by one: each order reaches three workers, some of them twice.
        await asyncio.gather(
            workers[0].take(records),
            workers[1].take(records[::-1]),
            *(workers[2].take([r]) for r in records),
            workers[2].take(records),
        )
        while True:
            async with backend.store.reading() as uow:
                found = await uow.payments.find(keys(*range(1, 21)))
            if all(p.state is PaymentState.APPROVED for p in found.values()):
                break
            assert not any(r.done() for r in results)
            await asyncio.sleep(0)
    finally:
        for task in results:
            task.cancel()
    assert {p.version for p in found.values()} == {3}
    assert len(await backend.ledger()) == 20
    assert len({p.trace.rrn for p in found.values() if p.trace}) == 20
