"""What needs somebody: open payments that are old, breaks, erasures that nobody confirmed, events that stand."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.database.queries import load
from gateway.outbox.bundles import type_of
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment
from gateway.views.view import View

_SQL = load(__name__, "attention")

COUNTED_MAX = 10_000
"""Beyond so many it does not matter how many they are."""


@dataclass(frozen=True, slots=True)
class Break:
    """A clearing record that fits no payment, and with which nobody has dealt."""

    network_id: str
    cycle_id: str
    record_no: int
    kind: str
    rrn: str
    amount_minor: int
    currency: str
    partner_id: str | None
    payment_id: UUID | None
    break_kind: str
    break_detail: str | None
    imported_at: datetime


@dataclass(frozen=True, slots=True)
class BreaksOfKind:
    """Breaks of one kind. ``oldest``: when the first of them was imported."""

    network_id: str
    break_kind: str
    breaks: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class OverdueErasure:
    """What an affiliate was told to erase, and has not confirmed in time.

    Attributes:
        remind_at: since when a reminder waits to be sent; reminders: how many were.
    """

    affiliate_id: str
    partner_id: str
    consent_id: str
    cause: str | None
    noticed_at: datetime
    erase_by: datetime
    notice_id: UUID
    remind_at: datetime | None
    reminders: int


@dataclass(frozen=True, slots=True)
class ResolvedBreak:
    """A break that people have dealt with. ``resolved_by``: the second of them, where there are two."""

    network_id: str
    cycle_id: str
    record_no: int
    break_kind: str
    resolution: str
    why: str
    resolved_by: str
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of events that Kafka has not confirmed. ``rows``: at most :data:`COUNTED_MAX` + 1; ``parked``: put aside."""

    rows: int
    oldest: datetime | None
    parked: int


@dataclass(frozen=True, slots=True)
class Expiry:
    """A registered key that ends. ``whose``: partner's or affiliate's id."""

    kind: str
    whose: str
    kid: str
    valid_until: datetime


class AttentionView(View):
    """What needs somebody."""

    async def open_payments(self, *, before: datetime, limit: int) -> list[Payment]:
        """Payments whose outcome is open, decided before then, the oldest first."""
        return [payment_of(r) for r in await self._fetch(_SQL.open_payments, before, limit)]

    async def breaks(self, *, limit: int) -> list[Break]:
        """Breaks, the youngest first."""
        return [Break(**dict(r)) for r in await self._fetch(_SQL.breaks, limit)]

    async def breaks_by_kind(self) -> list[BreaksOfKind]:
        """How many breaks there are, by network and kind."""
        return [BreaksOfKind(**dict(r)) for r in await self._fetch(_SQL.breaks_by_kind)]

    async def resolved(self, *, limit: int) -> list[ResolvedBreak]:
        """Breaks that were dealt with, the latest first."""
        return [ResolvedBreak(**dict(r)) for r in await self._fetch(_SQL.resolved, limit)]

    async def overdue_erasures(self, *, now: datetime, limit: int) -> list[OverdueErasure]:
        """Erasures that should have been confirmed, the oldest first."""
        return [OverdueErasure(**dict(r)) for r in await self._fetch(_SQL.overdue_erasures, now, limit)]

    async def waiting(self) -> Waiting:
        """Events that wait for Kafka."""
        return Waiting(**dict((await self._fetch(_SQL.waiting, COUNTED_MAX + 1))[0]))

    async def recent_events(self, *, limit: int) -> dict[str, int]:
        """Event type → how many of the outbox's last ``limit`` rows are of it: events, or bundles of them."""
        found: Counter[str] = Counter()
        for row in await self._fetch(_SQL.recent_events, limit):
            found[type_of(row["event_type"])] += row["events"]
        return dict(found)

    async def recent_outcomes(self, types: Sequence[str], *, limit: int) -> dict[str, int]:
        """Event type → how many payments stand as it says, of those that the last ``limit`` events are about."""
        return {r["event_type"]: r["payments"] for r in await self._fetch(_SQL.recent_outcomes, limit, list(types))}

    async def rows_written(self) -> int:
        """How many payments were ever written, as the server's statistics have it: seconds late, and free to ask."""
        rows = await self._fetch(_SQL.rows_written)
        return int(rows[0]["written"] or 0) if rows else 0

    async def expiries(self, *, before: datetime) -> list[Expiry]:
        """Registered keys that count now and end before then, the next one first."""
        return [Expiry(**dict(r)) for r in await self._fetch(_SQL.expiries, before)]
