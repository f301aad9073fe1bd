"""What a consent allows: the life of a consent, and every check of an order but the period and lifetime limits.

Those limits need usage that only the database knows and are in :mod:`gateway.consents.rules.limits`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from gateway.base.calendar import day_of, day_start
from gateway.base.validity import CLOCK_SKEW_MAX, ORDER_VALIDITY_MAX
from gateway.consents.rules.purposes import NO_PURPOSES, end_of, in_force
from gateway.directory.merchants import Merchant
from schemas.consents import ConsentStatus, ConsentTerms, PaymentPurpose, Purpose
from schemas.orders import PaymentOrder
from schemas.primitives import decimal_of
from schemas.reasons import Reason, ReasonCode


@dataclass(frozen=True, slots=True)
class Consent:
    """One version of a consent as stored.

    Attributes:
        ended: purposes that are over; all of its terms' where the consent itself is. One that the terms have no more
            stays among them: terms that have it again do not bring it back.
    """

    terms: ConsentTerms
    version: int
    status: ConsentStatus
    ended: frozenset[Purpose] = NO_PURPOSES

    @property
    def purposes(self) -> tuple[Purpose, ...]:
        """The purposes that are not over: granted, or asked for while the consent awaits its authorisation."""
        return in_force(self.terms, self.ended)


@unique
class ConsentCommand(StrEnum):
    """What may be done to a consent; a request makes one."""

    REQUEST = "request"
    GRANT = "grant"
    REJECT = "reject"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    EXPIRE = "expire"
    AMEND = "amend"


_S, _C = ConsentStatus, ConsentCommand
CONSENT_TRANSITIONS: Final[Mapping[tuple[ConsentStatus, ConsentCommand], ConsentStatus]] = {
    (_S.AWAU, _C.GRANT): _S.AUTH,
    (_S.AWAU, _C.REJECT): _S.RJCT,
    # A request that nobody answers must end too: withdrawn by its partner, or by time.
    (_S.AWAU, _C.REVOKE): _S.CANC,
    (_S.AWAU, _C.EXPIRE): _S.EXPD,
    (_S.AUTH, _C.SUSPEND): _S.SUSP,
    (_S.AUTH, _C.REVOKE): _S.CANC,
    (_S.AUTH, _C.EXPIRE): _S.EXPD,
    (_S.AUTH, _C.AMEND): _S.AUTH,
    (_S.SUSP, _C.RESUME): _S.AUTH,
    (_S.SUSP, _C.REVOKE): _S.CANC,
    (_S.SUSP, _C.EXPIRE): _S.EXPD,
    # New terms do not lift a suspension.
    (_S.SUSP, _C.AMEND): _S.SUSP,
}
"""Every permitted change of a consent's status; a pair that is not here is refused."""


def consent_transition(status: ConsentStatus, command: ConsentCommand) -> ConsentStatus | None:
    """Return the status after ``command``, or None when the consent's status does not permit it."""
    return CONSENT_TRANSITIONS.get((status, command))


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


_NO_CONSENT: Final = _reason(ReasonCode.MD01, "consent_id names no consent of this partner")
_NO_SUCH_PURPOSE: Final[Mapping[Purpose, Reason]] = {
    Purpose.PAYMENT: _reason(ReasonCode.AG01, "the consent does not permit payments"),
    Purpose.PORTABILITY: _reason(ReasonCode.AG01, "the consent does not permit data to be handed to recipients"),
    Purpose.SHARING: _reason(ReasonCode.AG01, "the consent does not permit data to be shared with affiliates"),
    Purpose.MARKETING: _reason(ReasonCode.AG01, "the consent does not permit offers"),
}
_PURPOSE_ENDED: Final[Mapping[Purpose, Reason]] = {
    p: _reason(ReasonCode.MD01, f"the consent's purpose {p} is not granted, or was revoked") for p in Purpose
}
_PURPOSE_OVER: Final[Mapping[Purpose, Reason]] = {
    p: _reason(ReasonCode.TKXP, f"the consent's purpose {p} is past its end") for p in Purpose
}
_CONSENT_OVER: Final = _reason(ReasonCode.TKXP, "the consent is past its end")
_ISSUED_IN_FUTURE: Final = _reason(ReasonCode.DT04, "issued_at lies in the future")
_EXPIRED: Final = _reason(ReasonCode.TM01, "the order is past its expires_at")
_VALID_TOO_LONG: Final = _reason(
    ReasonCode.DT01, f"expires_at lies more than {ORDER_VALIDITY_MAX // timedelta(hours=1)} hours after issued_at"
)
_DAY_BEFORE_ISSUE: Final = _reason(ReasonCode.DT01, "requested_execution_date lies before issued_at")
_EXPIRES_BEFORE_DAY: Final = _reason(ReasonCode.DT01, "expires_at lies before requested_execution_date begins")
_VALID_PAST_DAY: Final = _reason(
    ReasonCode.DT01,
    f"expires_at lies more than {ORDER_VALIDITY_MAX // timedelta(hours=1)} hours after requested_execution_date begins",
)
_MERCHANT_UNKNOWN: Final = _reason(ReasonCode.AC03, "merchant_id is not in the merchant directory")
_MERCHANT_INACTIVE: Final = _reason(ReasonCode.AC07, "the merchant is no longer paid through this gateway")
_PAYEE_BLOCKED: Final = _reason(ReasonCode.SL12, "the consent blocks this merchant or its category")
_PAYEE_NOT_ALLOWED: Final = _reason(ReasonCode.SL11, "the consent does not allow this merchant or its category")

PAYMENT_ENDED_SINCE: Final = _reason(
    ReasonCode.MD01, "the consent's purpose payment ended after this was ordered: an amendment does not bring it back"
)
"""Why what waited since before is not paid, though the customer has permitted payments anew."""

STATUS_REFUSALS: Final[Mapping[ConsentStatus, Reason | None]] = {
    ConsentStatus.AWAU: _reason(ReasonCode.MD01, "the consent awaits the customer's authorisation"),
    ConsentStatus.AUTH: None,
    ConsentStatus.SUSP: _reason(ReasonCode.TKSP, "the consent is suspended"),
    ConsentStatus.RJCT: _reason(ReasonCode.MD01, "the customer rejected the consent"),
    ConsentStatus.CANC: _reason(ReasonCode.MD01, "the consent is revoked"),
    ConsentStatus.EXPD: _CONSENT_OVER,
}
"""What each status answers to an order; AUTH alone lets it pass."""


def has_ended_since(version: int, last_end: int | None) -> bool:
    """True if a purpose was over since it was in force under a version of the terms.

    Args:
        version: of the terms.
        last_end: under which it was over last; None: never. What brings it back makes the next version.
    """
    return last_end is not None and last_end >= version


def refuse_order(
    order: PaymentOrder, *, consent: Consent | None, merchant: Merchant | None, now: datetime
) -> Reason | None:
    """Return why the order may not be paid, or None. Period and lifetime limits are not looked at.

    The first that applies is told, in this order:

    ==== ===== ==========================================================================
    1    MD01  the consent is missing, or another partner's: one answer, so that ids leak nothing
    2    —     its status: AWAU, RJCT, CANC MD01; SUSP TKSP; EXPD TKXP
    3    DT01  ``now`` is before the consent's ``valid_from``
    4    TKXP  ``now`` is at or past the consent's ``valid_until``
    5    —     the consent has no payment purpose AG01; it was not granted, or was revoked MD01
    6    DT04  the order's ``issued_at`` is more than :data:`CLOCK_SKEW_MAX` in the future
    7    TM01  ``now`` is at or past the order's ``expires_at``
    8    DT01  the order is valid for longer than :data:`ORDER_VALIDITY_MAX`: from its issue, or from the beginning of
               its ``requested_execution_date``; that day lies before its issue, or begins when the order has expired
    9    AC03  the merchant is unknown
    10   AC07  the merchant is inactive
    11   SL12  the merchant or its category is blocked
    12   SL11  the merchant or its category is not allowed, where the consent allows some only
    13   AM03  the currency is not allowed
    14   TKVE  the amount is over the maximum per payment
    ==== ===== ==========================================================================
    """
    if consent is None or consent.terms.consent_id != order.consent_id or consent.terms.partner_id != order.partner_id:
        return _NO_CONSENT
    refused = refuse_use(consent, Purpose.PAYMENT, now)
    if refused is not None:
        return refused
    purpose = consent.terms.payment
    if purpose is None:
        raise AssertionError("a purpose that is permitted is among the terms")
    return (
        _refuse_by_order_times(order, now)
        or _refuse_by_payee(order, purpose, merchant)
        or _refuse_by_amount(order, purpose)
    )


def refuse_use(consent: Consent, purpose: Purpose, now: datetime) -> Reason | None:
    """Return why the consent permits nothing for this purpose now, or None: whoever uses a consent asks this first.

    For the decision the consent is one that was read under its lock, and ``now`` is read after that.
    The order is that of :func:`refuse_order`, 2 to 5; at last TKXP past the purpose's own end.
    """
    refused = STATUS_REFUSALS[consent.status]
    if refused is not None:
        return refused
    if now < consent.terms.valid_from:
        begins = consent.terms.valid_from.isoformat(timespec="seconds")
        return _reason(ReasonCode.DT01, f"the consent is not valid before {begins}")
    if now >= consent.terms.valid_until:
        return _CONSENT_OVER
    if getattr(consent.terms, purpose.value) is None:
        return _NO_SUCH_PURPOSE[purpose]
    if purpose in consent.ended:
        return _PURPOSE_ENDED[purpose]
    return _PURPOSE_OVER[purpose] if now >= end_of(consent.terms, purpose) else None


def _refuse_by_order_times(order: PaymentOrder, now: datetime) -> Reason | None:
    if order.issued_at - now > CLOCK_SKEW_MAX:
        return _ISSUED_IN_FUTURE
    if now >= order.expires_at:
        return _EXPIRED
    if order.requested_execution_date is not None:
        return _refuse_by_day(order, order.requested_execution_date)
    if order.expires_at - order.issued_at > ORDER_VALIDITY_MAX:
        return _VALID_TOO_LONG
    return None


def _refuse_by_day(order: PaymentOrder, day: date) -> Reason | None:
    if day < day_of(order.issued_at):
        return _DAY_BEFORE_ISSUE
    begins = day_start(day)
    if order.expires_at <= begins:
        return _EXPIRES_BEFORE_DAY
    if order.expires_at - max(begins, order.issued_at) > ORDER_VALIDITY_MAX:
        return _VALID_PAST_DAY
    return None


def _refuse_by_payee(order: PaymentOrder, purpose: PaymentPurpose, merchant: Merchant | None) -> Reason | None:
    if merchant is None or merchant.merchant_id != order.merchant_id:
        return _MERCHANT_UNKNOWN
    if not merchant.active:
        return _MERCHANT_INACTIVE
    payees, mcc = purpose.payees, merchant.acceptor.mcc
    if merchant.merchant_id in payees.block_merchants or mcc in payees.block_categories:
        return _PAYEE_BLOCKED
    anyone = not payees.allow_merchants and not payees.allow_categories
    if anyone or merchant.merchant_id in payees.allow_merchants or mcc in payees.allow_categories:
        return None
    return _PAYEE_NOT_ALLOWED


def _refuse_by_amount(order: PaymentOrder, purpose: PaymentPurpose) -> Reason | None:
    currency = order.amount.currency
    for most in purpose.max_per_payment:
        if most.currency == currency:
            if order.amount.minor <= most.minor:
                return None
            text = (
                f"the amount is over the consent's maximum of {decimal_of(most.minor, currency)} {currency} per payment"
            )
            return _reason(ReasonCode.TKVE, text)
    return _reason(ReasonCode.AM03, "the consent does not allow this currency")
