"""FollowUpStore, for reversals and for inquiries: durable queues under leases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from gateway.app.unit import GatewayUnit
from gateway.database.unit import Store
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.unknown.store import UNSENDABLE, FollowUp, FollowUpStore
from schemas.primitives import NetworkId
from tests.support.builders import NETWORK, NOW, TERMINAL, later, payment

NET = NetworkId(NETWORK)


class Queue:
    """One of the two queues of a store."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self._name = name

    def of(self, uow: GatewayUnit) -> FollowUpStore:
        return uow.reversals if self._name == "reversals" else uow.inquiries


@pytest.fixture(params=["reversals", "inquiries"])
def fifo(store: Store, request: pytest.FixtureRequest) -> Queue:
    return Queue(store, request.param)


def follow_up(
    number: int, *, queued_at: datetime | None = NOW, network_id: str = NETWORK, terminal_id: str = TERMINAL
) -> FollowUp:
    return FollowUp(
        key=payment(number).key,
        network_id=NetworkId(network_id),
        terminal_id=terminal_id,
        stan=500_000 + number,
        transmitted_at=NOW.replace(microsecond=0),
        queued_at=queued_at,
    )


async def queue(fifo: Queue, *reversals: FollowUp) -> None:
    async with fifo.store.transaction() as uow:
        await fifo.of(uow).queue(reversals)


async def claim(fifo: Queue, owner: str = "w1", *, at: float = 1, lease: float = 60, limit: int = 10) -> list[int]:
    """Numbers of the payments whose reversals were claimed."""
    return [number for _, number in _numbered(await _claim(fifo, owner, at, lease, limit))]


async def _claim(fifo: Queue, owner: str, at: float, lease: float, limit: int) -> Sequence[FollowUp]:
    async with fifo.store.transaction() as uow:
        return await fifo.of(uow).claim(NET, owner=owner, now=later(at), lease_until=later(at + lease), limit=limit)


def _numbered(claimed: Sequence[FollowUp]) -> list[tuple[FollowUp, int]]:
    return sorted(((r, r.stan - 500_000) for r in claimed), key=lambda pair: pair[1])


async def retry(fifo: Queue, *numbers: int, owner: str = "w1", at: float, code: str = "68") -> None:
    async with fifo.store.transaction() as uow:
        await fifo.of(uow).retry(keys(*numbers), owner=owner, next_attempt_at=later(at), code=code)


async def close(fifo: Queue, *numbers: int, owner: str = "w1") -> frozenset[PaymentKey]:
    async with fifo.store.transaction() as uow:
        return await fifo.of(uow).close(dict.fromkeys(keys(*numbers), "00"), owner=owner, now=later(5))


async def next_due(fifo: Queue) -> datetime | None:
    async with fifo.store.reading() as uow:
        return await fifo.of(uow).next_due(NET)


def keys(*numbers: int) -> list[PaymentKey]:
    return [payment(n).key for n in numbers]


async def test_what_was_queued_is_claimed_once_with_its_own_trace_numbers(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    assert await _claim(fifo, "w1", 1, 60, 10) == [follow_up(1)]
    assert await _claim(fifo, "w1", 1, 60, 10) == []
    assert await _claim(fifo, "w2", 1, 60, 10) == []


async def test_nothing_asked_for_is_nothing_done(fifo: Queue) -> None:
    await queue(fifo)
    await retry(fifo, at=1)
    assert await close(fifo) == frozenset()
    assert await claim(fifo) == []
    assert await next_due(fifo) is None


async def test_a_payment_has_one_reversal_and_the_first_stands(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    await queue(fifo, replace(follow_up(1), stan=500_099), follow_up(2))
    assert _numbered(await _claim(fifo, "w1", 1, 60, 10)) == [(follow_up(1), 1), (follow_up(2), 2)]


async def test_the_oldest_are_claimed_first_of_this_network_and_only_when_due(fifo: Queue) -> None:
    await queue(
        fifo,
        follow_up(1, queued_at=later(3)),
        follow_up(2, queued_at=later(1)),
        follow_up(3, queued_at=later(2)),
        follow_up(4, queued_at=later(9)),
        follow_up(5, queued_at=later(0), network_id="net-b"),
    )
    assert await claim(fifo, at=4, limit=2) == [2, 3]
    assert await claim(fifo, at=4, limit=2) == [1]
    assert await claim(fifo, at=8) == []
    assert await claim(fifo, at=9) == [4]


async def test_a_claim_passes_by_what_another_transaction_is_claiming(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2))
    async with fifo.store.transaction() as uow:
        first = await fifo.of(uow).claim(NET, owner="w1", now=later(1), lease_until=later(60), limit=1)
        assert len(first) == 1
        others = await claim(fifo, "w2")
        assert others == [3 - (first[0].stan - 500_000)]


async def test_attempts_count_and_a_retry_waits_for_its_time(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    assert [r.attempts for r in await _claim(fifo, "w1", 1, 60, 10)] == [0]
    await retry(fifo, 1, at=31)
    assert await next_due(fifo) == later(31)
    assert await claim(fifo, at=30) == []
    (second,) = await _claim(fifo, "w2", 31, 60, 10)
    assert second == replace(follow_up(1), attempts=1)
    await retry(fifo, 1, owner="w2", at=61)
    assert [r.attempts for r in await _claim(fifo, "w1", 61, 60, 10)] == [2]


async def test_a_lease_runs_out_for_a_dead_worker(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    assert await claim(fifo, "dead", at=1, lease=60) == [1]
    assert await next_due(fifo) == later(61)
    assert await claim(fifo, "w2", at=61) == []
    (received,) = await _claim(fifo, "w2", 61.001, 60, 10)
    assert received.attempts == 1


async def test_who_lost_the_lease_can_neither_retry_nor_confirm(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    await claim(fifo, "slow", at=1, lease=60)
    await claim(fifo, "w2", at=62, lease=60)
    await retry(fifo, 1, owner="slow", at=63)
    assert await claim(fifo, "w3", at=64) == []
    assert await close(fifo, 1, owner="slow") == frozenset()
    assert await close(fifo, 1, owner="w2") == frozenset(keys(1))


async def test_confirming_closes_once_and_for_ever(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2))
    await claim(fifo)
    assert await close(fifo, 1, 9) == frozenset(keys(1))
    assert await close(fifo, 1) == frozenset()
    await retry(fifo, 1, at=0)
    assert await claim(fifo, at=100) == [2]
    await close(fifo, 2)
    assert await next_due(fifo) is None


async def hurry(fifo: Queue, *numbers: int, at: float) -> frozenset[PaymentKey]:
    async with fifo.store.transaction() as uow:
        return await fifo.of(uow).hurry(keys(*numbers), now=later(at))


async def test_one_that_waits_can_be_hurried_and_no_other(fifo: Queue) -> None:
    await queue(fifo, *(follow_up(n) for n in range(1, 5)), follow_up(5, queued_at=later(9)))
    await claim(fifo, limit=4)
    for number, at in ((1, 300), (2, 400), (3, 500)):
        await retry(fifo, number, at=at)
    assert await claim(fifo, "w2", at=300, limit=1) == [4]
    assert await claim(fifo, "w2", at=300, limit=2) == [1, 5]
    await close(fifo, 1, owner="w2")
    await retry(fifo, 5, owner="w2", at=19)
    # One that is closed, held, due already or not there stays as it is; so does one of which nobody asked.
    assert await hurry(fifo, 1, 2, 4, 5, 9, at=20) == frozenset(keys(2))
    assert await hurry(fifo, 2, at=20) == frozenset()
    assert await claim(fifo, "w3", at=20) == [2, 5]
    assert await next_due(fifo) == later(80)
    assert await claim(fifo, "w4", at=499) == [2, 4, 5]


async def test_a_closed_one_is_opened_anew_under_its_new_numbers(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    await claim(fifo)
    await close(fifo, 1)
    anew = replace(follow_up(1, queued_at=later(100)), stan=500_099)
    await queue(fifo, anew)
    assert await _claim(fifo, "w2", 99, 60, 10) == []
    assert await _claim(fifo, "w2", 101, 60, 10) == [anew]


async def test_what_somebody_holds_begins_anew_and_its_holder_finds_nothing(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2, queued_at=later(1)))
    await claim(fifo, at=1, limit=1)
    anew = [replace(follow_up(n), stan=500_090 + n, transmitted_at=later(3)) for n in (1, 2, 3)]
    async with fifo.store.transaction() as uow:
        await fifo.of(uow).begin_anew([])
        await fifo.of(uow).begin_anew(anew)
    assert await close(fifo, 1, 2) == frozenset()
    assert await _claim(fifo, "w2", 2, 60, 10) == [follow_up(2, queued_at=later(1))]
    assert await _claim(fifo, "w2", 3, 60, 10) == [replace(anew[0], queued_at=NOW)]
    assert await close(fifo, 1, owner="w2") == frozenset(keys(1))
    async with fifo.store.transaction() as uow:
        await fifo.of(uow).begin_anew(anew)
    assert await claim(fifo, at=500) == [92]  # 1 is closed, and stands


async def test_what_was_sent_once_begins_anew_though_nobody_holds_it_now(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2, queued_at=later(9)))
    await claim(fifo)
    await retry(fifo, 1, at=40)
    anew = [replace(follow_up(n), stan=500_090 + n, transmitted_at=later(3)) for n in (1, 2)]
    async with fifo.store.transaction() as uow:
        await fifo.of(uow).begin_anew(anew)
    # What was never sent has its numbers to itself, and keeps its time.
    assert await _claim(fifo, "w2", 4, 60, 10) == [replace(anew[0], queued_at=NOW)]
    assert await _claim(fifo, "w2", 9, 60, 10) == [follow_up(2, queued_at=later(9))]


async def test_of_two_for_one_payment_at_a_time_the_first_stands(fifo: Queue) -> None:
    second = replace(follow_up(1), stan=500_099)
    await queue(fifo, follow_up(1), second)
    assert await _claim(fifo, "w1", 1, 60, 10) == [follow_up(1)]
    await close(fifo, 1)
    await queue(fifo, follow_up(1), second)
    assert await _claim(fifo, "w1", 1, 60, 10) == [follow_up(1)]


async def test_taking_away_closes_whoever_holds_it_and_the_holder_finds_nothing(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2))
    await claim(fifo, limit=1)
    async with fifo.store.transaction() as uow:
        assert await fifo.of(uow).take_away(keys(1, 2, 3), now=later(2)) == frozenset(keys(1, 2))
    assert await close(fifo, 1, 2) == frozenset()
    async with fifo.store.transaction() as uow:
        assert await fifo.of(uow).take_away(keys(1), now=later(3)) == frozenset()
    assert await claim(fifo, at=500) == []


async def test_in_order_only_the_oldest_of_a_terminal_is_claimed(fifo: Queue) -> None:
    await queue(
        fifo,
        follow_up(1, queued_at=later(1)),
        follow_up(2, queued_at=later(0)),
        follow_up(3, queued_at=later(2), terminal_id="GW000099"),
        # Another network may have a terminal of the same name.
        follow_up(4, queued_at=later(-1), network_id="another"),
    )

    async def claim_in_order(at: float) -> list[int]:
        async with fifo.store.transaction() as uow:
            found = await fifo.of(uow).claim(
                NET, owner="w1", now=later(at), lease_until=later(at + 60), limit=10, in_order=True
            )
        return [number for _, number in _numbered(found)]

    assert await claim_in_order(5) == [2, 3]
    assert await claim_in_order(5) == []
    await retry(fifo, 2, at=50)
    assert await claim_in_order(6) == []  # the oldest is not due: nobody overtakes it
    assert await claim_in_order(50) == [2]
    await close(fifo, 2)
    assert await claim_in_order(51) == [1]


async def test_in_order_what_cannot_be_sent_holds_up_nobody_and_keeps_its_time(fifo: Queue) -> None:
    await queue(fifo, follow_up(1, queued_at=later(0)), follow_up(2, queued_at=later(1)))

    async def claim_in_order(at: float) -> list[int]:
        async with fifo.store.transaction() as uow:
            found = await fifo.of(uow).claim(
                NET, owner="w1", now=later(at), lease_until=later(at + 60), limit=10, in_order=True
            )
        return [number for _, number in _numbered(found)]

    assert await claim_in_order(5) == [1]
    await retry(fifo, 1, at=50, code=UNSENDABLE)
    assert await claim_in_order(6) == [2]
    await close(fifo, 2)
    assert await claim_in_order(51) == [1]
    await retry(fifo, 1, at=60)  # it can be sent again: the others wait for it
    await queue(fifo, follow_up(3, queued_at=later(2)))
    assert await claim_in_order(55) == []


async def test_what_nobody_claimed_cannot_be_confirmed(fifo: Queue) -> None:
    await queue(fifo, follow_up(1))
    assert await close(fifo, 1) == frozenset()
    assert await claim(fifo) == [1]


async def test_what_is_taken_away_leaves_the_others_open(fifo: Queue) -> None:
    await queue(fifo, follow_up(1), follow_up(2))
    async with fifo.store.transaction() as uow:
        assert await fifo.of(uow).take_away(keys(1), now=later(1)) == frozenset(keys(1))
    assert await claim(fifo, at=2) == [2]
