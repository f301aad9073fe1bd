"""Initiation on fakes: every way a record can end, and that each ends alone."""

import asyncio
import dataclasses
import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.calendar import day_of, day_start
from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.messaging.records import Record
from gateway.payments.dispatch import JUDGED_HEADER, MARK_HEADER, SOURCE
from schemas.consents import ConsentStatus, Payees
from schemas.envelope import read_envelope
from schemas.events import OrderRefused, PaymentEvent
from schemas.primitives import MerchantId, Money, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import dispatch_topic
from tests.support.builders import DISPATCH, NETWORK, NOW, dispatched_record, later, numbered_order, order_record
from tests.support.domain_samples import consent, krw, merchant, order, purpose, terms
from tests.support.messages import SHARING
from tests.support.rig import TAMPERED, Rig

R = ReasonCode
LONG_AGO, FAR = NOW - timedelta(days=30), NOW + timedelta(days=30)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    put = rig.database.put_consent
    for status in ConsentStatus:
        put(consent(status, consent_id=status.value))
    put(consent(consent_id="theirs", partner_id="partner-2"))
    put(consent(consent_id="later", valid_from=later(60)))
    put(consent(consent_id="past", valid_from=LONG_AGO, valid_until=NOW))
    put(
        dataclasses.replace(
            consent(),
            terms=terms(consent_id="data-only", payment=None, sharing=SHARING),
        )
    )
    put(consent(consent_id="blocks", payment=purpose(payees=Payees(block_merchants=(MerchantId("merchant-1"),)))))
    put(consent(consent_id="others", payment=purpose(payees=Payees(allow_categories=("0763",)))))
    for name, entry in {"closed": merchant(active=False), "elsewhere": merchant(networks=frozenset({"net-z"}))}.items():
        rig.database.put_merchant(replace(entry, merchant_id=MerchantId(name)))
    return rig


def dispatched(rig: Rig) -> list[str]:
    """Order ids on the network's dispatch topic."""
    return [
        DISPATCH.read(r, NetworkId(NETWORK)).order().order.order_id for r in rig.kafka.records(dispatch_topic(NETWORK))
    ]


def parked(rig: Rig) -> list[tuple[int, str]]:
    """Offset and error class of every dead letter."""
    return [(p.record.offset, type(p.error).__name__) for p in rig.dead_letters.parked]


# fmt: off
REJECTIONS = {
    "no such consent":         ({"consent_id": "nobody"},                          R.MD01),
    "another's consent":       ({"consent_id": "theirs"},                          R.MD01),
    "consent not granted yet": ({"consent_id": "AWAU"},                            R.MD01),
    "consent rejected":        ({"consent_id": "RJCT"},                            R.MD01),
    "consent revoked":         ({"consent_id": "CANC"},                            R.MD01),
    "consent suspended":       ({"consent_id": "SUSP"},                            R.TKSP),
    "consent expired":         ({"consent_id": "EXPD"},                            R.TKXP),
    "consent not begun":       ({"consent_id": "later"},                           R.DT01),
    "consent past its end":    ({"consent_id": "past"},                            R.TKXP),
    "consent for other uses":  ({"consent_id": "data-only"},                       R.AG01),
    "payee blocked":           ({"consent_id": "blocks"},                          R.SL12),
    "payee not allowed":       ({"consent_id": "others"},                          R.SL11),
    "unknown merchant":        ({"merchant_id": "nobody"},                         R.AC03),
    "merchant left":           ({"merchant_id": "closed"},                         R.AC07),
    "over the maximum":        ({"amount": krw(50_001)},                           R.TKVE),
    "currency not allowed":    ({"amount": Money.of(100, "USD")},                  R.AM03),
    "issued in the future":    ({"issued_at": later(61), "expires_at": later(99)}, R.DT04),
    "expired":                 ({"expires_at": NOW},                               R.TM01),
    "valid for too long":      ({"expires_at": later(25 * 3600)},                  R.DT01),
    "no network for it":       ({"merchant_id": "elsewhere"},                      R.AGNT),
}
# fmt: on


@pytest.mark.parametrize("case", REJECTIONS)
async def test_an_order_that_may_not_be_paid_is_recorded_rejected_and_told_why(rig: Rig, case: str) -> None:
    fields, reason = REJECTIONS[case]
    bad = numbered_order(2, **fields)
    good = [order_record(numbered_order(n), offset=n) for n in (1, 3)]
    await rig.initiation.take([good[0], order_record(bad, offset=2), good[1]])

    assert dispatched(rig) == ["order-1", "order-3"]
    assert rig.states() == {"order-2": "rejected"}
    stored = rig.payment(2)
    assert stored.reason is not None
    assert stored.reason.code is reason
    assert stored.amount_minor == bad.amount.minor
    (event,) = rig.events()
    told = PaymentEvent.model_validate_json(event.body)
    assert (event.topic, event.key, told.order_id) == ("mypay.events.partner-1", str(bad.payment_id), "order-2")
    assert (told.version, told.status, told.reason) == (1, "RJCT", stored.reason)
    assert rig.observer.counts["initiation", "rejected", reason.value] == 1
    assert rig.observer.counted("initiation", "dispatched") == 2


def json_of(**changes: Any) -> bytes:
    body = json.loads(order_record(numbered_order(2)).value) | changes
    return json.dumps(body).encode()


def without(record: Record, header: str) -> Record:
    return replace(record, headers=tuple(h for h in record.headers if h[0] != header))


def changed(record: Record, **headers: bytes | None) -> Record:
    """The record with other headers; None takes one away."""
    kept = [(n, headers.get(n, v)) for n, v in record.headers]
    return replace(record, headers=tuple((n, v) for n, v in kept if v is not None))


RIGHT = order_record(numbered_order(2), offset=2)
KEY = b"consent-1"


def won(value: str, currency: str = "KRW") -> bytes:
    return json_of(amount={"currency": currency, "value": value})


# fmt: off
FAULTY_BODIES: dict[str, tuple[bytes, str, str]] = {
    # What it is: the body, the order id that it is told under, and how the reason begins.
    "not JSON":              (b"pay 10000 won",                                  "", "Invalid JSON"),
    "empty":                 (b"",                                               "", "Invalid JSON"),
    "a list":                (b"[]",                                             "", "must be an object"),
    "bad UTF-8":             (json_of().replace(b"order-2", b"\xc3\x28"),        "", "Invalid JSON"),
    "a lone surrogate":      (json_of(order_id="\ud800"),                        "", "Invalid JSON"),
    "a NUL character":       (json_of(order_id="a\0b"),                          "", "order_id: "),
    "deeply nested":         (b"[" * 60_000,                                     "", "Invalid JSON"),
    "larger than 64 KiB":    (json_of() + b" " * 65_536,                         "order-2", "body is larger"),
    "an unknown field":      (json_of(note="x"),                                 "order-2", "note: unknown field"),
    "a number for a text":   (json_of(order_id=2),                               "", "order_id: "),
    "an id that is none":    (json_of(order_id="a/b"),                           "", "order_id: "),
    "another's id wrong":    (json_of(merchant_id="a/b"),                        "order-2", "merchant_id: "),
    "partner left out":      (json_of(partner_id=None),                          "order-2", "partner_id: "),
    "a field twice":         (json_of()[:-1] + b',"order_id":"other"}',          "", "a field is given twice"),
    "a negative amount":     (won("-1"),                                         "order-2", "amount"),
    "no amount":             (won("0"),                                          "order-2", "amount"),
    "too large an amount":   (won("1" * 13),                                     "order-2", "amount"),
    "an endless amount":     (won("9" * 5000),                                   "order-2", "amount.value"),
    "decimals of a won":     (won("1000.00"),                                    "order-2", "amount: KRW amounts have"),
    "one decimal of a cent": (won("12.5", "USD"),                                "order-2", "amount: USD amounts have"),
    "an unknown currency":   (won("1", "XXX"),                                   "order-2", "amount: currency"),
    "a time without offset": (json_of(issued_at="2026-01-01T00:00:00"),          "order-2", "issued_at: "),
    "a time past all time":  (json_of(expires_at="9999-12-31T23:59:59-23:00"),   "order-2", "expires_at: "),
    "the last second":       (json_of(expires_at="9999-12-31T23:59:59Z"),        "order-2", "expires_at: "),
    "expiry before issue":   (json_of(expires_at="2020-01-01T00:00:00Z"),        "order-2", "expires_at must be later"),
}
HEADERS = RIGHT.headers
OTHER = order_record(numbered_order(2), offset=2, type_="kr.x.v1")
FAULTY: dict[str, tuple[Record, str, str]] = {
    **{what: (order_record(body, offset=2, key=KEY), id_, text) for what, (body, id_, text) in FAULTY_BODIES.items()},
    **{
        what: (record, "order-2", f"header {text}")
        for what, (record, text) in {
            "another message type": (OTHER,                                                        "ce_type: must be"),
            "no type":              (without(RIGHT, "ce_type"),                                    "ce_type: is"),
            "no specversion":       (without(RIGHT, "ce_specversion"),                             "ce_specversion: "),
            "a type twice":         (replace(RIGHT, headers=(*HEADERS, ("ce_type", b"x"))),        "ce_type: given"),
            "other content":        (changed(RIGHT, **{"content-type": b"text/plain"}),            "content-type: "),
            "another key":          (replace(RIGHT, key=b"consent-2"),                             "key: "),
            "no key":               (replace(RIGHT, key=None),                                     "key: "),
            "a key not of text":    (replace(RIGHT, key=b"\xff"),                                  "key: "),
            "a time before time":   (replace(RIGHT, timestamp_ms=-1),                              "timestamp: "),
            "a time long ago":      (replace(RIGHT, timestamp_ms=-(2**62)),                        "timestamp: "),
            "a time far ahead":     (replace(RIGHT, timestamp_ms=2**62),                           "timestamp: "),
        }.items()
    },
}
# fmt: on


@pytest.mark.parametrize("case", FAULTY)
async def test_a_partner_is_told_which_field_of_its_record_is_wrong(rig: Rig, case: str) -> None:
    record, order_id, text = FAULTY[case]
    good = [order_record(numbered_order(n), offset=n) for n in (1, 3)]
    await rig.initiation.take([good[0], record, good[1]])
    await rig.initiation.take([record])

    (event,) = rig.events()
    refused = OrderRefused.model_validate_json(event.body)
    assert event.topic == "mypay.events.partner-1"
    assert (refused.order_id, refused.payment_id) == (order_id or "mypay.orders/0/2", None)
    assert (refused.reference, refused.reason.code) == ("mypay.orders/0/2", R.FF01)
    assert refused.reason.text.startswith(text)
    assert dispatched(rig) == ["order-1", "order-3"]
    assert (rig.states(), parked(rig)) == ({}, [])
    assert rig.observer.counts["initiation", "refused", "FF01"] == 2


async def test_a_refusal_of_a_fault_names_the_payment_that_stands_under_the_id(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    await rig.initiation.take([replace(order_record(numbered_order(1), offset=7), key=b"other")])
    refused = OrderRefused.model_validate_json(rig.events()[-1].body)
    assert (refused.order_id, refused.payment_id) == ("order-1", rig.payment(1).payment_id)
    assert rig.events()[-1].key == str(refused.payment_id)


# fmt: off
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
INDIFFERENT: dict[str, Record] = {
    "a trace context twice": replace(RIGHT, headers=(*RIGHT.headers, TRACE, TRACE)),
    "a trace context of no text": replace(RIGHT, headers=(*RIGHT.headers, ("traceparent", b"\xff" * 9_000))),
    "an id with blanks":     changed(RIGHT, ce_id=b"order 2"),
    "an id in Korean":       changed(RIGHT, ce_id="주문".encode()),
    "an endless id":         changed(RIGHT, ce_id=b"x" * 100_000),
    "an id twice":           replace(RIGHT, headers=(*RIGHT.headers, ("ce_id", b"x"))),
    "no id":                 changed(RIGHT, ce_id=None),
    "a source in Korean":    changed(RIGHT, ce_source="한국".encode()),
    "no source":             changed(RIGHT, ce_source=None),
    "a time in lower case":  changed(RIGHT, ce_time=b"2026-03-02t03:04:05z"),
    "a time that is none":   changed(RIGHT, ce_time=b"yesterday"),
    "no time":               changed(RIGHT, ce_time=None),
    "no content type":       changed(RIGHT, **{"content-type": None}),
    "a name of no header":   replace(RIGHT, headers=(*RIGHT.headers, ("\udcff", b"\xff"))),
}
# fmt: on


async def test_metadata_that_decides_nothing_keeps_no_order_from_its_day(rig: Rig) -> None:
    tomorrow = day_of(NOW) + timedelta(days=1)
    order_ = numbered_order(2, requested_execution_date=tomorrow, expires_at=day_start(tomorrow) + timedelta(hours=1))
    await rig.initiation.take([changed(order_record(order_), ce_time=b"yesterday", ce_id=None)])
    assert rig.states() == {"order-2": "scheduled"}


@pytest.mark.parametrize("case", INDIFFERENT)
async def test_metadata_that_decides_nothing_stops_no_order(rig: Rig, case: str) -> None:
    await rig.initiation.take([INDIFFERENT[case]])
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert rig.states() == {"order-2": "approved"}
    assert parked(rig) == []


# fmt: off
def signed_as(signature: str | None, **fields: Any) -> Record:
    return order_record(numbered_order(2, **fields), offset=2, signature=signature)


def faulty(signature: str) -> Record:
    return order_record(won("0"), offset=2, key=KEY, signature=signature)


NOBODYS: dict[str, tuple[Record, ReasonCode]] = {
    "not signed":            (signed_as(None),                                                    R.DS0B),
    "signed twice":          (replace(RIGHT, headers=(*RIGHT.headers, ("signature", b"good"))),   R.DS0B),
    "an endless signature":  (changed(RIGHT, signature=b"x" * 5_000),                             R.DS0B),
    "no headers":            (replace(RIGHT, headers=()),                                         R.DS0B),
    "tampered":              (signed_as(TAMPERED),                                                R.DS17),
    "a fault, tampered":     (faulty(TAMPERED),                                                   R.DS17),
    "no type, tampered":     (without(signed_as(TAMPERED), "ce_type"),                            R.DS17),
    "an unknown key":        (signed_as("unknown-key"),                                           R.DS0E),
    "an unknown partner":    (signed_as("good", partner_id="x"),                                  R.AG01),
    "another partner's key": (signed_as("theirs"),                                                R.DS19),
    "a fault under it":      (faulty("theirs"),                                                   R.DS19),
    "a key under it":        (replace(signed_as("theirs"), key=b"another"),                       R.DS19),
    "a disabled key":        (signed_as("stolen", amount=krw(9)),                                 R.DS0C),
    "a fault under that":    (faulty("stolen"),                                                   R.DS0C),
    "no type under that":    (without(signed_as("stolen"), "ce_type"),                            R.DS0C),
    "a key that is over":    (signed_as("over", amount=krw(9)),                                   R.DS0D),
    "more than a record":    (order_record(b" " * (1024 * 1024 + 1), offset=2, key=KEY),          R.FF01),
}
# fmt: on


@pytest.mark.parametrize("case", NOBODYS)
async def test_of_what_nobody_is_known_to_have_sent_nobody_is_told(rig: Rig, case: str) -> None:
    record, code = NOBODYS[case]
    rig.verifier.owners["theirs"] = "partner-2"
    rig.verifier.refused["stolen"] = Reason(code=R.DS0C, text="signing key is disabled")
    rig.verifier.refused["over"] = Reason(code=R.DS0D, text="signing key is valid no more")
    await rig.execute([dispatched_record(numbered_order(2))])
    told = rig.told()
    good = [order_record(numbered_order(n), offset=n) for n in (1, 3)]
    # The order id is that of a payment which was approved: whoever sends this must not be able to speak of it.
    await rig.initiation.take([good[0], record, good[1]])

    assert parked(rig) == [(2, "NotAuthenticatedError")]
    assert rig.dead_letters.parked[0].record is record
    assert rig.dead_letters.parked[0].stage == "initiation"
    assert str(rig.dead_letters.parked[0].error).startswith(f"{code}: ")
    assert rig.observer.counts["initiation", "dead_letter", code.value] == 1
    assert dispatched(rig) == ["order-1", "order-3"]
    assert rig.told() == told
    assert rig.database.refusals.rows == {}


async def test_accepted_orders_go_on_unchanged_in_order_with_the_time_they_came(rig: Rig) -> None:
    records = [order_record(numbered_order(n), offset=n, at=later(n)) for n in range(1, 6)]
    await rig.initiation.take(records)
    forwarded = rig.kafka.records(dispatch_topic(NETWORK))
    assert [(r.key, r.value) for r in forwarded] == [(r.key, r.value) for r in records]
    for before, after in zip(records, forwarded, strict=True):
        known = read_envelope(before.headers)
        envelope = read_envelope(after.headers)
        assert envelope == replace(known, id=before.reference, source=SOURCE, time=NOW, signature=None)
        received = DISPATCH.read(after, NetworkId(NETWORK)).judged
        assert (received.reference, received.ordered_at, received.judged_at) == (before.reference, known.time, NOW)
        assert (received.signature, received.digest) == (known.signature, sha256(before.value).digest())
    assert (rig.states(), rig.told()) == ({}, [])


async def test_what_execution_does_not_need_of_an_order_goes_no_further(rig: Rig) -> None:
    more = [("x-note", b"4111111111111111"), ("traceparent", b"not one")]
    await rig.initiation.take([order_record(order(), more_headers=more)])
    (forwarded,) = rig.kafka.records(dispatch_topic(NETWORK))
    names = {name for name, _ in forwarded.headers}
    kept = {name for name, _ in order_record(order()).headers} - {"signature"}
    assert names == kept | {JUDGED_HEADER, MARK_HEADER}


async def test_a_partner_cannot_choose_when_its_order_came(rig: Rig) -> None:
    claimed = order_record(order(), more_headers=[(JUDGED_HEADER, b"[1]")], at=later(3))
    await rig.initiation.take([claimed])
    (forwarded,) = rig.kafka.records(dispatch_topic(NETWORK))
    assert DISPATCH.read(forwarded, NetworkId(NETWORK)).judged.ordered_at == later(3)


async def test_a_forged_order_does_not_use_up_the_order_id(rig: Rig) -> None:
    forged = order_record(numbered_order(2, amount=krw(1)), offset=2, signature=TAMPERED)
    await rig.initiation.take([order_record(numbered_order(1), offset=1), forged])
    assert rig.states() == {}
    await rig.initiation.take([forged, order_record(numbered_order(2), offset=3)])
    assert dispatched(rig) == ["order-1", "order-2"]
    assert rig.told() == []


async def test_a_partner_or_key_that_was_registered_a_moment_ago_is_looked_up_once_more(rig: Rig) -> None:
    rig.keys.register(partners=["newcomer"])
    rig.database.put_consent(consent(partner_id="newcomer"))
    await rig.initiation.take([order_record(numbered_order(1, partner_id="newcomer"), offset=1)])
    assert dispatched(rig) == ["order-1"]
    assert rig.faults.places.count("keys.refresh") == 1

    await rig.initiation.take([order_record(numbered_order(2), offset=2, signature="unknown-key")])
    assert rig.faults.places.count("keys.refresh") == 2
    assert parked(rig) == [(2, "NotAuthenticatedError")]


async def test_what_was_paid_before_its_key_was_disabled_is_told_again_and_of_what_comes_new_nothing(rig: Rig) -> None:
    first = order_record(numbered_order(1), offset=1)
    await rig.initiation.take([first])
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    (signature,) = [v.decode() for name, v in first.headers if name == "signature"]
    rig.verifier.refused[signature] = Reason(code=R.DS0C, text="signing key is disabled")
    other = order_record(numbered_order(1, amount=krw(9)), offset=3)
    await rig.initiation.take([first, order_record(numbered_order(2), offset=2), other])
    assert rig.told()[2:] == ["payment.reported"]
    assert parked(rig) == [(2, "NotAuthenticatedError"), (3, "NotAuthenticatedError")]
    assert rig.states() == {"order-1": "approved"}
    assert len(rig.kafka.records(dispatch_topic(NETWORK))) == 1


async def test_an_order_that_was_refused_stays_refused_when_its_record_is_delivered_again(rig: Rig) -> None:
    early = order_record(numbered_order(1), offset=1)
    await rig.initiation.take([replace(early, key=b"another")])
    await rig.initiation.take([early, order_record(numbered_order(1), offset=2)])
    (handed_on,) = rig.kafka.records(dispatch_topic(NETWORK))
    assert DISPATCH.read(handed_on, NetworkId(NETWORK)).judged.reference == "mypay.orders/0/2"
    assert rig.told() == ["order.refused"]


# --- the same order again ---


async def test_an_order_that_comes_again_is_told_where_its_payment_stands(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    again = order_record(numbered_order(1), offset=7)
    await rig.initiation.take([again, order_record(numbered_order(2), offset=8)])

    assert dispatched(rig) == ["order-2"]
    assert rig.told() == ["payment.sent", "payment.approved", "payment.reported"]
    event = rig.events()[-1]
    told = PaymentEvent.model_validate_json(event.body)
    assert (told.order_id, told.version, told.state) == ("order-1", 2, "approved")
    assert event.event_id == f"{told.payment_id}:2:mypay.orders/0/7"
    assert rig.observer.counted("initiation", "repeated") == 1


async def test_an_order_id_used_for_other_content_is_refused_and_the_first_payment_stands(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    first = rig.payment(1)
    other = order_record(numbered_order(1, amount=krw(1)), offset=7)
    await rig.initiation.take([other])
    await rig.initiation.take([other])

    assert dispatched(rig) == []
    assert rig.payment(1) == first
    assert rig.told() == ["payment.sent", "payment.approved", "order.refused"]
    refused = OrderRefused.model_validate_json(rig.events()[-1].body)
    assert (refused.payment_id, refused.reason.code) == (first.payment_id, R.AM05)


async def test_a_rejected_order_that_comes_again_is_told_again_and_stays_rejected(rig: Rig) -> None:
    bad = order_record(numbered_order(1, consent_id="CANC"), offset=1)
    await rig.initiation.take([bad])
    rig.database.put_consent(consent(consent_id="CANC"))
    await rig.initiation.take([bad])
    assert rig.states() == {"order-1": "rejected"}
    assert rig.told() == ["payment.rejected", "payment.reported"]
    assert dispatched(rig) == []


async def test_a_rejected_order_twice_in_one_batch_is_rejected_once_and_told_twice(rig: Rig) -> None:
    bad = numbered_order(1, amount=krw(50_001))
    await rig.initiation.take([order_record(bad, offset=1), order_record(bad, offset=2)])
    assert rig.told() == ["payment.rejected", "payment.reported"]


async def test_of_two_contents_under_one_id_in_a_batch_the_first_is_rejected_and_the_second_refused(rig: Rig) -> None:
    records = [order_record(numbered_order(1, amount=krw(50_000 + n)), offset=n) for n in (1, 2)]
    await rig.initiation.take(records)
    assert rig.payment(1).amount_minor == 50_001
    assert rig.told() == ["payment.rejected", "order.refused"]
    assert PaymentEvent.model_validate_json(rig.events()[0].body).amount == krw(50_001)


async def test_a_bad_order_under_the_id_of_a_good_one_before_it_cannot_overtake_it(rig: Rig) -> None:
    good = order_record(numbered_order(1), offset=1)
    bad = order_record(numbered_order(1, amount=krw(50_001)), offset=2)
    await rig.initiation.take([good, bad])
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert rig.states() == {"order-1": "approved"}
    assert rig.payment(1).amount_minor == 10_000
    assert sorted(rig.told()) == ["order.refused", "payment.approved", "payment.sent"]


async def test_nor_can_one_whose_proof_does_not_hold(rig: Rig) -> None:
    good = order_record(numbered_order(1), offset=1)
    bad = order_record(numbered_order(1, authentication="a.b.c"), offset=2)
    for _ in range(2):  # delivered again, nothing is different
        await rig.initiation.take([good, bad])
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert rig.states() == {"order-1": "approved"}
    assert rig.told().count("order.refused") == 1
    (told,) = [OrderRefused.model_validate_json(e.body) for e in rig.events() if "refused" in e.event_type]
    assert (told.payment_id, told.reason.code) == (numbered_order(1).payment_id, R.AM05)
    assert told.reference.endswith("/2")


# --- outages ---

AWAY = StoreUnavailableError("away")
UNCONFIRMED = PublisherUnavailableError("away")


# fmt: off
OUTAGES = [
    ("store.reading",     (AWAY, AWAY)),
    ("consents.read",     (AWAY,)),
    ("store.begin",       (AWAY, AWAY)),
    ("payments.insert",   (StoreConflictError("lost"), AWAY)),
    ("store.commit",      (AWAY,)),
    ("store.committed",   (AWAY,)),
    ("dead_letters.park", (UNCONFIRMED,)),
    ("publisher.publish", (UNCONFIRMED, UNCONFIRMED)),
]
# fmt: on


@pytest.mark.parametrize(("place", "errors"), OUTAGES)
async def test_an_outage_is_waited_out_in_place_and_every_record_ends_once(
    rig: Rig, place: str, errors: tuple[Exception, ...]
) -> None:
    rig.faults.plan(place, *errors)
    batch = [
        order_record(numbered_order(1), offset=1),
        order_record(numbered_order(2, amount=krw(50_001)), offset=2),
        order_record(numbered_order(3), offset=3, signature=TAMPERED),
        order_record(b"junk", offset=4, key=KEY),
    ]
    await rig.initiation.take(batch)
    assert rig.faults.pending == 0
    assert dispatched(rig) == ["order-1"]
    assert rig.states() == {"order-2": "rejected"}
    assert sorted(rig.told()) == ["order.refused", "payment.rejected"]
    assert parked(rig) == [(3, "NotAuthenticatedError")]


async def test_orders_that_kafka_took_without_saying_so_are_dispatched_again(rig: Rig) -> None:
    rig.faults.plan("publisher.confirmed", UNCONFIRMED)
    await rig.initiation.take([order_record(numbered_order(1))])
    assert dispatched(rig) == ["order-1", "order-1"]
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert len(rig.host.entries) == 1


async def test_orders_are_handed_on_before_what_nobody_signed_is_parked(rig: Rig) -> None:
    noise = [order_record(numbered_order(n), offset=n, signature=TAMPERED) for n in range(2, 50)]
    rig.faults.hold("dead_letters.park")
    taking = asyncio.create_task(rig.initiation.take([*noise, order_record(numbered_order(1), offset=1)]))
    await rig.faults.reached("dead_letters.park")
    assert dispatched(rig) == ["order-1"]
    rig.faults.open("dead_letters.park")
    await taking
    assert len(parked(rig)) == len(noise)


@pytest.mark.parametrize("place", ["store.reading", "store.commit", "dead_letters.park", "publisher.publish"])
async def test_a_batch_cut_short_anywhere_ends_the_same_when_it_comes_again(rig: Rig, place: str) -> None:
    batch = [
        order_record(numbered_order(1), offset=1),
        order_record(numbered_order(2, amount=krw(50_001)), offset=2),
        order_record(numbered_order(3), offset=3, signature=TAMPERED),
        order_record(b"junk", offset=4, key=KEY),
    ]
    rig.faults.hold(place)
    cut = asyncio.create_task(rig.initiation.take(batch))
    await rig.faults.reached(place)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    rig.faults.open(place)

    await rig.initiation.take(batch)
    # Orders are handed on before what nobody signed is parked: a second time then, which does nothing.
    assert dispatched(rig) == ["order-1"] * (2 if place == "dead_letters.park" else 1)
    assert rig.states() == {"order-2": "rejected"}
    assert {"order.refused", "payment.rejected"} <= set(rig.told())
    assert rig.told().count("payment.rejected") == rig.told().count("order.refused") == 1
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert len(rig.host.entries) == 1
