"""Customers' proofs in both stages: initiation verifies them, execution judges them under the consent's lock."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from gateway.domain.authentication import (
    NO_PROOF_ASKED,
    NOTHING_IS_ENOUGH,
    UNKNOWN_ISSUER,
    Assertion,
    AssurancePolicy,
    Issuer,
)
from gateway.domain.consent import Consent
from gateway.domain.intent import ConsentKey, TakenOrder, Trust
from gateway.domain.payment import PaymentKey
from gateway.ports import (
    AssertionUse,
    IssuerKey,
    KeySource,
    Observer,
    SignatureVerifier,
    StoreUnavailableError,
    TrustTable,
    UnitOfWork,
)
from schemas.reasons import Reason, ReasonCode


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


async def recheck_signatures(
    verifier: SignatureVerifier, keys: KeySource, signatures: Sequence[str | None], now: datetime
) -> list[Reason | None]:
    """What initiation verified, looked at again: why each signature counts no more, or None.

    A key that this process does not know may be newer than what it has read: then it is looked at once more.
    """
    problems = [verifier.recheck(signature=s, now=now) for s in signatures]
    if any(p is not None and p.code is ReasonCode.DS0E for p in problems) and await keys.refresh_if_stale():
        problems = [verifier.recheck(signature=s, now=now) for s in signatures]
    return problems


async def use_proofs(
    uow: UnitOfWork, orders: Sequence[TakenOrder], consents: Mapping[ConsentKey, Consent], table: TrustTable
) -> Trust:
    """Read what judging a batch's proofs needs, and use the proofs up: three statements at most, none without proofs.

    An order that is refused in the end has used its proof all the same: it was made for that order alone.
    """
    proofs = [(o.key, o.assertion) for o in orders if isinstance(o.assertion, Assertion)]
    exempting = [k for k, c in consents.items() if c.terms.payment and c.terms.payment.low_value_exemption]
    uses: dict[PaymentKey, AssertionUse] = {}
    for key, assertion in proofs:
        # In the orders' order: the first of the batch that carries a proof has it, and of two orders under one id the
        # first may stand.
        uses.setdefault(
            key,
            AssertionUse(
                issuer=assertion.issuer,
                jti=assertion.jti,
                partner_id=key[0],
                used_by=key[1],
                keep_until=assertion.keep_until,
            ),
        )
    refused = await uow.authentication.use(list(uses.values())) if uses else frozenset()
    issuers = {a.issuer: table.issuer(a.issuer) for _, a in proofs}
    replayed: frozenset[PaymentKey] = frozenset(key for key, use in uses.items() if use in refused)
    return Trust(
        policy=table.policy,
        issuers={name: issuer for name, issuer in issuers.items() if issuer is not None},
        links=await uow.authentication.links(sorted({a.identity for _, a in proofs})) if proofs else {},
        replayed=replayed,
        authenticated_at=await uow.authentication.authenticated_at(exempting) if exempting else {},
    )
