"""Who is dead, and what becomes of what it sent."""

import asyncio
from datetime import timedelta
from typing import Any

from gateway.base.errors import StoreUnavailableError
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.unknown.verdicts import UnknownPolicy
from schemas.reasons import ReasonCode as R
from tests.support.builders import later, payment
from tests.support.rig import Rig

AWAY = StoreUnavailableError("away")


async def put(rig: Rig, *numbers: int, sent_by: str = "dead", **fields: Any) -> None:
    async with rig.store.transaction() as uow:
        await uow.payments.insert([payment(n, sent_by=sent_by, **fields) for n in numbers])


async def test_what_a_silent_worker_left_is_taken_over_within_seconds() -> None:
    rig = Rig()
    await put(rig, 1)
    assert await rig.take_over(after_s=3) == 0
    assert await rig.take_over(after_s=4) == 1
    assert rig.states() == {"order-1": "unknown"}
    assert list(rig.database.reversals.rows) == [payment(1).key]
    assert rig.payment(1).reason.code is R.AB05  # type: ignore[union-attr]
    assert rig.told() == ["payment.unknown"]
    assert await rig.take_over(after_s=9) == 0


async def test_where_the_network_can_be_asked_it_is_asked() -> None:
    rig = Rig()
    await put(rig, 1)
    assert await rig.take_over(policy=UnknownPolicy.INQUIRE) == 1
    assert (list(rig.database.inquiries.rows), rig.database.reversals.rows) == ([payment(1).key], {})


async def test_other_networks_and_other_states_are_left_alone() -> None:
    rig = Rig()
    await put(rig, 1, network_id="net-b")
    await put(rig, 2, state=PaymentState.APPROVED)
    assert await rig.take_over() == 0


async def test_what_a_living_worker_sends_is_its_own_until_nobody_could_still_wait_for_it() -> None:
    rig = Rig()
    alive, peer = rig.new_recovery("alive"), rig.new_recovery("peer")
    await put(rig, 1, sent_by="alive", decided_at=later(0))
    for _ in range(45):
        await alive.report(is_open=True)
        await peer.report(is_open=True)
        assert await peer.take_over() == 0
        rig.clock.advance(1)
    await peer.report(is_open=True)
    rig.clock.advance(1)
    assert await peer.take_over() == 1


async def test_after_an_outage_of_the_database_nobody_is_judged_for_the_silence_that_it_caused() -> None:
    rig = Rig()
    alive, peer = rig.new_recovery("alive"), rig.new_recovery("peer")
    for _ in range(10):
        await alive.report(is_open=True)
        await peer.report(is_open=True)
        rig.clock.advance(1)
    await put(rig, 1, sent_by="alive", decided_at=rig.clock.now())
    rig.clock.advance(30)  # nobody could report
    await peer.report(is_open=True)
    assert await peer.take_over() == 0
    for _ in range(3):
        rig.clock.advance(1)
        await peer.report(is_open=True)
        assert await peer.take_over() == 0
    await alive.report(is_open=True)
    rig.clock.advance(1)
    await peer.report(is_open=True)
    assert await peer.take_over() == 0
    assert rig.states() == {"order-1": "sent"}


async def test_a_worker_whose_clock_was_set_back_judges_again_after_a_lease() -> None:
    """It judged nobody until the clock was where it had been: for hours what others had left stayed open."""
    rig = Rig()
    peer = rig.new_recovery("peer")
    await put(rig, 1, decided_at=later(0) - timedelta(hours=4))
    await peer.report(is_open=True)
    rig.clock.advance(-3 * 3600)
    for _ in range(4):
        await peer.report(is_open=True)
        assert await peer.take_over() == 0
        rig.clock.advance(1)
    await peer.report(is_open=True)
    assert await peer.take_over() == 1


async def test_two_workers_that_take_over_at_once_do_it_once() -> None:
    rig = Rig()
    await put(rig, *range(1, 6))
    peers = [rig.new_recovery("peer-1"), rig.new_recovery("peer-2")]
    for _ in range(6):
        for peer in peers:
            await peer.report(is_open=True)
        rig.clock.advance(1)
    received = await asyncio.gather(*(peer.take_over() for peer in peers))
    assert sum(received) == 5
    assert rig.told() == ["payment.unknown"] * 5
    assert len({r.follow_up.stan for r in rig.database.reversals.rows.values()}) == 5


async def test_a_take_over_that_was_not_confirmed_is_done_once() -> None:
    rig = Rig()
    await put(rig, 1)
    recovery = rig.new_recovery("peer")
    for _ in range(6):
        await recovery.report(is_open=True)
        rig.clock.advance(1)
    rig.faults.plan("store.committed", AWAY)
    assert await recovery.take_over() == 0
    assert rig.told() == ["payment.unknown"]
