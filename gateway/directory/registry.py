"""What people and provisioning write: partners, keys, merchants, consents; funding tokens are in ``tokens``.

Every method takes a batch and costs one round trip, so thousands of entries take as long as one. What exists is never
overwritten, except merchants, whose file is the whole truth about them; a method returns what was new.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg
from asyncpg import Connection

from gateway.base.keys import ConsentKey
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.directory.merchants import Merchant
from gateway.directory.partners import PartnerKey
from gateway.network.exchange import Acceptor
from schemas.codec import encode
from schemas.consent_commands import canonical_terms
from schemas.consents import ConsentStatus, ConsentTerms
from schemas.primitives import MerchantId, PartnerId

_SQL = load(__name__, "registry")

HomeGroup = Literal["financial", "telecom"]


class UnknownPartnerError(Exception):
    """A key names a partner that is not registered."""


@dataclass(frozen=True, slots=True)
class NewPartner:
    """A partner to register, with the group it belongs to."""

    partner_id: PartnerId
    name: str
    home_group: HomeGroup


@dataclass(frozen=True, slots=True)
class RegisteredPartner:
    """A partner as registered. ``live_keys``: keys neither disabled nor past their end."""

    partner_id: PartnerId
    name: str
    home_group: HomeGroup
    active: bool
    registered_at: datetime
    live_keys: int


class PostgresRegistry:
    """The registries, on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the calls inside one transaction: all of them or none."""
        async with self._connection.transaction():
            yield

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

    async def partners(self) -> list[RegisteredPartner]:
        """Every partner, by id."""
        return [RegisteredPartner(**dict(r)) for r in await self._fetch(_SQL.partners)]

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
        """Disable a key for ever; return since when it is disabled, or None if the partner has no such key."""
        rows = await self._fetch(_SQL.disable_key, partner_id, kid, now)
        return rows[0]["disabled_at"] if rows else None

    async def partner_keys(self, partner_id: PartnerId) -> list[PartnerKey]:
        """A partner's keys, whatever their state, oldest first."""
        rows = await self._fetch(_SQL.partner_keys, partner_id)
        return [PartnerKey(**{**dict(r), "jwk": json.loads(r["jwk"])}) for r in rows]

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

    async def merchants(self, *, after: str = "", limit: int = 100) -> list[Merchant]:
        """Merchants by id, a page at a time: those past ``after``."""
        return [
            Merchant(
                merchant_id=MerchantId(r["merchant_id"]),
                acceptor=Acceptor(r["acceptor_id"], r["name_location"], r["mcc"]),
                networks=frozenset(r["networks"]),
                active=r["active"],
                name=r["name"],
            )
            for r in await self._fetch(_SQL.merchants, after, limit)
        ]

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
        )
        return frozenset((r["partner_id"], r["consent_id"]) for r in rows)

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with translated():
            try:
                rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
            except asyncpg.ForeignKeyViolationError:
                # The only foreign key of these tables; the driver's text quotes the row.
                raise UnknownPartnerError("the partner is not registered") from None
            return rows


def _canonical(terms: ConsentTerms) -> str:
    """The terms' canonical JSON (RFC 8785), whose digest stands for them."""
    return json.dumps(json.loads(encode(terms)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@asynccontextmanager
async def open_registry(dsn: str) -> AsyncIterator[PostgresRegistry]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with session(dsn, session_settings("mypay-registry", idle_in_transaction_s=PEOPLE_S)) as connection:
        yield PostgresRegistry(connection)
