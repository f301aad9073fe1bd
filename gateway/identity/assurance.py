"""What providers say of a customer, and what the assurance policy asks for.

Whoever the provider is, and whichever group it belongs to, its own words (``acr``) are mapped to one scale of levels;
the assurance policy speaks of levels only. So a proof of either group is worth the same to every partner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from msgspec import Struct

from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.identity.exemption_caps import ExemptionCaps
from schemas.assertions import Link, LinkedCommand
from schemas.orders import PaymentOrder
from schemas.primitives import Money

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
