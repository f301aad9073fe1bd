"""Aggregates for both groups: settled payments by category, region and week, of customers who agree to marketing.

A table is told once for each week and currency, and again where later payments change it, if no number in it or in the
difference to any that was told before is of fewer than k customers, and if it gives away nothing that one of those
withheld. Else it is withheld as a whole.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.marketing.rules.activity import MarketingPermit, activities_of, permit_of
from gateway.marketing.rules.aggregates import (
    Contribution,
    Place,
    cells_of,
    contributions,
    differs_too_little,
    gives_away,
    suppressed,
    week_of,
)
from gateway.marketing.service import FIRST
from gateway.marketing.store import MarketingUnit
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.marketing import AGGREGATE_TYPE, AggregateCell, AggregateTable
from schemas.primitives import Money
from schemas.topics import AGGREGATES

_PAGE: Final = 500


class Counted(Struct, frozen=True, order=True, gc=False):
    """A payment that a table counts, and the consent that permits it."""

    row: Contribution
    consent_key: ConsentKey


class AggregateService:
    """Publishes the weeks that are over.

    Args:
        k: the least number of customers behind a number.
        weeks: how many of the last whole weeks are looked at: so long may a payment be late.
    """

    def __init__(
        self, *, store: Store[MarketingUnit], observer: Observer, clock: Clock, k: int, weeks: int = 4
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._k = k
        self._weeks = weeks

    async def publish(self) -> int:
        """Publish what the last weeks have that was not told yet; return how many tables that was."""
        found = await until_done(self._read)
        told = 0
        for (week, currency), rows in sorted(found.items()):
            told += await until_done(partial(self._tell, week, currency, rows))
        return told

    async def _read(self) -> Mapping[tuple[str, str], Sequence[Counted]]:
        now = self._clock.now()
        weeks = {week_of(now - timedelta(weeks=n)) for n in range(1, self._weeks + 1)}
        found: dict[tuple[str, str], list[Counted]] = {}
        after = FIRST
        async with self._store.reading() as uow:
            while keys := await uow.marketing.candidates(after, _PAGE):
                consents = await uow.consents.read(keys)
                paid = await uow.marketing.paid(keys, now - timedelta(weeks=self._weeks + 1))
                permits = [p for c in consents.values() if isinstance(p := permit_of(c, now), MarketingPermit)]
                for activity in activities_of(permits, paid):
                    counted = contributions([activity])
                    for place in (p for p in counted if p[0] in weeks):
                        found.setdefault(place, []).extend(Counted(row, activity.permit.key) for row in counted[place])
                after = keys[-1]
        return {place: sorted(rows) for place, rows in found.items()}

    async def _tell(self, week: str, currency: str, counted: Sequence[Counted]) -> bool:
        async with self._store.transaction() as uow:
            before = await uow.marketing.published(week, currency)
            rows = [c.row for c in counted]
            if before and list(before[-1]) == rows:
                return False
            # Without a lock first: what is withheld needs none.
            hidden = self._hidden(rows, before)
            if hidden is not None:
                # Consents that change wait until this has committed, and who ended before is in no number.
                permitted = await self._held(uow, sorted({c.consent_key for c in counted}))
                rows = [c.row for c in counted if c.consent_key in permitted]
                hidden = self._hidden(rows, before)
            if hidden is None:
                self._observer.count("marketing", "aggregate_withheld")
                return False
            revision, now = len(before) + 1, self._clock.now()
            if not await uow.marketing.add_table(week, currency, revision, rows, now=now):
                return False
            table = table_of(week, currency, revision, rows, k=self._k, now=now)
            event = OutboxEvent(
                topic=AGGREGATES,
                key=week,
                event_id=f"{week}:{currency}:{revision}",
                event_type=AGGREGATE_TYPE,
                occurred_at=now,
                body=encode(table),
            )
            await uow.outbox.append([event])
        self._observer.count("marketing", "aggregate_published")
        self._observer.count("marketing", "cell_suppressed", n=len(hidden))
        return True

    def _hidden(
        self, rows: Sequence[Contribution], before: Sequence[Sequence[Contribution]]
    ) -> frozenset[Place] | None:
        """The cells that are withheld of a table beside those that were published; None: all of it."""
        cells = cells_of(rows)
        hidden = suppressed(cells, self._k)
        withheld = (
            len(hidden) == len(cells)
            # A table without payments is one whose payments were destroyed: nothing can be compared with it.
            or not all(before)
            or any(differs_too_little(rows, old, self._k) for old in before)
            or (before and gives_away([*before, rows], self._k))
        )
        return None if withheld else hidden

    async def _held(self, uow: MarketingUnit, keys: Sequence[ConsentKey]) -> frozenset[ConsentKey]:
        """Those of the consents that permit marketing, and go on to until this transaction ends."""
        found: dict[ConsentKey, Consent] = {}
        for begin in range(0, len(keys), _PAGE):
            found.update(await uow.consents.hold(keys[begin : begin + _PAGE]))
        # After the last one, as whoever decides under locks.
        now = self._clock.now()
        return frozenset(k for k, c in found.items() if isinstance(permit_of(c, now), MarketingPermit))


def table_of(
    week: str, currency: str, revision: int, rows: Sequence[Contribution], *, k: int, now: datetime
) -> AggregateTable:
    """A table as it is told: of a suppressed cell its place alone."""
    cells = cells_of(rows)
    hidden = suppressed(cells, k)
    told = []
    for place in sorted(cells, key=lambda p: (p[0] or "", p[1] or "")):
        category, region = place
        if place in hidden:
            told.append(AggregateCell(category=category, region=region, suppressed=True))
            continue
        cell = cells[place]
        told.append(
            AggregateCell(
                category=category,
                region=region,
                customers=len(cell.customers),
                payments=len(cell.payments),
                amount=Money.trusted(cell.amount_minor, currency),
            )
        )
    return AggregateTable(week=week, currency=currency, revision=revision, k=k, cells=tuple(told), published_at=now)
