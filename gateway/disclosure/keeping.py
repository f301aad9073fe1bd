"""What time does to the disclosure log: contents past their time are destroyed, and customers are told once a year."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.disclosure.rules.notices import notice_of
from gateway.disclosure.rules.sequence import text_of
from gateway.disclosure.store import DisclosureUnit, Evidence
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.disclosure import DisclosuresDestroyed
from schemas.events import EventType
from schemas.topics import DISCLOSURE_ROOTS, events_topic


@dataclass(frozen=True, slots=True)
class KeepingSettings:
    """Bounds of keeping the log; each has its reason.

    Attributes:
        keep: how long contents stay: at least the three years that customers may see, which the database holds to.
        batch: contents destroyed, or looked through, in one transaction.
        notices: customers told in one transaction, a query each.
    """

    keep: timedelta = timedelta(days=3 * 366)
    batch: int = 5000
    notices: int = 100


class DisclosureKeepingService:
    """Keeps the log's contents no longer than they may be, and tells customers of them."""

    def __init__(
        self, *, store: Store[DisclosureUnit], observer: Observer, clock: Clock, settings: KeepingSettings
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def destroy(self) -> int:
        """Destroy one batch, with its evidence in the same transaction; return how many contents it was."""

        async def destroy() -> Evidence | None:
            before = self._clock.now() - self._settings.keep
            async with self._store.transaction() as uow:
                gone = await uow.disclosures.destroy(before=before, limit=self._settings.batch)
                if gone is not None:
                    await uow.outbox.append([_destroyed_event(gone)])
                return gone

        gone = await until_done(destroy)
        count = 0 if gone is None else gone.last_seq - gone.first_seq + 1
        self._observer.count("disclosure", "destroyed", n=count)
        return count

    async def notify(self) -> int:
        """Find customers who are to be told, and tell those whose year is over; return how much of both was done."""

        async def notify() -> tuple[int, int]:
            now = self._clock.now()
            async with self._store.transaction() as uow:
                looked = await uow.disclosures.find_customers(limit=self._settings.batch)
                due = await uow.disclosures.due_notices(now, limit=self._settings.notices)
                notices = [(whom, await uow.disclosures.disclosed(whom)) for whom in due]
                await uow.outbox.append(
                    [
                        OutboxEvent(
                            topic=events_topic(whom.partner_id),
                            key=whom.customer_id,
                            event_id=f"notice:{whom.customer_id}:{whom.until.isoformat()}",
                            event_type=EventType.DISCLOSURE_NOTICE,
                            occurred_at=now,
                            body=encode(notice_of(whom, disclosed, now)),
                        )
                        for whom, disclosed in notices
                        if disclosed
                    ]
                )
                if due:
                    await uow.disclosures.notified(due)
                return looked, sum(bool(d) for _, d in notices)

        looked, told = await until_done(notify)
        self._observer.count("disclosure", "notice", n=told)
        return looked + told


def _destroyed_event(gone: Evidence) -> OutboxEvent:
    return OutboxEvent(
        topic=DISCLOSURE_ROOTS,
        key=f"destroyed:{gone.first_seq}",
        event_id=f"disclosures-destroyed:{gone.first_seq}",
        event_type=EventType.DISCLOSURES_DESTROYED,
        occurred_at=gone.destroyed_at,
        body=encode(
            DisclosuresDestroyed.of_stored(
                first_seq=gone.first_seq,
                last_seq=gone.last_seq,
                entries=gone.last_seq - gone.first_seq + 1,
                rule=gone.rule,
                before=gone.before,
                digest=text_of(gone.digest),
                occurred_at=gone.destroyed_at,
            )
        ),
    )
