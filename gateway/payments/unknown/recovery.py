"""Who lives, and what the dead left behind.

Every worker reports twice a second. When one has been silent for the lease, the payments that it left SENT are settled
as unknown ones: nobody sends them again. A worker that was only stopped (SIGSTOP, a long pause) and goes on finds its
late results ignored or undone by the lifecycle's table, and its unsent intents too old to be sent.

A database that was away silences everybody: nobody judges the others before it has itself reported for a whole lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.messaging.isolation import write_isolated
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.store import UnknownUnit
from gateway.payments.telling import tell_steps
from gateway.payments.transitions import Applied, apply_changes
from gateway.payments.unknown.incidents import report_unwritable
from gateway.payments.unknown.verdicts import UnknownPolicy, abandoned
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """Bounds of recovery; each has its reason.

    Attributes:
        lease_s: silence after which a worker counts as dead: several missed reports, so that one slow commit is none.
        held_s: the longest that a live worker holds an unanswered payment; what is older is taken over from anybody.
        batch: payments a transaction.
    """

    lease_s: float = 4.0
    held_s: float = 45.0
    batch: int = 500


class RecoveryService:
    """Reports one execution worker, and settles what other workers of its network left behind."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        store: Store[UnknownUnit],
        observer: Observer,
        clock: Clock,
        policy: UnknownPolicy,
        settings: RecoverySettings,
    ) -> None:
        self._network_id = network_id
        self._worker = worker
        self._store = store
        self._observer = observer
        self._clock = clock
        self._policy = policy
        self._settings = settings
        self._reporting_since: datetime | None = None
        self._reported_at: datetime | None = None
        self._paused = True

    @property
    def paused(self) -> bool:
        """True while operators have paused the network, as of the last report; and until the first one."""
        return self._paused

    def found_paused(self) -> None:
        """Whoever decides found it paused: so it is, until the next report."""
        self._paused = True

    async def report(self, *, is_open: bool) -> None:
        """Tell that this worker lives, and whether its network is open; learn whether it is paused. Twice a second."""

        async def write() -> tuple[datetime, bool]:
            now = self._clock.now()
            async with self._store.transaction() as uow:
                paused = await uow.directory.report_network(
                    self._network_id, worker=self._worker, is_open=is_open, now=now
                )
            return now, paused

        now, self._paused = await until_done(write)
        # Of a clock that was set back the old times say nothing, or nobody would be judged until it is there again.
        if self._reported_at is None or not timedelta() <= now - self._reported_at <= self._gap_max:
            self._reporting_since = now
        self._reported_at = now

    @property
    def _gap_max(self) -> timedelta:
        return timedelta(seconds=self._settings.lease_s / 2)

    def _may_judge(self, now: datetime) -> bool:
        """True when this worker has reported without a gap for a whole lease: others had the time to do so as well."""
        since, last = self._reporting_since, self._reported_at
        if since is None or last is None:
            return False
        return now - last <= self._gap_max and now - since >= timedelta(seconds=self._settings.lease_s)

    async def take_over(self) -> int:
        """Mark payments of dead workers UNKNOWN, which queues what settles them; return how many."""
        now = self._clock.now()
        # Looked at before each batch: a database that was away in between has silenced the others too.
        if not self._may_judge(now):
            return 0
        keys = await until_done(lambda: self._abandoned(now))
        applied = await write_isolated(keys, self._settle, self._cannot) if keys else []
        tell_steps(self._observer, [payment for one in applied for payment in one.changed])
        taken = sum(len(one.changed) for one in applied)
        if taken:
            self._observer.count("execution", "taken_over", n=taken)
            self._observer.note("abandoned_taken_over", level="warning", count=taken, network_id=self._network_id)
        return taken

    async def _abandoned(self, now: datetime) -> Sequence[PaymentKey]:
        async with self._store.reading() as uow:
            return await uow.payments.abandoned(
                self._network_id,
                alive_since=now - timedelta(seconds=self._settings.lease_s),
                sent_before=now - timedelta(seconds=self._settings.held_s),
                limit=self._settings.batch,
            )

    async def _settle(self, keys: Sequence[PaymentKey]) -> Applied:
        now = self._clock.now()
        # Time has passed if the database was away in between.
        if not self._may_judge(now):
            return Applied()
        verdict = abandoned(self._policy)
        async with self._store.transaction() as uow:
            return await apply_changes(uow, [verdict.change_of(k) for k in keys], now=now)

    def _cannot(self, key: PaymentKey, error: Exception) -> None:
        report_unwritable(self._observer, "recovery", self._network_id, key, error)
