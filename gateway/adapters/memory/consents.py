"""Consents and their usage in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.adapters.memory.boundary import Boundary
from gateway.adapters.memory.database import Transaction
from gateway.domain.consent import Consent
from gateway.domain.intent import ConsentKey, UsageKey
from gateway.domain.limits import Usage
from gateway.ports import StoreIntegrityError, UsageChange
from schemas.consents import ConsentStatus


class MemoryConsentStore:
    """Implements :class:`gateway.ports.ConsentStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def read(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        await self._boundary("consents.read")
        return {k: row for k in keys if (row := self._tx.get(self._db.consents, k)) is not None}

    async def lock(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        await self._boundary("consents.lock")
        return await self._tx.lock(self._db.consents, keys)

    async def set_status(self, key: ConsentKey, status: ConsentStatus, *, now: datetime) -> None:  # noqa: ARG002
        await self._boundary("consents.set_status")
        for locked, consent in (await self._tx.lock(self._db.consents, [key])).items():
            self._tx.update(self._db.consents, locked, replace(consent, status=status))

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        await self._boundary("consents.usage")
        return {k: row for k in keys if (row := self._tx.get(self._db.usage, k)) is not None}

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        await self._boundary("consents.add_usage")
        wanted = {c.key: c for c in changes}
        if len(wanted) != len(changes):
            raise AssertionError("a window is changed twice in one call")
        for key, change in sorted(wanted.items()):
            if change.reserved_count > 0:
                await self._tx.insert(self._db.usage, key, Usage())
        locked = await self._tx.lock(self._db.usage, wanted)
        if len(locked) != len(wanted):
            raise StoreIntegrityError("usage rows are missing")
        for key, used in locked.items():
            self._tx.update(self._db.usage, key, _added(used, wanted[key]))


def _added(used: Usage, change: UsageChange) -> Usage:
    result = Usage(
        reserved_minor=used.reserved_minor + change.reserved_minor,
        reserved_count=used.reserved_count + change.reserved_count,
        consumed_minor=used.consumed_minor + change.consumed_minor,
        consumed_count=used.consumed_count + change.consumed_count,
    )
    if min(result.reserved_minor, result.reserved_count, result.consumed_minor, result.consumed_count) < 0:
        raise StoreIntegrityError("a usage would fall below zero")
    return result
