"""After a restore: what partners' topics tell of the time since."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from gateway.app.restored_kept import Kept
from gateway.consents.rules.restored import ToldConsent
from gateway.messaging.records import Record
from gateway.messaging.rewinding import read_each_since
from gateway.messaging.settings import KafkaSettings
from gateway.payments.restoring.rules import number_of
from gateway.sharing.restoring import SharedSince
from schemas.codec import decode
from schemas.events import ConsentEvent, ConsentOffered, ConsentShared, EventType, OrderRefused, PaymentEvent
from schemas.portability import PortabilityEvent
from schemas.topics import events_topic

_EVENTS: Final = events_topic("x")[:-1]


class ToldShare(NamedTuple):
    """Payments under a consent were shared with an affiliate."""

    partner_id: str
    consent_id: str
    affiliate_id: str


@dataclass(slots=True)
class Events:
    """What partners were told since: of consents, of which there are few, here; of payments, where it is kept.

    Attributes:
        begun_ms: from when on it is what is done again; None where nothing was.
        kept: takes what was told of payments, and places of records that were refused; None: nobody asks.
        highest: the highest payment number that was told; 0 for none.
        shared: with whom payments were shared, before what is done again; and what of them.
        offered: offers that were made, by their ids; delivered: exports that were whole, likewise.
    """

    begun_ms: float | None = None
    kept: Kept | None = None
    highest: int = 0
    consents: dict[tuple[str, str], ToldConsent] = field(default_factory=dict)
    shared: dict[ToldShare, SharedSince] = field(default_factory=dict)
    offered: dict[UUID, ConsentOffered] = field(default_factory=dict)
    delivered: dict[str, PortabilityEvent] = field(default_factory=dict)

    def add(self, partner_id: str, record: Record) -> None:
        """Only what is of the partner whose topic it is."""
        type_, body = _type_of(record), record.value
        if type_ == EventType.CONSENT_CHANGED:
            consent = decode(ConsentEvent, body, trusted=True)
            if consent.partner_id == partner_id:
                again = self._is_again(record)
                self.consents.setdefault((partner_id, consent.consent_id), ToldConsent()).add(consent, again=again)
        elif type_ == EventType.ORDER_REFUSED:
            if self.kept is not None:
                self.kept.refuse(decode(OrderRefused, body, trusted=True).reference)
        elif type_ in _PAYMENTS:
            event = decode(PaymentEvent, body, trusted=True)
            if event.partner_id == partner_id:
                self._tell(event, body)
        else:
            self._add_data(partner_id, type_, record)

    def _add_data(self, partner_id: str, type_: str, record: Record) -> None:
        """What recipients and affiliates were given, or may offer, under a consent."""
        if type_ == EventType.CONSENT_SHARED and not self._is_again(record):
            share = decode(ConsentShared, record.value, trusted=True)
            if share.partner_id == partner_id:
                place = ToldShare(partner_id, share.consent_id, share.affiliate_id)
                told = self.shared.setdefault(place, SharedSince(share.occurred_at))
                told.uses.update(share.purposes.split())
                told.fields.update(share.fields.split())
        elif type_ == EventType.CONSENT_OFFERED:
            offered = decode(ConsentOffered, record.value, trusted=True)
            if offered.partner_id == partner_id:
                self.offered[offered.offer_id] = offered
        elif type_ == EventType.PORTABILITY_DELIVERED:
            delivered = decode(PortabilityEvent, record.value, trusted=True)
            if delivered.partner_id == partner_id and delivered.export_id is not None:
                self.delivered[delivered.export_id] = delivered

    def _tell(self, event: PaymentEvent, body: bytes) -> None:
        if event.rrn is not None:
            with suppress(ValueError):
                self.highest = max(self.highest, number_of(event.rrn))
        if self.kept is not None:
            self.kept.tell(event, body)

    def _is_again(self, record: Record) -> bool:
        return self.begun_ms is not None and record.timestamp_ms >= self.begun_ms


async def read_events(
    kafka: KafkaSettings, since: datetime, *, begun: datetime | None = None, kept: Kept | None = None
) -> Events:
    """Read all of it; raises as :func:`gateway.messaging.reader.open_reader`."""
    events = Events(None if begun is None else begun.timestamp() * 1000, kept)
    async for partner_id, record in read_each_since(kafka, _EVENTS, since):
        events.add(partner_id, record)
    return events


_PAYMENTS: Final = frozenset(
    t.value for t in EventType if t.value.startswith("kr.mypay.payment.") and t is not EventType.PAYMENT_REPORTED
)


def _type_of(record: Record) -> str:
    return next((value.decode("utf-8", "replace") for name, value in record.headers if name == "ce_type"), "")
