"""`mypay standing …` and `mypay order bulk`: what goes out is what was meant, signed, and nothing goes out half."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import sending
from gateway.client import Event, Message, answers
from gateway.identity.jose.jwk import generate_key, write_private_key
from gateway.messaging.records import Outgoing
from schemas.bulk import BULK_BYTES_MAX, BULK_TYPE, PaymentBulk
from schemas.codec import decode
from schemas.envelope import read_envelope
from schemas.standing import STANDING_CANCEL_TYPE, STANDING_CREATE_TYPE, StandingOrderCancel, StandingOrderCreate
from tests.support.cli import mypay

STANDING = {
    "partner_id": "acme",
    "consent_id": "c-1",
    "merchant_id": "m-1",
    "amount": {"currency": "KRW", "value": "100"},
    "schedule": {"frequency": "monthly", "first_date": "2031-01-31"},
}


def item(number: int, value: str = "100") -> dict[str, Any]:
    amount = {"currency": "USD", "value": value}
    return {"order_id": f"o-{number}", "consent_id": "c-1", "merchant_id": "m-1", "amount": amount}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private, _ = generate_key("Ed25519")
    write_private_key(tmp_path / "key.pem", private)
    return tmp_path / "key.pem"


class Sent:
    """What would have been produced, and what is answered."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, _settings: object, record: Outgoing, message: Message, seconds: float | None) -> Event | None:
        self.records.append(record)
        events = [Event("e", type_, body) for type_, body in self.answers] if seconds is not None else []
        return next((e for e in events if answers(message, e)), None)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()
    monkeypatch.setattr(sending, "_ask", sent.ask)
    return sent


def test_the_times_that_fill_gives_look_like_no_card_number() -> None:
    assert {datetime.fromisoformat(t).microsecond for t in sending.times().values()} == {0}


def test_a_standing_order_goes_out_as_it_was_written(key: Path, sent: Sent) -> None:
    mypay("standing", "create", "-", "--key", key, "--fill", given=json.dumps(STANDING)).expect()
    [record] = sent.records
    envelope = read_envelope(record.headers)
    message = decode(StandingOrderCreate, record.value)
    assert (record.topic, record.key, envelope.type) == ("mypay.orders", b"c-1", STANDING_CREATE_TYPE)
    assert envelope.signature
    # The customer's proof is over the schedule as it stands in the file.
    assert json.loads(record.value)["schedule"] == STANDING["schedule"]
    assert len(message.standing_order_id) == 26
    assert timedelta(minutes=9) < message.expires_at - datetime.now(UTC) <= timedelta(minutes=10)


def test_a_standing_order_is_cancelled_by_its_id(key: Path, sent: Sent) -> None:
    mypay("standing", "cancel", "rent", "--partner", "acme", "--consent", "c-1", "--key", key).expect()
    [record] = sent.records
    assert read_envelope(record.headers).type == STANDING_CANCEL_TYPE
    assert decode(StandingOrderCancel, record.value).standing_order_id == "rent"
    mypay("standing", "cancel", "r" * 27, "--partner", "acme", "--consent", "c-1", "--key", key).expect(2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (("kr.mypay.standing-order.created.v1", {"standing_order_id": "rent", "status": "active"}), 0),
        (("kr.mypay.standing-order.created.v1", {"standing_order_id": "other", "status": "active"}), 4),
        (
            (
                "kr.mypay.standing-order.refused.v1",
                {"standing_order_id": "rent", "reason": {"code": "DT01", "text": "no"}},
            ),
            1,
        ),
        (("kr.mypay.order.refused.v1", {"order_id": "rent", "reason": {"code": "DS17", "text": "no"}}), 1),
    ],
)
def test_the_exit_code_tells_what_became_of_it(
    key: Path, sent: Sent, answer: tuple[str, dict[str, Any]], code: int
) -> None:
    sent.answers = [answer]
    given = json.dumps(STANDING | {"standing_order_id": "rent"})
    mypay("standing", "create", "-", "--key", key, "--fill", "--wait", given=given).expect(code)


def test_a_bulk_is_counted_and_added_up(key: Path, sent: Sent) -> None:
    given = {"partner_id": "acme", "items": [item(1, "0.10"), item(2, "12.95")]}
    mypay("order", "bulk", "-", "--key", key, "--fill", given=json.dumps(given)).expect()
    [record] = sent.records
    bulk = decode(PaymentBulk, record.value, bytes_max=BULK_BYTES_MAX)
    assert (record.key, read_envelope(record.headers).type) == (bulk.bulk_id.encode(), BULK_TYPE)
    assert (bulk.number_of_transactions, bulk.control_sum.value, bulk.acceptance) == (2, "13.05", "partial")


def test_what_is_given_is_not_made_up(key: Path, sent: Sent) -> None:
    given = {"partner_id": "acme", "bulk_id": "b-1", "number_of_transactions": 7, "items": [item(1, "1.00")]}
    mypay("order", "bulk", "-", "--key", key, "--fill", given=json.dumps(given)).expect()
    bulk = decode(PaymentBulk, sent.records[0].value, bytes_max=BULK_BYTES_MAX)
    assert (bulk.bulk_id, bulk.number_of_transactions) == ("b-1", 7)


@pytest.mark.parametrize("given", ["[]", "not JSON", '{"items": 7}', '{"partner_id": "acme", "items": []}', "{}"])
def test_what_is_no_instruction_is_not_sent(key: Path, sent: Sent, given: str) -> None:
    mypay("order", "bulk", "-", "--key", key, "--fill", given=given).expect(1)
    mypay("standing", "create", "-", "--key", key, "--fill", given=given).expect(1)
    assert sent.records == []


def test_a_bulk_that_is_not_accepted_in_full_is_told_and_fails(key: Path, sent: Sent) -> None:
    reason = {"code": "AC03", "text": "nobody"}
    rejected = [{"item": 2, "order_id": "o-2", "reason": reason}]
    sent.answers = [
        ("kr.mypay.bulk.accepted.v1", {"bulk_id": "b-1", "status": "accepted", "accepted": 1, "rejected": rejected})
    ]
    given = {"partner_id": "acme", "bulk_id": "b-1", "items": [item(1, "1.00"), item(2, "1.00")]}
    told = mypay("order", "bulk", "-", "--key", key, "--fill", "--wait", given=json.dumps(given)).expect(1)
    assert "AC03" in told.out
