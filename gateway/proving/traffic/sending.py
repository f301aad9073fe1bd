"""Sending written records to the orders topic as partners do, at a steady rate, and remembering where each went."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from gateway.client import Client, open_client
from gateway.messaging.records import Outgoing, Receipt
from gateway.messaging.settings import KafkaSettings
from gateway.proving.books.evidence import Produced, ProducedCancellation
from gateway.proving.traffic.mix import Planned
from gateway.proving.traffic.orders import OrderWriter, Written
from schemas.primitives import payment_id_of

_TICK_S: Final = 0.05


class Sender:
    """Sends planned records in their order; every one is confirmed by Kafka before :meth:`send` returns.

    Attributes:
        produced: every order and refund that was sent, in the order of sending.
        cancelled: every cancellation that was sent.
    """

    def __init__(self, client: Client, writer: OrderWriter) -> None:
        self._client = client
        self._writer = writer
        self.produced: list[Produced] = []
        self.cancelled: list[ProducedCancellation] = []

    async def send(self, planned: Sequence[Planned], *, per_second: float, tick: Callable[[], None]) -> None:
        """Send at a steady rate, signing each record in its turn; ``tick`` is called about 20 times a second."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent = 0
        while sent < len(planned):
            due = min(len(planned), max(1, math.floor((loop.time() - began) * per_second)))
            now = datetime.now(UTC)
            written = [self._writer.write(p, now) for p in planned[sent:due]]
            receipts = await self._client.send([w.record for w in written])
            self.produced.extend(map(_produced, written, receipts))
            sent = max(sent, due)
            tick()
            await asyncio.sleep(_TICK_S)

    async def cancel(self, planned: Sequence[Planned], *, answer: str | None) -> None:
        """Cancel these orders; ``answer`` is the effect that each cancellation must be told; None: any is right."""
        answers = frozenset(() if answer is None else (answer,))
        now = datetime.now(UTC)
        for order in planned:
            [at] = await self._client.send([self._writer.cancel(order, now)])
            payment_id = payment_id_of(order.partner_id, order.order_id)
            self.cancelled.append(ProducedCancellation(at.partition, at.offset, order.partner_id, payment_id, answers))

    async def command(self, record: Outgoing) -> None:
        """Send a record that is no order, and wait until Kafka has it."""
        await self._client.send([record])


def _produced(written: Written, at: Receipt) -> Produced:
    return Produced(
        partition=at.partition,
        offset=at.offset,
        # The broker's (LogAppendTime), one for all records of a batch.
        timestamp_ms=at.timestamp_ms,
        digest=written.digest,
        order=written.order,
        expected=written.planned.ends,
        label=written.planned.kind,
    )


@asynccontextmanager
async def open_sender(kafka: KafkaSettings, writer: OrderWriter, *, patience_s: float = 40.0) -> AsyncIterator[Sender]:
    """A sender with a client of its own; it waits up to ``patience_s`` for a Kafka that is away."""
    async with open_client(kafka, patience_s=patience_s) as client:
        yield Sender(client, writer)
