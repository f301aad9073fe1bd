"""One poison record or row must not stop its stage or take its neighbours with it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.base.errors import StoreIntegrityError
from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.messaging.records import DeadLetters, Record, UnreadError

T = TypeVar("T")
R = TypeVar("R")


async def write_isolated(
    items: Sequence[T], write: Callable[[Sequence[T]], Awaitable[R]], failed: Callable[[T, Exception], None]
) -> list[R]:
    """Write a batch; where the database refuses it as breaking a rule, write each item alone.

    Args:
        items: of one transaction.
        write: does it; run again through outages, so it must be safe to repeat.
        failed: told of an item that is refused alone too: a bug. It stays as it is for its queue or recovery to find
            again, after a pause; its neighbours are written.

    Returns:
        what ``write`` returned, once for the batch or once for each item that was written alone.
    """
    try:
        return [await until_done(lambda: write(items))]
    except StoreIntegrityError as error:
        if len(items) == 1:
            failed(items[0], error)
            return []
    written: list[R] = []
    for item in items:
        written += await write_isolated([item], write, failed)
    return written


class IsolatedBatch:
    """Runs a stage's batch; on a failure that is not an outage, runs it record by record and parks what still fails.

    Stages are idempotent, so running a record again that had already been handled does nothing. Outages never come
    here: stages wait them out in place.
    """

    def __init__(self, stage: str, *, dead_letters: DeadLetters, observer: Observer) -> None:
        self._stage = stage
        self._dead_letters = dead_letters
        self._observer = observer

    async def run(self, take: Callable[[Sequence[Record]], Awaitable[None]], records: Sequence[Record]) -> None:
        """Bring every record to an end: handled, or parked with the error's class; what came unread is parked."""
        if any(r.unread is not None for r in records):
            await self._park_unread([(r, UnreadError(r.unread)) for r in records if r.unread is not None])
            records = [r for r in records if r.unread is None]
            if not records:
                return
        try:
            await take(records)
        except Exception as error:  # noqa: BLE001 - a bug in one record's handling must not lose the others
            self._tell(error)
        else:
            return
        for record in records:
            try:
                await take([record])
            except Exception as error:  # noqa: BLE001 - as above
                self._tell(error, record)
                parked = [(record, error)]
                await until_done(lambda parked=parked: self._dead_letters.park(self._stage, parked))  # type: ignore[misc]

    async def _park_unread(self, unread: Sequence[tuple[Record, Exception]]) -> None:
        for record, error in unread:
            self._observer.count(self._stage, "unread")
            self._observer.note(
                "unread", level="error", stage=self._stage, reference=record.reference, error=str(error)
            )
        await until_done(lambda: self._dead_letters.park(self._stage, unread))

    def _tell(self, error: Exception, record: Record | None = None) -> None:
        self._observer.count(self._stage, "failed", reason=type(error).__name__)
        self._observer.note(
            "record_parked" if record else "batch_failed",
            level="error",
            stage=self._stage,
            error=type(error).__name__,
            reference=record.reference if record else None,
        )
