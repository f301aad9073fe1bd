"""What settles a payment, and what is asked or undone about it, that meet: on the fakes and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from gateway.app.unit import GatewayUnit
from gateway.database.unit import Store
from gateway.network.exchange import Answered, UnmatchedAnswer
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment
from gateway.payments.transitions import apply_changes
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import Behaviour, Fate
from gateway.settlement.rules import Break, BreakKind
from schemas.clearing import ClearingBatch, ClearingRecord
from schemas.primitives import NetworkId
from tests.contract.conftest import Backend
from tests.support.builders import (
    NETWORK,
    NOW,
    clearing_message,
    clearing_record,
    dispatched_record,
    later,
    numbered_order,
    payment,
)
from tests.support.domain_samples import consent, merchant
from tests.support.rig import Rig


class Counted:
    """A store that counts the transactions that were begun."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reading = store.reading
        self.begun = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[GatewayUnit]:
        self.begun += 1
        async with self._store.transaction() as uow:
            yield uow


class Gated(Counted):
    """That holds up the transaction with this number, once it is to be begun."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.held_up = 0
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[GatewayUnit]:
        if self.begun + 1 == self.held_up:
            self.reached.set()
            await self.open.wait()
        async with super().transaction() as uow:
            yield uow


async def a_rig(backend: Backend, store: Store) -> Rig:
    """With order 1 in flight."""
    await backend.put_consents(consent())
    await backend.put_merchants(merchant())
    rig = Rig(lambda _: Behaviour())
    rig.store = store  # type: ignore[assignment]
    await rig.new_execution().take([dispatched_record(numbered_order(1))])
    await rig.network.wait_idle()
    return rig


async def the_payment(backend: Backend) -> Payment:
    order = numbered_order(1)
    async with backend.store.reading() as uow:
        return (await uow.payments.find([(order.partner_id, order.payment_id)]))[order.partner_id, order.payment_id]


def approval(payment: Payment) -> UnmatchedAnswer:
    trace = payment.trace
    assert trace is not None
    answer = Answered("00", "654321", payment.amount_minor, "410", trace.rrn)
    at = f"{trace.transmitted_at:%m%d%H%M%S}"
    return UnmatchedAnswer(NetworkId(NETWORK), "0210", trace.terminal_id, trace.stan, at, answer)


async def test_a_reversal_that_is_confirmed_waits_for_a_late_approval_and_holds_nothing_of_it(backend: Backend) -> None:
    counted = Counted(backend.store)
    rig = await a_rig(backend, counted)
    payment = await the_payment(backend)
    async with backend.store.transaction() as uow:
        await apply_changes(uow, [Change(payment.key, PaymentEventKind.UNANSWERED)], now=later(1))
    rig.clock.advance(2)
    reversals, begun = rig.new_reversals("worker-1"), counted.begun
    async with backend.store.transaction() as uow:
        await uow.payments.lock([payment.key])
        reversing = asyncio.create_task(reversals.work())
        await backend.until_blocked(reversing)
        await apply_changes(uow, [Change(payment.key, PaymentEventKind.APPROVED)], now=rig.clock.now())
    assert await reversing == 1
    # One to claim, one to write: neither of the two was undone for the other.
    assert counted.begun - begun == 2
    # It was confirmed before it was booked, perhaps: it is undone once more.
    assert (await the_payment(backend)).state.value == "unknown"
    assert await reversals.work() == 1
    assert (await the_payment(backend)).state.value == "reversed"


@pytest.mark.parametrize("corrected", [False, True])
async def test_clearing_waits_for_the_first_of_its_payments_and_holds_no_other_meanwhile(
    backend: Backend, corrected: bool
) -> None:
    counted = Counted(backend.store)
    rig = await a_rig(backend, counted)
    first, second = sorted((payment(n, state=PaymentState.APPROVED) for n in (5, 6)), key=lambda p: p.key)
    settlement = rig.new_settlement(too_early_s=0.0)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([first, second])
        if not corrected:
            # The second one's cycle is looked at first.
            for cycle_id, of in (("c1", second), ("c2", first)):
                await uow.clearing.add(
                    NetworkId(NETWORK),
                    cycle_id,
                    [clearing_record(of, 1)],
                    created_at=NOW,
                    outcomes={1: (of.key, Break(BreakKind.NOT_APPROVED, "why"))},
                )
    if corrected:
        await settlement.take([clearing_message(batch_of(clearing_record(second, 1)))])
    begun = counted.begun
    async with backend.store.transaction() as uow:
        await uow.payments.lock([first.key])
        # What the second one's record names from now on is the first.
        message = clearing_message(batch_of(clearing_record(first, 1)))
        settling = asyncio.create_task(settlement.take([message]) if corrected else settlement.match_again())
        await backend.until_blocked(settling)
        await uow.payments.lock([second.key])
    await settling
    assert counted.begun - begun == 1
    assert {n: k for n, (_, k) in (await backend.outcomes()).items()} == {1: None}


async def test_breaks_of_two_networks_wait_for_the_first_of_their_payments_and_hold_no_other_meanwhile(
    backend: Backend,
) -> None:
    counted = Counted(backend.store)
    rig = await a_rig(backend, counted)
    first, second = sorted((payment(n, state=PaymentState.APPROVED) for n in (5, 6)), key=lambda p: p.key)
    # The network of the second one is looked at first.
    first = replace(first, network_id=NetworkId("network-z"))
    settlement = rig.new_settlement(too_early_s=0.0)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([first, second])
        for of in (first, second):
            assert of.network_id is not None
            await uow.clearing.add(
                of.network_id,
                "c1",
                [clearing_record(of, 1)],
                created_at=NOW,
                outcomes={1: (of.key, Break(BreakKind.NOT_APPROVED, "why"))},
            )
    begun = counted.begun
    async with backend.store.transaction() as uow:
        await uow.payments.lock([first.key])
        settling = asyncio.create_task(settlement.match_again())
        await backend.until_blocked(settling)
        await uow.payments.lock([second.key])
    assert await settling == 2
    assert counted.begun - begun == 1


async def test_what_was_not_answered_waits_for_who_settles_some_of_it_and_holds_nothing_meanwhile(
    backend: Backend,
) -> None:
    gated = Gated(backend.store)
    rig = await a_rig(backend, gated)
    first, second = sorted((payment(n) for n in (5, 6)), key=lambda p: p.key)
    silent = rig.new_network(lambda _: Behaviour(fate=Fate.ANSWER_LOST))
    inquiries = rig.new_inquiries("worker-1", silent)
    async with backend.store.transaction() as uow:
        await uow.payments.insert([first, second])
        await apply_changes(uow, [Change(first.key, PaymentEventKind.INQUIRY_STARTED)], now=rig.clock.now())
    # The first one is asked for a second time as the other is for the first: that one is put back before it.
    assert await inquiries.work() == 1
    async with backend.store.transaction() as uow:
        await apply_changes(uow, [Change(second.key, PaymentEventKind.INQUIRY_STARTED)], now=rig.clock.now())
    rig.clock.advance(6)
    # One to claim, and one to put back.
    begun, gated.held_up = gated.begun, gated.begun + 2
    asking = asyncio.create_task(inquiries.work())
    await gated.reached.wait()
    async with backend.store.transaction() as uow:
        await uow.payments.lock([first.key, second.key])
        assert await uow.inquiries.take_away([first.key], now=rig.clock.now()) == {first.key}
        gated.open.set()
        await backend.until_blocked(asking)
        assert await uow.inquiries.take_away([second.key], now=rig.clock.now()) == {second.key}
    assert await asking == 2
    assert gated.begun - begun == 2


def batch_of(record: ClearingRecord) -> ClearingBatch:
    return ClearingBatch(network_id=NetworkId(NETWORK), cycle_id="c1", chunk=1, records=(record,))


async def test_an_approval_that_comes_as_its_payment_becomes_unknown_is_what_is_asked_for(backend: Backend) -> None:
    rig = await a_rig(backend, backend.store)
    payment = await the_payment(backend)
    late = rig.new_late_answers(policy=UnknownPolicy.INQUIRE)
    late.take(approval(payment))
    async with backend.store.transaction() as uow:
        await apply_changes(uow, [Change(payment.key, PaymentEventKind.INQUIRY_STARTED)], now=later(1))
        settling = asyncio.create_task(late.work())
        await backend.until_blocked(settling)
    await settling
    found = await the_payment(backend)
    assert (found.state.value, found.approval_code) == ("approved", "654321")
    rig.clock.advance(60)
    assert await rig.new_inquiries("worker-1").work() == 0
