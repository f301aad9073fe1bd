"""A payment's trace from its partner's record to its events, over all stages; and what it costs where nobody traces."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from gateway.base.tracing import trace_id_of
from gateway.messaging.records import Record
from gateway.observability import sampling, tracing
from gateway.proving.memory.network import Behaviour, Fate
from schemas.topics import dispatch_topic, events_topic
from tests.support.builders import NETWORK, numbered_order, order_record
from tests.support.rig import PAN, TAMPERED, Rig
from tests.support.traces import PARENT, TRACE_ID, Spans

EVENTS = events_topic("partner-1")


def traced(record: Record, context: str = PARENT) -> Record:
    return structs.replace(record, headers=(*record.headers, ("traceparent", context.encode())))


def contexts(records: Sequence[Record]) -> list[str | None]:
    return [dict(r.headers).get("traceparent", b"").decode() or None for r in records]


async def pay(rig: Rig, *records: Record) -> None:
    handed_on = len(rig.kafka.records(dispatch_topic(NETWORK)))
    await rig.initiation.take(records)
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK))[handed_on:])
    await rig.relay_all()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def rig(spans: Spans) -> Rig:
    rig = Rig()
    rig.observer.traces = spans.traces(ratio=0)
    return rig


async def test_one_trace_goes_from_the_partners_record_to_the_events(rig: Rig, spans: Spans) -> None:
    await pay(rig, traced(order_record(numbered_order(1), offset=1)), order_record(numbered_order(2), offset=2))
    of_it = [s for s in spans.made if f"{s.context.trace_id:032x}" == TRACE_ID]
    assert [s.name for s in of_it] == [
        "judge",
        "payment sent",
        "0200 net-a",
        "payment approved",
        "create mypay.events.{partner}",
        "create mypay.events.{partner}",
    ]
    judged = of_it[0]
    assert judged.parent_id == int(PARENT[36:52], 16)
    assert {s.parent_id for s in of_it[1:]} == {judged.context.span_id}
    # The first order's events bear the spans that made them; the other order has no context anywhere.
    told = contexts(rig.kafka.records(EVENTS))
    assert sorted(filter(None, told)) == sorted(s.context.text for s in of_it[-2:])
    assert told.count(None) == 2
    assert rig.payment(2).traceparent is None
    batches = [s for s in spans.made if s not in of_it]
    assert [(s.name, [link.trace_id == judged.context.trace_id for link in s.links]) for s in batches] == [
        ("process mypay.orders", [True]),
        ("process mypay.dispatch.{network}", [True]),
        ("send events", [True, True]),
    ]
    asked = of_it[2].attributes
    assert (asked["mypay.outcome"], asked["mypay.response_code"]) == ("answered", "00")
    assert {n.fields["trace_id"] for n in rig.observer.steps} == {TRACE_ID, None}
    assert {(hop, shown.trace_id) for hop, shown in rig.observer.exemplars} == {
        (hop, TRACE_ID) for hop in ("order_to_dispatch", "dispatch_to_intent", "intent_to_result", "change_to_event")
    }


async def test_a_span_holds_nothing_of_a_customer(rig: Rig, spans: Spans) -> None:
    rig.observer.traces = spans.traces()
    await pay(rig, *(traced(order_record(numbered_order(n), offset=n)) for n in range(1, 4)))
    payment = rig.payment(1)
    said = repr([(s.name, dict(s.attributes), s.error) for s in spans.made])
    secrets: list[Any] = [PAN, "consent-1", "customer-1", "token-1", "merchant-1", "order-1", payment.amount_minor]
    assert payment.trace is not None
    for secret in (*secrets, payment.trace.rrn, payment.approval_code, "KRW"):
        assert str(secret) not in said.replace(str(payment.payment_id), ""), secret
    assert str(payment.payment_id) in said


async def test_what_nobody_signed_is_not_traced(rig: Rig, spans: Spans) -> None:
    rig.observer.traces = spans.traces(ratio=1)
    await pay(rig, traced(order_record(numbered_order(1), offset=1, signature=TAMPERED)))
    assert spans.made == []


async def test_a_fault_and_a_refusal_are_told_under_a_span_of_their_trace(rig: Rig, spans: Spans) -> None:
    good = order_record(numbered_order(1), offset=1)
    await pay(rig, good)
    others = traced(order_record(numbered_order(1, merchant_id="merchant-2"), offset=2))
    faulty = traced(order_record(b"{}", offset=3, key=b"consent-1"))
    for record in (others, faulty):
        spans.made.clear()
        before = len(rig.kafka.records(EVENTS))
        await pay(rig, record)
        (told,) = contexts(rig.kafka.records(EVENTS)[before:])
        (created,) = spans.named("create mypay.events.{partner}")
        assert told == created.context.text
        assert trace_id_of(told) == TRACE_ID


async def test_a_reversal_stands_in_its_payments_trace(spans: Spans) -> None:
    rig = Rig(lambda _: Behaviour(Fate.ANSWER_LOST))
    rig.observer.traces = spans.traces(ratio=0)
    await pay(rig, traced(order_record(numbered_order(1), offset=1)))
    assert rig.states() == {"order-1": "unknown"}
    await rig.new_reversals("worker-2", rig.new_network()).work()
    assert rig.states() == {"order-1": "reversed"}
    names = [s.name for s in spans.made if f"{s.context.trace_id:032x}" == TRACE_ID]
    assert [n for n in names if n[:4].isdigit()] == ["0200 net-a", "0420 net-a"]
    assert "payment reversed" in names
    (asked,) = spans.named("0200 net-a")
    assert asked.attributes["mypay.outcome"] == "timeout"


async def test_without_tracing_no_span_is_made_and_contexts_go_on_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Counted(tracing.Span, frozen=True):
        def __post_init__(self) -> None:
            made.append("span")

    monkeypatch.setattr(tracing, "Span", Counted)
    monkeypatch.setattr(sampling, "sampled_context", lambda _: made.append("read"))
    for module in (sampling, tracing):
        monkeypatch.setattr(module, "ours", lambda *_: made.append("id"))
    rig = Rig()
    assert rig.observer.traces is None
    await pay(rig, traced(order_record(numbered_order(1), offset=1)), order_record(numbered_order(2), offset=2))
    assert made == []
    assert sorted(contexts(rig.kafka.records(EVENTS)), key=str) == [PARENT, PARENT, None, None]
    assert rig.observer.exemplars == []


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_tracing_changes_nothing_of_what_becomes_of_payments(ratio: float) -> None:
    rigs = Rig(), Rig()
    rigs[1].observer.traces = Spans().traces(ratio=ratio)
    for rig in rigs:
        await pay(rig, *(order_record(numbered_order(n), offset=n) for n in range(1, 6)))
    plain, with_traces = ([structs.replace(e, traceparent=None) for e in rig.events()] for rig in rigs)
    assert plain == with_traces
    assert rigs[0].balances() == rigs[1].balances()
