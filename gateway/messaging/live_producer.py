"""One idempotent producer of aiokafka: made when it is needed, and thrown away once it cannot go on.

Within a producer's life aiokafka retries a batch for ever, and the broker drops repeats by sequence number. A producer
that has failed a batch is replaced: its sequence numbers no longer fit.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaProducer, codec
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.record import default_records

from gateway.base.errors import PublisherUnavailableError
from gateway.base.process import Observer
from gateway.messaging.connections import at_once
from gateway.messaging.settings import KafkaSettings

LZ4_LEVEL: Final = 1
"""Measured on events of payments: an eighth of the processor time of aiokafka's 9, for a tenth more bytes."""

_BACKOFF_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_DISCARD_SECONDS: Final = 2.0
_HANG_UP_SECONDS: Final = 0.1


def _compress_lightly() -> None:
    """Set the level of all producers of this process: aiokafka (pinned) has no setting for it."""
    builder = sys.modules[default_records.DefaultRecordBatchBuilder.__module__]
    builder.lz4_encode = partial(codec.lz4_encode, level=LZ4_LEVEL)  # type: ignore[attr-defined]


_compress_lightly()


class LiveProducer:
    """The producer of one publisher, as long as it can go on; then another one.

    Args:
        stage: what the observer is told under.
        batch_bytes: largest batch, before compression.
        request_timeout_ms: a broker that does not answer one request for this long is taken to be gone.
        before: awaited before it connects.
        flushes: what a producer still holds may leave before it is closed; else it is thrown away, as far as it has not
            left this process.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        observer: Observer,
        *,
        stage: str,
        batch_bytes: int,
        request_timeout_ms: int,
        flushes: bool,
        before: Callable[[], Awaitable[None]] = at_once,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._stage = stage
        self._batch_bytes = batch_bytes
        self._request_timeout_ms = request_timeout_ms
        self._flushes = flushes
        self._before = before
        self._producer: Any = None
        self._replacing = asyncio.Lock()
        self._stopped = False

    async def get(self, deadline: float) -> Any:
        """The producer; where there is none, one that is connected, trying again until the loop's time ``deadline``.

        Raises:
            PublisherUnavailableError: no broker answered by then, or :meth:`stop` was called.
        """
        async with self._replacing:
            attempt = 0
            while self._producer is None:
                if self._stopped:
                    raise PublisherUnavailableError("the publisher is stopped")
                producer = self.make()
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._before()
                        await producer.start()
                except (KafkaError, TimeoutError, OSError) as error:
                    self._observer.count(self._stage, "connect_failed", reason=type(error).__name__)
                    await _close(producer)
                    await back_off(attempt, deadline, error)
                    attempt += 1
                except BaseException:
                    await _close(producer)
                    raise
                else:
                    self._producer = producer
            return self._producer

    async def replace(self, failed: Any, failure: Exception) -> None:
        """Close a producer that cannot go on; the next :meth:`get` makes another. Others' failures change nothing."""
        async with self._replacing:
            if self._producer is not failed:
                return
            self._producer = None
            reason = type(failure).__name__
            self._observer.count(self._stage, "producer_replaced", reason=reason)
            self._observer.note("producer_replaced", level="warning", reason=reason)
            await _close(failed, flush=self._flushes)

    async def stop(self) -> None:
        """Close it for good, within a bound."""
        self._stopped = True
        async with self._replacing:
            producer, self._producer = self._producer, None
            if producer is not None:
                await _close(producer, flush=self._flushes)

    def make(self) -> Any:
        """A producer that is not connected yet."""
        return AIOKafkaProducer(
            **self._settings.client_arguments(),
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            max_batch_size=self._batch_bytes,
            # No linger: a caller's batch is complete when it arrives, waiting longer adds delay alone.
            linger_ms=0,
            request_timeout_ms=self._request_timeout_ms,
        )


async def _close(producer: Any, *, flush: bool = True) -> None:
    """Close a producer within a bound, whatever state it is in; with ``flush`` what it holds may leave before."""
    if flush:
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                await producer.stop()
                return
    # It waits for batches that no broker takes. aiokafka (pinned) offers no public way to drop them: its sender has to
    # end first, for it would stumble over batches that failed behind its back.
    if not flush:
        # Or aiokafka complains that nobody has stopped it.
        producer._closed = True  # noqa: SLF001
        _hang_up(producer)
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_DISCARD_SECONDS if flush else _HANG_UP_SECONDS):
            await producer._sender.close()  # noqa: SLF001
    accumulator = producer._message_accumulator  # noqa: SLF001
    accumulator.fail_all(KafkaTimeoutError())
    for batch in chain(*accumulator._batches.values(), accumulator._pending_batches):  # noqa: SLF001
        # Nobody waits for these: asyncio would complain that their exception was never looked at.
        batch._drain_waiter.exception()  # noqa: SLF001
    await producer.client.close()


def _hang_up(producer: Any) -> None:
    """End the connections without sending what stands in their buffers, neither this process's nor the kernel's."""
    for connection in producer.client._conns.values():  # noqa: SLF001 - aiokafka only closes them in order
        if (writer := connection._writer) is None:  # noqa: SLF001
            continue
        if (sock := writer.get_extra_info("socket")) is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def back_off(attempt: int, deadline: float, cause: Exception) -> None:
    """Pause before another try, longer after each.

    Raises:
        PublisherUnavailableError: the loop's time ``deadline`` would be over then.
    """
    loop = asyncio.get_running_loop()
    wait = _BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)]
    if loop.time() + wait >= deadline:
        raise PublisherUnavailableError(f"Kafka is unavailable: {type(cause).__name__}") from cause
    await asyncio.sleep(wait)
