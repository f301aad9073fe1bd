"""Consents and their usage in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from asyncpg import Connection, Record

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, ConsentCommand
from gateway.consents.rules.limits import Usage, UsageKey, WindowKey
from gateway.consents.rules.purposes import NO_PURPOSES, PurposeEnd, next_end
from gateway.consents.rules.records import (
    Actor,
    CommandKey,
    CommandOutcome,
    ConsentRecord,
    ConsentVersion,
    HandledCommand,
    Proof,
)
from gateway.consents.store import PurposeEndRow, UsageChange
from gateway.database.queries import load
from schemas.codec import decode, encode
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.reasons import Reason, ReasonCode

_SQL = load(__name__, "consent")

_STATUSES: Final = {status.value: status for status in ConsentStatus}

CACHED_TERMS_MAX = 50_000
"""Parsed terms kept in memory, about 3 KB each: the consents that are in use in one worker's partitions."""


class TermsCache:
    """Parsed terms by consent and version; a version's terms never change, so an entry never becomes stale."""

    def __init__(self, bound: int = CACHED_TERMS_MAX) -> None:
        self._bound = bound
        self._terms: dict[ConsentKey, tuple[int, ConsentTerms]] = {}

    def held(self, keys: Sequence[ConsentKey]) -> Sequence[tuple[int, ConsentTerms] | None]:
        """Version and terms that are kept of each of these consents."""
        return [self._terms.get(key) for key in keys]

    def parse(self, key: ConsentKey, version: int, text: str) -> ConsentTerms:
        """Return a row's terms, parsed once a version."""
        kept = self._terms.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        terms = decode(ConsentTerms, text.encode(), trusted=True)
        if kept is None and len(self._terms) >= self._bound:
            self._terms.pop(next(iter(self._terms)))
        self._terms[key] = (version, terms)
        return terms


class PostgresConsentStore:
    """Implements :class:`gateway.consents.store.ConsentStore` on one connection."""

    def __init__(self, connection: "Connection[Any]", cache: TermsCache) -> None:
        self._connection = connection
        self._cache = cache

    async def read(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        return await self._fetch(_SQL.read, keys)

    async def lock(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        return await self._fetch(_SQL.lock, keys)

    async def hold(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        return await self._fetch(_SQL.hold, keys)

    async def lock_records(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, ConsentRecord]:
        rows = await self._connection.fetch(_SQL.lock_records, [k[0] for k in keys], [k[1] for k in keys])
        named = [(row["partner_id"], row["consent_id"], row["version"]) for row in rows]
        found = await self._connection.fetch(_SQL.digests, *map(list, zip(*named, strict=True))) if named else []
        digests = {(row["partner_id"], row["consent_id"]): row["digest"] for row in found}
        return {
            key: ConsentRecord(self._consent(row), digests[key], row["changes"])
            for row in rows
            if (key := (row["partner_id"], row["consent_id"])) in digests
        }

    async def lock_past_end(self, *, now: datetime, limit: int) -> Sequence[ConsentRecord]:
        return [self._record(row) for row in await self._connection.fetch(_SQL.lock_past_end, now, limit)]

    async def insert(self, records: Sequence[ConsentRecord], *, now: datetime) -> frozenset[ConsentKey]:
        if not records:
            return frozenset()
        terms = [r.consent.terms for r in records]
        rows = await self._connection.fetch(
            _SQL.insert,
            [r.key[0] for r in records],
            [r.key[1] for r in records],
            [t.customer_id for t in terms],
            [r.consent.version for r in records],
            [r.status.value for r in records],
            [encode(t).decode() for t in terms],
            [next_end(r.consent.terms, r.consent.ended) for r in records],
            [r.changes for r in records],
            [" ".join(sorted(r.consent.ended)) for r in records],
            now,
        )
        return frozenset((row["partner_id"], row["consent_id"]) for row in rows)

    async def update(self, records: Sequence[ConsentRecord], *, now: datetime) -> None:
        if not records:
            return
        terms = [r.consent.terms for r in records]
        await self._connection.execute(
            _SQL.update,
            [r.key[0] for r in records],
            [r.key[1] for r in records],
            [r.consent.version for r in records],
            [r.status.value for r in records],
            [encode(t).decode() for t in terms],
            [next_end(r.consent.terms, r.consent.ended) for r in records],
            [r.changes for r in records],
            [" ".join(sorted(r.consent.ended)) for r in records],
            now,
        )

    async def add_versions(self, versions: Sequence[ConsentVersion]) -> None:
        if not versions:
            return
        await self._connection.execute(
            _SQL.add_versions,
            [v.key[0] for v in versions],
            [v.key[1] for v in versions],
            [v.version for v in versions],
            [v.canonical for v in versions],
            [v.digest for v in versions],
            [v.created_at for v in versions],
            *_proof_columns([v.proof for v in versions]),
        )

    async def add_proofs(self, proofs: Sequence[tuple[ConsentKey, int, Proof]]) -> None:
        if not proofs:
            return
        await self._connection.execute(
            _SQL.add_proofs,
            [key[0] for key, _, _ in proofs],
            [key[1] for key, _, _ in proofs],
            [version for _, version, _ in proofs],
            *_proof_columns([proof for _, _, proof in proofs]),
        )

    async def versions(self, key: ConsentKey) -> Sequence[ConsentVersion]:
        rows = await self._connection.fetch(_SQL.versions, *key)
        return [ConsentVersion(key, r["version"], r["terms"], r["digest"], r["created_at"], _proof(r)) for r in rows]

    async def handled(self, keys: Sequence[CommandKey]) -> Mapping[CommandKey, HandledCommand]:
        if not keys:
            return {}
        columns = [[k[n] for k in keys] for n in range(3)]
        return {h.key: h for h in map(_handled, await self._connection.fetch(_SQL.handled, *columns))}

    async def remember(self, handled: Sequence[HandledCommand]) -> frozenset[CommandKey]:
        if not handled:
            return frozenset()
        rows = await self._connection.fetch(
            _SQL.remember,
            [h.key[0] for h in handled],
            [h.key[1] for h in handled],
            [h.key[2] for h in handled],
            [h.command.value for h in handled],
            [h.body_digest for h in handled],
            [h.outcome.value for h in handled],
            [h.change for h in handled],
            [h.status and h.status.value for h in handled],
            [h.version for h in handled],
            [h.reason and h.reason.code.value for h in handled],
            [h.reason and h.reason.text for h in handled],
            [h.actor.value for h in handled],
            [h.reference for h in handled],
            [h.handled_at for h in handled],
        )
        return frozenset((r["partner_id"], r["consent_id"], r["command_id"]) for r in rows)

    async def add_purpose_ends(self, ended: Sequence[PurposeEndRow]) -> None:
        if not ended:
            return
        await self._connection.execute(
            _SQL.add_purpose_ends,
            [e.key[0] for e in ended],
            [e.key[1] for e in ended],
            [e.change for e in ended],
            [e.purpose.value for e in ended],
            [e.how.value for e in ended],
            [e.version for e in ended],
            [e.ended_at for e in ended],
        )

    async def purpose_ends(self, key: ConsentKey) -> Sequence[PurposeEndRow]:
        rows = await self._connection.fetch(_SQL.purpose_ends, *key)
        return [
            PurposeEndRow(key, r["change"], Purpose(r["purpose"]), PurposeEnd(r["how"]), r["version"], r["ended_at"])
            for r in rows
        ]

    async def ended_since(self, since: datetime, purpose: Purpose = Purpose.PAYMENT) -> Mapping[ConsentKey, datetime]:
        rows = await self._connection.fetch(_SQL.ended_since, since, purpose.value)
        return {(r["partner_id"], r["consent_id"]): r["ended_at"] for r in rows}

    async def last_ends(self, keys: Sequence[ConsentKey], purpose: Purpose) -> Mapping[ConsentKey, int]:
        rows = await self._connection.fetch(_SQL.last_ends, [k[0] for k in keys], [k[1] for k in keys], purpose.value)
        return {(r["partner_id"], r["consent_id"]): r["version"] for r in rows}

    def _record(self, row: Record) -> ConsentRecord:
        return ConsentRecord(self._consent(row), row["digest"], row["changes"])

    def _consent(self, row: Record) -> Consent:
        version = row["version"]
        terms = self._cache.parse((row["partner_id"], row["consent_id"]), version, row["terms"])
        return Consent(terms, version, _STATUSES[row["status"]], _ended(row["ended_purposes"]))

    async def _fetch(self, sql: str, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, Consent]:
        # Kept here: what the cache holds may be gone by the time that the rows are there.
        held = dict(zip(keys, self._cache.held(keys), strict=True))
        versions = [kept and kept[0] for kept in held.values()]
        rows = await self._connection.fetch(sql, [k[0] for k in held], [k[1] for k in held], versions)
        found: dict[ConsentKey, Consent] = {}
        # In the order of the columns: by name each would be looked up.
        for partner_id, consent_id, version, status, over, terms in rows:
            key = (partner_id, consent_id)
            kept = held[key]
            of = kept[1] if terms is None and kept is not None else self._cache.parse(key, version, terms)
            found[key] = Consent(of, version, _STATUSES[status], _ended(over))
        return found

    async def usage(self, keys: Sequence[UsageKey]) -> Mapping[UsageKey, Usage]:
        rows = await self._connection.fetch(_SQL.usage, *_columns(keys))
        return {
            (row["partner_id"], row["consent_id"], WindowKey(row["limit_key"], row["starts_at"])): Usage(
                row["taken_minor"], row["taken_count"]
            )
            for row in rows
        }

    async def add_usage(self, changes: Sequence[UsageChange]) -> None:
        taken = [c for c in changes if c.count > 0]
        if taken:
            await self._connection.execute(_SQL.take, *_change_columns(taken))
        given = [c for c in changes if c.count <= 0]
        if given:
            status = await self._connection.execute(_SQL.give_back, *_change_columns(given))
            if status != f"UPDATE {len(given)}":
                raise StoreIntegrityError(f"usage rows are missing: {status}, wanted {len(given)}")


def _ended(purposes: Sequence[str]) -> frozenset[Purpose]:
    return frozenset(map(Purpose, purposes)) if purposes else NO_PURPOSES


def _change_columns(changes: Sequence[UsageChange]) -> tuple[list[Any], ...]:
    return (*_columns([c.key for c in changes]), [c.minor for c in changes], [c.count for c in changes])


def _columns(keys: Sequence[UsageKey]) -> tuple[list[Any], ...]:
    return (
        [k[0] for k in keys],
        [k[1] for k in keys],
        [k[2].limit_key for k in keys],
        [k[2].starts_at for k in keys],
    )


def _proof_columns(proofs: Sequence[Proof | None]) -> tuple[list[Any], ...]:
    return (
        [p and p.issuer for p in proofs],
        [p and p.subject for p in proofs],
        [p and p.jti for p in proofs],
        [p and p.level for p in proofs],
        [p and p.authenticated_at for p in proofs],
    )


def _proof(row: Record) -> Proof | None:
    if row["issuer"] is None:
        return None
    return Proof(row["issuer"], row["subject"], row["jti"], row["level"], row["authenticated_at"])


def _handled(row: Record) -> HandledCommand:
    code, status = row["reason_code"], row["status"]
    return HandledCommand(
        key=(row["partner_id"], row["consent_id"], row["command_id"]),
        command=ConsentCommand(row["command"]),
        body_digest=row["body_digest"],
        outcome=CommandOutcome(row["outcome"]),
        change=row["change"],
        status=status and ConsentStatus(status),
        version=row["version"],
        reason=code and Reason(code=ReasonCode(code), text=row["reason_text"]),
        actor=Actor(row["actor"]),
        reference=row["reference"],
        handled_at=row["handled_at"],
    )
