"""Bulks on fakes: totals, items, acceptance; and that none is handed on, told or paid twice."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.identity.rules import link_of
from gateway.messaging.records import Record
from gateway.payments.rules.lifecycle import PaymentState
from schemas.bulk import BULK_BYTES_MAX, BULK_TYPE, Acceptance, BulkItem, ControlSum, PaymentBulk
from schemas.codec import DecodeError, decode, encode
from schemas.consents import ConsentStatus, Period, PeriodLimit
from schemas.primitives import CustomerId, Money, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import dispatch_topic
from tests.support.builders import DISPATCH, NETWORK, dispatched_record, numbered_order, order_record
from tests.support.consents import ISSUER, SUBJECT, FakeIdentities
from tests.support.domain_samples import NOW, consent, krw, purpose
from tests.support.rig import TAMPERED, Rig

S = PaymentState


class BulkRig(Rig):
    """The rig with an intake that takes bulks."""

    def __init__(self, identities: FakeIdentities | None = None) -> None:
        super().__init__()
        self.identities = identities
        self.initiation = self.new_initiation(identities=identities)
        self.executed = 0

    def handed_on(self) -> list[Record]:
        return self.kafka.records(dispatch_topic(NETWORK))

    async def pay(self) -> None:
        records = self.handed_on()
        await self.execute(records[self.executed :])
        self.executed = len(records)

    def bulks(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told of bulks: verb and body."""
        prefix = "kr.mypay.bulk."
        return [
            (e.event_type.removeprefix(prefix).removesuffix(".v1"), json.loads(e.body))
            for e in self.events()
            if e.event_type.startswith(prefix)
        ]


def item(number: int, **fields: Any) -> BulkItem:
    defaults: dict[str, Any] = {
        "order_id": f"order-{number}",
        "consent_id": "consent-1",
        "merchant_id": "merchant-1",
        "amount": krw(1_000 * number),
    }
    return BulkItem(**(defaults | fields))


def bulk(*items: BulkItem, **fields: Any) -> PaymentBulk:
    total = sum(i.amount.minor for i in items)
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "bulk_id": "bulk-1",
        "acceptance": Acceptance.PARTIAL,
        "number_of_transactions": len(items),
        "control_sum": ControlSum(currency="KRW", value=str(total)),
        "items": items,
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(minutes=5),
    }
    values = defaults | fields
    return decode(PaymentBulk, encode(PaymentBulk.model_construct(**values)), bytes_max=BULK_BYTES_MAX)


def record(of: PaymentBulk, *, offset: int = 7, key: str | None = None, **fields: Any) -> Record:
    return order_record(encode(of), offset=offset, key=(key or of.bulk_id).encode(), type_=BULK_TYPE, **fields)


def codes(body: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(r["item"], r["order_id"], r["reason"]["code"]) for r in body.get("rejected", ())]


@pytest.fixture
def rig() -> BulkRig:
    rig = BulkRig()
    rig.database.put_consent(consent(ConsentStatus.SUSP, consent_id="suspended"))
    rig.database.put_consent(consent(consent_id="other"))
    return rig


async def test_every_item_becomes_a_payment_of_its_own(rig: BulkRig) -> None:
    await rig.initiation.take([record(bulk(item(1), item(2, consent_id="other"), item(3)), signature="theirs")])
    handed_on = [(r.key, DISPATCH.read(r, NetworkId(NETWORK)).judged) for r in rig.handed_on()]
    assert {d.reference: (key, d.signature) for key, d in handed_on} == {
        "mypay.orders/0/7#1": (b"consent-1", "theirs"),
        "mypay.orders/0/7#2": (b"other", "theirs"),
        "mypay.orders/0/7#3": (b"consent-1", "theirs"),
    }
    await rig.pay()
    assert rig.states() == {f"order-{n}": "approved" for n in (1, 2, 3)}
    assert rig.payment(3).amount_minor == 3_000
    ((verb, body),) = rig.bulks()
    assert (verb, body["status"], body["number_of_transactions"], body["accepted"]) == ("accepted", "accepted", 3, 3)
    assert (codes(body), body["reference"]) == ([], "mypay.orders/0/7")


TOTALS = {
    "too few are said": ({"number_of_transactions": 1}, "AM18"),
    "too many are said": ({"number_of_transactions": 3}, "AM18"),
    "another sum": ({"control_sum": ControlSum(currency="KRW", value="2999")}, "AM10"),
    "another currency": ({"control_sum": ControlSum(currency="USD", value="30.00")}, "AM03"),
}


@pytest.mark.parametrize("case", TOTALS)
async def test_a_bulk_whose_totals_are_wrong_is_refused_as_a_whole(rig: BulkRig, case: str) -> None:
    fields, code = TOTALS[case]
    await rig.initiation.take([record(bulk(item(1), item(2), **fields))])
    ((verb, body),) = rig.bulks()
    assert (verb, body["status"], body["reason"]["code"], body["accepted"]) == ("refused", "refused", code, 0)
    assert (rig.states(), rig.handed_on()) == ({}, [])


BAD = [
    item(2, consent_id="suspended"),
    item(3, merchant_id="nobody"),
    item(1, amount=krw(5)),
    item(4, amount=krw(50_001)),
    item(5, consent_id="nobody"),
]
WHY = [
    (2, "order-2", "TKSP"),
    (3, "order-3", "AC03"),
    (4, "order-1", "AM05"),
    (5, "order-4", "TKVE"),
    (6, "order-5", "MD01"),
]


async def test_partial_acceptance_hands_the_good_ones_on_and_tells_the_others(rig: BulkRig) -> None:
    await rig.initiation.take([record(bulk(item(1), *BAD, item(6)))])
    await rig.pay()
    ((verb, body),) = rig.bulks()
    assert (verb, body["accepted"], codes(body)) == ("accepted", 2, WHY)
    rejected = {f"order-{n}": "rejected" for n in (2, 3, 4, 5)}
    assert rig.states() == {"order-1": "approved", "order-6": "approved"} | rejected
    assert rig.payment(1).amount_minor == 1_000
    assert len([e for e in rig.events() if e.event_type == "kr.mypay.payment.rejected.v1"]) == 4


async def test_all_or_nothing_makes_no_payment_of_a_bulk_with_a_bad_item(rig: BulkRig) -> None:
    await rig.initiation.take([record(bulk(item(1), *BAD, item(6), acceptance=Acceptance.ALL_OR_NOTHING))])
    ((verb, body),) = rig.bulks()
    assert (verb, body["reason"]["code"], body["accepted"], codes(body)) == ("refused", "NARR", 0, WHY)
    assert (rig.states(), rig.handed_on()) == ({}, [])
    # Nothing of it used an order id up.
    good = bulk(item(1), item(2), bulk_id="bulk-2", acceptance=Acceptance.ALL_OR_NOTHING)
    await rig.initiation.take([record(good, offset=8)])
    await rig.pay()
    assert rig.states() == {"order-1": "approved", "order-2": "approved"}


async def test_an_order_id_that_is_used_is_not_used_again(rig: BulkRig) -> None:
    await rig.initiation.take([order_record(numbered_order(1), offset=1)])
    await rig.pay()
    await rig.initiation.take([record(bulk(item(1), item(2)))])
    await rig.pay()
    assert codes(rig.bulks()[0][1]) == [(1, "order-1", "AM05")]
    assert rig.payment(1).amount_minor == 10_000
    assert rig.payment(2).state is S.APPROVED


async def test_an_order_before_it_in_its_batch_stands(rig: BulkRig) -> None:
    await rig.initiation.take([record(bulk(item(1), item(2))), order_record(numbered_order(1), offset=1)])
    await rig.pay()
    assert rig.payment(1).amount_minor == 10_000
    assert rig.told().count("order.refused") == 1


async def test_the_same_bulk_again_is_told_and_nothing_else(rig: BulkRig) -> None:
    first = record(bulk(item(1), item(2, consent_id="suspended")))
    await rig.initiation.take([first, first])
    await rig.initiation.take([first])
    await rig.initiation.take([record(bulk(item(1), item(2, consent_id="suspended")), offset=9)])
    await rig.pay()
    assert [verb for verb, _ in rig.bulks()] == ["accepted", "reported", "reported", "reported"]
    assert len({json.dumps(b | {"reference": ""}) for _, b in rig.bulks()}) == 1
    assert len(rig.handed_on()) == 1
    assert rig.told().count("payment.rejected") == 1


@pytest.mark.parametrize("acceptance", Acceptance)
async def test_a_bulk_that_a_restored_database_forgot_is_not_refused_when_its_items_were_paid(
    rig: BulkRig, acceptance: Acceptance
) -> None:
    first = record(bulk(item(1), item(2), item(3, consent_id="other"), acceptance=acceptance))
    await rig.initiation.take([first])
    await rig.execute([r for r in rig.handed_on() if r.key == b"consent-1"])
    handed_on = len(rig.handed_on())
    rig.database.bulks.rows.clear()
    # What nobody had taken is judged anew, and may come to nothing now.
    rig.database.put_consent(consent(ConsentStatus.CANC, consent_id="other"))
    await rig.initiation.take([first])
    assert [(verb, body["accepted"]) for verb, body in rig.bulks()] == [("accepted", 3), ("accepted", 2)]
    assert codes(rig.bulks()[1][1]) == [(3, "order-3", "MD01")]
    assert len(rig.handed_on()) == handed_on
    assert rig.states() == {"order-1": "approved", "order-2": "approved", "order-3": "rejected"}


async def test_a_bulk_id_with_other_content_is_refused_and_the_first_stands(rig: BulkRig) -> None:
    await rig.initiation.take([record(bulk(item(1)))])
    other = record(bulk(item(2)), offset=8)
    await rig.initiation.take([other, other])
    assert [(v, b["status"]) for v, b in rig.bulks()] == [("accepted", "accepted"), ("refused", "refused")]
    assert rig.bulks()[1][1]["reason"]["code"] == "AM05"
    assert len(rig.handed_on()) == 1


@pytest.mark.parametrize("disabled", [False, True], ids=["as it was", "its key disabled meanwhile"])
async def test_a_bulk_whose_worker_died_before_handing_on_is_handed_on_when_it_comes_again(
    rig: BulkRig, *, disabled: bool
) -> None:
    first = record(bulk(item(1), item(2, consent_id="suspended"), item(3, consent_id="other")))

    class DiedError(Exception):
        pass

    publish = rig.publisher.publish

    async def die(_: object) -> None:
        raise DiedError

    rig.publisher.publish = die  # type: ignore[method-assign,assignment]
    with pytest.raises(DiedError):
        await rig.initiation.take([first])
    rig.publisher.publish = publish  # type: ignore[method-assign]
    assert rig.handed_on() == []
    rig.database.put_consent(consent(ConsentStatus.CANC, consent_id="other"))
    if disabled:
        (signature,) = [v.decode() for name, v in first.headers if name == "signature"]
        rig.verifier.refused[signature] = Reason(code=ReasonCode.DS0C, text="signing key is disabled")
    await rig.initiation.take([first])
    await rig.initiation.take([first])
    rig.verifier.refused.clear()
    await rig.pay()
    assert rig.states() == {"order-1": "approved", "order-2": "rejected", "order-3": "rejected"}
    assert len(rig.handed_on()) == 1
    assert [v for v, _ in rig.bulks()] == ["accepted", "reported", "reported"]


async def test_an_item_whose_id_was_taken_before_it_could_be_handed_on_is_told_so(rig: BulkRig) -> None:
    first, publish = record(bulk(item(1), item(2))), rig.publisher.publish

    async def die(_: object) -> None:
        raise ZeroDivisionError

    rig.publisher.publish = die  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        await rig.initiation.take([first])
    rig.publisher.publish = publish  # type: ignore[method-assign]
    await rig.execute([dispatched_record(numbered_order(1), offset=7)])
    await rig.initiation.take([first])
    await rig.pay()
    assert (rig.payment(1).amount_minor, rig.payment(2).state) == (10_000, S.APPROVED)
    (refusal,) = rig.database.refusals.rows.values()
    assert (refusal.order_id, refusal.reason.code.value, refusal.reference[-2:]) == ("order-1", "AM05", "#1")


async def test_the_same_bytes_are_handed_on_however_often(rig: BulkRig) -> None:
    first = record(bulk(item(1), item(2)))
    await rig.initiation.take([first])
    (key,) = rig.database.bulks.rows
    # As if the worker had died before it could note that it was done.
    rig.database.bulks.rows[key] = replace(rig.database.bulks.rows[key], dispatched_at=None)
    await rig.initiation.take([first])
    once, again = rig.handed_on()[:2], rig.handed_on()[2:]
    assert [r.value for r in once] == [r.value for r in again]
    await rig.execute([*once, *again])
    assert rig.told().count("payment.sent") == 2
    assert rig.told().count("payment.reported") == 2
    assert len(rig.ledger_kinds()) == 2


async def test_two_workers_with_one_bulk_decide_it_once(rig: BulkRig) -> None:
    first = record(bulk(item(1), item(2, consent_id="suspended")))
    await asyncio.gather(rig.initiation.take([first]), rig.new_initiation().take([first]))
    await rig.pay()
    assert [v for v, _ in rig.bulks()].count("accepted") == 1
    assert rig.told().count("payment.rejected") == 1
    assert rig.states() == {"order-1": "approved", "order-2": "rejected"}
    assert len(rig.ledger_kinds()) == 1


async def test_limits_are_decided_item_by_item_when_they_are_sent(rig: BulkRig) -> None:
    day = PeriodLimit(period=Period.DAY, max_count=2)
    rig.database.put_consent(consent(payment=purpose(period_limits=(day,))))
    await rig.initiation.take([record(bulk(item(1), item(2), item(3), acceptance=Acceptance.ALL_OR_NOTHING))])
    await rig.pay()
    assert rig.bulks()[0][1]["accepted"] == 3
    assert rig.states() == {"order-1": "approved", "order-2": "approved", "order-3": "rejected"}


async def test_a_forged_bulk_and_one_under_another_key_decide_nothing(rig: BulkRig) -> None:
    await rig.initiation.take(
        [record(bulk(item(1)), signature=TAMPERED), record(bulk(item(1)), key="consent-1", offset=8)]
    )
    assert (rig.handed_on(), rig.database.bulks.rows) == ([], {})
    [(kind, told)] = rig.bulks()
    assert (kind, told["bulk_id"], told["accepted"], told["reference"]) == ("refused", "bulk-1", 0, "mypay.orders/0/8")
    assert "bulk_id" in told["reason"]["text"]
    assert [p.record.offset for p in rig.dead_letters.parked] == [7]


@pytest.mark.parametrize(
    ("old", "new", "kind", "id_", "text"),
    [
        (b'"order_id":"order-2"', b'"order_id":"a/b"', "bulk.refused", "bulk-1", "items.1.order_id: "),
        (b'"order_id":"order-2"', b'"order":"order-2"', "bulk.refused", "bulk-1", "items.1.order"),
        (b'"number_of_transactions":2', b'"number_of_transactions":0', "order.refused", "bulk-1", "number_of_trans"),
        (b'"bulk_id":"bulk-1"', b'"bulk_id":""', "order.refused", "mypay.orders/0/7", "bulk_id: "),
    ],
)
async def test_a_bulk_with_a_fault_is_answered_with_the_field(
    rig: BulkRig, old: bytes, new: bytes, kind: str, id_: str, text: str
) -> None:
    good = record(bulk(item(1), item(2)))
    assert old in good.value
    await rig.initiation.take([structs.replace(good, value=good.value.replace(old, new))])
    (event,) = rig.events()
    told = json.loads(event.body)
    assert event.event_type == f"kr.mypay.{kind}.v1"
    assert told["bulk_id" if kind == "bulk.refused" else "order_id"] == id_
    assert (told["reason"]["code"], told["reason"]["text"].startswith(text)) == ("FF01", True), told["reason"]
    assert (rig.handed_on(), rig.database.bulks.rows, rig.states()) == ([], {}, {})


async def test_each_item_has_a_proof_of_its_own() -> None:
    identities = FakeIdentities()
    rig = BulkRig(identities)
    rig.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("customer-1")
    bare = bulk(item(1), item(2))
    token = identities.issue(link_of(bare.order(bare.items[0])), now=NOW)  # type: ignore[arg-type]
    await rig.initiation.take([record(bulk(item(1, authentication=token), item(2, authentication=token), item(3)))])
    assert codes(rig.bulks()[0][1]) == [(2, "order-2", "DS17"), (3, "order-3", "DS0A")]
    assert len(rig.handed_on()) == 1


async def test_the_largest_bulk_is_taken_and_a_larger_one_is_not_read(rig: BulkRig) -> None:
    rig.database.put_consent(consent(payment=purpose(max_per_payment=(krw(10_000_000),))))
    largest = bulk(*(item(n, order_id=f"order-{n}".ljust(35, "x")) for n in range(1, 2001)))
    assert len(encode(largest)) < BULK_BYTES_MAX
    await rig.initiation.take([record(largest)])
    assert rig.bulks()[0][1]["accepted"] == len(rig.handed_on()) == 2000
    with pytest.raises(DecodeError, match="items"):
        bulk(*(item(n) for n in range(1, 2002)))
    with pytest.raises(DecodeError, match="larger than"):
        decode(PaymentBulk, encode(largest) + b" " * BULK_BYTES_MAX, bytes_max=BULK_BYTES_MAX)


@pytest.mark.parametrize("value", ["-1", "1.00", "01", "9" * 17, ""])
def test_a_control_sum_is_an_amount_that_a_bulk_can_have(value: str) -> None:
    with pytest.raises(DecodeError, match="control_sum"):
        bulk(item(1), control_sum=ControlSum.model_construct(currency="KRW", value=value))


def test_amounts_of_other_currencies_have_their_decimals() -> None:
    dollars = bulk(item(1, amount=Money.of(1250, "USD")), control_sum=ControlSum(currency="USD", value="12.50"))
    assert dollars.control_sum.minor == 1250


DOLLARS = Money.of(1_000, "USD")


@pytest.mark.parametrize("acceptance", Acceptance)
@pytest.mark.parametrize("foreign", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (1, 2, 3)])
async def test_a_bulk_with_an_item_of_another_currency_is_refused_whole_though_others_fit(
    rig: BulkRig, foreign: tuple[int, ...], acceptance: Acceptance
) -> None:
    items = [item(n, amount=DOLLARS if n in foreign else krw(1_000)) for n in (1, 2, 3)]
    await rig.initiation.take([record(bulk(*items, acceptance=acceptance))])
    ((verb, body),) = rig.bulks()
    # The sum fits, and one item or two do.
    assert (verb, body["status"], body["reason"]["code"], body["accepted"]) == ("refused", "refused", "AM03", 0)
    assert (rig.states(), rig.handed_on()) == ({}, [])
