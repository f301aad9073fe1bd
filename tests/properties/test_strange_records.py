"""Whatever Kafka delivers as a partner's record: it ends once, at the first door, and takes no neighbour with it."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.app.dead_letters import Letter, shown_letter
from gateway.base.calendar import day_of, day_start
from gateway.cli import dead_letter as command
from gateway.messaging.dead_letters import LetterKeys, dead_letter, read_fate
from gateway.messaging.records import Record
from gateway.sealing.sealing import MasterKeys
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, numbered_order, order_record
from tests.support.consents import ConsentRig
from tests.support.domain_samples import NOW
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.rig import TAMPERED, Rig

KEYS = LetterKeys(MasterKeys({"1": bytes(32)}))
TOMORROW = day_of(NOW) + timedelta(days=1)

TIMESTAMPS = st.sampled_from(
    [-1, 0, 1, -(2**63), 2**63 - 1, 2**31, 253_402_300_800_000, -62_135_596_800_001]
) | st.integers(-(2**63), 2**63 - 1)
KEYS_OF_RECORDS = st.sampled_from([None, b"", b"\xff", b"consent-1\x00", b"x" * 100_000]) | st.binary(max_size=40)
NAMES = st.sampled_from(
    [
        *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "signature", "traceparent"),
        *("", "\udcff", "mypay-mark", "mypay-judged", "mypay-replayed", "kafka_dlt-original-topic", "x" * 1_000),
    ]
) | st.text(max_size=8)
VALUES = st.sampled_from(
    [
        *(b"", b"\xff", b"1.0", b"0.3", b"good", b"tampered", b"application/json", "한글".encode(), b"a b", b"\x00"),
        *(
            b"9999-12-31T23:59:59-10:00",
            b"0001-01-01T00:00:00+10:00",
            b"2026-03-02t03:04:05z",
            b"x" * 5_000,
            b"1" * 70_000,
        ),
        *(b"kr.mypay.payment.order.v1", b"kr.mypay.payment.bulk.v1", b"kr.mypay.consent.revoke.v1"),
    ]
) | st.binary(max_size=40)
BODIES = st.sampled_from(
    [b"", b"\x00", b"null", b"[]", b"{}", b'{"partner_id":"partner-2"}', b"{" * 5_000]
) | st.binary(max_size=60)


@st.composite
def strange(draw: st.DrawFn, record: Record) -> Record:
    """The record with extreme values in one to three of its attributes and headers."""
    for _ in range(draw(st.integers(1, 3))):
        match draw(st.sampled_from(["timestamp", "key", "value", "change", "add", "drop", "many"])):
            case "timestamp":
                record = replace(record, timestamp_ms=draw(TIMESTAMPS))
            case "key":
                record = replace(record, key=draw(KEYS_OF_RECORDS))
            case "value":
                record = replace(record, value=draw(BODIES))
            case "change":
                name, value = draw(NAMES), draw(VALUES)
                record = replace(record, headers=tuple((n, value if n == name else v) for n, v in record.headers))
            case "add":
                record = replace(record, headers=(*record.headers, (draw(NAMES), draw(VALUES))))
            case "drop":
                name = draw(NAMES)
                record = replace(record, headers=tuple(h for h in record.headers if h[0] != name))
            case "many":
                record = replace(record, headers=record.headers + ((draw(NAMES), draw(VALUES)),) * 1_000)
    return record


def kinds() -> dict[str, Record]:
    later = numbered_order(2, requested_execution_date=TOMORROW, expires_at=day_start(TOMORROW) + timedelta(hours=1))
    return {
        "order": order_record(numbered_order(2), offset=2),
        "order for a later day": order_record(later, offset=2),
        "forged order": order_record(numbered_order(2), offset=2, signature=TAMPERED),
        "cancellation": instruction_record(cancellation(order_id="order-7"), 2),
        "refund": instruction_record(refund(), 2),
    }


def shown(record: Record, error: Exception) -> dict[str, Any]:
    """What `mypay dead-letter list --json` prints of it."""
    letter = dead_letter("initiation", record, error, KEYS)
    parked = Record(letter.topic, 0, 0, record.timestamp_ms, letter.key, letter.value, tuple(letter.headers))
    told: dict[str, Any] = json.loads(
        json.dumps(command._json(shown_letter(Letter(parked, read_fate(parked, KEYS)))), default=str)
    )
    return told


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
async def test_every_record_of_orders_ends_once_and_alone(data: st.DataObject) -> None:
    rig = Rig()
    record = data.draw(strange(data.draw(st.sampled_from(list(kinds().values())))))
    await rig.initiation.take(
        [order_record(numbered_order(1), offset=1), record, order_record(numbered_order(3), offset=3)]
    )
    # What intake lets through, execution takes; none of it is parked there.
    before = len(rig.dead_letters.parked)
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert len(rig.dead_letters.parked) == before
    assert rig.states().items() >= {"order-1": "approved", "order-3": "approved"}.items()
    ends = [
        *(f"parked: {p.error}" for p in rig.dead_letters.parked),
        *(e.event_type for e in rig.events() if e.event_id == record.reference),
        *(s for order_id, s in rig.states().items() if order_id not in ("order-1", "order-3")),
    ]
    assert len(ends) == 1, ends
    for parked in rig.dead_letters.parked:
        assert parked.record == record
        assert shown(parked.record, parked.error)["reference"] == record.reference
    assert rig.observer.counted("initiation", "failed") == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
async def test_every_record_of_commands_ends_once_and_alone(data: st.DataObject) -> None:
    rig = ConsentRig()
    first, record, last = rig.request(), rig.record("revoke"), rig.record("revoke", consent_id="none")
    record = data.draw(strange(record))
    await rig.take(first, record, last)
    ends = [
        *(p.error for p in rig.dead_letters.parked),
        *(k for k, b in rig.told() if b.get("reference") == record.reference),
    ]
    ends += [k for k, b in rig.told() if b.get("status") == "CANC"]
    assert len(ends) == 1, ends
    assert [k for k, b in rig.told() if b.get("status") == "AWAU" and b.get("command") == "request"] == ["changed"]
    for parked in rig.dead_letters.parked:
        assert shown(parked.record, parked.error)["reference"] == record.reference
