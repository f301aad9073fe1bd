"""The load generator: a process that produces orders signed before, so that its own work is small.

``python -m gateway.proving.traffic.load --kafka … --report FILE (--ahead N --network URL … | --per-second R) ORDERS…``
runs until the orders are used up or SIGTERM, and then writes ``{"produced": n, "exhausted": bool, "starved_s": s}``.

- ``--ahead``: keeps that many orders between Kafka and the networks' decisions, so that the gateway never waits.
- ``--per-second``: produces at a steady rate.
- ``--more FOLDER PREFIX``: takes up files of this folder that come while it runs, and ends by SIGTERM alone.
  ``starved_s`` tells for how long there was nothing to send.
- ``--topic NAME``: sends them there, to a program that is no gateway.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
import uvloop
from msgspec import structs

from gateway.client import Client, open_client
from gateway.messaging.settings import KafkaSettings
from gateway.proving.traffic.presigning import Presigned

BATCH: Final = 500
_POLL_S: Final = 0.1
_TICK_S: Final = 0.02


class _Generator:
    def __init__(self, client: Client, orders: Presigned, stopping: asyncio.Event, topic: str | None = None) -> None:
        self._client = client
        self._topic = topic
        self._orders = orders
        self._stopping = stopping
        self.produced = 0
        self.exhausted = False
        self.starved_s = 0.0

    async def _produce(self, count: int) -> None:
        batch = self._orders.take(count)
        self.exhausted = len(batch) < count and self._orders.ends
        if not batch and not self.exhausted:
            self.starved_s += _POLL_S
            await asyncio.sleep(_POLL_S)
            return
        if self._topic is not None:
            batch = [structs.replace(order, topic=self._topic) for order in batch]
        await self._client.send(batch)
        self.produced += len(batch)

    def _going_on(self) -> bool:
        return not self.exhausted and not self._stopping.is_set()

    async def keep_ahead(self, ahead: int, networks: Sequence[str]) -> None:
        """Keep ``ahead`` orders between what was produced and what the networks have decided."""
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            before = await _decided(session, networks)
            while self._going_on():
                decided = await _decided(session, networks) - before
                while self._going_on() and self.produced - decided + BATCH <= ahead:
                    await self._produce(BATCH)
                await asyncio.sleep(_POLL_S)

    async def keep_pace(self, per_second: float) -> None:
        """Produce at a steady rate."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._going_on():
            due = int((loop.time() - began) * per_second) - self.produced
            if due > 0:
                await self._produce(due)
            await asyncio.sleep(_TICK_S)


async def _decided(session: aiohttp.ClientSession, networks: Sequence[str]) -> int:
    total = 0
    for url in networks:
        async with session.get(f"{url}/state") as answer:
            counters = (await answer.json())["counters"]
            total += counters.get("approved", 0) + counters.get("declined", 0)
    return total


async def _run(options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with open_client(KafkaSettings(bootstrap_servers=options.kafka, client_id="mypay-load")) as client:
        more = (Path(options.more[0]), options.more[1]) if options.more else None
        generator = _Generator(client, Presigned(options.orders, more), stopping, options.topic)
        if options.per_second:
            await generator.keep_pace(options.per_second)
        else:
            await generator.keep_ahead(options.ahead, options.network)
    told = {"produced": generator.produced, "exhausted": generator.exhausted, "starved_s": generator.starved_s}
    options.report.write_text(json.dumps(told))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the generator."""
    parser = argparse.ArgumentParser(prog="python -m gateway.proving.traffic.load", description=__doc__)
    parser.add_argument("orders", nargs="+", type=Path)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--report", required=True, type=Path)
    parser.add_argument("--ahead", type=int, default=4000)
    parser.add_argument("--network", action="append", default=[])
    parser.add_argument("--per-second", type=float, default=0.0)
    parser.add_argument("--topic")
    parser.add_argument("--more", nargs=2, metavar=("FOLDER", "PREFIX"))
    uvloop.run(_run(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
