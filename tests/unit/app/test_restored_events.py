"""After a restore: what is read of partners' topics."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import BaseModel

from gateway.app.restored_events import Events, ToldShare
from gateway.app.restored_kept import Kept
from gateway.messaging.records import Record
from gateway.payments.restoring.rules import number_of
from gateway.payments.rules.payment import event_fields
from schemas.codec import encode
from schemas.consents import ConsentStatus
from schemas.events import ConsentEvent, ConsentShared, EventType, OrderRefused, PaymentEvent
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import payment
from tests.support.domain_samples import NOW

BEGUN = NOW + timedelta(hours=1)


def record(type_: EventType, body: BaseModel, *, again: bool = False) -> Record:
    at = BEGUN if again else NOW
    return Record(
        "mypay.events.partner-1",
        0,
        1,
        int(at.timestamp() * 1000),
        b"key",
        encode(body),
        (("ce_type", type_.value.encode()),),
    )


def events(kept: Kept | None = None) -> Events:
    return Events(BEGUN.timestamp() * 1000, kept)


def shared(affiliate: str, **fields: Any) -> ConsentShared:
    return ConsentShared.model_validate(
        {
            "partner_id": "partner-1",
            "consent_id": "consent-1",
            "consent_version": 1,
            "payment_id": payment(1).payment_id,
            "affiliate_id": affiliate,
            "purposes": "marketing",
            "legal_basis": "consent",
            "fields": "amount",
            "use_until": NOW,
            "occurred_at": NOW,
        }
        | fields
    )


def changed(change: int, status: ConsentStatus) -> ConsentEvent:
    return ConsentEvent(
        consent_id="consent-1", partner_id="partner-1", version=1, status=status, change=change, occurred_at=NOW
    )


def test_with_whom_was_shared_is_known_once_and_only_of_the_partner_whose_topic_it_is() -> None:
    read = events()
    for body in (shared("a-1"), shared("a-1"), shared("a-2"), shared("a-3", partner_id="partner-2")):
        read.add("partner-1", record(EventType.CONSENT_SHARED, body))
    read.add("partner-1", record(EventType.CONSENT_SHARED, shared("a-4"), again=True))
    assert set(read.shared) == {ToldShare("partner-1", "consent-1", a) for a in ("a-1", "a-2")}
    told = read.shared["partner-1", "consent-1", "a-1"]  # type: ignore[index]
    assert (told.since, told.uses, told.fields) == (NOW, {"marketing"}, {"amount"})


def test_what_is_done_again_takes_no_suspension_back() -> None:
    read = events()
    read.add("partner-1", record(EventType.CONSENT_CHANGED, changed(2, ConsentStatus.SUSP)))
    read.add("partner-1", record(EventType.CONSENT_CHANGED, changed(3, ConsentStatus.AUTH), again=True))
    ends = read.consents["partner-1", "consent-1"].ends(ConsentStatus.AUTH)
    assert [command.value for command, _ in ends] == ["suspend"]


def test_payments_and_refusals_are_of_the_partner_whose_topic_it_is(tmp_path: Path) -> None:
    kept = Kept(lambda *_: None, str(tmp_path))
    read = events(kept)
    told = PaymentEvent.model_validate(event_fields(payment(1)))
    read.add("partner-1", record(EventType.PAYMENT_SENT, told))
    read.add("partner-2", record(EventType.PAYMENT_SENT, told))
    # Told again of an order that came again: no step of its payment.
    read.add("partner-1", record(EventType.PAYMENT_REPORTED, told.model_copy(update={"version": 9})))
    assert [(t.key, t.last.version) for page in kept.all_told() for t in page] == [(payment(1).key, 1)]
    assert read.highest == number_of(told.rrn or "") > 0
    refused = OrderRefused(
        partner_id="partner-1",
        order_id="order-1",
        reason=Reason(code=ReasonCode.AM05, text="used"),
        reference="mypay.orders/3/7",
        occurred_at=NOW,
    )
    with patch.object(kept, "refuse") as refuse:
        read.add("partner-1", record(EventType.ORDER_REFUSED, refused))
    refuse.assert_called_once_with("mypay.orders/3/7")
