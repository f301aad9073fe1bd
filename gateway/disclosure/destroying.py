"""Rows whose time is over go, with evidence that they did; each destruction is told, and so an entry of the log."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.disclosure.rules.destruction import Destruction, OldRows
from gateway.disclosure.rules.sequence import text_of
from gateway.outbox.store import OutboxEvent, OutboxUnit
from schemas.codec import encode
from schemas.disclosure import DataDestroyed
from schemas.events import EventType
from schemas.topics import DISCLOSURE_ROOTS

BATCHES: Final[Mapping[OldRows, int]] = {OldRows.SHARES: 100, OldRows.CONTRIBUTIONS: 1, OldRows.OPERATING: 1000}
"""Rounds, tables and rows a transaction: a long one holds back the relay."""


class OldRowsStore(Protocol):
    """What was kept of customers, affiliates and operators, and is needed no more."""

    async def destroy(self, what: OldRows, *, before: datetime, limit: int) -> Sequence[Destruction]:
        """Destroy rows whose time began then, or before it, and return the evidence, by kind; the oldest first.

        Up to ``limit`` rounds of sharing, published tables, or rows of each kind. The database holds to a least age.
        """


class OldRowsUnit(OutboxUnit, Protocol):
    """What is needed no more, and what is told of it, in one transaction."""

    @property
    def old_rows(self) -> OldRowsStore:
        """What is needed no more."""


class OldRowsService:
    """Destroys what is older than its terms. Any number may do so.

    Args:
        keep: for how long each kind stays.
    """

    def __init__(
        self, *, store: Store[OldRowsUnit], observer: Observer, clock: Clock, keep: Mapping[OldRows, timedelta]
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._keep = keep

    async def destroy(self) -> int:
        """Destroy a batch of each kind, each with its evidence in one transaction; return how many rows it was."""
        return sum([await self._destroy(what, keep) for what, keep in self._keep.items()])

    async def _destroy(self, what: OldRows, keep: timedelta) -> int:
        async def destroy() -> int:
            before = self._clock.now() - keep
            async with self._store.transaction() as uow:
                gone = await uow.old_rows.destroy(what, before=before, limit=BATCHES[what])
                if gone:
                    await uow.outbox.append([destruction_event(g) for g in gone])
                return sum(g.rows for g in gone)

        rows = await until_done(destroy)
        self._observer.count("schedule", f"old_{what}_destroyed", n=rows)
        return rows


def destruction_event(gone: Destruction) -> OutboxEvent:
    """What tells of a destruction."""
    return OutboxEvent(
        topic=DISCLOSURE_ROOTS,
        key=f"data-destroyed:{gone.number}",
        event_id=f"data-destroyed:{gone.number}",
        event_type=EventType.DATA_DESTROYED,
        occurred_at=gone.destroyed_at,
        body=encode(
            DataDestroyed.of_stored(
                number=gone.number,
                kind=gone.kind,
                rows=gone.rows,
                rule=gone.rule,
                before=gone.before,
                digest=gone.digest and text_of(gone.digest),
                occurred_at=gone.destroyed_at,
            )
        ),
    )
