"""Which identities are whose, revoked issuer keys, and the trust policy that counts."""

from datetime import datetime

from gateway.database.queries import load
from gateway.identity.registry import PostgresIdentities
from gateway.identity.store import IdentityLink
from gateway.views.view import View
from schemas.primitives import CustomerId

_SQL = load(__name__, "identities")


class IdentitiesView(View):
    """Identities and who vouches for them."""

    async def links(
        self, customer_id: CustomerId | None = None, *, ended: bool = False, limit: int = 1000
    ) -> list[IdentityLink]:
        """Links of one customer or all, by customer; with ``ended`` also those that no longer stand."""
        return [IdentityLink(**dict(r)) for r in await self._fetch(_SQL.history, customer_id, ended, limit)]

    async def revoked_keys(self) -> frozenset[tuple[str, str]]:
        """Every (issuer, kid) that was revoked."""
        return await PostgresIdentities(self._connection).revoked_keys()

    async def applied_policy(self) -> tuple[str, datetime] | None:
        """Digest of the trust policy that counts, and since when; None if there is none yet."""
        return await PostgresIdentities(self._connection).applied_policy()
