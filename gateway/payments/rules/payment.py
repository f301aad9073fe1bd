"""A payment as it is stored, and the changes that are asked of it."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import WindowKey
from gateway.directory.funding import OwnedToken
from gateway.network.exchange import Operation, TraceNumbers
from gateway.payments.rules.lifecycle import EVENT_TYPE, STATUS, PaymentEventKind, PaymentState
from schemas.primitives import (
    ConsentId,
    FundingToken,
    MerchantId,
    NetworkId,
    OrderId,
    PartnerId,
    PaymentId,
    decimal_of,
)
from schemas.reasons import Reason

PaymentKey = tuple[PartnerId, PaymentId]
"""Primary key of a payment. The partner comes first: it is the distribution key of every table that decides."""


class Payment(Struct, frozen=True, gc=False):
    """One payment: what was ordered, what became of it, and the trace numbers it was sent under.

    Attributes:
        order_digest: SHA-256 of the order's raw bytes; tells a redelivery from a reused order id.
        version: 1, 2, 3 …: one for each state reached.
        trace: None while nothing was sent.
        windows: the limit windows that this payment counts in.
        original_payment_id: the payment that this one refunds; None where it is a purchase.
        sent_by: the worker that sends it and waits for the answer.
        is_archived: it was final for so long that it stands in the archive. Nothing moves it any more, and what is
            told of it is all that is known of it here: no token, no windows.
        ordered_at: Kafka timestamp of the order; decided_at: when the intent or the refusal was decided.
    """

    partner_id: PartnerId
    payment_id: PaymentId
    order_id: OrderId
    consent_id: ConsentId
    consent_version: int
    merchant_id: MerchantId
    operation: Operation
    amount_minor: int
    currency: str
    funding_token: FundingToken | None
    order_digest: bytes
    state: PaymentState
    version: int
    reason: Reason | None
    network_id: NetworkId | None
    trace: TraceNumbers | None
    approval_code: str | None
    windows: tuple[WindowKey, ...]
    ordered_at: datetime
    decided_at: datetime
    changed_at: datetime
    traceparent: str | None = None
    original_payment_id: PaymentId | None = None
    sent_by: str | None = None
    is_archived: bool = False

    @property
    def key(self) -> PaymentKey:
        """Primary key."""
        return (self.partner_id, self.payment_id)

    @property
    def consent_key(self) -> ConsentKey:
        """Key of the consent that it was made under."""
        return (self.partner_id, self.consent_id)

    def digest_is(self, digest: bytes) -> bool:
        """True if this payment came of an order of exactly these bytes: then it is a redelivery."""
        return self.order_digest == digest

    def matches_stored(self, stored: "Payment | None") -> bool:
        """True if ``stored`` is this very payment: of the same record, decided at the same moment."""
        return (
            stored is not None
            and stored.digest_is(self.order_digest)
            and (stored.decided_at, stored.ordered_at) == (self.decided_at, self.ordered_at)
        )


class Change(Struct, frozen=True, gc=False):
    """Something that happened to a payment and may move it to another state.

    Attributes:
        incident: a name for ops where what happened must be looked at (amount mismatch …), or None.
    """

    key: PaymentKey
    kind: PaymentEventKind
    reason: Reason | None = None
    approval_code: str | None = None
    incident: str | None = None


def owned_token(payment: Payment, consents: Mapping[ConsentKey, Consent]) -> OwnedToken | None:
    """The token that a payment names with its owner: the customer of its consent, which no amendment changes."""
    consent = consents.get(payment.consent_key)
    if payment.funding_token is None or consent is None:
        return None
    return OwnedToken(payment.funding_token, consent.terms.customer_id)


def event_fields(payment: Payment) -> dict[str, object]:
    """Tell the payment's present state as the partner is told it: the members of a ``PaymentEvent``.

    Plain values, not the model: every one was validated when it came in or is ours, and building the model takes
    twice as long as all the rest of telling. A test holds the two together.
    """
    fields: dict[str, object] = {
        "payment_id": payment.payment_id,
        "version": payment.version,
        "partner_id": payment.partner_id,
        "order_id": payment.order_id,
        "consent_id": payment.consent_id,
        "status": STATUS[payment.state],
        "state": payment.state,
        "amount": {"currency": payment.currency, "value": decimal_of(payment.amount_minor, payment.currency)},
        "merchant_id": payment.merchant_id,
        "occurred_at": payment.changed_at,
    }
    if payment.reason is not None:
        fields["reason"] = {
            k: v
            for k, v in (
                ("code", payment.reason.code),
                ("text", payment.reason.text),
                ("network_code", payment.reason.network_code),
            )
            if v is not None
        }
    if payment.network_id is not None:
        fields["network_id"] = payment.network_id
    if payment.trace is not None:
        fields["rrn"] = payment.trace.rrn
    if payment.approval_code is not None:
        fields["approval_code"] = payment.approval_code
    if payment.original_payment_id is not None:
        fields["original_payment_id"] = payment.original_payment_id
    # With these the event itself says what the disclosure log, and sharing, tell of the payment.
    if payment.state is PaymentState.SENT:
        fields["consent_version"] = payment.consent_version
    elif payment.state is PaymentState.SETTLED:
        fields["paid_at"] = payment.decided_at
    return fields


def event_type_of(payment: Payment) -> str:
    """CloudEvents type that tells of the payment's present state."""
    return EVENT_TYPE[payment.state].value
