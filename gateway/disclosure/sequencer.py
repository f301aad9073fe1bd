"""The one sequencer: outbox → chain.

It reads the outbox in its order, as the relay does, with a cursor of its own, and adds an entry for each use. Nothing
of it is on the way of a payment: what it reads was written anyway.

Cursor, entries and root commit together, and only if the head is still as it was read. So a crash between any two steps
means that nothing was written, or all; and of two sequencers that both believe to lead one writes, and the other reads
the head again. The leader lock only spares them the race.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256

from gateway.base.errors import StoreConflictError, StoreUnavailableError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.disclosure.rules.entry import SALT_BYTES, Kind
from gateway.disclosure.rules.sequence import Head, Step, append, close, close_due
from gateway.disclosure.store import DisclosureLog
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.disclosure import DisclosureRoot, RootStatement
from schemas.events import EventType
from schemas.topics import DISCLOSURE_ROOTS


@dataclass(frozen=True, slots=True)
class SequencerSettings:
    """Bounds of the sequencer; each has its reason.

    Attributes:
        batch: events read at a time: a transaction of some thousand rows takes tens of milliseconds, by which it holds
            back the relay.
        idle_s: pause after a batch that was not full; lets uses gather, for a transaction costs much the same for one
            as for a hundred. An entry is this much late at most.
        standby_s: how often a sequencer that is not the leader asks again.
        period: how often a root is published.
    """

    batch: int = 4000
    idle_s: float = 0.5
    standby_s: float = 1.0
    period: timedelta = timedelta(hours=1)


class SequencerService:
    """Writes the log while it is the leader.

    Args:
        sign: makes the statement of a root.
        random: so many random bytes.
    """

    def __init__(
        self,
        *,
        log: DisclosureLog,
        sign: Callable[[RootStatement], str],
        random: Callable[[int], bytes],
        observer: Observer,
        clock: Clock,
        settings: SequencerSettings,
    ) -> None:
        self._log = log
        self._sign = sign
        self._random = random
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """Write until cancelled; wait while another leads, or while Postgres is away."""
        while True:
            if not await until_done(self._log.acquire):
                self._observer.level("disclosure_leader", 0)
                progress()
                await asyncio.sleep(self._settings.standby_s)
                continue
            self._observer.note("sequencer_leads")
            self._observer.level("disclosure_leader", 1)
            try:
                await self._lead(progress)
            except (StoreUnavailableError, StoreConflictError):
                # The leader lock went with the session, or another has written: it may lead by now.
                self._observer.note("sequencer_lost_lead", level="warning")
            finally:
                self._observer.level("disclosure_leader", 0)
                await self._log.release()

    async def _lead(self, progress: Callable[[], None]) -> None:
        head = await self._log.head()
        while True:
            head, full = await self.step(head)
            progress()
            if not full:
                await asyncio.sleep(self._settings.idle_s)

    async def step(self, head: Head) -> tuple[Head, bool]:
        """Do what is next behind ``head``; return the head then, and whether there may be more to do at once.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
            StoreConflictError: another sequencer has written.
        """
        now = self._clock.now()
        closing = close_due(head, now, self._settings.period)
        if closing is not None:
            return await self._write(closing), True
        read = await self._log.read((head.tx, head.id), min(self._settings.batch, head.room))
        if read.to == (head.tx, head.id):
            self._observer.level("disclosure_lag_seconds", 0)
            return head, False
        uses = read.uses
        if len(uses) > head.room and head.frontier.size:
            # One row holds them, and the cursor passes rows.
            return await self._write(close(head, now)), True
        step = append(head, uses, read.to, self._random(SALT_BYTES * len(uses)), now, self._settings.period)
        after = await self._write(step)
        self._tell(step)
        return after, read.is_full

    async def _write(self, step: Step) -> Head:
        if step.root is None:
            await self._log.write(step)
            return step.after
        statement = self._sign(step.root)
        signed = replace(step, after=replace(step.after, root_hash=sha256(statement.encode()).digest()))
        await self._log.write(signed, [_root_event(step.root, statement)], statement)
        self._observer.count("disclosure", "root")
        return signed.after

    def _tell(self, step: Step) -> None:
        kinds = Counter(e.use.kind for e in step.entries)
        for kind, n in kinds.items():
            self._observer.count("disclosure", "entry", reason=kind, n=n)
        if unreadable := kinds[Kind.UNREADABLE]:
            self._observer.count("disclosure", "incident", reason="unreadable_use", n=unreadable)
            first = next(e for e in step.entries if e.use.kind is Kind.UNREADABLE)
            self._observer.note("unreadable_use", level="error", event_id=first.use.reference)
        lag = 0.0
        if step.entries:
            lag = (self._clock.now() - step.entries[0].use.occurred_at).total_seconds()
        # Told where nothing was a use, too: who writes the log and tells no lag is taken for standing still.
        self._observer.level("disclosure_lag_seconds", lag)
        self._observer.level("disclosure_entries", step.after.seq)


def _root_event(root: RootStatement, statement: str) -> OutboxEvent:
    return OutboxEvent(
        topic=DISCLOSURE_ROOTS,
        key=str(root.number),
        event_id=f"disclosure-root:{root.number}",
        event_type=EventType.DISCLOSURE_ROOT,
        occurred_at=root.closed_at,
        body=encode(DisclosureRoot.of_stored(number=root.number, statement=statement)),
    )
