"""Which events of the outbox are uses of a consent, and how each is told: one table.

To log another use, add a row to :data:`USES`. Nothing is written for it anywhere else: the event that tells of the use
is in the outbox anyway, in the transaction that decided it. Such an event's body must have ``partner_id`` and
``consent_id``, and should have ``consent_version``; whose customer it is, the consent tells. An event that lacks what
its row asks for, or says what the log's tables cannot hold, becomes an entry all the same
(:attr:`~gateway.disclosure.rules.entry.Kind.UNREADABLE`), and an incident.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Struct

from gateway.base.storable import is_storable
from gateway.disclosure.rules.entry import Kind, Use
from gateway.outbox.rules.subjects import payment_of
from schemas.codec import parse_strictly
from schemas.events import EventType


@dataclass(frozen=True, slots=True)
class OfPayment:
    """A use that the event's payment tells of: the event's key is its id.

    Attributes:
        if_sent_once: only where the payment had become an intent before; else the event is no use.
    """

    if_sent_once: bool = False


@dataclass(frozen=True, slots=True)
class OfBody:
    """A use that the event's body tells of. Each text may name the body's members in braces: ``"{records} records"``.

    Attributes:
        nobodys: it concerns no customer; the body names no consent.
        instead: what is told in place of members that events of earlier versions do not have.
    """

    kind: Kind
    recipient: str
    purpose: str
    what: str
    reference: str
    legal_basis: str = "consent"
    nobodys: bool = False
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """In the order in which an entry tells them."""
        return self.recipient, self.purpose, self.legal_basis, self.what, self.reference


USES: Final[Mapping[str, OfPayment | OfBody]] = {
    # Written with the intent, under the consent's lock: the moment at which the consent is used.
    EventType.PAYMENT_SENT: OfPayment(),
    EventType.PAYMENT_REJECTED: OfPayment(if_sent_once=True),
    # Written with the receipt, under the consent's lock: what makes chunks an export.
    EventType.PORTABILITY_DELIVERED: OfBody(
        kind=Kind.EXPORT,
        recipient="{rcv_org_code}",
        purpose="portability",
        what="{records} records in {chunks} chunks",
        reference="{export_id}",
    ),
    # Written with the notice that the attempt is void: its chunks were in the recipient's hands, or may have been.
    EventType.PORTABILITY_ABANDONED: OfBody(
        kind=Kind.EXPORT,
        recipient="{rcv_org_code}",
        purpose="portability",
        what="up to {chunks} chunks of attempt {attempt}, void: {reason[text]}",
        reference="{export_id}",
    ),
    # Written with the share, under the consent's lock.
    EventType.CONSENT_SHARED: OfBody(
        kind=Kind.SHARE,
        recipient="{affiliate_id}",
        purpose="{purposes}",
        what="{fields}",
        reference="{payment_id}",
        legal_basis="{legal_basis}",
    ),
    # Written with the offer, under the consent's lock.
    EventType.CONSENT_OFFERED: OfBody(
        kind=Kind.OFFER,
        recipient="{affiliate_id}",
        purpose="marketing",
        what="offer of campaign {campaign_id} by {channels}",
        reference="{offer_id}",
    ),
    EventType.PORTABILITY_PULLED: OfBody(
        kind=Kind.EXPORT,
        recipient="{rcv_org_code}",
        purpose="portability",
        what="{records} records through the API, {x_api_type}",
        instead={"x_api_type": "x-api-type not told"},
        reference="{x_api_tran_id}",
    ),
    EventType.DISCLOSURES_DESTROYED: OfBody(
        kind=Kind.DESTRUCTION,
        recipient="",
        purpose="retention",
        what="contents of entries {first_seq} to {last_seq} destroyed by {rule}, digest {digest}",
        reference="{first_seq}",
        legal_basis="law",
        nobodys=True,
    ),
    EventType.DATA_DESTROYED: OfBody(
        kind=Kind.DESTRUCTION,
        recipient="",
        purpose="retention",
        what="{rows} {kind} destroyed by {rule}",
        reference="{number}",
        legal_basis="law",
        nobodys=True,
    ),
}
"""Type of an event → how it is a use."""

PAYMENT_TYPES: Final = sorted(t for t, rule in USES.items() if isinstance(rule, OfPayment))
BODY_TYPES: Final = sorted(t for t, rule in USES.items() if isinstance(rule, OfBody))


class PaymentFacts(Struct, frozen=True, gc=False):
    """A payment as it was sent; none of this changes afterwards. ``amount``: a decimal, in units of its currency."""

    partner_id: str
    payment_id: str
    consent_id: str
    consent_version: int
    merchant_id: str
    operation: str
    amount: str
    currency: str
    network_id: str | None
    was_sent: bool


class SourceRow(Struct, frozen=True, gc=False):
    """An event of the outbox that may be a use, with what it refers to.

    Attributes:
        tx, id: its place, and its own number where others stand there with it.
        payment: of an event of :data:`PAYMENT_TYPES`.
        told: what the body of an event of :data:`BODY_TYPES` says (:func:`told_by`); None where it says nothing.
        customer_id: the consent's; None where there is no such consent.
    """

    tx: int
    id: int
    event_type: str
    event_id: str
    occurred_at: datetime
    payment: PaymentFacts | None = None
    told: Mapping[str, Any] | None = None
    customer_id: str | None = None


VERSION_MAX: Final = 2**31 - 1
"""The largest version of a consent that there can be: it is counted in four bytes."""

_MEMBER: Final = re.compile(r"\{([a-z_]+)\}")

_read_plain: Final = msgspec.json.Decoder(dict[str, str | int]).decode
_write_plain: Final = msgspec.json.Encoder().encode


def told_by(body: bytes) -> Mapping[str, Any] | None:
    """The members of an event's body, each given once; None where it is no JSON object.

    Bodies are many: a plain one, of texts and whole numbers that would be written as the same bytes, is read in a
    third of the time. What is not plain is read strictly, so the quick way decides nothing.
    """
    try:
        plain = _read_plain(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        # A member that is given twice is written once: other bytes.
        if _write_plain(plain) == body:
            return plain
    try:
        told = parse_strictly(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


class _Amount(Struct, frozen=True, gc=False):
    currency: str
    value: str


class _Sent(Struct, frozen=True, gc=False):
    """What is read of an event that tells that a payment is sent."""

    payment_id: str
    partner_id: str
    consent_id: str
    consent_version: Annotated[int, msgspec.Meta(ge=1, le=VERSION_MAX)]
    merchant_id: str
    amount: _Amount
    network_id: str
    rrn: str
    original_payment_id: str | None = None


_SENT: Final = EventType.PAYMENT_SENT.value
_read_sent: Final = msgspec.json.Decoder(_Sent).decode


def facts_of(event_type: str, topic: str, key: str, body: bytes) -> PaymentFacts | None:
    """What an event itself says of a payment that is sent; None where the payment's row has to be asked.

    It was written from that row, in its transaction. Events of earlier releases lack the consent's version.
    """
    if event_type != _SENT:
        return None
    try:
        sent = _read_sent(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    amount = sent.amount
    texts = f"{sent.consent_id}{sent.merchant_id}{sent.network_id}{amount.value}{amount.currency}"
    if payment_of(topic, key) != (sent.partner_id, sent.payment_id) or not is_storable(texts):
        return None
    operation = "purchase" if sent.original_payment_id is None else "refund"
    return PaymentFacts(
        *(sent.partner_id, sent.payment_id, sent.consent_id, sent.consent_version, sent.merchant_id, operation),
        *(amount.value, amount.currency, sent.network_id, True),
    )


def plain_use(payment: PaymentFacts | None, at: datetime, customers: Mapping[tuple[str, str], str]) -> Use | None:
    """What an event tells that says itself of which payment it is, if the consent's customer is among those known.

    Most uses are such. It is what :func:`use_of` tells: the quick way decides nothing.
    """
    if payment is None or (customer_id := customers.get((payment.partner_id, payment.consent_id))) is None:
        return None
    return _paid(payment, customer_id, at)


def consent_of(told: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Partner and id of the consent that a body names; None where it names none that there can be."""
    partner_id, consent_id = (None, None) if told is None else (told.get("partner_id"), told.get("consent_id"))
    if not (isinstance(partner_id, str) and isinstance(consent_id, str)):
        return None
    return (partner_id, consent_id) if is_storable(partner_id + consent_id) else None


def use_of(row: SourceRow) -> Use | None:
    """What an event tells of the use of a consent; None where it is none."""
    rule = USES.get(row.event_type)
    if rule is None:
        return None
    return _of_body(row, rule) if isinstance(rule, OfBody) else _of_payment(row, if_sent_once=rule.if_sent_once)


def _of_payment(row: SourceRow, *, if_sent_once: bool) -> Use | None:
    payment = row.payment
    # First: an order under a consent that there never was is rejected too, and is no use.
    if payment is not None and if_sent_once and not payment.was_sent:
        return None
    if payment is None or row.customer_id is None:
        return _unreadable(row)
    return _paid(payment, row.customer_id, row.occurred_at, Kind.WITHDRAWN if if_sent_once else None)


def _paid(payment: PaymentFacts, customer_id: str, at: datetime, kind: Kind | None = None) -> Use:
    """The use that a payment is; ``kind``: where its operation does not tell it."""
    return Use(
        kind=kind or (Kind.REFUND if payment.operation == "refund" else Kind.PAYMENT),
        customer_id=customer_id,
        partner_id=payment.partner_id,
        consent_id=payment.consent_id,
        consent_version=payment.consent_version,
        recipient=payment.merchant_id,
        purpose="payment",
        legal_basis="consent",
        what=f"{payment.operation} of {payment.amount} {payment.currency} by {payment.network_id}",
        reference=payment.payment_id,
        occurred_at=at,
    )


def _of_body(row: SourceRow, rule: OfBody) -> Use:
    if row.told is None:
        return _unreadable(row)
    if row.customer_id is None and not rule.nobodys:
        return _unreadable(row)
    body = {**rule.instead, **row.told} if rule.instead else row.told
    try:
        partner_id = None if rule.nobodys else str(body["partner_id"])
        consent_id = None if rule.nobodys else str(body["consent_id"])
        version = _version(body)
        recipient, purpose, legal_basis, what, reference = _filled(rule.texts, body)
    except (KeyError, ValueError, TypeError, RecursionError):
        return _unreadable(row)
    # All at once: what makes a text unfit is one of its characters.
    if not is_storable(f"{partner_id}{consent_id}{recipient}{purpose}{legal_basis}{what}{reference}"):
        return _unreadable(row)
    return Use(
        kind=rule.kind,
        customer_id=row.customer_id,
        partner_id=partner_id,
        consent_id=consent_id,
        consent_version=version,
        recipient=recipient,
        purpose=purpose,
        legal_basis=legal_basis,
        what=what,
        reference=reference,
        occurred_at=row.occurred_at,
    )


def _version(body: Mapping[str, Any]) -> int | None:
    version = body.get("consent_version")
    if version is None:
        return None
    # Anything else would be told as another version than the event names.
    if type(version) is not int or not 0 < version <= VERSION_MAX:
        raise ValueError("no version of a consent")
    return version


def _filled(texts: Sequence[str], body: Mapping[str, Any]) -> list[str]:
    """Texts of the table with the body's members in the places of their names, which are many: all in one go."""
    return [text.format_map(body) if (member := _only_member(text)) is None else str(body[member]) for text in texts]


@cache
def _only_member(text: str) -> str | None:
    """The member that a text of the table consists of, as most do."""
    found = _MEMBER.fullmatch(text)
    return None if found is None else found[1]


def _unreadable(row: SourceRow) -> Use:
    return Use(
        kind=Kind.UNREADABLE,
        customer_id=row.customer_id,
        partner_id=None,
        consent_id=None,
        consent_version=None,
        recipient="",
        purpose="",
        legal_basis="",
        what=f"an event {row.event_type} that does not tell what was used",
        reference=row.event_id,
        occurred_at=row.occurred_at,
    )
