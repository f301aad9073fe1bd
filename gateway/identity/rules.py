"""Common authentication: whether an identity provider's assertion proves what an operation asks for.

Whoever the provider is, and whichever group it belongs to, its own words (``acr``) are mapped to one scale of levels;
the assurance policy speaks of levels only. So a proof of either group is worth the same to every partner.

An assertion reaches this module with its signature checked (:class:`Assertion` holds verified claims). Every comparison
with a time that a provider wrote allows :data:`gateway.base.validity.CLOCK_SKEW_MAX`, to the side that is kind to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from operator import attrgetter
from typing import Final, assert_never

from msgspec import Struct

from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.identity.exemption_caps import ExemptionCaps
from schemas.assertions import ConsentLink, Link, LinkedCommand, PaymentLink, PortabilityLink, StandingOrderLink
from schemas.orders import PaymentOrder
from schemas.primitives import CustomerId, Money
from schemas.reasons import Reason, ReasonCode

_About = PaymentOrder | ConsentLink | StandingOrderLink | PortabilityLink
"""What a proof can be for."""

ASSERTION_LIFETIME_MAX: Final = timedelta(hours=1)
"""Longest ``exp - iat``: an assertion is for one operation that the customer is waiting for, not a session."""

ASSERTION_KEPT: Final = timedelta(days=7)
"""How far back Kafka can replay an order (the retention of ``mypay.orders``; a test holds the two together)."""


@unique
class AssuredOperation(StrEnum):
    """What an assertion can be asked for."""

    PAYMENT = "payment"
    GRANT = "consent.grant"
    REJECT = "consent.reject"
    SUSPEND = "consent.suspend"
    RESUME = "consent.resume"
    REVOKE = "consent.revoke"
    AMEND = "consent.amend"


OPERATION_OF: Final[Mapping[LinkedCommand, AssuredOperation]] = {
    c: AssuredOperation(f"consent.{c}") for c in LinkedCommand
}
"""The operation that each command on a consent is."""


class Assertion(Struct, frozen=True, gc=False):
    """What a provider said, its signature verified.

    Attributes:
        issuer, subject: who says it, and of whom.
        authenticated_at: when the customer last authenticated (``auth_time``).
        level_name: the assurance level in the provider's word (``acr``).
        methods: how the customer authenticated (``amr``).
        link: what it was made for: as the provider signed it; the order itself where the gateway's own mark vouches
            that it was made for exactly that one.
        kid: the provider's key that signed it.
    """

    issuer: str
    subject: str
    audience: tuple[str, ...]
    issued_at: datetime
    not_before: datetime | None
    expires_at: datetime
    authenticated_at: datetime
    jti: str
    level_name: str
    methods: tuple[str, ...]
    link: Link | PaymentOrder
    kid: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """(issuer, subject): what is linked to a customer."""
        return (self.issuer, self.subject)

    @property
    def keep_until(self) -> datetime:
        """Until when its single use must be remembered: past every moment at which Kafka could still replay it."""
        return self.expires_at + CLOCK_SKEW_MAX + ASSERTION_KEPT


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted identity provider.

    Attributes:
        home_group: ``financial`` or ``telecom``; told to people, never decided on.
        audience: the name by which this provider calls the gateway.
        levels: the provider's ``acr`` → our level, 1 and up; another ``acr`` has level 0.
        operations: what its assertions may be used for.
        algorithms: what it may sign with (JWS ``alg``).
    """

    issuer: str
    home_group: str
    audience: str
    levels: Mapping[str, int]
    operations: frozenset[AssuredOperation] = frozenset(AssuredOperation)
    algorithms: frozenset[str] = frozenset(("ES256", "Ed25519"))


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an operation asks for. Level 0 asks for no assertion; one that is there is judged all the same."""

    level: int
    max_age: timedelta

    def ask(self, issuer: Issuer | None = None) -> str:
        """Say what the partner must obtain; with an issuer, also in that provider's words."""
        words = sorted(name for name, level in issuer.levels.items() if level >= self.level) if issuer else []
        named = f" (acr {' or '.join(words)})" if words else ""
        seconds = self.max_age // timedelta(seconds=1)
        return f"obtain an assertion of level {self.level} or higher{named} whose auth_time is at most {seconds} s old"


@dataclass(frozen=True, slots=True)
class AssuranceRule:
    """One row of the assurance policy.

    Attributes:
        up_to: largest amount per currency that the row covers, in minor units; None covers every amount.
    """

    operation: AssuredOperation
    up_to: Mapping[str, int] | None
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class AssurancePolicy:
    """Which level and freshness each operation and amount asks for. The first row that covers it counts.

    Attributes:
        methods: how a customer can authenticate (``amr``, RFC 8176) → the highest level that this can prove, whatever
            the provider calls it. An assertion has the level of its ``acr``, and not more than its best method
            proves; a method that is not listed proves nothing.
        exemptions: the most that consents may let pass without a proof.
    """

    rules: Sequence[AssuranceRule]
    methods: Mapping[str, int] = field(default_factory=dict)
    exemptions: ExemptionCaps = field(default_factory=dict)

    def level(self, issuer: Issuer, assertion: "Assertion") -> int:
        """The level that an assertion of this provider proves."""
        proven = max((self.methods.get(m, 0) for m in assertion.methods), default=0)
        return min(issuer.levels.get(assertion.level_name, 0), proven)

    def requirement(self, operation: AssuredOperation, amount: Money | None = None) -> Requirement | None:
        """Return what is asked for, or None where no row covers it: then nothing is enough.

        A row with amounts covers an operation without one never, and a currency that it does not name never.
        """
        for rule in self.rules:
            if rule.operation is not operation:
                continue
            if rule.up_to is None:
                return rule.requirement
            if amount is not None and amount.minor <= rule.up_to.get(amount.currency, -1):
                return rule.requirement
        return None


NO_PROOF_ASKED: Final = AssurancePolicy(
    tuple(AssuranceRule(operation, None, Requirement(0, timedelta(0))) for operation in AssuredOperation),
    exemptions=None,
)
"""The policy of an installation without identity providers: nothing is asked for, and what is there is refused."""


NOTHING_IS_ENOUGH: Final = AssurancePolicy(())
"""No row covers anything: nothing passes that needs a proof, or could need one."""


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
