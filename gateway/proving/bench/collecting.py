"""Where traces go in a measurement: a collector that takes all of it, looks at nothing, and counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

RATIO: Final = 0.01


@dataclass(slots=True)
class Collector:
    """Takes OTLP over HTTP on this machine.

    Attributes:
        endpoint: its address.
        requests: that came.
    """

    endpoint: str = ""
    requests: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a process that is traced: one payment of a hundred, however many come."""
        return {
            "MYPAY_OTEL_ENDPOINT": self.endpoint,
            "MYPAY_OTEL_RATIO": str(RATIO),
            "MYPAY_OTEL_TRACES_PER_S": "1000",
        }

    async def take(self, request: web.Request) -> web.Response:
        """One request with spans."""
        await request.read()
        self.requests += 1
        return web.Response()


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    """One that listens for as long as the block lasts."""
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
