"""Sending written records to the orders topic as partners do, at a steady rate, and remembering where each went."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.proving.books.evidence import Produced, ProducedCancellation
from gateway.proving.traffic.mix import Planned
from gateway.proving.traffic.orders import OrderWriter, Written
from schemas.primitives import payment_id_of
from schemas.topics import ORDERS

_TICK_S: Final = 0.05


class Sender:
    """Sends planned records in their order; every one is confirmed by Kafka before :meth:`send` returns.

    Attributes:
        produced: every order and refund that was sent, in the order of sending.
        cancelled: every cancellation that was sent.
    """

    def __init__(self, producer: Any, writer: OrderWriter) -> None:
        self._producer = producer
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
            sending = [await self._hand_over(w.record) for w in written]
            await asyncio.gather(*sending)
            self.produced.extend(_produced(w, future.result()) for w, future in zip(written, sending, strict=True))
            sent = max(sent, due)
            tick()
            await asyncio.sleep(_TICK_S)

    async def cancel(self, planned: Sequence[Planned], *, answer: str | None) -> None:
        """Cancel these orders; ``answer`` is the effect that each cancellation must be told; None: any is right."""
        answers = frozenset(() if answer is None else (answer,))
        now = datetime.now(UTC)
        for order in planned:
            record = self._writer.cancel(order, now)
            metadata = await (await self._hand_over(record))
            payment_id = payment_id_of(order.partner_id, order.order_id)
            self.cancelled.append(
                ProducedCancellation(metadata.partition, metadata.offset, order.partner_id, payment_id, answers)
            )

    async def command(self, record: Outgoing) -> None:
        """Send a record that is no order, and wait until Kafka has it."""
        await self._producer.send_and_wait(
            record.topic, value=record.value, key=record.key, headers=list(record.headers)
        )

    async def _hand_over(self, record: Outgoing) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = await self._producer.send(
            ORDERS, value=record.value, key=record.key, headers=list(record.headers)
        )
        return future


def _produced(written: Written, metadata: Any) -> Produced:
    return Produced(
        partition=metadata.partition,
        offset=metadata.offset,
        # The broker's (LogAppendTime), one for all records of a batch.
        timestamp_ms=metadata.timestamp,
        digest=written.digest,
        order=written.order,
        expected=written.planned.ends,
        label=written.planned.kind,
    )


@asynccontextmanager
async def open_sender(kafka: KafkaSettings, writer: OrderWriter, *, patience_s: float = 40.0) -> AsyncIterator[Sender]:
    """A sender with an idempotent producer of its own; it waits up to ``patience_s`` for a Kafka that is away."""
    producer = AIOKafkaProducer(
        **kafka.client_arguments(),
        enable_idempotence=True,
        acks="all",
        linger_ms=5,
        request_timeout_ms=round(1000 * patience_s),
    )
    await producer.start()
    try:
        yield Sender(producer, writer)
    finally:
        await producer.stop()
