"""Transmission requests and exports, on fakes: what is refused, what leaves, and what a crash or an end makes of it."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.base.errors import PublisherUnavailableError, StoreUnavailableError, TooLargeForTopicError
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.store import PurposeEndRow
from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.rules.records import ExportState, RequestStatus
from gateway.portability.verifying import ExportRefusedError
from schemas.consents import ConsentStatus, PortabilityScope, Purpose
from schemas.primitives import ConsentId, PartnerId
from schemas.topics import exports_topic
from tests.support.builders import NOW
from tests.support.domain_samples import terms
from tests.support.portability import KEPT, LAST, ORG, PURPOSE, PortabilityRig

S = PortabilityScope
CANARY = "Canary Shop"


@pytest.fixture
def rig() -> PortabilityRig:
    return PortabilityRig()


def end_purpose(rig: PortabilityRig, *ended: Purpose) -> None:
    key = ("partner-1", "consent-1")
    rig.database.consents.rows[key] = replace(rig.database.consents.rows[key], ended=frozenset(ended))  # type: ignore[index]


def state(rig: PortabilityRig) -> list[ExportState]:
    return [e.state for _, e in sorted(rig.database.exports.rows.items())]


async def test_what_is_asked_for_is_handed_over_whole(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    assert await rig.make_all() == 1
    assert rig.partner_told() == ["accepted", "delivered"]
    [whole] = rig.reader().whole.values()
    assert whole.manifest.counts == {"consent_list": 1, "approved_list": 5, "trans_list": 5, "card_list": 1}
    assert (len(whole.manifest.chunks), whole.manifest.attempt) == (5, 1)
    assert len(whole.manifest.x_api_tran_id) == 25
    [row, *_] = whole.lists["approved_list"]
    assert row == {
        "card_id": whole.lists["card_list"][0]["card_id"],
        "approved_num": "A00001",
        "approved_dtime": "20250517120405",
        "status": "01",
        "pay_type": "01",
        "approved_amt": "10000",
        "currency_code": "KRW",
        "total_install_cnt": 0,
        "merchant_name": "Cafe",
    }
    delivered = rig.told()[-1][1]
    assert (delivered["records"], delivered["chunks"]) == (12, 5)
    assert [r.status for r in rig.database.transmissions.rows.values()] == [RequestStatus.DONE]


# A request with one field changed, and what it is refused with.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"consent_id": "other"}, "MD01", "no consent"),
    ({"snd_org_code": "OTHER00000"}, "AG01", "snd_org_code"),
    ({"rcv_org_code": "C3CCCC0000"}, "AG01", "rcv_org_code"),
    ({"rcv_org_code": "B2BBBB0000"}, "AG01", "not registered"),
    ({"purpose": "credit scores"}, "AG01", "purpose"),
    ({"end_date": (LAST + timedelta(days=1)).isoformat()}, "DT01", "end_date"),
    ({"end_date": "2025-05-16"}, "DT01", "end_date"),
    ({"period": (KEPT + timedelta(days=1)).isoformat()}, "DT01", "period"),
    ({"is_scheduled": True}, "AG01", "cycle"),
    ({"fnd_cycle": "1/m"}, "FF01", "is_scheduled alone"),
    ({"issued_at": (NOW + timedelta(hours=1)).isoformat()}, "DT04", "future"),
    ({"search_timestamp": "20250231000000"}, "FF01", "search_timestamp"),
    ({"search_timestamp": "20250228240000"}, "FF01", "search_timestamp"),
]


@pytest.mark.parametrize(("fields", "code", "text"), REFUSED, ids=[str(f) for f, _, _ in REFUSED])
async def test_what_the_consent_does_not_permit_is_refused(
    rig: PortabilityRig, fields: dict[str, Any], code: str, text: str
) -> None:
    await rig.take(rig.record(**fields))
    [(_, told)] = rig.told()
    assert (told["status"], told["reason"]["code"]) == ("refused", code)
    assert text in told["reason"]["text"]
    assert not rig.database.exports.rows


async def test_a_scope_beyond_the_consent_is_refused(rig: PortabilityRig) -> None:
    rig.put(PURPOSE.model_copy(update={"scopes": (S.CARD_LIST,)}))
    await rig.take(rig.record(target_info=[{"scope": "card.list"}, {"scope": "card.approval"}]))
    assert rig.told()[0][1]["reason"]["code"] == "AG01"


@pytest.mark.parametrize("ended", [(Purpose.PORTABILITY,), (Purpose.PAYMENT,)])
async def test_only_the_end_of_its_own_purpose_stops_it(rig: PortabilityRig, ended: tuple[Purpose, ...]) -> None:
    end_purpose(rig, *ended)
    await rig.take(rig.record())
    assert rig.partner_told() == (["refused"] if ended == (Purpose.PORTABILITY,) else ["accepted"])


async def test_a_proof_is_asked_for_and_is_for_this_request_alone(rig: PortabilityRig) -> None:
    await rig.take(rig.record(proven=False))
    assert rig.told()[-1][1]["reason"]["code"] == "DS0A"
    other = json.loads(rig.record(request_id="other").value)["authentication"]
    await rig.take(rig.record(authentication=other))
    assert rig.told()[-1][1]["reason"]["code"] == "DS17"


async def test_a_request_that_comes_again_is_told_so_and_has_no_second_effect(rig: PortabilityRig) -> None:
    first = rig.record()
    await rig.take(first)
    await rig.take(first)
    await rig.take(rig.again(first.value))
    assert rig.partner_told() == ["accepted", "reported"]
    await rig.take(rig.record(search_timestamp="20250101000000"))
    assert rig.told()[-1][1]["reason"]["code"] == "AM05"
    assert len(rig.database.exports.rows) == 1


async def test_a_refused_record_that_is_delivered_again_stays_refused(rig: PortabilityRig) -> None:
    request = rig.record()
    end_purpose(rig, Purpose.PORTABILITY)
    await rig.take(request)
    end_purpose(rig)
    await rig.take(request)
    assert rig.partner_told() == ["refused"]
    assert not rig.database.exports.rows
    # Sent again by its partner it is another record, and judged as things stand now.
    await rig.take(rig.again(request.value))
    assert rig.partner_told() == ["refused", "accepted"]


async def test_a_stranger_s_request_is_parked_and_told_to_nobody(rig: PortabilityRig) -> None:
    await rig.take(rig.record(signature="forged"), rig.record(signature="theirs", request_id="request-2"))
    assert len(rig.dead_letters.parked) == 2
    assert not rig.told()


# --- what leaves ---


@pytest.mark.parametrize("scopes", [(S.CARD_LIST,), (S.CARD_APPROVAL,), (S.PAID_TRANSACTION,)])
@pytest.mark.parametrize("flags", [(True, True), (True, False), (False, True), (False, False)])
async def test_no_record_and_no_field_beyond_scope_and_flags_leaves(
    rig: PortabilityRig, scopes: tuple[S, ...], flags: tuple[bool, bool]
) -> None:
    merchant = rig.database.merchants.rows["merchant-1"]  # type: ignore[index]
    rig.database.merchants.rows["merchant-1"] = structs.replace(merchant, name=CANARY)  # type: ignore[index]
    names = ("is_consent_merchant_name_regno", "is_consent_trans_category")
    rig.put(PURPOSE.model_copy(update={"scopes": scopes, **dict(zip(names, flags, strict=True))}))
    rig.pay(1, 2)
    await rig.take(rig.record(is_scheduled=None))
    await rig.make_all()
    [whole] = rig.reader().whole.values()
    allowed = {S.CARD_LIST: "card_list", S.CARD_APPROVAL: "approved_list", S.PAID_TRANSACTION: "trans_list"}[scopes[0]]
    assert set(whole.lists) == {"consent_list", allowed}
    text = json.dumps(whole.lists)
    assert (CANARY in text) == (flags[0] and scopes[0] is not S.CARD_LIST)
    assert ("trans_category" in {k for r in whole.lists[allowed] for k in r}) == (
        flags[1] and scopes[0] is S.PAID_TRANSACTION
    )
    assert "token-1" not in text
    assert "null" not in text
    clear = b"".join(r.value for r in rig.kafka.records) + b"".join(row.event.body for row in rig.database.outbox)
    assert CANARY.encode() not in clear


async def test_another_customer_s_and_another_partner_s_payments_stay(rig: PortabilityRig) -> None:
    theirs = Consent(terms(consent_id="theirs", customer_id="customer-2"), 1, ConsentStatus.AUTH)
    elsewhere = Consent(terms(partner_id="partner-2"), 1, ConsentStatus.AUTH)
    old = Consent(terms(consent_id="old"), 1, ConsentStatus.CANC)
    for consent in (theirs, elsewhere, old):
        rig.database.put_consent(consent)
    rig.pay(1)
    rig.pay(2, consent_id="theirs")
    rig.pay(3, partner_id="partner-2")
    rig.pay(4, consent_id="old")
    await rig.take(rig.record())
    await rig.make_all()
    [whole] = rig.reader().whole.values()
    assert {r["approved_num"] for r in whole.lists["approved_list"]} == {"A00001", "A00004"}


async def test_what_became_of_a_payment_is_told_as_the_standard_has_it(rig: PortabilityRig) -> None:
    rig.pay(1)
    rig.pay(2, state=PaymentState.REVERSED)
    rig.pay(3)
    original = next(p for p in rig.database.payments.rows.values() if p.approval_code == "A00003")
    rig.pay(4, operation=Operation.REFUND, amount_minor=4_000, original_payment_id=original.payment_id)
    rig.pay(5, state=PaymentState.UNKNOWN, approval_code=None)
    rig.pay(6, state=PaymentState.DECLINED, approval_code=None)
    await rig.take(rig.record())
    await rig.make_all()
    [whole] = rig.reader().whole.values()
    told = {r["approved_num"]: (r["status"], r.get("modified_amt")) for r in whole.lists["approved_list"]}
    assert told == {"A00001": ("01", None), "A00002": ("02", None), "A00003": ("03", "6000")}
    assert sorted(r["trans_type"] for r in whole.lists["trans_list"]) == ["01", "01", "02"]


async def test_search_timestamp_gives_only_what_changed_after_it(rig: PortabilityRig) -> None:
    rig.pay(1, changed_at=NOW - timedelta(days=2))
    rig.pay(2, changed_at=NOW - timedelta(days=1))
    since = f"{NOW - timedelta(days=1) + timedelta(hours=9):%Y%m%d%H%M%S}"
    await rig.take(rig.record(search_timestamp=since))
    await rig.make_all()
    [whole] = rig.reader().whole.values()
    assert [r["approved_num"] for r in whole.lists["approved_list"]] == ["A00002"]


async def test_two_recipients_cannot_join_cards(rig: PortabilityRig) -> None:
    rig.use_key("key-2", org_code="B2BBBB0000")
    rig.pay(1)
    await rig.take(rig.record(), rig.record(request_id="request-2", rcv_org_code="B2BBBB0000"))
    await rig.make_all()
    cards = [next(iter(rig.reader(o).whole.values())).lists["card_list"] for o in (ORG, "B2BBBB0000")]
    assert cards[0] != cards[1]


# --- ends in the middle ---


async def cut_at(rig: PortabilityRig, visit: int, then: Any) -> None:
    """Do something between two chunks."""
    rig.faults.hold("publisher.publish", visit=visit)
    going = asyncio.create_task(rig.stage.exports.make_one())
    await rig.faults.reached("publisher.publish")
    then()
    rig.faults.open("publisher.publish")
    await going


@pytest.mark.parametrize("visit", [1, 2, 3, 4])
async def test_an_export_whose_purpose_is_revoked_in_the_middle_is_void(rig: PortabilityRig, visit: int) -> None:
    rig.pay(1, 2, 3, 4)
    await rig.take(rig.record())
    await cut_at(rig, visit, lambda: end_purpose(rig, Purpose.PORTABILITY))
    sent = len(rig.kafka.records)
    assert sent == visit
    assert state(rig) == [ExportState.VOID]
    assert rig.partner_told() == ["accepted", "abandoned", "voided"]
    [use] = rig.logged()
    assert (use.recipient, use.purpose, use.consent_version) == (ORG, "portability", 1)
    assert use.what.startswith(f"up to {visit} chunks of attempt 1, void: ")
    assert not rig.unlogged()
    reader = rig.reader()
    assert not reader.whole
    assert [attempt for _, attempt in reader.void] == [1]
    assert not reader.open_attempts
    assert await rig.make_all() == 0


async def test_a_chunk_of_which_nobody_knows_whether_it_left_counts_until_the_moment_when_it_was_given_up(
    rig: PortabilityRig,
) -> None:
    await rig.take(rig.record())
    held: list[int | None] = []

    class Away:
        async def publish(self, records: Any) -> None:
            held.extend(r.at_ms for r in records)
            end_purpose(rig, Purpose.PORTABILITY)
            key = (PartnerId("partner-1"), ConsentId("consent-1"))
            end = PurposeEndRow(key, 1, Purpose.PORTABILITY, PurposeEnd.REVOKED, 1, NOW)
            rig.database.purpose_ends.rows[key, 1, Purpose.PORTABILITY] = end
            rig.clock.advance(4)
            raise PublisherUnavailableError("away")

    rig.kafka = Away()  # type: ignore[assignment]
    stage = rig.new_stage("worker-1")
    await stage.exports.make_one()
    await stage.watch.look()
    rig.clock.advance(60)
    await stage.watch.look()
    assert held == [int(NOW.timestamp() * 1000)]
    [late] = [seconds for span, seconds in rig.observer.delays if span == "revoke_to_last_export"]
    assert late == pytest.approx(4.0, abs=0.5)


async def test_an_export_begins_anew_under_a_key_that_was_changed(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3, 4)
    await rig.take(rig.record())
    await cut_at(rig, 2, lambda: rig.use_key("key-2"))
    assert state(rig) == [ExportState.WAITING]
    assert await rig.make_all() == 1
    reader = rig.reader()
    [whole] = reader.whole.values()
    assert (whole.manifest.kid, whole.manifest.attempt) == ("key-2", 2)
    assert [attempt for _, attempt in reader.void] == [1]
    assert rig.partner_told() == ["accepted", "abandoned", "delivered"]
    assert not rig.unlogged()


async def test_an_export_begins_anew_under_terms_that_permit_less(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3, 4)
    await rig.take(rig.record())
    await cut_at(rig, 2, lambda: rig.put(PURPOSE.model_copy(update={"is_consent_merchant_name_regno": False})))
    assert state(rig) == [ExportState.WAITING]
    assert await rig.make_all() == 1
    [whole] = rig.reader().whole.values()
    assert whole.manifest.attempt == 2
    assert not [row for rows in whole.lists.values() for row in rows if "merchant_name" in row]
    assert rig.partner_told() == ["accepted", "abandoned", "delivered"]
    assert not rig.unlogged()


async def test_a_chunk_waits_for_a_revocation_that_holds_the_consent(rig: PortabilityRig) -> None:
    """What is read beside the lock may have ended by the time that the chunk is counted."""
    rig.pay(1, 2, 3, 4)
    await rig.take(rig.record())
    rig.faults.hold("publisher.published", visit=1)
    going = asyncio.create_task(rig.stage.exports.make_one())
    await rig.faults.reached("publisher.published")
    sent = len(rig.kafka.records)
    async with rig.store.transaction() as uow:
        await uow.consents.lock([("partner-1", "consent-1")])  # type: ignore[list-item]
        rig.faults.hold("consents.lock", visit=1)
        rig.faults.open("publisher.published")
        await rig.faults.reached("consents.lock")
        rig.faults.open("consents.lock")
        end_purpose(rig, Purpose.PORTABILITY)
    await going
    assert len(rig.kafka.records) == sent
    assert rig.partner_told() == ["accepted", "abandoned", "voided"]
    assert not rig.unlogged()


async def test_nothing_is_handed_to_a_recipient_without_a_key(rig: PortabilityRig) -> None:
    await rig.take(rig.record())
    rig.database.recipients.rows[ORG] = replace(rig.database.recipients.rows[ORG], key=None)
    await rig.make_all()
    assert not rig.kafka.records
    assert rig.partner_told() == ["accepted", "voided"]
    assert not rig.logged()


PLACES = [
    *("store.begin", "portability.claim", "portability.recipients", "portability.hold", "snapshots.open"),
    *("snapshots.fetch", "publisher.publish", "publisher.published", "consents.lock", "portability.lock_export"),
    *("portability.update_export", "portability.finish_request", "outbox.append", "store.commit", "store.committed"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("visit", range(6))
async def test_a_worker_that_dies_anywhere_leaves_one_export_that_is_whole(
    rig: PortabilityRig, place: str, visit: int
) -> None:
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    rig.faults.plan(place, *[None] * visit, asyncio.CancelledError())  # type: ignore[list-item]
    for _ in range(3):
        try:
            await rig.stage.exports.make_one()
        except asyncio.CancelledError:
            rig.stage = rig.new_stage("worker-2")
        rig.clock.advance(61)
    reader = rig.reader()
    assert len(reader.whole) == 1
    assert not reader.open_attempts
    [whole] = reader.whole.values()
    assert whole.manifest.counts["approved_list"] == 5
    assert [s for s in rig.partner_told() if s != "abandoned"] == ["accepted", "delivered"]
    assert not rig.unlogged()


async def test_attempts_that_died_are_logged_once_each(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    # After two chunks, before the first, and while the third is on its way: nobody knows whether it arrived.
    for place, visit in (("publisher.published", 1), ("portability.recipients", 0), ("publisher.publish", 2)):
        rig.faults.plan(place, *[None] * visit, asyncio.CancelledError())  # type: ignore[list-item]
        with pytest.raises(asyncio.CancelledError):
            await rig.stage.exports.make_one()
        rig.clock.advance(61)
    await rig.make_all()
    told = [(b["attempt"], b["chunks"]) for kind, b in rig.told() if kind.endswith(".abandoned")]
    assert told == [(1, 2), (3, 3)]
    assert not rig.unlogged()


@pytest.mark.parametrize("error", [PublisherUnavailableError("away"), StoreUnavailableError("away")])
async def test_an_outage_in_the_middle_is_made_up_for(rig: PortabilityRig, error: Exception) -> None:
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    rig.faults.plan("publisher.publish", None, None, error)
    await rig.stage.exports.make_one()
    assert not rig.reader().whole
    rig.clock.advance(61)
    assert await rig.make_all() == 1
    assert len(rig.reader().whole) == 1


async def test_a_worker_that_was_taken_for_dead_makes_nothing_whole(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    rig.faults.hold("publisher.publish", visit=5)
    slow = asyncio.create_task(rig.stage.exports.make_one())
    await rig.faults.reached("publisher.publish")
    rig.clock.advance(61)
    rig.stage = rig.new_stage("worker-2")
    assert await rig.make_all() == 1
    rig.faults.open("publisher.publish")
    await slow
    reader = rig.reader()
    [whole] = reader.whole.values()
    assert whole.manifest.attempt == 2
    assert rig.partner_told() == ["accepted", "abandoned", "delivered"]
    assert not rig.unlogged()


# --- a recipient's eye ---


async def test_a_recipient_refuses_what_was_changed(rig: PortabilityRig) -> None:
    rig.pay(1, 2, 3)
    await rig.take(rig.record())
    await rig.make_all()
    chunks, topic = list(rig.kafka.records), exports_topic(ORG)
    for changed in (chunks[:1] + chunks[2:], [structs.replace(chunks[0], value=chunks[1].value), *chunks[1:]]):
        rig.kafka.records = [r for r in changed if r.topic == topic]
        with pytest.raises(ExportRefusedError, match="chunk"):
            rig.reader()
    rig.kafka.records = chunks
    with pytest.raises(ExportRefusedError, match="not for us"):
        _read_as(rig, "B2BBBB0000")


def _read_as(rig: PortabilityRig, org_code: str) -> None:
    reader = rig.reader("C3CCCC0000")
    reader._org_code = org_code
    for row in rig.database.outbox:
        if row.event.topic == exports_topic(ORG):
            reader.take(row.event.event_type, row.event.body)


async def test_exports_are_made_in_turns_of_their_partners(rig: PortabilityRig) -> None:
    await rig.take(*(rig.record(request_id=f"many-{n}") for n in range(3)))
    elsewhere = terms(partner_id="partner-2", portability=PURPOSE)
    rig.database.put_consent(Consent(elsewhere, 1, ConsentStatus.AUTH))
    rig.clock.advance(1)
    await rig.take(rig.record(partner_id="partner-2", signature="theirs"))
    order = []
    while await rig.stage.exports.make_one():
        order.append(rig.told()[-1][1]["partner_id"])
    assert order == ["partner-1", "partner-2", "partner-1", "partner-1"]


# --- again and again ---


async def scheduled(rig: PortabilityRig, **fields: Any) -> None:
    await rig.take(rig.record(is_scheduled=True, fnd_cycle="1/m", add_cycle="1/w", **fields))
    await rig.make_all()


async def test_a_scheduled_transmission_is_made_each_cycle_with_what_changed(rig: PortabilityRig) -> None:
    rig.pay(1, changed_at=NOW - timedelta(hours=1))
    await scheduled(rig)
    rig.clock.advance(7 * 86_400 - 1)
    assert await rig.schedule.begin_due() == 0
    rig.clock.advance(1)
    rig.pay(2, changed_at=rig.clock.now() - timedelta(hours=1))
    assert await rig.schedule.begin_due() == 1
    assert await rig.schedule.begin_due() == 0
    await rig.make_all()
    first, second = rig.reader().whole.values()
    assert [r["approved_num"] for r in first.lists["approved_list"]] == ["A00001"]
    assert [r["approved_num"] for r in second.lists["approved_list"]] == ["A00002"]


async def test_an_export_that_came_to_nothing_is_made_up_for_by_the_next(rig: PortabilityRig) -> None:
    rig.pay(1, changed_at=NOW - timedelta(hours=1))
    await scheduled(rig)
    for week in (2, 3):
        rig.pay(week, changed_at=rig.clock.now() + timedelta(days=1))
        rig.clock.advance(7 * 86_400)
        assert await rig.schedule.begin_due() == 1
    rig.database.exports.rows.pop(("partner-1", "request-1", 2))  # type: ignore[call-overload]
    await rig.make_all()
    assert [r["approved_num"] for r in list(rig.reader().whole.values())[-1].lists["approved_list"]] == [
        "A00002",
        "A00003",
    ]


async def test_cycles_that_an_outage_missed_are_one(rig: PortabilityRig) -> None:
    await scheduled(rig)
    rig.clock.advance(30 * 86_400)
    assert await rig.schedule.begin_due() == 1
    assert await rig.schedule.begin_due() == 0


async def test_it_ends_with_its_last_day(rig: PortabilityRig) -> None:
    await scheduled(rig, end_date=(NOW.date() + timedelta(days=10)).isoformat())
    [row] = rig.database.transmissions.rows.values()
    assert row.next_due_at == NOW + timedelta(days=7)
    rig.clock.advance(7 * 86_400)
    await rig.schedule.begin_due()
    assert [r.next_due_at for r in rig.database.transmissions.rows.values()] == [None]


@pytest.mark.parametrize(("days", "told"), [(180, []), (185, ["stopped"])])
async def test_it_stops_after_six_months_of_silence(rig: PortabilityRig, days: int, told: list[str]) -> None:
    await scheduled(rig)
    key = ("partner-1", "request-1")
    row = rig.database.transmissions.rows[key]  # type: ignore[index]
    rig.clock.advance(7 * 86_400)
    silent = replace(row, accessed_at=rig.clock.now() - timedelta(days=days))
    rig.database.transmissions.rows[key] = silent  # type: ignore[index]
    await rig.schedule.begin_due()
    assert [s for s in rig.partner_told() if s == "stopped"] == told


async def waiting(rig: PortabilityRig, *, silent_for: timedelta) -> None:
    """The second export of a scheduled request was due, and waits; its customer has been silent for so long."""
    await scheduled(rig)
    rig.clock.advance(7 * 86_400)
    assert await rig.schedule.begin_due() == 1
    key = ("partner-1", "request-1")
    row = rig.database.transmissions.rows[key]  # type: ignore[index]
    rig.database.transmissions.rows[key] = replace(row, accessed_at=rig.clock.now() - silent_for)  # type: ignore[index]


async def test_an_export_that_waited_beyond_six_months_of_silence_is_not_made(rig: PortabilityRig) -> None:
    await waiting(rig, silent_for=timedelta(days=180))
    sent = len(rig.kafka.records)
    rig.clock.advance(5 * 86_400)
    await rig.make_all()
    assert len(rig.kafka.records) == sent
    assert state(rig) == [ExportState.COMPLETE, ExportState.VOID]
    assert rig.told()[-1][1]["reason"]["text"] == "the customer has asked for nothing for six months"
    # The request itself stops when it is due next.
    rig.clock.advance(2 * 86_400)
    await rig.schedule.begin_due()
    assert rig.partner_told()[-2:] == ["voided", "stopped"]


async def test_an_export_is_void_whose_customer_has_been_silent_for_six_months_before_its_last_chunk(
    rig: PortabilityRig,
) -> None:
    await waiting(rig, silent_for=timedelta(days=180))
    rig.pay(1, 2, 3, 4, changed_at=rig.clock.now())
    sent = len(rig.kafka.records)
    await cut_at(rig, 1, lambda: rig.clock.advance(5 * 86_400))
    assert len(rig.kafka.records) == sent + 1
    assert state(rig) == [ExportState.COMPLETE, ExportState.VOID]
    assert not rig.unlogged()


async def test_an_export_goes_on_whose_customer_has_asked_since_it_was_due(rig: PortabilityRig) -> None:
    await waiting(rig, silent_for=timedelta(days=180))
    rig.clock.advance(5 * 86_400)
    await rig.take(rig.record(request_id="request-2"))
    await rig.make_all()
    assert state(rig) == [ExportState.COMPLETE] * 3


async def test_it_stops_once_its_purpose_is_revoked(rig: PortabilityRig) -> None:
    await scheduled(rig)
    end_purpose(rig, Purpose.PORTABILITY)
    rig.clock.advance(7 * 86_400)
    await rig.schedule.begin_due()
    assert rig.partner_told()[-1] == "stopped"
    assert await rig.make_all() == 0


class Narrow:
    """A topic that takes no value of more bytes than so many."""

    def __init__(self, kafka: Any, bytes_max: int) -> None:
        self.kafka = kafka
        self.bytes_max = bytes_max
        self.refused = 0

    async def publish(self, records: Any) -> None:
        if any(len(r.value or b"") > self.bytes_max for r in records):
            self.refused += 1
            raise TooLargeForTopicError(records[0].topic, frozenset(range(len(records))))
        await self.kafka.publish(records)


async def test_a_chunk_that_its_topic_does_not_take_is_made_smaller(rig: PortabilityRig) -> None:
    """A larger one would be refused each minute, for ever."""
    rig.pay(*range(1, 21))
    await rig.take(rig.record())
    kafka = rig.kafka
    narrow = Narrow(kafka, 4000)
    rig.kafka = narrow  # type: ignore[assignment]
    stage = rig.new_stage("worker-1", chunk_payments=500)
    assert await stage.exports.make_one()
    rig.kafka = kafka
    assert narrow.refused >= 1
    assert state(rig) == [ExportState.COMPLETE]
    [whole] = rig.reader().whole.values()
    assert len(whole.lists["approved_list"]) == 20
    assert not rig.unlogged()


async def test_an_export_of_which_its_topic_takes_not_one_record_is_void_and_told(rig: PortabilityRig) -> None:
    rig.pay(1)
    await rig.take(rig.record())
    kafka = rig.kafka
    rig.kafka = Narrow(kafka, 300)  # type: ignore[assignment]
    stage = rig.new_stage("worker-1", chunk_payments=500)
    assert await stage.exports.make_one()
    rig.kafka = kafka
    assert state(rig) == [ExportState.VOID]
    assert not await stage.exports.make_one()
    rig.clock.advance(61)
    assert not await stage.exports.make_one()
    assert rig.partner_told()[-1] == "voided"
    [export] = rig.database.exports.rows.values()
    assert export.reason is not None
    assert "larger than the recipient's topic takes" in export.reason.text
    assert rig.observer.counted("portability", "too_large") == 1
    assert not rig.unlogged()
