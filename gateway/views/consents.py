"""Consents: how they stand, what is used of their limits, and what was ever asked of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gateway.base.keys import ConsentKey
from gateway.consents.postgres import PostgresConsentStore, TermsCache
from gateway.consents.rules.exemption import exempt_window
from gateway.consents.rules.limits import Usage, Window, windows_at
from gateway.consents.rules.records import Actor, CommandOutcome, ConsentVersion
from gateway.consents.store import PurposeEndRow
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.identity.postgres import PostgresAuthenticationStore
from gateway.views.view import View
from schemas.codec import decode
from schemas.consents import ConsentStatus, ConsentTerms, Purpose

_SQL = load(__name__, "consents")


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent with what stands beside it.

    Attributes:
        ended_purposes: those of its terms that are over.
    """

    partner_id: str
    consent_id: str
    customer_id: str
    version: int
    status: ConsentStatus
    ended_purposes: tuple[Purpose, ...]
    terms: ConsentTerms
    created_at: datetime
    status_changed_at: datetime


@dataclass(frozen=True, slots=True)
class AskedOfConsent:
    """One command on a consent.

    Attributes:
        change: which of the consent's changes it made; None where it made none.
        status, version: the consent's afterwards; None where there was no such consent.
        reason: why it was refused, or an operator's word; code and sentence.
        reference: where it came from: topic/partition/offset of the record, or who did it.
    """

    at: datetime
    command_id: str
    command: str
    actor: Actor
    outcome: CommandOutcome
    change: int | None
    status: str | None
    version: int | None
    reason: str | None
    reference: str


class ConsentsView(View):
    """Consents."""

    async def all(self, *, partner_id: str | None, status: str | None, limit: int) -> list[StoredConsent]:
        """Consents by partner and id."""
        return [_consent(r) for r in await self._fetch(_SQL.consents, partner_id, status, limit)]

    async def find(self, consent_id: str, *, partner_id: str | None = None) -> list[StoredConsent]:
        """Consents with this id: one a partner at most."""
        partners = None if partner_id is None else [partner_id]
        return [_consent(r) for r in await self._fetch(_SQL.consent, partners, consent_id)]

    async def versions(self, consent: StoredConsent) -> Sequence[ConsentVersion]:
        """Every version of the consent's terms, the first one first."""
        async with translated():
            store = PostgresConsentStore(self._connection, TermsCache())
            return await store.versions((consent.terms.partner_id, consent.terms.consent_id))

    async def purpose_ends(self, consent: StoredConsent) -> Sequence[PurposeEndRow]:
        """Every purpose that was ever ended, in the order of the consent's changes."""
        async with translated():
            store = PostgresConsentStore(self._connection, TermsCache())
            return await store.purpose_ends((consent.terms.partner_id, consent.terms.consent_id))

    async def usage(self, consent: StoredConsent, now: datetime) -> list[tuple[Window, Usage]]:
        """Every limit window that runs at ``now``, with what is used of it."""
        key: ConsentKey = (consent.terms.partner_id, consent.terms.consent_id)
        windows = windows_at(consent.terms, now)
        async with translated():
            store = PostgresConsentStore(self._connection, TermsCache())
            found = await store.usage([(*key, w.key) for w in windows])
        return [(w, found.get((*key, w.key), Usage())) for w in windows]

    async def exempt_usage(self, consent: StoredConsent) -> Usage | None:
        """What was paid without a proof since the last payment with one; None where the consent exempts nothing."""
        key: ConsentKey = (consent.terms.partner_id, consent.terms.consent_id)
        async with translated():
            since = await PostgresAuthenticationStore(self._connection).authenticated_at([key])
            window = exempt_window(consent.terms, since.get(key))
            if window is None:
                return None
            store = PostgresConsentStore(self._connection, TermsCache())
            return (await store.usage([(*key, window)])).get((*key, window), Usage())

    async def history(self, partner_id: str, consent_id: str, *, limit: int) -> list[AskedOfConsent]:
        """Every command on a consent that is remembered, the oldest first."""
        rows = await self._fetch(_SQL.commands, partner_id, consent_id, limit)
        return [
            AskedOfConsent(
                at=r["handled_at"],
                command_id=r["command_id"],
                command=r["command"],
                actor=Actor(r["actor"]),
                outcome=CommandOutcome(r["outcome"]),
                change=r["change"],
                status=r["status"],
                version=r["version"],
                reason=" ".join(t for t in (r["reason_code"], r["reason_text"]) if t) or None,
                reference=r["reference"],
            )
            for r in rows
        ]


def _consent(row: asyncpg.Record) -> StoredConsent:
    fields = dict(row)
    fields["terms"] = decode(ConsentTerms, row["terms"].encode(), trusted=True)
    fields["status"] = ConsentStatus(row["status"])
    fields["ended_purposes"] = tuple(p for p in Purpose if p in row["ended_purposes"])
    return StoredConsent(**fields)
