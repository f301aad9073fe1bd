"""Consents and their usage in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from gateway.adapters.postgres.queries import load
from gateway.domain.consent import Consent
from gateway.domain.intent import ConsentKey, UsageKey
from gateway.domain.limits import Usage, WindowKey
from gateway.ports import StoreIntegrityError, UsageChange
from schemas.codec import decode
from schemas.consents import ConsentStatus, ConsentTerms

_SQL = load("consent")

CACHED_TERMS_MAX = 50_000
"""Parsed terms kept in memory, about 3 KB each: the consents that are in use in one worker's partitions."""


class TermsCache:
    """Parsed terms by consent and version; a version's terms never change, so an entry never becomes stale."""

    def __init__(self) -> None:
        self._terms: dict[tuple[str, str, int], ConsentTerms] = {}

    def parse(self, row: Record) -> ConsentTerms:
        """Return the row's terms, parsed once a version."""
        key = (row["partner_id"], row["consent_id"], row["version"])
        terms = self._terms.get(key)
        if terms is None:
            if len(self._terms) >= CACHED_TERMS_MAX:
                self._terms.pop(next(iter(self._terms)))
            terms = self._terms[key] = decode(ConsentTerms, row["terms"].encode())
        return terms


class PostgresConsentStore:
    """Implements :class:`gateway.ports.ConsentStore` on one connection."""

    def __init__(self, connection: "Connection[Any]", cache: TermsCache) -> None:
        self._connection = connection
        self._cache = cache

    async def read(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        return await self._fetch(_SQL.read, keys)

    async def lock(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        return await self._fetch(_SQL.lock, keys)

    async def set_status(self, key: ConsentKey, status: ConsentStatus, *, now: datetime) -> None:
        await self._connection.execute(_SQL.set_status, *key, status.value, now)

    async def _fetch(self, sql: str, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        rows = await self._connection.fetch(sql, [k[0] for k in keys], [k[1] for k in keys])
        return {
            (row["partner_id"], row["consent_id"]): Consent(
                terms=self._cache.parse(row), version=row["version"], status=ConsentStatus(row["status"])
            )
            for row in rows
        }

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        rows = await self._connection.fetch(_SQL.usage, *_columns(keys))
        return {
            (row["partner_id"], row["consent_id"], WindowKey(row["limit_key"], row["starts_at"])): Usage(
                reserved_minor=row["reserved_minor"],
                reserved_count=row["reserved_count"],
                consumed_minor=row["consumed_minor"],
                consumed_count=row["consumed_count"],
            )
            for row in rows
        }

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        if not changes:
            return
        ordered = sorted(changes, key=lambda c: c.key)
        columns = _columns([c.key for c in ordered])
        # Only a reservation can be a window's first use.
        new = [c.key for c in ordered if c.reserved_count > 0]
        if new:
            await self._connection.execute(_SQL.make_usage_rows, *_columns(new))
        status = await self._connection.execute(
            _SQL.add_usage,
            *columns,
            [c.reserved_minor for c in ordered],
            [c.reserved_count for c in ordered],
            [c.consumed_minor for c in ordered],
            [c.consumed_count for c in ordered],
        )
        if status != f"UPDATE {len(ordered)}":
            raise StoreIntegrityError(f"usage rows are missing: {status}, wanted {len(ordered)}")


def _columns(keys: Sequence[UsageKey]) -> tuple[list[Any], ...]:
    return (
        [k[0] for k in keys],
        [k[1] for k in keys],
        [k[2].limit_key for k in keys],
        [k[2].starts_at for k in keys],
    )
