"""However many payments a customer has, an export holds a chunk of them: memory does not grow with their number."""

import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from gateway.base.garbage_collection import collecting_rarely
from gateway.portability.rules.records import PaymentFacts
from tests.support.portability import PortabilityRig


class ManyPayments:
    """Implements :class:`gateway.portability.store.Snapshots`: one payment, over and over, each piece made anew."""

    def __init__(self, like: PaymentFacts, count: int) -> None:
        self._like = like
        self._count = count

    @asynccontextmanager
    async def open(
        self, _partner_id: Any, _customer_id: Any, *, since: datetime | None, size: int
    ) -> AsyncIterator[AsyncIterator[Sequence[PaymentFacts]]]:
        assert since is None

        async def pieces() -> AsyncIterator[Sequence[PaymentFacts]]:
            for begin in range(0, self._count, size):
                numbers = range(begin, min(begin + size, self._count))
                yield [replace(self._like, payment_id=f"payment-{n:09}", approval_code=f"{n:09}") for n in numbers]

        yield pieces()


class Gone:
    """Takes chunks, counts them, and keeps nothing."""

    chunks = 0

    async def publish(self, records: Sequence[Any]) -> None:
        self.chunks += len(records)


async def peak_of(count: int) -> tuple[int, int]:
    """Bytes at the most while an export of so many payments is made, and its records."""
    rig = PortabilityRig()
    rig.pay(1)
    async with rig.stage.exports._snapshots.open("partner-1", "customer-1", since=None, size=1) as pieces:
        [like] = [p async for piece in pieces for p in piece]
    await rig.take(rig.record())
    rig.kafka = gone = Gone()  # type: ignore[assignment]
    stage = rig.new_stage("worker-1", chunk_payments=100)
    stage.exports._snapshots = ManyPayments(like, count)
    tracemalloc.start()
    try:
        # As stages do.
        with collecting_rarely():
            assert await stage.exports.make_one()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [delivered] = [body for kind, body in rig.told() if kind.endswith("delivered")]
    # The consent and the cards have a chunk each.
    assert gone.chunks == delivered["chunks"] == count // 100 + 2
    return peak, delivered["records"]


async def test_an_export_of_many_payments_takes_no_more_memory_than_one_of_few() -> None:
    await peak_of(200)  # what is imported and cached by the first one is there before
    (few, few_records), (many, many_records) = await peak_of(400), await peak_of(4_000)
    assert (few_records, many_records) == (2 * 400 + 2, 2 * 4_000 + 2)
    # Of each chunk its digest stays, for the receipt: some hundred bytes of its hundreds of records.
    assert many < 1.5 * few


@pytest.mark.parametrize("kept", [True, False])
async def test_who_keeps_its_chunks_is_found(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heap: list[Any] = []

    async def publish(_self: Gone, records: Sequence[Any]) -> None:
        _self.chunks += len(records)
        if kept:
            heap.extend(records)

    monkeypatch.setattr(Gone, "publish", publish)
    few, many = (await peak_of(400))[0], (await peak_of(4_000))[0]
    assert (many > 1.5 * few) is kept
