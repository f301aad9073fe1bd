"""The trace context of a partner's record stands on every event that answers it, however it is answered."""

from typing import Any

import pytest
from msgspec import structs

from gateway.messaging.records import Record
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, numbered_order, order_record
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.portability import PortabilityRig
from tests.support.rig import Rig
from tests.unit.orders.test_bulk_service import bulk, item
from tests.unit.orders.test_bulk_service import record as bulk_record

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WRONG: dict[str, Any] = {"number_of_transactions": 9}


def traced(record: Record) -> Record:
    return structs.replace(record, headers=(*record.headers, ("traceparent", TRACE.encode())))


FAULTY = order_record(b"{}", offset=9, key=b"consent-1")
ANSWERED: dict[str, tuple[list[Record], Record, str]] = {
    # (what came before it, the record, an event that answers it)
    "an order": ([], order_record(numbered_order(2), offset=2), "payment.approved"),
    "an order id that is used": (
        [order_record(numbered_order(1), offset=1)],
        order_record(numbered_order(1, merchant_id="merchant-2"), offset=2),
        "order.refused",
    ),
    "an order with a fault": ([], FAULTY, "order.refused"),
    "a refund of nothing": ([], instruction_record(refund(1), 2), "order.refused"),
    "a cancellation of nothing": ([], instruction_record(cancellation(1), 2), "cancellation.accepted"),
    "a bulk": ([], bulk_record(bulk(item(1), item(2))), "bulk.accepted"),
    "a bulk that is refused": ([], bulk_record(bulk(item(1), **WRONG)), "bulk.refused"),
    "a bulk that comes again": ([bulk_record(bulk(item(1)))], bulk_record(bulk(item(1)), offset=8), "bulk.reported"),
}


@pytest.mark.parametrize("case", ANSWERED)
async def test_the_events_that_answer_a_record_bear_its_context(case: str) -> None:
    before, record, expected = ANSWERED[case]
    rig = Rig()
    await rig.initiation.take(before)
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    standing = len(rig.events())
    handed_on = len(rig.kafka.records(dispatch_topic(NETWORK)))
    await rig.initiation.take([traced(record)])
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK))[handed_on:])
    told = rig.events()[standing:]
    assert any(expected in e.event_type for e in told)
    assert {e.traceparent for e in told} == {TRACE}


async def test_the_refusal_of_a_transmission_request_bears_its_context() -> None:
    rig = PortabilityRig()
    await rig.take(traced(rig.record(rcv_org_code="Z9ZZZZ0000")))
    events = [row.event for row in rig.database.outbox]
    assert [(e.event_type, e.traceparent) for e in events] == [("kr.mypay.portability.refused.v1", TRACE)]
