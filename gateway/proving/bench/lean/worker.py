"""A worker of the pipeline without features: ``python -m gateway.proving.bench.lean.worker faust|bare …``.

``faust`` reads as Faust's own documentation shows it, by batches of a stream's events, and is made of the gateway's own
parts; ``bare`` reads through aiokafka's consumer, and does the least that works. It runs until SIGTERM.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import faust
import uvloop
from aiokafka import AIOKafkaConsumer

from gateway.base.process import SilentObserver
from gateway.messaging.consumer import FETCH_BYTES, PARTITION_FETCH_BYTES
from gateway.messaging.fetch_waits import FETCH_WAIT_MS
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.settings import KafkaSettings
from gateway.network.iso8583.config import load_network
from gateway.proving.bench.lean import least, parts
from gateway.proving.bench.lean.pipeline import BATCH, Pipeline, events_topic, orders_topic

_WITHIN_S = 0.02


async def _through_faust(
    kafka: KafkaSettings, pipeline: Pipeline, stopping: asyncio.Event, home: Path, window: int
) -> None:
    app = faust.App(
        "bench-lean-faust",
        broker=[f"kafka://{server}" for server in kafka.addresses],
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        datadir=home / "faust-lean",
        broker_commit_interval=0.5,
        broker_max_poll_records=BATCH,
        stream_buffer_maxsize=4 * BATCH,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=PARTITION_FETCH_BYTES,
    )
    source = app.topic(
        orders_topic("faust", window), key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes
    )

    async def agent(stream: Any) -> None:
        async for events in stream.take_events(BATCH, within=_WITHIN_S):
            await pipeline.handle([(e.message.value, e.message.headers) for e in events])

    app.agent(source, name="lean", concurrency=1)(agent)
    await app.start()
    try:
        await stopping.wait()
    finally:
        await app.stop()


async def _through_consumer(kafka: KafkaSettings, pipeline: Pipeline, stopping: asyncio.Event, window: int) -> None:
    consumer = AIOKafkaConsumer(
        orders_topic("bare", window),
        **kafka.client_arguments(),
        group_id="bench-lean-bare",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
    )
    await consumer.start()
    try:
        while not stopping.is_set():
            polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            if records := [(m.value, m.headers) for messages in polled.values() for m in messages]:
                await pipeline.handle(records)
                await consumer.commit()
    finally:
        await consumer.stop()


async def _run(options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    kafka = KafkaSettings(bootstrap_servers=options.kafka, client_id="mypay-lean")
    publisher = KafkaPublisher(kafka, SilentObserver())
    await publisher.start()
    connection = await asyncpg.connect(options.dsn)
    form: least.LeastForm | parts.PartsForm | None = None
    try:
        if options.how == "faust":
            form = await parts.connect(options.network, options.worker)
            pipeline = Pipeline(connection, form, publisher, events_topic(options.how, options.window))
            await _through_faust(kafka, pipeline, stopping, options.home, options.window)
        else:
            form = await least.connect(*load_network(options.network).addresses[0], options.worker)
            pipeline = Pipeline(connection, form, publisher, events_topic(options.how, options.window))
            await _through_consumer(kafka, pipeline, stopping, options.window)
    finally:
        if form is not None:
            await form.stop()
        await connection.close()
        await publisher.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker."""
    parser = argparse.ArgumentParser(prog="python -m gateway.proving.bench.lean.worker", description=__doc__)
    parser.add_argument("how", choices=("faust", "bare"))
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--network", required=True, type=Path)
    parser.add_argument("--worker", required=True, type=int)
    parser.add_argument("--window", required=True, type=int)
    parser.add_argument("--home", required=True, type=Path)
    uvloop.run(_run(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
