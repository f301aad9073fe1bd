"""``/metrics``, ``/healthz`` and ``/readyz`` of one process."""

from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder, generate_latest

from gateway.observability.health import Check, Health, run_checks

_FRESH: Final = {"Cache-Control": "no-store"}


class MetricsServer:
    """A small HTTP server. ``start`` before use; ``port`` is the real one where 0 was asked for.

    Args:
        exemplars: serve OpenMetrics to whoever asks for it: it alone has room for traces beside a histogram's buckets.
    """

    def __init__(
        self, *, host: str, port: int, registry: CollectorRegistry, health: Health, exemplars: bool = False
    ) -> None:
        self._exemplars = exemplars
        self._host = host
        self._registry = registry
        self._health = health
        self._runner: web.AppRunner | None = None
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._exemplars:
            write, content_type = choose_encoder(request.headers.get("Accept", ""))
            body = write(self._registry)
        else:
            body, content_type = generate_latest(self._registry), CONTENT_TYPE_LATEST
        return web.Response(body=body, headers={"Content-Type": content_type, **_FRESH})

    async def _healthz(self, _: web.Request) -> web.Response:
        return await _answer(self._health.liveness)

    async def _readyz(self, _: web.Request) -> web.Response:
        return await _answer(self._health.readiness)


async def _answer(checks: dict[str, Check]) -> web.Response:
    words = await run_checks(checks)
    is_well = all(word == "ok" for word in words.values())
    return web.json_response({"ok": is_well, "checks": words}, status=200 if is_well else 503, headers=_FRESH)
