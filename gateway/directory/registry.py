"""What people and provisioning write of partners, their keys and merchants; funding tokens are in ``tokens``.

Every method takes a batch and costs one round trip, so thousands of entries take as long as one. What exists is never
overwritten, except merchants, whose file is the whole truth about them; a method returns what was new.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.merchants import Merchant
from gateway.directory.partners import NewPartner, PartnerKey, UnknownPartnerError
from gateway.directory.public_keys import KEYS_LOCK
from schemas.primitives import NetworkId, PartnerId

_SQL = load(__name__, "registry")


class PostgresRegistry(OnConnection):
    """The registries, on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def add_partners(self, partners: Sequence[NewPartner]) -> frozenset[PartnerId]:
        """Register partners that do not exist; return the ids of these."""
        rows = await self._fetch(
            _SQL.add_partners,
            [p.partner_id for p in partners],
            [p.name for p in partners],
            [p.home_group for p in partners],
        )
        return frozenset(r["partner_id"] for r in rows)

    async def set_partner_active(self, partner_id: PartnerId, *, active: bool) -> bool:
        """Let a partner send, or not; False if there is no such partner. Works in every process within seconds."""
        return bool(await self._fetch(_SQL.set_partner_active, partner_id, active))

    async def add_keys(self, keys: Sequence[PartnerKey]) -> frozenset[str]:
        """Register public keys whose ids are free; return the ids of these. A kid is never used for another key.

        Raises:
            UnknownPartnerError: one of the partners is not registered; nothing was written.
        """
        rows = await self._fetch(
            _SQL.add_keys,
            [k.kid for k in keys],
            [k.partner_id for k in keys],
            [k.algorithm for k in keys],
            [json.dumps(dict(k.jwk)) for k in keys],
            [k.valid_from for k in keys],
            [k.valid_until for k in keys],
            [k.disabled_at for k in keys],
        )
        return frozenset(r["kid"] for r in rows)

    async def disable_key(self, partner_id: PartnerId, kid: str, *, now: datetime) -> datetime | None:
        """Disable a key for ever; return since when it is disabled, or None if the partner has no such key.

        It is the public key that is disabled, under each id that the partner has it under.
        """
        async with self.transaction():
            await self._hold(KEYS_LOCK)
            rows = await self._fetch(_SQL.disable_key, partner_id, kid, now)
        return next((r["disabled_at"] for r in rows if r["kid"] == kid), None)

    async def pause_network(self, network_id: NetworkId, *, operator: str, why: str) -> bool:
        """Let nothing new be sent to a network; False if it is paused already.

        Workers look each second, and finish the batch that they have begun.
        """
        return bool(await self._fetch(_SQL.pause_network, network_id, operator, why))

    async def paused_at(self, network_id: NetworkId) -> datetime | None:
        """Since when a network is paused; None if it is not."""
        rows = await self._fetch(_SQL.paused_at, network_id)
        return rows[0]["paused_at"] if rows else None

    async def resume_network(self, network_id: NetworkId, *, paused_at: datetime | None = None) -> bool:
        """Let payments be sent to a network again; False if it was not paused, or not since ``paused_at``."""
        return bool(await self._fetch(_SQL.resume_network, network_id, paused_at))

    async def upsert_merchants(self, merchants: Sequence[Merchant]) -> None:
        """Write merchants as given, new or known. No merchant may be named twice."""
        await self._fetch(
            _SQL.upsert_merchants,
            [m.merchant_id for m in merchants],
            [m.acceptor.acceptor_id for m in merchants],
            [m.acceptor.name_location for m in merchants],
            [m.acceptor.mcc for m in merchants],
            [" ".join(sorted(m.networks)) for m in merchants],
            [m.active for m in merchants],
            [m.name for m in merchants],
        )

    def _nothing_named(self) -> Exception:
        # The only foreign key of these tables.
        return UnknownPartnerError("the partner is not registered")
