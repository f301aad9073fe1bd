"""Reference data in PostgreSQL: merchants, partners and their keys, funding tokens."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection

from gateway.database.queries import load
from gateway.directory.funding import TokenUse
from gateway.directory.merchants import Merchant
from gateway.directory.partners import PartnerKey
from gateway.network.exchange import Acceptor
from schemas.primitives import MerchantId, NetworkId

_SQL = load(__name__, "directory")


class PostgresDirectory:
    """Implements :class:`gateway.directory.store.Directory` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def merchants(self, ids: Sequence[MerchantId]) -> Mapping[MerchantId, Merchant]:
        rows = await self._connection.fetch(_SQL.merchants, ids)
        return {
            r["merchant_id"]: Merchant(
                merchant_id=r["merchant_id"],
                acceptor=Acceptor(acceptor_id=r["acceptor_id"], name_location=r["name_location"], mcc=r["mcc"]),
                networks=frozenset(r["networks"]),
                active=r["active"],
            )
            for r in rows
        }

    async def usable_tokens(self, uses: Sequence[TokenUse]) -> frozenset[TokenUse]:
        if not uses:
            return frozenset()
        rows = await self._connection.fetch(_SQL.usable_tokens, *map(list, zip(*uses, strict=True)))
        return frozenset(TokenUse(r["token"], r["customer_id"], r["partner_id"]) for r in rows)

    async def open_networks(self, *, reported_since: datetime) -> frozenset[NetworkId]:
        rows = await self._connection.fetch(_SQL.open_networks, reported_since)
        return frozenset(r["network_id"] for r in rows)

    async def is_paused(self, network_id: NetworkId) -> bool:
        return bool(await self._connection.fetchval(_SQL.is_paused, network_id))

    async def report_network(self, network_id: NetworkId, *, worker: str, is_open: bool, now: datetime) -> bool:
        return bool(await self._connection.fetchval(_SQL.report_network, network_id, worker, is_open, now))

    async def active_partners(self) -> frozenset[str]:
        """Ids of partners that may send."""
        return frozenset(r["partner_id"] for r in await self._connection.fetch(_SQL.active_partners))

    async def partner_keys(self) -> list[PartnerKey]:
        """Every key of every partner, whatever its state."""
        return [
            PartnerKey(**{**dict(r), "jwk": json.loads(r["jwk"])})
            for r in await self._connection.fetch(_SQL.partner_keys)
        ]
