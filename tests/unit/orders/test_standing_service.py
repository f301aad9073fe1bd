"""Standing orders on fakes: given, ended, and what time makes of them, each day once."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from gateway.base.calendar import BusinessDays, day_of, day_start
from gateway.base.errors import StoreUnavailableError
from gateway.consents.rules.consent import PAYMENT_ENDED_SINCE
from gateway.consents.rules.purposes import PurposeEnd
from gateway.consents.store import PurposeEndRow
from gateway.messaging.records import Record
from gateway.orders.standing.occurrences import OccurrenceService, OccurrenceSettings
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.assertions import StandingOrderLink
from schemas.codec import encode, encode_json
from schemas.consents import ConsentStatus, Payees, Purpose
from schemas.primitives import ConsentId, CustomerId, MerchantId, PartnerId
from schemas.reasons import Reason, ReasonCode
from schemas.standing import (
    STANDING_CANCEL_TYPE,
    STANDING_CREATE_TYPE,
    StandingOrderCancel,
    StandingOrderCreate,
    schedule_digest,
)
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, order_record
from tests.support.consents import ISSUER, SUBJECT, FakeIdentities
from tests.support.domain_samples import NOW, consent, krw, purpose
from tests.support.rig import Rig

R, S = ReasonCode, PaymentState
DAY = timedelta(days=1)
TODAY = day_of(NOW)  # Saturday, 17 May 2025
KEY = ("partner-1", "rent")
CONSENT = (PartnerId("partner-1"), ConsentId("consent-1"))


class StandingRig(Rig):
    """The rig with an intake that takes standing orders, and the schedule's two services."""

    def __init__(self, identities: FakeIdentities | None = None, **settings: Any) -> None:
        super().__init__()
        self.settings = OccurrenceSettings(**settings)
        self.days = BusinessDays()
        self.initiation = self.new_initiation(identities=identities, days=self.days)
        scheduling = self.new_schedule(days=self.days, occurrences=self.settings)
        self.orders, self.occurrences = scheduling.orders, scheduling.occurrences
        # Execution asks for the same proofs as the intake does.
        self.execution = self.new_stage(identities=identities).service
        self.offset = 100
        self.executed = 0

    def new_occurrences(self) -> OccurrenceService:
        return self.new_schedule(days=self.days, occurrences=self.settings).occurrences

    def record(self, message: StandingOrderCreate | StandingOrderCancel | bytes, type_: str = "") -> Record:
        self.offset += 1
        cancel = isinstance(message, StandingOrderCancel)
        value = message if isinstance(message, bytes) else encode(message)
        return order_record(
            value,
            offset=self.offset,
            key=b"consent-1",
            type_=type_ or (STANDING_CANCEL_TYPE if cancel else STANDING_CREATE_TYPE),
            at=self.clock.now(),
        )

    async def send(self, *messages: StandingOrderCreate | StandingOrderCancel) -> None:
        await self.initiation.take([self.record(m) for m in messages])

    async def until(self, moment: datetime) -> None:
        """Let time pass in steps of a day, each of them worked through to the end."""
        while self.clock.now() < moment:
            self.clock.advance(min(DAY, moment - self.clock.now()).total_seconds())
            await self.work()

    async def work(self) -> None:
        while await self.occurrences.make_due():
            pass
        while await self.orders.dispatch_due():
            pass
        records = self.kafka.records(dispatch_topic(NETWORK))
        if records[self.executed :]:
            await self.execute(records[self.executed :])
        self.executed = len(records)

    def made(self) -> dict[str, str]:
        return dict(sorted(self.states().items()))

    def of(self, order_id: str) -> Payment:
        return next(p for p in self.database.payments.rows.values() if p.order_id == order_id)

    def standing(self) -> list[tuple[str, dict[str, Any]]]:
        """What was told of standing orders: verb and body."""
        prefix = "kr.mypay.standing-order."
        return [
            (e.event_type.removeprefix(prefix).removesuffix(".v1"), json.loads(e.body))
            for e in self.events()
            if e.event_type.startswith(prefix)
        ]

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.standing()]


def create(*, schedule: dict[str, Any] | None = None, **fields: Any) -> StandingOrderCreate:
    defaults: dict[str, Any] = {
        "partner_id": "partner-1",
        "standing_order_id": "rent",
        "consent_id": "consent-1",
        "merchant_id": "merchant-1",
        "amount": krw(10_000),
        "issued_at": NOW - timedelta(seconds=1),
        "expires_at": NOW + timedelta(minutes=5),
        "schedule": {"frequency": "daily", "first_date": (TODAY + DAY).isoformat()} | (schedule or {}),
    }
    values = defaults | fields
    wire = {
        k: v.isoformat() if isinstance(v, datetime) else v.model_dump() if k == "amount" else v
        for k, v in values.items()
    }
    return StandingOrderCreate.model_validate_json(encode_json(wire))


def cancel(**fields: Any) -> StandingOrderCancel:
    defaults = {"partner_id": "partner-1", "standing_order_id": "rent", "consent_id": "consent-1", "issued_at": NOW}
    return StandingOrderCancel(**(defaults | fields))


@pytest.fixture
def rig() -> StandingRig:
    return StandingRig()


async def test_every_day_is_paid_once_and_the_order_ends_by_itself(rig: StandingRig) -> None:
    await rig.send(create(schedule={"count": 3}))
    assert rig.made() == {}
    await rig.until(day_start(TODAY + 10 * DAY))
    assert rig.made() == {f"rent+2025051{n}": "approved" for n in (8, 9)} | {"rent+20250520": "approved"}
    (_, created), (_, completed) = rig.standing()
    assert (created["status"], created["version"], created["next_date"]) == ("active", 1, "2025-05-18")
    assert (completed["status"], completed["version"], completed["occurrences"]) == ("completed", 2, 3)
    assert "next_date" not in completed
    first = rig.of("rent+20250518")
    assert (first.decided_at, first.version) == (day_start(TODAY + DAY) + (NOW - day_start(TODAY)), 3)
    assert rig.told(str(first.payment_id)) == ["payment.scheduled", "payment.sent", "payment.approved"]


async def test_a_standing_order_from_before_todays_rules_for_ids_stops_no_other(rig: StandingRig) -> None:
    await rig.send(create(schedule={"count": 1}), create(standing_order_id="fees", schedule={"count": 1}))
    rows = rig.database.standing.rows
    rows[KEY] = replace(rows[KEY], merchant_id=MerchantId("4111111111111111"))
    await rig.until(day_start(TODAY + 10 * DAY))
    # Its merchant is in no directory; the other one's is.
    assert rig.made() == {"rent+20250518": "rejected", "fees+20250518": "approved"}
    assert [e["status"] for _, e in rig.standing()].count("completed") == 2


async def test_an_occurrence_moves_off_a_holiday_and_keeps_its_id(rig: StandingRig) -> None:
    # The 18th is a Sunday.
    await rig.send(create(schedule={"frequency": "monthly", "count": 1, "holiday_rule": "next"}))
    await rig.until(day_start(TODAY + 2 * DAY) - timedelta(microseconds=1))
    assert rig.made() == {}
    await rig.until(day_start(TODAY + 2 * DAY))
    assert rig.made() == {"rent+20250518": "approved"}


async def test_an_order_for_today_begins_today(rig: StandingRig) -> None:
    await rig.send(create(schedule={"first_date": TODAY.isoformat()}))
    await rig.work()
    assert rig.made() == {"rent+20250517": "approved"}


REFUSED = {
    "no such consent": ({"consent_id": "consent-1", "merchant_id": "nobody"}, R.AC03),
    "over the maximum": ({"amount": krw(50_001)}, R.TKVE),
    "expired": ({"expires_at": NOW}, R.TM01),
    "valid for too long": ({"expires_at": NOW + 25 * timedelta(hours=1)}, R.DT01),
    "begins before its issue": ({"schedule": {"first_date": (TODAY - DAY).isoformat()}}, R.DT01),
    "moved before its issue": (
        {"schedule": {"first_date": TODAY.isoformat(), "holiday_rule": "previous", "frequency": "monthly"}},
        R.DT01,
    ),
    "too far ahead": ({"schedule": {"first_date": (TODAY + 367 * DAY).isoformat()}}, R.DT04),
    "no day before its end": (
        {
            "schedule": {
                "frequency": "monthly",
                "day_rule": "last_day",
                "first_date": (TODAY + DAY).isoformat(),
                "last_date": (TODAY + 2 * DAY).isoformat(),
            }
        },
        R.DT01,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_standing_order_that_could_not_be_kept_is_refused_once_and_for_ever(
    rig: StandingRig, case: str
) -> None:
    fields, code = REFUSED[case]
    message = create(**fields)
    record = rig.record(message)
    await rig.initiation.take([record])
    await rig.initiation.take([record])
    ((verb, body),) = rig.standing()
    assert (verb, body["reason"]["code"], body["reference"]) == ("refused", code, record.reference)
    # Its id is used up: the same is refused alike, other content too, and it can be neither cancelled nor made.
    await rig.send(message, create(), cancel())
    assert [b["reason"]["code"] for _, b in rig.standing()[1:]] == [code, "AM05", "NOOR"]
    await rig.until(NOW + 3 * DAY)
    assert rig.made() == {}


async def test_a_consent_that_does_not_allow_it_refuses_it(rig: StandingRig) -> None:
    rig.database.put_consent(consent(ConsentStatus.SUSP))
    await rig.send(create())
    rig.database.put_consent(consent(valid_until=day_start(TODAY + DAY)))
    await rig.send(create(standing_order_id="other"))
    assert [b["reason"]["code"] for _, b in rig.standing()] == ["TKSP", "TKXP"]


async def test_the_same_again_has_no_second_effect(rig: StandingRig) -> None:
    message = create(schedule={"count": 1})
    record = rig.record(message)
    await rig.initiation.take([record, record])
    await rig.initiation.take([record])
    await rig.send(message)
    assert rig.verbs() == ["created", "reported", "reported", "reported"]
    assert len({e.event_id for e in rig.events()}) == 3
    await rig.until(NOW + 2 * DAY)
    await rig.send(message)
    assert rig.standing()[-1][1]["status"] == "completed"
    assert len(rig.made()) == 1


async def test_a_cancelled_order_makes_nothing_more(rig: StandingRig) -> None:
    await rig.send(create())
    await rig.until(NOW + 2 * DAY)
    await rig.send(cancel(), cancel())
    await rig.until(NOW + 6 * DAY)
    assert list(rig.made()) == ["rent+20250518", "rent+20250519"]
    assert rig.verbs() == ["created", "cancelled", "reported"]
    assert rig.standing()[1][1] | {"version": 2, "status": "cancelled"} == rig.standing()[1][1]


@pytest.mark.parametrize("fields", [{"standing_order_id": "other"}, {"partner_id": "partner-2"}])
async def test_what_is_not_there_cannot_be_cancelled(rig: StandingRig, fields: dict[str, str]) -> None:
    await rig.send(create(), cancel(**fields))
    assert rig.verbs() == ["created", "refused"]
    assert rig.standing()[1][1]["reason"]["code"] == "NOOR"
    await rig.until(NOW + DAY)
    assert len(rig.made()) == 1


async def test_a_refused_cancellation_stays_refused_when_its_record_is_delivered_again(rig: StandingRig) -> None:
    early = rig.record(cancel())
    await rig.initiation.take([early])
    await rig.send(create(schedule={"count": 1}))
    await rig.initiation.take([early])
    assert rig.verbs() == ["refused", "created"]
    await rig.until(NOW + DAY)
    assert list(rig.made().values()) == ["approved"]


async def test_an_occurrence_that_its_consent_refuses_is_told_and_the_order_goes_on(rig: StandingRig) -> None:
    await rig.send(create(schedule={"count": 3}))
    await rig.until(NOW + DAY)
    rig.database.put_consent(consent(ConsentStatus.SUSP))
    await rig.until(NOW + 2 * DAY)
    rig.database.put_consent(consent())
    await rig.until(NOW + 3 * DAY)
    assert list(rig.made().values()) == ["approved", "rejected", "approved"]
    refused = rig.of("rent+20250519")
    assert refused.reason is not None
    assert refused.reason.code is R.TKSP
    assert rig.verbs() == ["created", "completed"]


@pytest.mark.parametrize("status", ["CANC", "EXPD"])
async def test_the_order_ends_with_its_consent(rig: StandingRig, status: str) -> None:
    await rig.send(create())
    await rig.until(NOW + DAY)
    rig.database.put_consent(consent(ConsentStatus(status)))
    await rig.until(NOW + 5 * DAY)
    assert list(rig.made().values()) == ["approved", "rejected"]
    (_, completed) = rig.standing()[-1]
    assert (completed["status"], completed["reason"]["code"], completed["occurrences"]) == ("completed", "MD01", 2)


def brought_back(rig: StandingRig, version: int) -> None:
    """The payment purpose is revoked, and an amendment that names it permits it anew."""
    row = PurposeEndRow(CONSENT, version, Purpose.PAYMENT, PurposeEnd.REVOKED, version - 1, rig.clock.now())
    rig.database.purpose_ends.rows[CONSENT, version, Purpose.PAYMENT] = row
    rig.database.put_consent(replace(consent(), version=version))


async def test_an_order_from_before_payments_were_revoked_ends_though_they_are_permitted_again(
    rig: StandingRig,
) -> None:
    """Whoever revoked payments to stop it would else pay again with the first thing that they permit."""
    await rig.send(create())
    await rig.until(NOW + DAY)
    brought_back(rig, 2)
    now, first = rig.clock.now(), (TODAY + 2 * DAY).isoformat()
    times = {"issued_at": now, "expires_at": now + timedelta(minutes=5)}
    await rig.send(create(standing_order_id="anew", schedule={"first_date": first}, **times))
    await rig.until(NOW + 3 * DAY)
    assert {i: s for i, s in rig.made().items() if i.startswith("rent")} == {
        "rent+20250518": "approved",
        "rent+20250519": "rejected",
    }
    assert rig.of("rent+20250519").reason == PAYMENT_ENDED_SINCE
    ended = next(body for verb, body in rig.standing() if verb == "completed")
    assert (ended["standing_order_id"], ended["reason"]["code"], ended["occurrences"]) == ("rent", "MD01", 2)
    assert {s for i, s in rig.made().items() if i.startswith("anew")} == {"approved"}


async def test_an_occurrence_made_before_payments_were_revoked_is_not_paid_after(rig: StandingRig) -> None:
    await rig.send(create())
    rig.clock.advance(DAY.total_seconds())
    await rig.occurrences.make_due()
    brought_back(rig, 2)
    await rig.work()
    assert rig.made() == {"rent+20250518": "rejected"}
    assert rig.of("rent+20250518").reason == PAYMENT_ENDED_SINCE


async def test_limits_are_those_of_the_day_of_the_occurrence(rig: StandingRig) -> None:
    await rig.send(create(schedule={"count": 2}))
    rig.database.put_consent(consent(payment=purpose(payees=Payees(block_categories=("5411",)))))
    await rig.until(NOW + DAY)
    assert rig.made() == {"rent+20250518": "rejected"}


async def test_days_that_were_missed_are_made_up_for_within_a_day_and_told_otherwise(rig: StandingRig) -> None:
    await rig.send(create())
    rig.clock.advance((day_start(TODAY + 4 * DAY) + timedelta(hours=1) - rig.clock.now()).total_seconds())
    await rig.work()
    assert rig.made() == {
        "rent+20250518": "rejected",
        "rent+20250519": "rejected",
        "rent+20250520": "rejected",
        "rent+20250521": "approved",
    }
    missed = rig.of("rent+20250518")
    assert missed.reason is not None
    assert (missed.reason.code, missed.version) == (R.TM01, 1)


async def test_a_long_outage_is_caught_up_with_in_several_transactions() -> None:
    rig = StandingRig(at_once=2)
    await rig.send(create(schedule={"count": 7}))
    rig.clock.advance(30 * DAY.total_seconds())
    assert [await rig.occurrences.make_due() for _ in range(5)] == [1, 1, 1, 1, 0]
    assert set(rig.made().values()) == {"rejected"}
    assert len(rig.made()) == 7
    assert rig.verbs() == ["created", "completed"]


async def test_a_stricter_window_is_kept() -> None:
    rig = StandingRig(late_s=60)
    await rig.send(create(schedule={"count": 2}))
    rig.clock.advance((day_start(TODAY + DAY) - rig.clock.now()).total_seconds() + 59)
    await rig.work()
    rig.clock.advance(DAY.total_seconds() + 1)
    await rig.work()
    assert list(rig.made().values()) == ["approved", "rejected"]


async def test_a_partner_cannot_take_an_occurrence_s_order_id(rig: StandingRig) -> None:
    await rig.send(create())
    body = encode_json(
        {
            "partner_id": "partner-1",
            "order_id": "rent+20250518",
            "consent_id": "consent-1",
            "merchant_id": "merchant-1",
            "amount": {"currency": "KRW", "value": "1"},
            "issued_at": NOW.isoformat(),
            "expires_at": (NOW + timedelta(minutes=1)).isoformat(),
        }
    )
    await rig.initiation.take([order_record(body, key=b"consent-1")])
    assert rig.told() == ["standing-order.created", "order.refused"]
    await rig.until(NOW + DAY)
    assert rig.of("rent+20250518").amount_minor == 10_000


# --- proofs ---


def proving() -> tuple[StandingRig, FakeIdentities]:
    identities = FakeIdentities()
    rig = StandingRig(identities)
    rig.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("customer-1")
    return rig, identities


def link(message: StandingOrderCreate, **fields: Any) -> StandingOrderLink:
    names = ("partner_id", "standing_order_id", "consent_id", "merchant_id", "amount")
    values = {n: getattr(message, n) for n in names} | {"schedule_digest": schedule_digest(encode(message))}
    return StandingOrderLink(**(values | fields))


async def test_one_proof_is_for_all_occurrences_and_is_not_asked_for_again() -> None:
    rig, identities = proving()
    bare = create(schedule={"count": 2})
    token = identities.issue(link(bare), now=NOW)  # type: ignore[arg-type]
    await rig.send(bare.model_copy(update={"authentication": token}))
    await rig.until(NOW + 3 * DAY)
    assert list(rig.made().values()) == ["approved", "approved"]
    later = {"first_date": (TODAY + 9 * DAY).isoformat()}
    again = create(
        standing_order_id="other", issued_at=rig.clock.now(), expires_at=rig.clock.now() + DAY, schedule=later
    )
    same_id = identities.issue(link(again), now=rig.clock.now(), jti="jti-0")  # type: ignore[arg-type]
    await rig.send(again.model_copy(update={"authentication": same_id}))
    assert rig.standing()[-1][1]["reason"]["code"] == "DS15"


@pytest.mark.parametrize("partner", ["partner-1", "partner-2"])
async def test_a_proof_that_was_made_for_something_else_stays_good_for_that(partner: str) -> None:
    rig, identities = proving()
    if partner == "partner-2":
        rig.database.put_consent(consent(ConsentStatus.AUTH, partner_id=partner))
    own = create(schedule={"count": 2})
    token = identities.issue(link(own), now=NOW)  # type: ignore[arg-type]
    other = create(standing_order_id="other", partner_id=partner, authentication=token)
    await rig.send(other)
    assert rig.standing()[-1][1]["reason"]["code"] == "DS17"
    await rig.send(own.model_copy(update={"authentication": token}))
    assert rig.verbs() == ["refused", "created"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (None, "DS0A"),
        ({"schedule_digest": "0" * 64}, "DS17"),
        ({"amount": krw(9_999)}, "DS17"),
        ({"merchant_id": "merchant-2"}, "DS17"),
        ({"standing_order_id": "other"}, "DS17"),
    ],
)
async def test_a_proof_is_for_this_order_and_schedule_alone(fields: dict[str, Any] | None, code: str) -> None:
    rig, identities = proving()
    message = create()
    if fields is not None:
        token = identities.issue(link(message, **fields), now=NOW)  # type: ignore[arg-type]
        message = message.model_copy(update={"authentication": token})
    await rig.send(message)
    assert [b["reason"]["code"] for _, b in rig.standing()] == [code]


async def standing_while_away(rig: StandingRig, record: Record, meanwhile: Callable[[], object]) -> None:
    """Give a standing order, or its end; while the database is away something happens."""
    rig.faults.hold("standing.lock")
    taking = asyncio.create_task(rig.initiation.take([record]))
    await rig.faults.reached("standing.lock")
    meanwhile()
    rig.faults.plan("standing.lock", StoreUnavailableError("the server does not answer"))
    rig.faults.open("standing.lock")
    await taking


@pytest.mark.parametrize("message", [create(standing_order_id="theirs"), cancel()], ids=["given", "ended"])
async def test_a_key_that_is_disabled_while_the_database_is_away_gives_and_ends_nothing(
    rig: StandingRig, message: StandingOrderCreate | StandingOrderCancel
) -> None:
    await rig.send(create())
    before, told = dict(rig.database.standing.rows), rig.verbs()
    record = rig.record(message)
    stolen = Reason(code=R.DS0C, text="signing key is disabled")
    await standing_while_away(rig, record, lambda: rig.verifier.refused.update(good=stolen))
    assert (rig.database.standing.rows, rig.verbs()) == (before, told)
    assert [(p.stage, p.record, str(p.error)[:4]) for p in rig.dead_letters.parked] == [("initiation", record, "DS0C")]


async def test_a_providers_key_that_is_revoked_while_the_database_is_away_proves_no_standing_order() -> None:
    rig, identities = proving()
    bare = create()
    token = identities.issue(link(bare), now=NOW)  # type: ignore[arg-type]
    record = rig.record(bare.model_copy(update={"authentication": token}))
    await standing_while_away(rig, record, lambda: identities.revoked.add("kid-0"))
    assert [b["reason"]["code"] for _, b in rig.standing()] == ["DS0C"]


# --- a calendar that changes ---


def moved(rig: StandingRig) -> list[tuple[object, object]]:
    return [
        (n.fields["partner_id"], n.fields["order_id"])
        for n in rig.observer.notes
        if n.event == "standing_order_day_moved"
    ]


@pytest.mark.parametrize(("rule", "paid"), [("next", 10), ("previous", 6)])
async def test_a_day_that_the_calendar_moves_is_told_and_kept(rig: StandingRig, rule: str, paid: int) -> None:
    # Monday the 26th becomes a holiday after the order was created: paid on Tuesday, or on Friday the 23rd.
    first = TODAY + 9 * DAY
    schedule = {"frequency": "monthly", "count": 1, "holiday_rule": rule, "first_date": first.isoformat()}
    await rig.send(create(schedule=schedule))
    await rig.send(create(standing_order_id="other", schedule=schedule | {"holiday_rule": "none"}))
    rig.days = BusinessDays(more_holidays=frozenset({first}))
    rig.occurrences = rig.new_occurrences()
    assert await rig.occurrences.follow_calendar() == 1
    assert moved(rig) == [("partner-1", "rent+20250526")]
    assert rig.observer.counted("schedule", "day_moved") == 1
    assert await rig.occurrences.follow_calendar() == 0
    await rig.until(day_start(TODAY + paid * DAY) - timedelta(microseconds=1))
    assert "rent+20250526" not in rig.made()
    await rig.until(day_start(TODAY + paid * DAY))
    assert rig.made()["rent+20250526"] == "approved"
    assert len(moved(rig)) == 1


async def test_a_day_that_moves_into_the_past_is_paid_when_it_was_to_be(rig: StandingRig) -> None:
    # Monday the 19th becomes a holiday: Friday the 16th was the day to pay on, and is over.
    first = TODAY + 2 * DAY
    await rig.send(create(schedule={"count": 1, "holiday_rule": "previous", "first_date": first.isoformat()}))
    rig.days = BusinessDays(more_holidays=frozenset({first}))
    rig.occurrences = rig.new_occurrences()
    assert await rig.occurrences.follow_calendar() == 0
    await rig.until(day_start(first) - timedelta(microseconds=1))
    assert rig.made() == {}
    await rig.until(day_start(first))
    assert rig.made() == {"rent+20250519": "approved"}
    assert moved(rig) == [("partner-1", "rent+20250519")]


async def test_a_day_that_moves_while_it_is_due_is_told_too(rig: StandingRig) -> None:
    first = TODAY + 2 * DAY
    await rig.send(create(schedule={"count": 1, "holiday_rule": "next", "first_date": first.isoformat()}))
    rig.days = BusinessDays(more_holidays=frozenset({first}))
    rig.occurrences = rig.new_occurrences()
    await rig.until(day_start(first))
    assert (rig.made(), moved(rig)) == ({}, [("partner-1", "rent+20250519")])
    await rig.until(day_start(first + DAY))
    assert rig.made() == {"rent+20250519": "approved"}
    assert len(moved(rig)) == 1


@pytest.mark.parametrize(
    ("old", "new", "kind", "id_", "text"),
    [
        (b'"count":2', b'"count":0', "standing-order.refused", "rent", "schedule.count: "),
        (b'"10000"', b'"1e4"', "standing-order.refused", "rent", "amount: value must be a decimal number"),
        (b'"consent_id":"', b'"consent_id":"/', "order.refused", "rent", "consent_id: "),
        (
            b'"rent"',
            b'"4111111111111111"',
            "order.refused",
            "",
            "standing_order_id: must not hold a card",
        ),
    ],
)
async def test_a_standing_order_with_a_fault_is_answered_with_the_field(
    rig: StandingRig, old: bytes, new: bytes, kind: str, id_: str, text: str
) -> None:
    good = rig.record(create(schedule={"count": 2}))
    assert old in good.value
    await rig.initiation.take([structs.replace(good, value=good.value.replace(old, new))])
    (event,) = rig.events()
    told = json.loads(event.body)
    assert event.event_type == f"kr.mypay.{kind}.v1"
    assert told["standing_order_id" if kind.startswith("standing") else "order_id"] == (id_ or good.reference)
    assert (told["reason"]["code"], told["reason"]["text"].startswith(text)) == ("FF01", True), told["reason"]
    assert rig.verbs() in (["refused"], [])
