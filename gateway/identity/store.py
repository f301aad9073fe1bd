"""Customers' proofs: identity providers, their keys, links and used assertions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.identity.assurance import Assertion, AssurancePolicy, Issuer
from schemas.primitives import CustomerId, PartnerId
from schemas.reasons import Reason


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an identity provider, as its key set gives it. ``jwk`` holds public members only.

    Attributes:
        revoked: the provider or an operator has withdrawn it, for ever.
    """

    issuer: str
    kid: str
    algorithm: str
    jwk: Mapping[str, Any]
    valid_from: datetime | None
    valid_until: datetime | None
    revoked: bool


class TrustTable(Protocol):
    """Trusted identity providers, their keys and the assurance policy; held in memory, refreshed within seconds."""

    @property
    def policy(self) -> AssurancePolicy:
        """Levels and freshness asked for."""

    def issuer(self, issuer: str) -> Issuer | None:
        """The provider's entry."""

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        """The provider's key, whatever its state. A miss on a trusted provider is remembered for the next call."""

    async def refresh_unknown(self) -> bool:
        """Read again the key sets in which :meth:`key` missed, each at most once a second; True if one was read.

        Waits half a second at most and never raises: then look once more at what was refused for an unknown key.
        """


class AssertionVerifier(Protocol):
    """Checks an assertion's signature and shape; what it proves is judged by the domain."""

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        """The verified claims of a compact JWS, or why there are none."""

    def recheck(self, issuer: str, kid: str) -> Reason | None:
        """Why what this key signed, and :meth:`verify` accepted a while ago, counts no more: revoked or withdrawn."""


class AssertionUse(Struct, frozen=True, gc=False):
    """One assertion's one use.

    Attributes:
        used_by: the payment's id; for a command on a consent an id of the command.
        keep_until: :attr:`gateway.identity.assurance.Assertion.keep_until`.
    """

    issuer: str
    jti: str
    partner_id: PartnerId
    used_by: UUID
    keep_until: datetime


@dataclass(frozen=True, slots=True)
class IdentityLink:
    """One customer as one identity provider knows them; ``unlinked_at`` is None while the link stands."""

    issuer: str
    subject: str
    customer_id: CustomerId
    linked_at: datetime
    unlinked_at: datetime | None = None


class AuthenticationStore(Protocol):
    """Identity links and used assertions."""

    async def links(self, identities: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CustomerId]:
        """Customers by (issuer, subject), for the links that stand."""

    async def use(self, uses: Sequence[AssertionUse]) -> frozenset[AssertionUse]:
        """Use assertions up; return those that another payment or command has used: they must be refused.

        The same use again is no other use: a redelivered order keeps its proof. Within a batch the first one counts.
        """

    async def authenticated_at(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        """When a payment under each consent last carried a proof, as far as that was marked."""

    async def mark_authenticated(self, keys: Sequence[ConsentKey], *, now: datetime) -> None:
        """Note that a payment with a proof was sent now; the caller holds the consents' locks."""

    async def purge(self, *, before: datetime, limit: int) -> int:
        """Forget up to ``limit`` used assertions that need not be kept past ``before``; return how many."""


class AuthenticationUnit(Protocol):
    """What proves customers."""

    @property
    def authentication(self) -> AuthenticationStore:
        """Identity links and used assertions."""
