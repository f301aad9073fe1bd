"""Health and metrics over HTTP: every check gets a word, and a stage that stands still is told."""

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.health import Check, Health, Watchdog, run_checks
from gateway.observability.observer import StageObserver
from gateway.observability.web import MetricsServer
from tests.support.logs import PAN


async def well() -> str | None:
    return None


async def unwell() -> str | None:
    return "no answer"


async def hangs() -> str | None:
    await asyncio.Event().wait()
    return None


async def raises() -> str | None:
    raise OSError(PAN)


async def test_every_check_gets_a_word_whatever_it_does() -> None:
    checks = {"a": well, "b": unwell, "c": hangs, "d": raises}
    words = await run_checks(checks, timeout_s=0.01)
    assert words == {"a": "ok", "b": "no answer", "c": "no word within 0.01 s", "d": "failed: OSError"}


async def test_a_check_that_is_added_while_others_run_is_for_the_next_time() -> None:
    checks: dict[str, Check] = {}

    async def begins() -> str | None:
        checks["later"] = well
        return None

    checks["first"] = begins
    assert await run_checks(checks) == {"first": "ok"}
    assert await run_checks(checks) == {"first": "ok", "later": "ok"}


async def test_pages(observer: StageObserver, registry: CollectorRegistry) -> None:
    observer.count("execution", "approved", n=2)
    health = Health(liveness={"progress": well}, readiness={"postgres": well, "kafka": unwell})
    server = MetricsServer(host="127.0.0.1", port=0, registry=registry, health=health)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            async with session.get("/healthz") as answer:
                assert (answer.status, await answer.json()) == (200, {"ok": True, "checks": {"progress": "ok"}})
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.json()) == (
                    503,
                    {"ok": False, "checks": {"postgres": "ok", "kafka": "no answer"}},
                )
            async with session.get("/metrics") as answer:
                assert answer.content_type == "text/plain"
                families = {f.name for f in text_string_to_metric_families(await answer.text())}
                assert "mypay_payments" in families
            async with session.get("/else") as answer:
                assert answer.status == 404
    finally:
        await server.stop()
        await server.stop()


async def test_two_servers_cannot_have_one_port(registry: CollectorRegistry) -> None:
    first = MetricsServer(host="127.0.0.1", port=0, registry=registry, health=Health())
    await first.start()
    second = MetricsServer(host="127.0.0.1", port=first.port, registry=registry, health=Health())
    try:
        with pytest.raises(OSError, match="address"):
            await second.start()
    finally:
        await second.stop()
        await first.stop()


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.waiting = 0
        self.watchdog = Watchdog(stall_after_s=30, waiting=self.lag, monotonic=lambda: self.now)

    async def lag(self) -> int:
        return self.waiting


async def test_a_stage_that_stands_still_with_work_waiting_is_told() -> None:
    stage = Stage()
    stage.waiting = 5
    stage.now = 29.9
    assert await stage.watchdog.check() is None
    stage.now = 30.0
    assert await stage.watchdog.check() == "no progress for 30 s with work waiting"
    stage.watchdog.progress()
    assert await stage.watchdog.check() is None


async def test_an_idle_stage_is_well_and_its_clock_starts_with_the_work() -> None:
    stage = Stage()
    for stage.now in (100.0, 200.0, 300.0):
        assert await stage.watchdog.check() is None
    stage.waiting = 1
    stage.now = 329.0
    assert await stage.watchdog.check() is None
    stage.now = 330.0
    assert await stage.watchdog.check() is not None
