"""Every id that a partner's message may name belongs to somebody: another's is what a missing one is, to the byte.

Each message is sent in two worlds: one in which the other partner has what it names, and one in which nobody has. What
the sender is told must be the same, and what the other partner has must stay as it was.
"""

import json
from datetime import date, timedelta
from typing import Any

import pytest

from gateway.messaging.records import Record
from schemas.bulk import BULK_TYPE
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.primitives import payment_id_of
from schemas.standing import (
    STANDING_CANCEL_TYPE,
    STANDING_CREATE_TYPE,
    Frequency,
    StandingOrderCancel,
    StandingOrderCreate,
    StandingSchedule,
)
from tests.scenarios.test_way_of_a_payment import work
from tests.support.builders import numbered_order, order_record
from tests.support.consents import ConsentRig, document
from tests.support.domain_samples import NOW, consent, krw, purpose, terms
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.rig import Rig
from tests.unit.orders.test_bulk_service import bulk, item

MINE, OTHERS = "partner-2", "partner-1"
TIMES = {"issued_at": NOW - timedelta(seconds=1), "expires_at": NOW + timedelta(minutes=5)}


class IntakeRig(Rig):
    """The rig, and what it holds of one partner."""

    async def send(self, *records: Record) -> None:
        await self.initiation.take(records)
        await work(self)

    def owned_by(self, partner_id: str) -> dict[str, Any]:
        """Everything that the database holds of one partner."""
        db = self.database
        tables = (db.payments, db.consents, db.usage, db.standing, db.bulks, db.cancellations, db.scheduled)
        return {t.name: {k: row for k, row in t.rows.items() if k[0] == partner_id} for t in tables}  # type: ignore[index]

    def told_to(self, partner_id: str) -> list[tuple[str, str, str, dict[str, Any]]]:
        topic = f"mypay.events.{partner_id}"
        return [(e.event_type, e.event_id, e.key, json.loads(e.body)) for e in self.events() if e.topic == topic]


def standing(partner_id: str, consent_id: str = "consent-1") -> Record:
    message = StandingOrderCreate(
        partner_id=partner_id,
        standing_order_id="rent",
        consent_id=consent_id,
        merchant_id="merchant-1",
        amount=krw(1_000),
        schedule=StandingSchedule(frequency=Frequency.MONTHLY, first_date=date(2025, 6, 30), count=3),
        **TIMES,
    )
    return order_record(encode(message), offset=80, key=consent_id.encode(), type_=STANDING_CREATE_TYPE)


def standing_cancel(partner_id: str, consent_id: str = "consent-1") -> Record:
    message = StandingOrderCancel(
        partner_id=partner_id, standing_order_id="rent", consent_id=consent_id, issued_at=TIMES["issued_at"]
    )
    return order_record(encode(message), offset=81, key=consent_id.encode(), type_=STANDING_CANCEL_TYPE)


def bulk_record(partner_id: str) -> Record:
    message = bulk(item(5), item(6), partner_id=partner_id)
    return order_record(encode(message), offset=82, key=message.bulk_id.encode(), type_=BULK_TYPE)


async def theirs() -> IntakeRig:
    """The other partner has a consent, a payment, a cancellation, a standing order and a bulk."""
    rig = IntakeRig()
    await rig.send(
        order_record(numbered_order(1)),
        instruction_record(cancellation(9), offset=1),
        standing(OTHERS),
        bulk_record(OTHERS),
    )
    assert rig.payment(1).state.value == "approved"
    assert len(rig.database.standing.rows) == len(rig.database.bulks.rows) == 1
    return rig


def nobodys() -> IntakeRig:
    rig = IntakeRig()
    rig.database.consents.rows.clear()
    return rig


# fmt: off
ORDERS: dict[str, tuple[Any, str | None]] = {
    # what partner-2 sends, about what is partner-1's                                            and is told
    "consent":                    (lambda: order_record(numbered_order(7, partner_id=MINE), offset=90),      "MD01"),
    "consent and order id":       (lambda: order_record(numbered_order(1, partner_id=MINE), offset=90),      "MD01"),
    "order, to cancel it":        (lambda: instruction_record(cancellation(1, partner_id=MINE), 90),         "MD01"),
    "cancellation id":            (lambda: instruction_record(cancellation(9, partner_id=MINE), 90),         "MD01"),
    "original payment":           (lambda: instruction_record(refund(1, partner_id=MINE), 90),               "NOOR"),
    "consent, standing order":    (lambda: standing(MINE),                                                   "MD01"),
    "standing order, to end it":  (lambda: standing_cancel(MINE),                                            "NOOR"),
    "bulk id and items' consent": (lambda: bulk_record(MINE),                                                None),
}
# fmt: on


@pytest.mark.parametrize("case", ORDERS)
async def test_what_is_another_partners_is_what_is_missing(case: str) -> None:
    make, code = ORDERS[case]
    rig, empty = await theirs(), nobodys()
    before, sent = rig.owned_by(OTHERS), len(rig.host.received)
    told_before = rig.told_to(OTHERS)
    await rig.send(make())
    await empty.send(make())
    assert rig.told_to(MINE) == empty.told_to(MINE) != []
    assert (rig.owned_by(OTHERS), len(rig.host.received), rig.told_to(OTHERS)) == (before, sent, told_before)
    [*_, (_, _, _, last)] = rig.told_to(MINE)
    assert code is None or last["reason"]["code"] == code
    assert rig.dead_letters.parked == []


async def test_every_item_of_a_bulk_needs_a_consent_of_its_partner() -> None:
    rig = await theirs()
    await rig.send(bulk_record(MINE))
    [(_, _, _, told)] = [t for t in rig.told_to(MINE) if "bulk" in t[0]]
    assert [r["reason"]["code"] for r in told["rejected"]] == ["MD01", "MD01"]
    assert {p.state.value for k, p in rig.database.payments.rows.items() if k[0] == MINE} <= {"rejected"}


@pytest.mark.parametrize("command", ["grant", "reject", "suspend", "resume", "revoke", "amend"])
async def test_a_command_on_another_partners_consent_finds_none(command: str) -> None:
    told = []
    for there in (True, False):
        rig = ConsentRig()
        if there:
            rig.database.put_consent(consent(ConsentStatus.AUTH))
        before = dict(rig.database.consents.rows)
        fields = {"terms": document(terms(partner_id=MINE))} if command == "amend" else {}
        await rig.take(rig.record(command, partner_id=MINE, **fields))
        assert rig.database.consents.rows == before
        told.append(rig.told())
    assert told[0] == told[1]
    assert told[0][0][1]["reason"]["code"] == "MD01"


async def test_a_command_id_is_its_partners_and_its_consents_own() -> None:
    rig = ConsentRig()
    for partner_id in (OTHERS, MINE):
        for consent_id in ("consent-1", "consent-2"):
            asked = terms(partner_id=partner_id, consent_id=consent_id)
            await rig.take(rig.request(asked, partner_id=partner_id, command_id="same"))
    assert [kind for kind, _ in rig.told()] == ["changed"] * 4


# fmt: off
CROSSED = {
    # what partner-1 sends, about an order of consent-1, under a consent of another customer      and is told
    "original payment":          (lambda: instruction_record(refund(1, consent_id="consent-2"), 90),         "NOOR"),
    "order, to cancel it":       (lambda: instruction_record(cancellation(1, consent_id="consent-2"), 90),   "NOOR"),
    "standing order, to end it": (lambda: standing_cancel(OTHERS, "consent-2"),                              "NOOR"),
}
# fmt: on


@pytest.mark.parametrize("case", CROSSED)
async def test_what_is_under_another_customers_consent_is_not_touched_through_ones_own(case: str) -> None:
    make, code = CROSSED[case]
    rig = await theirs()
    rig.put_card("token-2", customer="customer-2")
    second = consent(consent_id="consent-2", customer_id="customer-2", payment=purpose(funding_token="token-2"))
    rig.database.put_consent(second)
    payment, rent = rig.payment(1), rig.database.standing.rows[OTHERS, "rent"]  # type: ignore[index]
    sent = len(rig.host.received)
    await rig.send(make())
    assert rig.told_to(OTHERS)[-1][3]["reason"]["code"] == code
    assert (rig.payment(1), rig.database.standing.rows[OTHERS, "rent"]) == (payment, rent)  # type: ignore[index]
    assert len(rig.host.received) == sent
    assert (OTHERS, payment_id_of(OTHERS, "refund-1")) not in rig.database.payments.rows
