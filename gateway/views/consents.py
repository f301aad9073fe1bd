"""Consents: how they stand, what is used of their limits, and what was ever asked of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gateway.base.keys import ConsentKey
from gateway.consents.postgres import PostgresConsentStore, TermsCache
from gateway.consents.rules.exemption import exempt_window
from gateway.consents.rules.limits import UNUSED, Usage, Window, WindowKey, windows_at, with_taken
from gateway.consents.rules.records import Actor, CommandOutcome, ConsentVersion
from gateway.consents.store import PurposeEndRow
from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.identity.postgres import PostgresAuthenticationStore
from gateway.payments.postgres import read_windows
from gateway.views.view import View
from schemas.codec import decode
from schemas.consents import ConsentStatus, ConsentTerms, Purpose

_SQL = load(__name__, "consents")


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent with what stands beside it.

    Attributes:
        ended_purposes: those of its terms that are over.
        sent: the terms as they were sent, in the canonical form that the digest is of.
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
    sent: str
    terms_digest: str


@dataclass(frozen=True, slots=True)
class WindowUse:
    """What is used of one window.

    Attributes:
        taken: by payments that stand or are in flight: what counts against the limit.
        reserved: the part of it that is in flight, of which it is not known yet whether it will stand.
    """

    taken: Usage = UNUSED
    reserved: Usage = UNUSED

    @property
    def used(self) -> Usage:
        """The part of it that stands."""
        return Usage(
            self.taken.taken_minor - self.reserved.taken_minor, self.taken.taken_count - self.reserved.taken_count
        )


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

    async def usage(self, consent: StoredConsent, now: datetime) -> list[tuple[Window, WindowUse]]:
        """Every limit window that runs at ``now``, with what is used of it."""
        found = await self._used((consent.terms.partner_id, consent.terms.consent_id))
        return [(w, found.get(w.key, WindowUse())) for w in windows_at(consent.terms, now)]

    async def exempt_usage(self, consent: StoredConsent) -> WindowUse | None:
        """What was paid without a proof since the last payment with one; None where the consent exempts nothing."""
        key: ConsentKey = (consent.terms.partner_id, consent.terms.consent_id)
        async with translated():
            since = await PostgresAuthenticationStore(self._connection).authenticated_at([key])
            window = exempt_window(consent.terms, since.get(key))
        return None if window is None else (await self._used(key)).get(window, WindowUse())

    async def _used(self, key: ConsentKey) -> dict[WindowKey, WindowUse]:
        rows = await self._fetch(_SQL.usage, *key)
        in_flight: dict[WindowKey, Usage] = {}
        for row in rows:
            for window in read_windows(row["in_flight"] or ""):
                in_flight[window] = with_taken(in_flight.get(window, UNUSED), row["minor"])
        return {
            window: WindowUse(Usage(row["minor"], row["count"]), in_flight.get(window, UNUSED))
            for row in rows
            if row["in_flight"] is None and (window := WindowKey(row["limit_key"], row["starts_at"]))
        }

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
