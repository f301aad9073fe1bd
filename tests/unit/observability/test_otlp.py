"""Spans on their way to a collector: what it is sent, and that one that is away keeps nobody and learns nothing."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.app.tracing import start_traces
from gateway.observability.observer import StageObserver
from tests.support.collector import Collector
from tests.support.traces import PARENT, TRACE_ID

SECRET = "api-key=sesame-open"


def observer_of() -> tuple[StageObserver, CollectorRegistry]:
    registry = CollectorRegistry()
    return StageObserver(registry, stage="initiation"), registry


def spans_of(registry: CollectorRegistry) -> dict[str, float]:
    outcomes = ("made", "sent", "not_sent", "held_back")
    return {o: registry.get_sample_value("mypay_spans_total", {"outcome": o}) or 0.0 for o in outcomes}


async def counted(registry: CollectorRegistry, outcome: str, n: int) -> None:
    """Told by the exporter's thread, on the event loop."""
    async with asyncio.timeout(60):
        while spans_of(registry)[outcome] < n:  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0)


@asynccontextmanager
async def tracing(endpoint: str, **terms: Any) -> AsyncIterator[tuple[StageObserver, CollectorRegistry]]:
    observer, registry = observer_of()
    settings = Settings(otel_endpoint=endpoint, otel_ratio=0, **terms)
    spans = start_traces(settings, observer, stage="initiation", worker="initiation@here/1/x")
    assert spans is not None
    try:
        yield observer, registry
    finally:
        await spans.stop()


async def make_some(observer: StageObserver, n: int = 1) -> None:
    assert observer.traces is not None
    for _ in range(n):
        with observer.traces.arriving("mypay.orders", [PARENT]) as (carried,):
            pass
        observer.traces.step("payment sent", carried, began=datetime.now(UTC), state="sent")


async def test_a_collector_is_sent_what_the_process_is_and_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", SECRET)
    async with Collector() as collector:
        async with tracing(collector.endpoint) as (observer, registry):
            await make_some(observer)
        assert {h["api-key"] for h in collector.headers} == {"sesame-open"}
        assert {s.name for s in collector.of(TRACE_ID)} == {"judge", "payment sent"}
        (judged,) = [s for s in collector.of(TRACE_ID) if s.name == "judge"]
        (batch,) = [s for s in collector.spans if s.name == "process mypay.orders"]
        assert judged.parent == PARENT[36:52]
        assert batch.links == [(judged.trace, judged.id)]
        assert (batch.kind, judged.kind) == ("CONSUMER", "INTERNAL")
        assert batch.resource["service.name"] == "mypay-initiation"
        assert batch.resource["service.instance.id"] == "initiation@here/1/x"
        assert 0 < judged.ended_ns - judged.began_ns < 60e9
        await counted(registry, "sent", 3)
        assert spans_of(registry) == {"made": 3, "sent": 3, "not_sent": 0, "held_back": 0}


@pytest.mark.parametrize("answer", ["refuses", "redirects", "is away"])
async def test_a_collector_that_takes_nothing_is_counted_and_not_quoted(
    answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", SECRET)
    async with Collector(status={"refuses": 400, "redirects": 307}.get(answer, 200)) as collector:
        endpoint = "http://127.0.0.1:9" if answer == "is away" else collector.endpoint
        async with tracing(endpoint) as (observer, registry):
            with caplog.at_level(logging.DEBUG):
                await make_some(observer)
        if answer == "refuses":
            await counted(registry, "not_sent", 3)
        assert len(collector.headers) == (answer != "is away")
    assert [r.getMessage() for r in caplog.records if r.name.startswith(("opentelemetry", "urllib3"))] == []


async def test_one_that_never_answers_keeps_neither_a_stage_nor_its_end() -> None:
    async with Collector(hangs=True) as collector:
        observer, registry = observer_of()
        settings = Settings(otel_endpoint=collector.endpoint, otel_traces_per_s=100_000)
        spans = start_traces(settings, observer, stage="initiation", worker="w")
        assert spans is not None
        # More than is queued: what does not fit is lost, and nobody waits.
        await make_some(observer, 2_000)
        assert spans_of(registry)["made"] == 6_000
        async with asyncio.timeout(60):
            await spans.stop()
        assert spans_of(registry)["sent"] == 0


async def test_what_has_not_left_by_the_end_is_not_tried_any_more() -> None:
    others = {*threading.enumerate()}
    async with Collector(hangs=True) as collector:
        observer, _ = observer_of()
        settings = Settings(otel_endpoint=collector.endpoint, otel_traces_per_s=100_000)
        spans = start_traces(settings, observer, stage="initiation", worker="w")
        assert spans is not None
        await make_some(observer, 500)
        await spans.stop()
        asked = len(collector.headers)
        for thread in {*threading.enumerate()} - others:
            if thread.name.startswith(("OtelBatch", "last-spans")):
                await asyncio.to_thread(thread.join)
        # Of a dozen batches the one that was just going, at most.
        assert len(collector.headers) <= asked + 1


async def test_nothing_is_traced_where_no_collector_is_named() -> None:
    observer, _ = observer_of()
    assert start_traces(Settings(), observer, stage="initiation", worker="w") is None
    assert observer.traces is None


async def test_without_the_extra_a_process_runs_and_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith(("opentelemetry", "gateway.observability.otlp"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    observer, _ = observer_of()
    assert start_traces(Settings(), observer, stage="initiation", worker="w") is None
    with pytest.raises(NotConfiguredError, match=r'pip install "mypay-gateway\[otel\]"'):
        start_traces(Settings(otel_endpoint="http://127.0.0.1:4318"), observer, stage="initiation", worker="w")


async def test_a_process_without_tracing_reads_nothing_of_the_library(tmp_path: Path) -> None:
    code = (
        "import sys, gateway.app.process, gateway.app.execution, streams.relay;"
        "sys.exit(any(n.startswith(('opentelemetry', 'google.protobuf', 'requests')) for n in sys.modules))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[3])
    assert await process.wait() == 0


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://user:sesame@collector:4318",
        "http://x/a b",
        "http://[sesame",
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused_and_not_shown(endpoint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(otel_endpoint=endpoint)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("host", ["collector:4318", "10.0.0.1", "127.0.0.1.example", "[2001:db8::1]:4318"])
def test_spans_go_to_another_machine_over_tls_alone(host: str) -> None:
    with pytest.raises(ValidationError, match="must begin with https://"):
        Settings(otel_endpoint=f"http://{host}/v1/traces")
    assert Settings(otel_endpoint=f"https://{host}/v1/traces").otel_endpoint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:4318", "127.8.0.1", "[::1]:4318"])
def test_spans_may_go_to_this_machine_in_clear(host: str) -> None:
    assert Settings(otel_endpoint=f"http://{host}").otel_endpoint == f"http://{host}"
