"""ReversalStore: a durable queue under leases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.domain.payment import PaymentKey
from gateway.ports import QueuedReversal, Store
from schemas.primitives import NetworkId
from tests.builders import NETWORK, NOW, later, payment

NET = NetworkId(NETWORK)


def reversal(number: int, *, queued_at: datetime | None = NOW, network_id: str = NETWORK) -> QueuedReversal:
    return QueuedReversal(
        key=payment(number).key,
        network_id=NetworkId(network_id),
        stan=500_000 + number,
        transmitted_at=NOW.replace(microsecond=0),
        queued_at=queued_at,
    )


async def queue(store: Store, *reversals: QueuedReversal) -> None:
    async with store.transaction() as uow:
        await uow.reversals.queue(reversals)


async def claim(store: Store, owner: str = "w1", *, at: float = 1, lease: float = 60, limit: int = 10) -> list[int]:
    """Numbers of the payments whose reversals were claimed."""
    return [number for _, number in _numbered(await _claim(store, owner, at, lease, limit))]


async def _claim(store: Store, owner: str, at: float, lease: float, limit: int) -> Sequence[QueuedReversal]:
    async with store.transaction() as uow:
        return await uow.reversals.claim(NET, owner=owner, now=later(at), lease_until=later(at + lease), limit=limit)


def _numbered(claimed: Sequence[QueuedReversal]) -> list[tuple[QueuedReversal, int]]:
    return sorted(((r, r.stan - 500_000) for r in claimed), key=lambda pair: pair[1])


async def retry(store: Store, *numbers: int, owner: str = "w1", at: float) -> None:
    async with store.transaction() as uow:
        await uow.reversals.retry(keys(*numbers), owner=owner, next_attempt_at=later(at), code="68")


async def confirm(store: Store, *numbers: int, owner: str = "w1") -> frozenset[PaymentKey]:
    async with store.transaction() as uow:
        return await uow.reversals.confirm(keys(*numbers), owner=owner, now=later(5))


async def next_due(store: Store) -> datetime | None:
    async with store.reading() as uow:
        return await uow.reversals.next_due(NET)


def keys(*numbers: int) -> list[PaymentKey]:
    return [payment(n).key for n in numbers]


async def test_what_was_queued_is_claimed_once_with_its_own_trace_numbers(store: Store) -> None:
    await queue(store, reversal(1))
    assert await _claim(store, "w1", 1, 60, 10) == [reversal(1)]
    assert await _claim(store, "w1", 1, 60, 10) == []
    assert await _claim(store, "w2", 1, 60, 10) == []


async def test_nothing_asked_for_is_nothing_done(store: Store) -> None:
    await queue(store)
    await retry(store, at=1)
    assert await confirm(store) == frozenset()
    assert await claim(store) == []
    assert await next_due(store) is None


async def test_a_payment_has_one_reversal_and_the_first_stands(store: Store) -> None:
    await queue(store, reversal(1))
    await queue(store, replace(reversal(1), stan=500_099), reversal(2))
    assert _numbered(await _claim(store, "w1", 1, 60, 10)) == [(reversal(1), 1), (reversal(2), 2)]


async def test_the_oldest_are_claimed_first_of_this_network_and_only_when_due(store: Store) -> None:
    await queue(
        store,
        reversal(1, queued_at=later(3)),
        reversal(2, queued_at=later(1)),
        reversal(3, queued_at=later(2)),
        reversal(4, queued_at=later(9)),
        reversal(5, queued_at=later(0), network_id="net-b"),
    )
    assert await claim(store, at=4, limit=2) == [2, 3]
    assert await claim(store, at=4, limit=2) == [1]
    assert await claim(store, at=8) == []
    assert await claim(store, at=9) == [4]


async def test_a_claim_passes_by_what_another_transaction_is_claiming(store: Store) -> None:
    await queue(store, reversal(1), reversal(2))
    async with store.transaction() as uow:
        first = await uow.reversals.claim(NET, owner="w1", now=later(1), lease_until=later(60), limit=1)
        assert len(first) == 1
        others = await claim(store, "w2")
        assert others == [3 - (first[0].stan - 500_000)]


async def test_attempts_count_and_a_retry_waits_for_its_time(store: Store) -> None:
    await queue(store, reversal(1))
    assert [r.attempts for r in await _claim(store, "w1", 1, 60, 10)] == [0]
    await retry(store, 1, at=31)
    assert await next_due(store) == later(31)
    assert await claim(store, at=30) == []
    (second,) = await _claim(store, "w2", 31, 60, 10)
    assert second == replace(reversal(1), attempts=1)
    await retry(store, 1, owner="w2", at=61)
    assert [r.attempts for r in await _claim(store, "w1", 61, 60, 10)] == [2]


async def test_a_lease_runs_out_for_a_dead_worker(store: Store) -> None:
    await queue(store, reversal(1))
    assert await claim(store, "dead", at=1, lease=60) == [1]
    assert await next_due(store) == later(61)
    assert await claim(store, "w2", at=61) == []
    (taken,) = await _claim(store, "w2", 61.001, 60, 10)
    assert taken.attempts == 1


async def test_who_lost_the_lease_can_neither_retry_nor_confirm(store: Store) -> None:
    await queue(store, reversal(1))
    await claim(store, "slow", at=1, lease=60)
    await claim(store, "w2", at=62, lease=60)
    await retry(store, 1, owner="slow", at=63)
    assert await claim(store, "w3", at=64) == []
    assert await confirm(store, 1, owner="slow") == frozenset()
    assert await confirm(store, 1, owner="w2") == frozenset(keys(1))


async def test_confirming_closes_once_and_for_ever(store: Store) -> None:
    await queue(store, reversal(1), reversal(2))
    await claim(store)
    assert await confirm(store, 1, 9) == frozenset(keys(1))
    assert await confirm(store, 1) == frozenset()
    await retry(store, 1, at=0)
    assert await claim(store, at=100) == [2]
    await confirm(store, 2)
    assert await next_due(store) is None
    await queue(store, reversal(1))
    assert await claim(store, at=200) == []


async def test_what_nobody_claimed_cannot_be_confirmed(store: Store) -> None:
    await queue(store, reversal(1))
    assert await confirm(store, 1) == frozenset()
    assert await claim(store) == [1]
