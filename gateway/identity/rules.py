"""Common authentication: whether an identity provider's assertion proves what an operation asks for.

An assertion reaches this module with its signature checked (:class:`~gateway.identity.assurance.Assertion` holds
verified claims). Every comparison with a time that a provider wrote allows
:data:`gateway.base.validity.CLOCK_SKEW_MAX`, to the side that is kind to it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final, assert_never

from msgspec import Struct

from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.identity.assurance import OPERATION_OF, Assertion, AssurancePolicy, AssuredOperation, Issuer, Requirement
from schemas.assertions import ConsentLink, Link, PaymentLink, PortabilityLink, StandingOrderLink
from schemas.orders import PaymentOrder
from schemas.primitives import CustomerId
from schemas.reasons import Reason, ReasonCode

_About = PaymentOrder | ConsentLink | StandingOrderLink | PortabilityLink
"""What a proof can be for."""

ASSERTION_LIFETIME_MAX: Final = timedelta(hours=1)
"""Longest ``exp - iat``: an assertion is for one operation that the customer is waiting for, not a session."""


class Accepted(Struct, frozen=True, gc=False):
    """The operation may go on.

    Attributes:
        assertion: the proof that was accepted, whose jti must now be used; None where none was needed.
        level: its level; 0 without one.
    """

    assertion: Assertion | None
    level: int


def link_of(order: PaymentOrder) -> PaymentLink:
    """Return the dynamic link that an assertion for this order must carry."""
    return PaymentLink.model_construct(
        kind="payment",
        partner_id=order.partner_id,
        order_id=order.order_id,
        consent_id=order.consent_id,
        merchant_id=order.merchant_id,
        amount=order.amount,
        requested_execution_date=order.requested_execution_date,
    )


def is_made_for(assertion: Assertion, order: PaymentOrder) -> bool:
    """True if the dynamic link names exactly this order."""
    return _differing_field(assertion.link, order) is None


def judge_payment_assertion(
    assertion: Assertion | None,
    *,
    order: PaymentOrder,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    policy: AssurancePolicy,
    exempt: bool,
    now: datetime,
) -> Accepted | Reason:
    """Judge the proof of one payment order.

    The first that applies is told, in this order:

    ==== ===== ==========================================================================================
    1    DS0G  no row of the policy covers the amount: no assertion is enough
    2    DS0A  there is no assertion, the policy asks for one, and the payment is not exempt
    3    DS0F  the issuer is not in the trust table
    4    DS0G  the issuer is not trusted for this operation
    5    DS19  the assertion is for another audience
    6    DT04  ``iat``, ``nbf`` or ``auth_time`` lies in the future
    7    DS24  ``exp`` is past
    8    DS0B  it is valid for longer than :data:`ASSERTION_LIFETIME_MAX`
    9    DS24  ``auth_time`` is older than the policy allows: fresher proof is needed
    10   DS19  the level is too low, by ``acr`` or by ``amr``: stronger proof is needed
    11   DS17  the dynamic link differs from the order; names the field
    12   DS0H  the subject is not linked to the consent's customer: unlinked or another's, one answer
    ==== ===== ==========================================================================================

    Single use (DS15) is decided by the database, after all of these. An assertion that is there must hold in full, also
    where none was needed: a proof that does not hold is never passed over.

    Args:
        assertion: verified claims, or None where the order carries no assertion.
        order: the order as the partner signed it.
        customer_id: the consent's customer.
        linked: the customer that the assertion's identity is linked to, if any.
        issuer: the trust table's entry for the assertion's issuer, if any.
        policy: levels and freshness asked for.
        exempt: what :func:`gateway.consents.rules.exemption.exemption_allows` says of this payment.
        now: as the caller read it, under its locks.
    """
    requirement = policy.requirement(AssuredOperation.PAYMENT, order.amount)
    if requirement is None:
        return _reason(ReasonCode.DS0G, "no assurance level is enough for a payment of this amount")
    if assertion is None:
        if exempt or requirement.level == 0:
            return Accepted(None, 0)
        return _reason(ReasonCode.DS0A, f"the payment needs the customer's authentication: {requirement.ask()}")
    return _judge(assertion, AssuredOperation.PAYMENT, policy, requirement, order, customer_id, linked, issuer, now)


def judge_consent_assertion(
    assertion: Assertion | None,
    *,
    link: ConsentLink,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    policy: AssurancePolicy,
    now: datetime,
) -> Accepted | Reason:
    """Judge the proof of one command on a consent; precedence as in :func:`judge_payment_assertion`, no exemption.

    ``link`` is what the assertion must be linked to: the command as received, with the digest of the terms it is about.
    """
    operation = OPERATION_OF[link.command]
    return _judge_giving(assertion, operation, "command", link, customer_id, linked, issuer, policy, now)


def judge_portability_assertion(
    assertion: Assertion | None,
    *,
    link: PortabilityLink,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    policy: AssurancePolicy,
    now: datetime,
) -> Accepted | Reason:
    """Judge the proof of one transmission request: what a grant asks for, for it gives data away as a grant does."""
    operation = AssuredOperation.GRANT
    return _judge_giving(assertion, operation, "request", link, customer_id, linked, issuer, policy, now)


def _judge_giving(
    assertion: Assertion | None,
    operation: AssuredOperation,
    what: str,
    link: ConsentLink | PortabilityLink,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    policy: AssurancePolicy,
    now: datetime,
) -> Accepted | Reason:
    requirement = policy.requirement(operation)
    if requirement is None:
        return _reason(ReasonCode.DS0G, f"no assurance level is enough for this {what}")
    if assertion is None:
        if requirement.level == 0:
            return Accepted(None, 0)
        return _reason(ReasonCode.DS0A, f"the {what} needs the customer's authentication: {requirement.ask()}")
    return _judge(assertion, operation, policy, requirement, link, customer_id, linked, issuer, now)


def judge_standing_assertion(
    assertion: Assertion | None,
    *,
    link: StandingOrderLink,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    policy: AssurancePolicy,
    exempt: bool,
    now: datetime,
) -> Accepted | Reason:
    """Judge the proof of one standing order: what a payment of its amount asks for, given once for all occurrences.

    ``link`` is what the assertion must be linked to: the standing order as received, with its schedule's digest.
    Precedence as in :func:`judge_payment_assertion`.
    """
    operation = AssuredOperation.PAYMENT
    requirement = policy.requirement(operation, link.amount)
    if requirement is None:
        return _reason(ReasonCode.DS0G, "no assurance level is enough for payments of this amount")
    if assertion is None:
        if exempt or requirement.level == 0:
            return Accepted(None, 0)
        return _reason(ReasonCode.DS0A, f"the standing order needs the customer's authentication: {requirement.ask()}")
    return _judge(assertion, operation, policy, requirement, link, customer_id, linked, issuer, now)


def replayed() -> Reason:
    """The reason for an assertion whose jti another payment or command has used."""
    return _reason(ReasonCode.DS15, "the assertion was used before: obtain a new one for this operation")


def _judge(
    assertion: Assertion,
    operation: AssuredOperation,
    policy: AssurancePolicy,
    requirement: Requirement,
    about: _About,
    customer_id: CustomerId,
    linked: CustomerId | None,
    issuer: Issuer | None,
    now: datetime,
) -> Accepted | Reason:
    if issuer is None or issuer.issuer != assertion.issuer:
        return UNKNOWN_ISSUER
    level = policy.level(issuer, assertion)
    refused = (
        _refuse_by_issuer(assertion, issuer, operation)
        or _refuse_by_times(assertion, now)
        or _refuse_by_strength(assertion, level, issuer, requirement, now)
        or _refuse_by_link(assertion.link, about, customer_id, linked)
    )
    return refused or Accepted(assertion, level)


def _refuse_by_issuer(assertion: Assertion, issuer: Issuer, operation: AssuredOperation) -> Reason | None:
    if operation not in issuer.operations:
        return _reason(ReasonCode.DS0G, "the assertion's issuer is not trusted for this operation")
    if issuer.audience not in assertion.audience:
        return _reason(ReasonCode.DS19, "the assertion is not for this gateway: aud does not name it")
    return None


def _refuse_by_times(assertion: Assertion, now: datetime) -> Reason | None:
    latest = now + CLOCK_SKEW_MAX
    for claim, moment in (
        ("iat", assertion.issued_at),
        ("nbf", assertion.not_before),
        ("auth_time", assertion.authenticated_at),
    ):
        if moment is not None and moment > latest:
            return _reason(ReasonCode.DT04, f"the assertion's {claim} lies in the future")
    if now >= assertion.expires_at + CLOCK_SKEW_MAX:
        return _reason(ReasonCode.DS24, "the assertion is expired: obtain a new one")
    if assertion.expires_at - assertion.issued_at > ASSERTION_LIFETIME_MAX:
        minutes = ASSERTION_LIFETIME_MAX // timedelta(minutes=1)
        return _reason(ReasonCode.DS0B, f"the assertion is valid for longer than {minutes} minutes")
    return None


def _refuse_by_strength(
    assertion: Assertion, level: int, issuer: Issuer, requirement: Requirement, now: datetime
) -> Reason | None:
    if now - assertion.authenticated_at > requirement.max_age + CLOCK_SKEW_MAX:
        return _reason(ReasonCode.DS24, f"the authentication is too old: {requirement.ask(issuer)}")
    if level < requirement.level:
        said = issuer.levels.get(assertion.level_name, 0)
        why = "" if said < requirement.level else " for how the customer authenticated (amr)"
        return _reason(ReasonCode.DS19, f"the assertion's level {level} is too low{why}: {requirement.ask(issuer)}")
    return None


def _refuse_by_link(
    signed: Link | PaymentOrder, about: _About, customer_id: CustomerId, linked: CustomerId | None
) -> Reason | None:
    field = _differing_field(signed, about)
    if field is not None:
        return _reason(ReasonCode.DS17, f"the assertion was made for something else: mypay_link.{field} differs")
    if linked != customer_id:
        return _reason(ReasonCode.DS0H, "the assertion's subject is not linked to the consent's customer")
    return None


def _compared(link: type[Link]) -> tuple[str, ...]:
    # Every field there is, so that a new one cannot be left out of what a proof binds.
    return tuple(name for name in link.model_fields if name != "kind")


_PAYMENT_FIELDS: Final = _compared(PaymentLink)
_CONSENT_FIELDS: Final = _compared(ConsentLink)
_STANDING_FIELDS: Final = _compared(StandingOrderLink)
_PORTABILITY_FIELDS: Final = _compared(PortabilityLink)


_PAYMENT_SHAPE: Final = ("payment", _PAYMENT_FIELDS, attrgetter(*_PAYMENT_FIELDS))
_CONSENT_SHAPE: Final = ("consent", _CONSENT_FIELDS, attrgetter(*_CONSENT_FIELDS))
_STANDING_SHAPE: Final = ("standing_order", _STANDING_FIELDS, attrgetter(*_STANDING_FIELDS))
_PORTABILITY_SHAPE: Final = ("portability", _PORTABILITY_FIELDS, attrgetter(*_PORTABILITY_FIELDS))


def _differing_field(signed: Link | PaymentOrder, about: _About) -> str | None:
    """The first field of the link that is not what the operation says; an order is its own link (:func:`link_of`)."""
    if signed is about:
        return None
    kind, fields, values = _link_shape(about)
    if _link_shape(signed)[0] != kind:
        return "kind"
    if values(signed) == values(about):
        return None
    return next(f for f in fields if getattr(signed, f) != getattr(about, f))


def _link_shape(about: _About | PaymentLink) -> tuple[str, tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    match about:
        case PaymentOrder() | PaymentLink():
            return _PAYMENT_SHAPE
        case ConsentLink():
            return _CONSENT_SHAPE
        case StandingOrderLink():
            return _STANDING_SHAPE
        case PortabilityLink():
            return _PORTABILITY_SHAPE
        case _:
            assert_never(about)


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


UNKNOWN_ISSUER: Final = _reason(ReasonCode.DS0F, "the assertion's issuer is not in the trust table")
