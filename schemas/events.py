"""What the gateway tells partners, finance and ops. Emitted models may gain optional fields; readers ignore others."""

from enum import StrEnum, unique
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.consents import ConsentStatus, Purpose
from schemas.primitives import ConsentIdField, MerchantIdField, Model, Money, NetworkIdField, PartnerIdField, UtcTime
from schemas.reasons import PaymentStatus, Reason


@unique
class EventType(StrEnum):
    """CloudEvents types of everything that the gateway emits."""

    PAYMENT_SCHEDULED = "kr.mypay.payment.scheduled.v1"
    """Accepted for a later day."""
    PAYMENT_REJECTED = "kr.mypay.payment.rejected.v1"
    """Refused by the gateway; nothing was sent."""
    PAYMENT_SENT = "kr.mypay.payment.sent.v1"
    """Accepted, and on its way to the network."""
    PAYMENT_APPROVED = "kr.mypay.payment.approved.v1"
    """Approved by the network. With reason `NARR`: the network corrected its clearing, and the payment is approved
    again."""
    PAYMENT_DECLINED = "kr.mypay.payment.declined.v1"
    """Declined by the network."""
    PAYMENT_UNKNOWN = "kr.mypay.payment.unknown.v1"
    """Sent, and not answered: being asked about or reversed. It has not failed: do not pay again."""
    PAYMENT_REVERSING = "kr.mypay.payment.reversing.v1"
    """Approved, and being undone at the network."""
    PAYMENT_REVERSED = "kr.mypay.payment.reversed.v1"
    """Certainly without effect."""
    PAYMENT_SETTLED = "kr.mypay.payment.settled.v1"
    """Cleared by the network."""
    PAYMENT_REPORTED = "kr.mypay.payment.reported.v1"
    """The order came again: this is where its payment stands."""
    ORDER_REFUSED = "kr.mypay.order.refused.v1"
    """The order became no payment: it has a fault, or its id is used already."""
    CANCELLATION_ACCEPTED = "kr.mypay.cancellation.accepted.v1"
    """The order will not be sent, or is being undone: `effect`."""
    CANCELLATION_REFUSED = "kr.mypay.cancellation.refused.v1"
    """The cancellation changed nothing: `reason`."""
    BULK_ACCEPTED = "kr.mypay.bulk.accepted.v1"
    """The bulk was accepted, with the items that were turned away."""
    BULK_REFUSED = "kr.mypay.bulk.refused.v1"
    """The bulk was refused as a whole: no item becomes a payment."""
    BULK_REPORTED = "kr.mypay.bulk.reported.v1"
    """The bulk came again: this is what became of it."""
    STANDING_CREATED = "kr.mypay.standing-order.created.v1"
    """The standing order was taken, with its next day."""
    STANDING_CANCELLED = "kr.mypay.standing-order.cancelled.v1"
    """It was cancelled: no further occurrence is paid."""
    STANDING_COMPLETED = "kr.mypay.standing-order.completed.v1"
    """It ended by itself: after its last occurrence, or as its consent ended."""
    STANDING_REPORTED = "kr.mypay.standing-order.reported.v1"
    """The record came again: this is where the standing order stands."""
    STANDING_REFUSED = "kr.mypay.standing-order.refused.v1"
    """The standing order, or its cancellation, was refused: `reason`."""
    CONSENT_CHANGED = "kr.mypay.consent.changed.v1"
    """A consent changed: `status`, `change`, and the payments that were `in_flight` at that moment."""
    CONSENT_REPORTED = "kr.mypay.consent.reported.v1"
    """A command found the consent as it wanted it, or came again: this is where it stands."""
    CONSENT_REFUSED = "kr.mypay.consent.refused.v1"
    """A command on a consent changed nothing: `reason`."""
    CONSENT_OFFERED = "kr.mypay.consent.offered.v1"
    """A customer was made an offer under the consent: by whom, and on which channels."""
    PORTABILITY_ACCEPTED = "kr.mypay.portability.accepted.v1"
    """A transmission request was taken: its data will be handed over."""
    PORTABILITY_REPORTED = "kr.mypay.portability.reported.v1"
    """The request came again: it stands."""
    PORTABILITY_REFUSED = "kr.mypay.portability.refused.v1"
    """The request was refused: `reason`."""
    PORTABILITY_DELIVERED = "kr.mypay.portability.delivered.v1"
    """An export is whole, and its recipient has it: `receipt`."""
    PORTABILITY_PULLED = "kr.mypay.portability.pulled.v1"
    """A recipient was answered through the API: `x_api_tran_id`, `records`."""
    PORTABILITY_VOIDED = "kr.mypay.portability.voided.v1"
    """An export came to nothing, as what permitted it ended: `reason`."""
    PORTABILITY_ABANDONED = "kr.mypay.portability.abandoned.v1"
    """An attempt at an export came to nothing after chunks may have left; the recipient must delete them."""
    PORTABILITY_STOPPED = "kr.mypay.portability.stopped.v1"
    """A scheduled transmission was stopped: `reason`."""
    CONSENT_SHARED = "kr.mypay.consent.shared.v1"
    """A payment was shared with an affiliate under the consent: with whom, for what, and which fields."""
    PAYMENT_SHARED = "kr.mypay.sharing.payment.v1"
    """A settled payment, as far as its customer lets the affiliate have it."""
    ERASE_NOTICE = "kr.mypay.sharing.erase.v1"
    """What was shared under one `consent_ref` must be erased, and that be confirmed."""
    CYCLE_SETTLED = "kr.mypay.settlement.cycle.v1"
    """A chunk of a clearing cycle was matched: positions, breaks and corrections."""
    DISCLOSURE_ROOT = "kr.mypay.disclosure.root.v1"
    """A period of the disclosure log was closed: its Merkle root, signed."""
    DISCLOSURES_DESTROYED = "kr.mypay.disclosure.destroyed.v1"
    """What the disclosure log told of uses that are past their time was destroyed."""
    DATA_DESTROYED = "kr.mypay.retention.destroyed.v1"
    """What was held for customers who have asked for nothing for a year was destroyed."""
    DISCLOSURE_NOTICE = "kr.mypay.disclosure.notice.v1"
    """Once a year: what was used and provided of one customer. Bring it to them."""


class PaymentEvent(Model):
    """A payment reached a state (or, ``reported``, is told again because its order came again).

    Order and deduplicate by ``(payment_id, version)``: versions count 1, 2, 3 … without gaps.

    Attributes:
        order_id: the partner's own id.
        status: ISO 20022 status; state: the gateway's own, finer one.
        rrn: the network's retrieval reference number, once the payment was sent.
        approval_code: the network's, once approved.
        original_payment_id: the payment that this one refunds, in full or in part; left out where it is no refund.
        consent_version: of the consent's terms that it is sent under; told only with ``sent``.
        paid_at: when it was decided that it is sent; told only with ``settled``.
    """

    payment_id: UUID
    version: Annotated[int, Field(ge=1)]
    partner_id: PartnerIdField
    order_id: str
    consent_id: str
    status: PaymentStatus
    state: str
    amount: Money
    merchant_id: MerchantIdField
    occurred_at: UtcTime
    reason: Reason | None = None
    network_id: NetworkIdField | None = None
    rrn: str | None = None
    approval_code: str | None = None
    original_payment_id: UUID | None = None
    consent_version: Annotated[int, Field(ge=1)] | None = None
    paid_at: UtcTime | None = None


class OrderRefused(Model):
    """An order was refused without becoming a payment: it has a fault, or its id was already used.

    Also any other record on ``mypay.orders`` of which too little can be read to answer it as what it was meant to be.

    Attributes:
        order_id: the partner's own id of it; where that cannot be read the record's place, as in ``reference``.
        payment_id: the payment that already stands under this order id, or None.
        reference: topic, partition and offset of the refused record: ``mypay.orders/3/1207``.
    """

    partner_id: PartnerIdField
    order_id: str
    payment_id: UUID | None = None
    reason: Reason
    reference: str
    occurred_at: UtcTime


@unique
class CancellationEffect(StrEnum):
    """What an accepted cancellation does to its order."""

    NOT_SENT = "not_sent"  # no payment yet: the order will be rejected when it is reached
    CANCELLED = "cancelled"  # the scheduled payment is cancelled
    REVERSING = "reversing"  # the approved payment is being reversed at the network
    ONCE_KNOWN = "once_known"  # in flight: reversed as soon as it is known to be approved


class CancellationAccepted(Model):
    """A cancellation was accepted. The payment's own events tell how it ends.

    A cancellation of a payment in flight (``once_known``) can still be refused by a later event, where the payment was
    settled or refunded, or its cut-over passed, before its outcome was known.

    Attributes:
        cancellation_id, order_id: the partner's own ids.
        payment_id: the id of the order's payment, also where there is none yet.
        effect: what becomes of the payment: ``not_sent``, ``cancelled``, ``reversing`` or ``once_known``.
        reference: topic, partition and offset of the record that this answers: ``mypay.orders/3/1207``.
    """

    partner_id: PartnerIdField
    cancellation_id: str
    consent_id: str
    order_id: str
    payment_id: UUID
    effect: CancellationEffect
    reference: str
    occurred_at: UtcTime


class CancellationRefused(Model):
    """A cancellation was refused and changed nothing.

    Attributes:
        cancellation_id, order_id: the partner's own ids.
        payment_id: the id of the order's payment, also where there is none.
        reason: why, and what to do instead.
        reference: topic, partition and offset of the record that this answers: ``mypay.orders/3/1207``.
    """

    partner_id: PartnerIdField
    cancellation_id: str
    consent_id: str
    order_id: str
    payment_id: UUID
    reason: Reason
    reference: str
    occurred_at: UtcTime


class EndedPurpose(Model):
    """A purpose of a consent that is over.

    Attributes:
        how: declined (not among what was granted), revoked, expired (past an end of its own) or dropped (by new terms).
    """

    purpose: Purpose
    how: str


class ConsentEvent(Model):
    """A consent changed (or, ``reported``, is told again because a command found it as it wanted it).

    Order and deduplicate by ``(consent_id, change)``: changes count 1, 2, 3 … without gaps.

    Attributes:
        version: of the terms in force; an amendment makes the next one.
        change: how many changes the consent has had; 0 for one that was stored as it is.
        command: what was done: request, grant, reject, suspend, resume, revoke, amend or expire.
        command_id: the partner's own id of it, if it was the partner's command.
        actor: who did it: customer (proven by an assertion), partner, operator or time.
        terms_digest: of the terms in force, as the customer authenticates them.
        purposes: those that are in force, or asked for; none where the consent is over.
        ended: purposes that this change ended, and how.
        reason: told by an operator.
        in_flight: payments that were sent and whose outcome was open at that moment; where the consent was suspended,
            ended or amended, no other will follow under what was in force before.
    """

    consent_id: ConsentIdField
    version: Annotated[int, Field(ge=1)]
    partner_id: PartnerIdField
    status: ConsentStatus
    occurred_at: UtcTime
    change: Annotated[int, Field(ge=0)] | None = None
    command: str | None = None
    command_id: str | None = None
    actor: str | None = None
    terms_digest: str | None = None
    purposes: tuple[Purpose, ...] = ()
    ended: tuple[EndedPurpose, ...] = ()
    reason: str | None = None
    in_flight: tuple[UUID, ...] = ()


class ConsentShared(Model):
    """A settled payment was shared with an affiliate that the customer's consent names. A payment comes once for each.

    Attributes:
        consent_version: of the terms under which it was shared.
        purposes: what the affiliate may use it for; legal_basis: on what that rests, in the order of the purposes.
        fields: what of the payment it was given.
        use_until: first moment at which it may use it no more.
    """

    partner_id: PartnerIdField
    consent_id: ConsentIdField
    consent_version: Annotated[int, Field(ge=1)]
    payment_id: UUID
    affiliate_id: str
    purposes: str
    legal_basis: str
    fields: str
    use_until: UtcTime
    occurred_at: UtcTime


class ConsentRefused(Model):
    """A command on a consent was refused and changed nothing.

    Attributes:
        consent_id, command_id: the partner's own ids; where one cannot be read the record's place, as in ``reference``.
        command: what was asked for: request, grant, reject, suspend, resume, revoke or amend; unknown where the record
            does not say.
        status: the consent's, which stays as it is; left out where there is no such consent, or the command is none.
        reference: topic, partition and offset of the refused record: ``mypay.consents.commands/3/1207``.
    """

    partner_id: PartnerIdField
    consent_id: str
    command: str
    command_id: str
    status: ConsentStatus | None = None
    reason: Reason
    reference: str
    occurred_at: UtcTime


class ConsentOffered(Model):
    """A customer was made an offer by an affiliate that the consent names for marketing.

    Attributes:
        consent_version: of the terms under which it was made.
        channels: on which ways it may come.
        expires_at: first moment at which it can be used no more.
    """

    partner_id: PartnerIdField
    consent_id: ConsentIdField
    consent_version: Annotated[int, Field(ge=1)]
    offer_id: UUID
    campaign_id: str
    affiliate_id: str
    channels: str
    expires_at: UtcTime
    occurred_at: UtcTime


class MerchantPosition(Model):
    """What a network owes one merchant from one cycle: purchases less refunds, minor units, may be negative."""

    merchant_id: MerchantIdField
    currency: str
    count: int
    net_minor: int


class ClearingCorrection(Model):
    """A network corrected a record of its clearing.

    Attributes:
        changed: names of the fields that are other than before.
        amount_minor_before, currency_before: as the record was, minor units; without suffix: as it is now.
        payment_id_before: the payment that it had settled, which is not settled by it any more.
    """

    record_no: int
    changed: tuple[str, ...]
    amount_minor_before: int
    currency_before: str
    amount_minor: int
    currency: str
    payment_id_before: UUID | None = None


class CycleSettled(Model):
    """A chunk of one clearing cycle was matched: positions and breaks that it added.

    Attributes:
        positions: what was added to them; less than nothing where corrections took more away.
        corrections: records of an earlier file of the cycle that this one superseded, matched among the others.
        chunk: which message of its file this tells about; 0: breaks told before that match after all. A corrected file
            of one cycle counts them anew: tell events apart by ``ce_id``.
    """

    network_id: NetworkIdField
    cycle_id: str
    chunk: int
    matched: int
    breaks: int
    positions: tuple[MerchantPosition, ...]
    corrections: tuple[ClearingCorrection, ...] = ()
    occurred_at: UtcTime
