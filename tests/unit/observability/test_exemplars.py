"""Traces beside the histograms' buckets: shown to who asks in the one format that has room for them."""

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.base.tracing import Exemplar
from gateway.observability.health import Health
from gateway.observability.observer import StageObserver
from gateway.observability.web import MetricsServer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


async def page(registry: CollectorRegistry, *, exemplars: bool, accept: str) -> tuple[str, str]:
    server = MetricsServer(host="127.0.0.1", port=0, registry=registry, health=Health(), exemplars=exemplars)
    await server.start()
    try:
        url, headers = f"http://127.0.0.1:{server.port}/metrics", {"Accept": accept}
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.content_type, await answer.text()
    finally:
        await server.stop()


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    observer = StageObserver(registry, stage="relay")
    observer.hops("change_to_event", [0.5, 0.03, 0.7], exemplar=Exemplar(1, TRACE_ID))
    observer.hops("change_to_event", [0.031], exemplar=Exemplar(0, "b" * 32))
    observer.hops("change_to_event", [70.0], exemplar=Exemplar(0, "c" * 32))
    return registry


async def test_a_bucket_shows_the_last_trace_that_fell_into_it(registry: CollectorRegistry) -> None:
    kind, text = await page(registry, exemplars=True, accept=OPEN_METRICS)
    assert kind == "application/openmetrics-text"
    shown = {
        sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert shown == {
        "0.03": ({"trace_id": TRACE_ID}, 0.03),
        "0.04": ({"trace_id": "b" * 32}, 0.031),
        "+Inf": ({"trace_id": "c" * 32}, 70.0),
    }


@pytest.mark.parametrize(
    ("exemplars", "accept"),
    [(False, OPEN_METRICS), (True, "text/plain"), (True, ""), (True, "*/*"), (True, "x" * 5_000)],
)
async def test_everybody_else_is_given_the_page_as_it_was(
    registry: CollectorRegistry, exemplars: bool, accept: str
) -> None:
    kind, text = await page(registry, exemplars=exemplars, accept=accept)
    assert kind == "text/plain"
    assert TRACE_ID not in text
    assert 'mypay_hop_seconds_bucket{hop="change_to_event",le="0.03"} 1.0' in text
