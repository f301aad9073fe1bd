"""Numbers of payments that a process took from the sequence ahead."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.app.postgres import PostgresStore
from gateway.base.errors import StoreUnavailableError
from gateway.payments.postgres import NUMBERS_AT_ONCE, PaymentNumbers, PostgresPaymentStore


class Sequence:
    """The connection; its sequence goes on whatever becomes of a transaction."""

    def __init__(self) -> None:
        self.last = 0
        self.asked: list[int] = []

    async def fetch(self, _: str, count: int) -> list[tuple[int]]:
        self.asked.append(count)
        self.last += count
        return [(n,) for n in range(self.last - count + 1, self.last + 1)]


async def test_batches_take_numbers_from_what_was_asked_for_at_once_each_number_once() -> None:
    sequence: Any = Sequence()
    numbers = PaymentNumbers()
    given: list[int] = []
    for count in (300, 300, 300, 300, 0):
        # Each transaction has a store of its own.
        store = PostgresPaymentStore(sequence, numbers)
        given += await store.next_payment_numbers(count)
        store.keep_numbers()
    assert given == list(range(1, 1201))
    assert sequence.asked == [NUMBERS_AT_ONCE] * 2


async def test_a_batch_that_is_larger_gets_all_that_it_asks_for() -> None:
    sequence: Any = Sequence()
    store = PostgresPaymentStore(sequence, PaymentNumbers())
    given = await store.next_payment_numbers(3 * NUMBERS_AT_ONCE)
    assert len({*given}) == 3 * NUMBERS_AT_ONCE
    assert sequence.asked == [3 * NUMBERS_AT_ONCE]


class Pool(PostgresStore):
    """Has one connection, to a sequence alone; fails at the commit where it is told to."""

    def __init__(self) -> None:
        super().__init__("postgresql://nowhere")
        self.sequence = Sequence()
        self.fails = False

    @asynccontextmanager
    async def transacting(self) -> AsyncIterator[Any]:
        yield self.sequence
        if self.fails:
            raise StoreUnavailableError("away at the commit")


async def test_numbers_whose_transaction_did_not_commit_are_nobodys() -> None:
    """A server that takes over may not know that they were taken: it gives them to another process."""
    store = Pool()
    store.fails = True
    given: list[int] = []

    async def take_twice() -> None:
        async with store.transaction() as uow:
            given.extend(await uow.payments.next_payment_numbers(3))
            given.extend(await uow.payments.next_payment_numbers(3))

    with pytest.raises(StoreUnavailableError):
        await take_twice()
    assert given == [1, 2, 3, 4, 5, 6]
    # The one that took over begins where the other was before that.
    store.sequence.last, store.fails = 500, False
    for begins in (501, 504):
        async with store.transaction() as uow:
            assert await uow.payments.next_payment_numbers(3) == [begins, begins + 1, begins + 2]
    assert store.sequence.asked == [NUMBERS_AT_ONCE] * 2
