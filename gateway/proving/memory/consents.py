"""Consents and their usage in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.change import OPEN_STATUSES
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Usage, UsageKey
from gateway.consents.rules.purposes import PurposeEnd, next_end
from gateway.consents.rules.records import CommandKey, ConsentRecord, ConsentVersion, HandledCommand, Proof
from gateway.consents.store import PurposeEndRow, UsageChange
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.locks import Strength
from gateway.proving.memory.tables import ConsentMark
from schemas.consents import Purpose

_ENDED: Final = frozenset({PurposeEnd.REVOKED, PurposeEnd.EXPIRED})


class MemoryConsentStore:
    """Implements :class:`gateway.consents.store.ConsentStore` in one transaction."""

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

    async def hold(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        await self._boundary("consents.hold")
        return await self._tx.lock(self._db.consents, keys, Strength.KEY_SHARE)

    async def lock_records(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, ConsentRecord]:
        await self._boundary("consents.lock_records")
        locked = await self._tx.lock(self._db.consents, keys, Strength.UPDATE)
        return {k: self._record(k, row) for k, row in locked.items()}

    async def lock_past_end(self, *, now: datetime, limit: int) -> Sequence[ConsentRecord]:
        await self._boundary("consents.lock_past_end")
        due = [
            (end, key, row)
            for key, row in self._tx.items(self._db.consents)
            if row.status in OPEN_STATUSES and (end := next_end(row.terms, row.ended)) <= now
        ]
        free = (
            (key, row)
            for _, key, row in sorted(due, key=lambda d: d[:2])
            if self._tx.try_lock(self._db.consents, key, Strength.UPDATE)
        )
        return [self._record(key, row) for key, row in islice(free, limit)]

    async def insert(self, records: Sequence[ConsentRecord], *, now: datetime) -> frozenset[ConsentKey]:
        await self._boundary("consents.insert")
        new = frozenset([r.key for r in records if await self._tx.insert(self._db.consents, r.key, r.consent)])
        for record in records:
            if record.key in new:
                await self._tx.insert(self._db.consent_marks, record.key, ConsentMark(record.changes, now))
        return new

    async def update(self, records: Sequence[ConsentRecord], *, now: datetime) -> None:
        await self._boundary("consents.update")
        for record in records:
            before = self._tx.get(self._db.consents, record.key)
            mark = self._tx.get(self._db.consent_marks, record.key)
            if before is None or mark is None:
                continue
            since = mark.status_changed_at if before.status is record.status else now
            self._tx.update(self._db.consents, record.key, record.consent)
            self._tx.update(self._db.consent_marks, record.key, ConsentMark(record.changes, since))

    async def add_versions(self, versions: Sequence[ConsentVersion]) -> None:
        await self._boundary("consents.add_versions")
        for version in versions:
            if not await self._tx.insert(self._db.consent_versions, (version.key, version.version), version):
                raise StoreIntegrityError("consent_version_pkey")

    async def add_proofs(self, proofs: Sequence[tuple[ConsentKey, int, Proof]]) -> None:
        await self._boundary("consents.add_proofs")
        for key, number, proof in proofs:
            version = self._tx.get(self._db.consent_versions, (key, number))
            if version is not None and version.proof is None:
                self._tx.update(self._db.consent_versions, (key, number), replace(version, proof=proof))

    async def versions(self, key: ConsentKey) -> Sequence[ConsentVersion]:
        await self._boundary("consents.versions")
        found = [row for (of, _), row in self._tx.items(self._db.consent_versions) if of == key]
        return sorted(found, key=lambda v: v.version)

    async def handled(self, keys: Sequence[CommandKey]) -> Mapping[CommandKey, HandledCommand]:
        await self._boundary("consents.handled")
        return {k: row for k in keys if (row := self._tx.get(self._db.consent_commands, k)) is not None}

    async def remember(self, handled: Sequence[HandledCommand]) -> frozenset[CommandKey]:
        await self._boundary("consents.remember")
        return frozenset([h.key for h in handled if await self._tx.insert(self._db.consent_commands, h.key, h)])

    async def add_purpose_ends(self, ended: Sequence[PurposeEndRow]) -> None:
        await self._boundary("consents.add_purpose_ends")
        for row in ended:
            if not await self._tx.insert(self._db.purpose_ends, (row.key, row.change, row.purpose), row):
                raise StoreIntegrityError("consent_purpose_end_pkey")

    async def purpose_ends(self, key: ConsentKey) -> Sequence[PurposeEndRow]:
        await self._boundary("consents.purpose_ends")
        found = [row for (of, _, _), row in self._tx.items(self._db.purpose_ends) if of == key]
        return sorted(found, key=lambda e: (e.change, e.purpose))

    async def ended_since(self, since: datetime, purpose: Purpose = Purpose.PAYMENT) -> Mapping[ConsentKey, datetime]:
        await self._boundary("consents.ended_since")
        found = sorted(
            (row.ended_at, row.key)
            for _, row in self._tx.items(self._db.purpose_ends)
            if row.purpose is purpose and row.how in _ENDED and row.ended_at >= since
        )
        return {key: ended_at for ended_at, key in found}

    async def last_ends(self, keys: Sequence[ConsentKey], purpose: Purpose) -> Mapping[ConsentKey, int]:
        await self._boundary("consents.last_ends")
        found = sorted(
            (row.key, row.version) for _, row in self._tx.items(self._db.purpose_ends) if row.purpose is purpose
        )
        return {key: version for key, version in found if key in keys}

    def _record(self, key: ConsentKey, consent: Consent) -> ConsentRecord:
        mark = self._tx.get(self._db.consent_marks, key)
        version = self._tx.get(self._db.consent_versions, (key, consent.version))
        if mark is None or version is None:
            raise AssertionError("a consent has its mark and its versions")
        return ConsentRecord(consent, version.digest, mark.changes)

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        await self._boundary("consents.usage")
        return {k: row for k in keys if (row := self._tx.get(self._db.usage, k)) is not None}

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        await self._boundary("consents.add_usage")
        wanted = {c.key: c for c in changes}
        if len(wanted) != len(changes):
            raise AssertionError("a window is changed twice in one call")
        for key, change in sorted(wanted.items()):
            if change.count > 0:
                await self._tx.insert(self._db.usage, key, Usage())
        locked = await self._tx.lock(self._db.usage, wanted)
        if len(locked) != len(wanted):
            raise StoreIntegrityError("usage rows are missing")
        for key, used in locked.items():
            self._tx.update(self._db.usage, key, _added(used, wanted[key]))


def _added(used: Usage, change: UsageChange) -> Usage:
    result = Usage(used.taken_minor + change.minor, used.taken_count + change.count)
    if min(result) < 0:
        raise StoreIntegrityError("a usage would fall below zero")
    return result
