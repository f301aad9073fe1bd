"""What people and provisioning write of consents: those that customers have given elsewhere."""

from collections.abc import Sequence

from gateway.base.keys import ConsentKey
from gateway.consents.rules.purposes import next_end
from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.partners import UnknownPartnerError
from schemas.codec import encode
from schemas.consent_commands import canonical_terms
from schemas.consents import ConsentStatus, ConsentTerms
from schemas.primitives import ConsentId, FundingToken, PartnerId

_SQL = load(__name__, "consent_registry")


class PostgresConsentRegistry(OnConnection):
    """Consents on one connection; a call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def add_consents(
        self, consents: Sequence[tuple[ConsentTerms, ConsentStatus]], *, documents: Sequence[bytes] | None = None
    ) -> frozenset[ConsentKey]:
        """Store first versions of consents that do not exist; return the keys of these.

        Args:
            consents: no consent may be named twice.
            documents: the terms as they were given: their digest is of these. None: as the gateway writes them.
        """
        written = [encode(t) for t, _ in consents]
        rows = await self._fetch(
            _SQL.add_consents,
            [t.partner_id for t, _ in consents],
            [t.consent_id for t, _ in consents],
            [t.customer_id for t, _ in consents],
            [status.value for _, status in consents],
            [w.decode() for w in written],
            [canonical_terms(d) for d in (documents or written)],
            [next_end(t, ()) for t, _ in consents],
        )
        return frozenset((r["partner_id"], r["consent_id"]) for r in rows)

    async def lock_under(self, token: FundingToken, partner_id: PartnerId) -> list[ConsentId]:
        """Wait for the locks of a partner's consents that name a token; return these consents."""
        rows = await self._fetch(_SQL.lock_under, token, partner_id)
        return [ConsentId(r["consent_id"]) for r in rows]

    async def lock_changes(self, key: ConsentKey) -> int | None:
        """Lock a consent and return how often it was changed; None if there is no such consent."""
        rows = await self._fetch(_SQL.lock_changes, *key)
        return rows[0]["changes"] if rows else None

    def _nothing_named(self) -> Exception:
        # The only foreign key of these tables.
        return UnknownPartnerError("the partner is not registered")
