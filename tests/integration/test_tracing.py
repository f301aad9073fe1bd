"""One order's trace on real parts: from the partner's record through every process to the event, and to a collector."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.observability.tracing import FIELDS
from tests.support.collector import Collected, Collector
from tests.support.entries import BCARD
from tests.support.scene import Scene
from tests.support.traces import PARENT, TRACE_ID

WAY = ("initiation", f"execution {BCARD}", "relay")


@asynccontextmanager
async def tracing(scene: Scene, endpoint: str) -> AsyncIterator[None]:
    """The processes on an order's way are traced for as long as the block lasts."""
    names = [name for name in scene.world.http if name.startswith(WAY)]
    plain = {name: dict(scene.process(name)._environment) for name in names}
    more = {"MYPAY_OTEL_ENDPOINT": endpoint, "MYPAY_OTEL_RATIO": "0"}
    try:
        await _restart(scene, {name: {**given, **more} for name, given in plain.items()})
        yield
    finally:
        await _restart(scene, plain)


async def _restart(scene: Scene, environments: dict[str, dict[str, str]]) -> None:
    ended = await scene.stop(*environments)
    assert set(ended.values()) == {0}
    for name, environment in environments.items():
        scene.process(name)._environment = environment
    scene.start(*environments)
    await scene.until_ready(*environments)


async def _open_metrics(scene: Scene, name: str) -> str:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with scene.session.get(f"{scene.world.http[name]}/metrics", headers=accept) as answer:
        return await answer.text()


async def test_an_orders_trace_goes_from_its_partners_record_to_its_events(scene: Scene) -> None:
    traced = scene.entry(scene.order(BCARD), headers=[("traceparent", PARENT.encode()), ("tracestate", b"shop=1")])
    others = scene.payments(5, BCARD)
    async with Collector() as collector:
        async with tracing(scene, collector.endpoint):
            await scene.send([traced, *others])
            await scene.until_states([traced, *others], "approved")
            await scene.until_quiet()

            async def all_came() -> bool:
                return len([s for s in collector.of(TRACE_ID) if s.name.startswith("create")]) >= 2

            await scene.until(all_came, "the spans of the relay at the collector")
            page = await _open_metrics(scene, next(name for name in scene.world.http if name.startswith("relay")))
        spans = collector.of(TRACE_ID)
    by_process = {(s.resource["service.name"], s.name) for s in spans}
    assert by_process == {
        ("mypay-initiation", "judge"),
        ("mypay-execution", "payment sent"),
        ("mypay-execution", f"0200 {BCARD}"),
        ("mypay-execution", "payment approved"),
        ("mypay-relay", "create mypay.events.{partner}"),
    }
    # The partner's span, then the intake's, under which all others stand; batches are linked.
    (judged,) = [s for s in spans if s.name == "judge"]
    assert judged.parent == PARENT[36:52]
    assert {s.parent for s in spans if s is not judged} == {judged.id}
    batches = {s.name: s for s in collector.spans if (TRACE_ID, judged.id) in s.links}
    assert batches.keys() >= {"process mypay.orders", "process mypay.dispatch.{network}"}
    # What the partner is told bears its trace, and the span that told it.
    events = (await scene.told([traced]))[traced.payment_id]
    created = {s.id for s in spans if s.name.startswith("create")}
    told = [e.headers["traceparent"].decode() for e in events]
    assert {t[3:35] for t in told} == {TRACE_ID}
    assert {t[36:52] for t in told} == created
    assert not any("tracestate" in e.headers for e in events)
    for payment_id, untraced in (await scene.told(others)).items():
        assert not any("traceparent" in e.headers for e in untraced), payment_id
    _check_attributes(collector.spans, scene)
    assert f'trace_id="{TRACE_ID}"' in page
    await scene.settle()
    await scene.check_books()


def _check_attributes(spans: list[Collected], scene: Scene) -> None:
    for span in spans:
        assert all(name.startswith("messaging.") or name in FIELDS.values() for name in span.attributes), span
    said = repr(spans)
    for customer in scene.world.cast.customers:
        terms = customer.terms
        tokens = [terms.payment.funding_token] if terms.payment else []
        assert not [secret for secret in (terms.consent_id, terms.customer_id, *tokens) if secret in said]
