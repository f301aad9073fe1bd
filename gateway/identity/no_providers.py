"""An installation without identity providers, where no customer's proof is asked for."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.identity.assurance import NO_PROOF_ASKED, NOTHING_IS_ENOUGH, Assertion, AssurancePolicy, Issuer
from gateway.identity.rules import UNKNOWN_ISSUER
from gateway.identity.store import IssuerKey
from schemas.reasons import Reason


class NoIdentityProviders:
    """Implements TrustTable and AssertionVerifier for an installation without identity providers.

    No proof is asked for; one that is there names a provider that nobody trusts, and is refused.
    """

    policy: AssurancePolicy = NO_PROOF_ASKED

    def issuer(self, issuer: str) -> Issuer | None:  # noqa: ARG002 - the port's
        """There is none."""
        return None

    def key(self, issuer: str, kid: str) -> IssuerKey | None:  # noqa: ARG002 - the port's
        """There is none."""
        return None

    async def refresh_unknown(self) -> bool:
        """There is nothing to read."""
        return False

    def verify(self, token: str, now: datetime) -> Assertion | Reason:  # noqa: ARG002 - the port's
        """Refused."""
        return UNKNOWN_ISSUER

    def recheck(self, issuer: str, kid: str) -> Reason | None:  # noqa: ARG002 - the port's
        """Refused."""
        return UNKNOWN_ISSUER


class NoProofWhileItCounts(NoIdentityProviders):
    """As that, for as long as to ask for no proof is the trust policy that counts: once another does, nothing passes.

    A process that was started to ask for none knows no provider, and would let through what all others refuse.

    Args:
        counts: reads whether it is.
        observer: told of the difference.
    """

    def __init__(self, counts: Callable[[], Awaitable[bool]], observer: Observer) -> None:
        self._counts = counts
        self._observer = observer
        self.policy = NO_PROOF_ASKED

    async def look(self) -> None:
        """Read it once; while the database is away what was read last stands."""
        try:
            counts = await self._counts()
        except StoreUnavailableError:
            self._observer.count("trust_table", "policy_unavailable")
            return
        if counts is not (self.policy is NO_PROOF_ASKED):
            self.policy = NO_PROOF_ASKED if counts else NOTHING_IS_ENOUGH
            if not counts:
                self._observer.count("trust_table", "policy_not_applied")
                self._observer.note("trust_policy_not_applied", level="error")
        self._observer.level("trust_policy_differs", float(not counts))
