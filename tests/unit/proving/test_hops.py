"""Where time went between two moments, out of histograms that processes serve."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, generate_latest

from gateway.observability.observer import StageObserver
from gateway.proving.bench.hops import Hop, hops_between, read_hops


@pytest.fixture
def registries() -> list[CollectorRegistry]:
    return [CollectorRegistry(), CollectorRegistry()]


async def read(registries: list[CollectorRegistry]) -> Any:
    application = web.Application()
    for n, registry in enumerate(registries):

        async def serve(_: web.Request, registry: CollectorRegistry = registry) -> web.Response:
            return web.Response(body=generate_latest(registry))

        application.router.add_get(f"/{n}/metrics", serve)
    async with TestServer(application) as server:
        return await read_hops([str(server.make_url(f"/{n}")) for n in range(len(registries))])


async def test_what_two_workers_tell_counts_together_and_what_was_before_does_not(
    registries: list[CollectorRegistry],
) -> None:
    one, other = [StageObserver(registry, stage="x") for registry in registries]
    one.hops("order_to_dispatch", [30.0] * 50)
    one.delay("order_to_result", 1.0)
    before = await read(registries)
    one.hops("order_to_dispatch", [0.0195] * 60)
    other.hops("order_to_dispatch", [0.0195] * 38 + [0.09] * 2)
    other.hops("change_to_event", [0.001])
    [first, last] = hops_between(before, await read(registries))
    # The first 98 are between 15 and 20 ms, the other two between 80 and 100.
    assert (first.name, first.payments, last.name, last.payments) == ("order_to_dispatch", 100, "change_to_event", 1)
    assert first.p50_ms == pytest.approx(15 + 5 * 50 / 98)
    assert first.p99_ms == pytest.approx(90)


async def test_where_nothing_moved_nothing_is_told(registries: list[CollectorRegistry]) -> None:
    observer = StageObserver(registries[0], stage="x")
    observer.hops("order_to_dispatch", [1.0])
    counts = await read(registries)
    assert hops_between(counts, counts) == []
    assert hops_between({}, {}) == []
    observer.hops("order_to_dispatch", [1e9])
    [hop] = hops_between(counts, await read(registries))
    assert hop == Hop("order_to_dispatch", 1, 60_000.0, 60_000.0)
