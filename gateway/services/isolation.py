"""One poison record must not stop its stage or take its neighbours with it."""

from collections.abc import Awaitable, Callable, Sequence

from gateway.ports import DeadLetters, Observer, Record
from gateway.services.retrying import until_done


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
        """Bring every record to an end: handled, or parked with the error's class."""
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

    def _tell(self, error: Exception, record: Record | None = None) -> None:
        self._observer.count(self._stage, "failed", reason=type(error).__name__)
        self._observer.note(
            "record_parked" if record else "batch_failed",
            level="error",
            stage=self._stage,
            error=type(error).__name__,
            reference=record.reference if record else None,
        )
