"""Cancellations, refunds and orders that meet: exact on the fakes and on PostgreSQL, whoever comes first."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from gateway.app.unit import GatewayUnit
from gateway.database.unit import Store
from gateway.identity.door import Authentic
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.store import PaymentStore, lock_or_find
from schemas.cancellation import PaymentCancellation
from schemas.consents import Period, PeriodLimit
from schemas.envelope import read_envelope
from schemas.events import EventType
from tests.contract.conftest import Backend
from tests.support.builders import dispatched_record, numbered_order, payment
from tests.support.domain_samples import NOW, consent, krw, merchant, purpose
from tests.support.instructions import cancellation, dispatched_refund, instruction_record, refund
from tests.support.leading import led
from tests.support.races import Crowd

SEEDS = range(6)
LIMIT = PeriodLimit(period=Period.DAY, max_amount=krw(500_000))


async def crowd(backend: Backend, seed: int, *, workers: int = 3) -> Crowd:
    dice = random.Random(seed)
    await backend.put_consents(consent(payment=purpose(period_limits=(LIMIT,))))
    await backend.put_merchants(merchant())
    return Crowd(lambda: dice.randrange(4), backend.store, workers=workers)


def instruction(message: PaymentCancellation, offset: int) -> Authentic[PaymentCancellation]:
    record = instruction_record(message, offset)
    return Authentic(record, read_envelope(record.headers), message, message.cancellation_id.encode(), NOW)


async def answers(backend: Backend) -> list[str]:
    """Types of the answers to cancellations in the outbox."""
    reader = await led(backend.reader())
    try:
        return [
            row.event.event_type
            for row in await reader.read(1000)
            if row.event.event_type in (EventType.CANCELLATION_ACCEPTED, EventType.CANCELLATION_REFUSED)
        ]
    finally:
        await reader.release()


@pytest.mark.parametrize("seed", SEEDS)
async def test_refunds_by_several_workers_never_exceed_what_was_paid(backend: Backend, seed: int) -> None:
    world = await crowd(backend, seed)
    await world.pay(10_000)
    dice = random.Random(seed)
    amounts = {n: dice.randrange(1, 4_000) for n in range(1, 13)}
    records = [dispatched_refund(refund(n, minor), n) for n, minor in amounts.items()]
    async with world.results():
        await asyncio.gather(*(e.take(records[w::3]) for w, e in enumerate(world.executions)))
    stored = await world.payments(*(f"refund-{n}" for n in amounts))
    assert len(stored) == len(amounts)
    given = sum(p.amount_minor for p in stored.values() if p.state == "approved")
    assert {p.state.value for p in stored.values()} <= {"approved", "rejected"}
    assert given <= 10_000
    assert all(given + p.amount_minor > 10_000 for p in stored.values() if p.state == "rejected")
    assert world.rig.host.standing_minor() == {"KRW": 10_000 - given}
    balances: dict[str, int] = {}
    for _, debit, credit, minor in await backend.ledger():
        balances[debit] = balances.get(debit, 0) + minor
        balances[credit] = balances.get(credit, 0) - minor
    assert sorted(balances.values()) == [given - 10_000, 10_000 - given]


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_payment_is_either_cancelled_or_refunded(backend: Backend, seed: int) -> None:
    world = await crowd(backend, seed)
    await world.pay(10_000)
    async with world.results():
        await asyncio.gather(
            world.executions[0].take([dispatched_refund(refund(1, 4_000), 1)]),
            world.cancel(instruction(cancellation(), 2)),
            world.executions[1].take([dispatched_refund(refund(2, 4_000), 3)]),
        )
    await world.settle_what_is_open()
    stored = await world.payments("order-1", "refund-1", "refund-2")
    states = {o: p.state.value for o, p in stored.items()}
    if states["order-1"] == "reversed":
        assert {states["refund-1"], states["refund-2"]} == {"rejected"}
        assert await answers(backend) == [EventType.CANCELLATION_ACCEPTED]
        assert world.rig.host.standing_minor() == {}
    else:
        assert states["order-1"] == "approved"
        assert "approved" in (states["refund-1"], states["refund-2"])
        assert await answers(backend) == [EventType.CANCELLATION_REFUSED]


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_order_is_either_not_sent_or_undone(backend: Backend, seed: int) -> None:
    world = await crowd(backend, seed)
    orders = [dispatched_record(numbered_order(n), offset=n) for n in range(1, 7)]
    cancellations = [instruction(cancellation(n), 10 + n) for n in range(1, 7)]
    async with world.results():
        await asyncio.gather(
            *(world.executions[0].take([o]) for o in orders[:3]),
            *(world.cancel(c) for c in cancellations),
            *(world.executions[1].take([o]) for o in orders[3:]),
        )
    await world.settle_what_is_open()
    stored = await world.payments(*(f"order-{n}" for n in range(1, 7)))
    assert {p.state.value for p in stored.values()} <= {"rejected", "reversed"}
    assert {p.reason.code.value for p in stored.values() if p.reason} == {"DS02"}
    assert world.rig.host.standing_minor() == {}
    assert await answers(backend) == [EventType.CANCELLATION_ACCEPTED] * 6


@pytest.mark.parametrize("seed", SEEDS)
async def test_one_cancellation_at_several_workers_counts_once(backend: Backend, seed: int) -> None:
    world = await crowd(backend, seed)
    await world.pay()
    same = instruction(cancellation(), 1)
    await asyncio.gather(*(world.cancel(same, worker=w) for w in range(len(world.intakes))))
    stored = await world.payments("order-1")
    assert (stored["order-1"].state.value, stored["order-1"].version) == ("reversing", 3)
    assert await answers(backend) == [EventType.CANCELLATION_ACCEPTED]


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_waits_is_carried_out_once_by_several_workers(backend: Backend, seed: int) -> None:
    world = await crowd(backend, seed)
    orders = [dispatched_record(numbered_order(n), offset=n) for n in range(1, 6)]
    await world.executions[0].take(orders)
    await world.cancel(*(instruction(cancellation(n), 10 + n) for n in range(1, 6)))
    async with world.results():
        pass
    done = await asyncio.gather(*(s.work() for s in world.sweeps))
    assert sum(done) == 5
    stored = await world.payments(*(f"order-{n}" for n in range(1, 6)))
    assert {(p.state.value, p.version) for p in stored.values()} == {("reversing", 3)}
    assert await world.sweeps[0].work() == 0


async def test_a_payment_that_comes_while_others_are_looked_for_is_locked_too(backend: Backend) -> None:
    come = payment(1, state=PaymentState.SCHEDULED)

    async def wait() -> None:
        async with backend.store.transaction() as uow:
            await uow.payments.lock([come.key])

    async with backend.store.transaction() as uow:
        payments = ComingPayments(uow.payments, backend.store, come)
        assert await lock_or_find(cast("PaymentStore", payments), [come.key]) == {come.key: come}
        waiter = asyncio.create_task(wait())
        await backend.until_blocked(waiter)
    await waiter


class ComingPayments:
    """Payments, of which one comes right after it was looked for to be locked."""

    def __init__(self, payments: PaymentStore, store: Store[GatewayUnit], come: Payment) -> None:
        self._payments = payments
        self._store = store
        self._coming = [come]
        self.find = payments.find

    async def lock(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        locked = await self._payments.lock(keys)
        async with self._store.transaction() as uow:
            await uow.payments.insert(self._coming)
        self._coming.clear()
        return locked
