"""The schedule: what is done because time has come. Any number may run; each row is one's alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Final

from gateway.app.execution_backlog import network_behind
from gateway.app.holidays import business_days
from gateway.app.keys import dispatch
from gateway.app.networks import NetworkView, cut_overs
from gateway.app.process import Process, publisher
from gateway.app.runtime import Runtime, always_due, work_until
from gateway.app.state_gauges import StateGauges, state_of
from gateway.base.calendar import BusinessDays
from gateway.base.retrying import until_done
from gateway.consents.changing import ExpiryService
from gateway.disclosure.destroying import OldRowsService
from gateway.disclosure.keeping import DisclosureKeepingService, KeepingSettings
from gateway.disclosure.rules.destruction import OldRows
from gateway.identity.forgetting import UsedProofsService
from gateway.messaging.backlog import Backlogs
from gateway.messaging.records import Publisher
from gateway.network.iso8583.config import load_networks
from gateway.orders.cancellations import WaitingCancellations
from gateway.orders.network_rooms import NetworkRooms
from gateway.orders.scheduled.service import ScheduledOrderService, ScheduleSettings
from gateway.orders.standing.occurrences import OccurrenceService, OccurrenceSettings
from gateway.outbox.retention import OutboxRetentionService, RetentionSettings
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.dispatch import Dispatch
from gateway.payments.open_watch import OpenPaymentsWatch
from gateway.payments.rules.routing import NetworkProfile
from gateway.portability.forgetting import SilentRequests
from gateway.portability.schedule import ScheduledExports
from gateway.sharing.confirming import OverdueErasures
from schemas.primitives import NetworkId

CLEARING_AWAY: Final = frozenset(
    {"relayed-events", "used-proofs", "disclosures-destroyed", "silent-requests", "old-rows"}
)
"""Timers of what is needed no more. Nobody waits for it, and after days of standing still there are millions of it."""

RESTS: Final = 3
"""How many times as long as a batch of that took its timer rests: payments need the same database."""

REST_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConnections:
    """What the schedule reaches others through.

    Attributes:
        networks: as they are known at this moment.
        behind: looks how many handed-on records a network's execution has not taken; None: nobody waits for it.
    """

    publisher: Publisher
    dispatch: Dispatch
    networks: Callable[[], Sequence[NetworkProfile]]
    behind: Callable[[NetworkId], Awaitable[int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTerms:
    """What is done when; each bound has its reason in :mod:`gateway.app.settings`.

    Attributes:
        cut_overs: of the networks that have one.
        batch_max: consents ended, and cancellations carried out, in one transaction.
        keep: for how long what is needed no more stays; kinds that are not named stay.
    """

    cut_overs: Mapping[NetworkId, CutOver]
    days: BusinessDays
    batch_max: int = 500
    ahead_max: int = 500
    occurrences: OccurrenceSettings = field(default_factory=OccurrenceSettings)
    orders: ScheduleSettings = field(default_factory=ScheduleSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    disclosures: KeepingSettings = field(default_factory=KeepingSettings)
    keep: Mapping[OldRows, timedelta] = field(default_factory=dict)
    interval_s: float = 1.0
    open_payments_interval_s: float = 5.0
    purge_interval_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStage:
    """What time does."""

    runtime: Runtime
    terms: ScheduleTerms
    expiry: ExpiryService
    used_proofs: UsedProofsService
    open_payments: OpenPaymentsWatch
    erasures: OverdueErasures
    outbox: OutboxRetentionService
    disclosures: DisclosureKeepingService
    cancellations: WaitingCancellations
    occurrences: OccurrenceService
    orders: ScheduledOrderService
    exports: ScheduledExports
    silent_requests: SilentRequests
    old_rows: OldRowsService
    state: StateGauges | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop. What is in hand may be cut: what was not written is found again."""
        terms = self.terms
        timers: Mapping[str, tuple[Callable[[], Awaitable[int]], float]] = {
            "consent-expiry": (self.expiry.expire, terms.interval_s),
            "cancellations": (self.cancellations.work, terms.interval_s),
            "standing-orders": (self.occurrences.make_due, terms.interval_s),
            "due-exports": (self.exports.begin_due, terms.interval_s),
            "due-orders": (self.orders.dispatch_due, terms.interval_s),
            "open-payments": (self.open_payments.look, terms.open_payments_interval_s),
            "overdue-erasures": (self.erasures.look, terms.open_payments_interval_s),
            "relayed-events": (self.outbox.keep_up, terms.purge_interval_s),
            "used-proofs": (self.used_proofs.purge, terms.purge_interval_s),
            "disclosures-destroyed": (self.disclosures.destroy, terms.purge_interval_s),
            "silent-requests": (self.silent_requests.destroy, terms.purge_interval_s),
            "old-rows": (self.old_rows.destroy, terms.purge_interval_s),
            "disclosure-notices": (self.disclosures.notify, terms.purge_interval_s),
            **({} if self.state is None else {"state": (self.state.look, terms.open_payments_interval_s)}),
        }
        workers = {name: self._repeat(name, work, pause_s) for name, (work, pause_s) in timers.items()}
        await work_until(stopping, {**workers, "calendar": self._follow_calendar()})

    async def _follow_calendar(self) -> None:
        await self.occurrences.follow_calendar()

    async def _repeat(self, name: str, work: Callable[[], Awaitable[int]], pause_s: float) -> None:
        observer = self.runtime.observer
        rests = RESTS if name in CLEARING_AWAY else 0
        now = asyncio.get_running_loop().time
        # Always due: a timer that has not come round is a stall, also with an empty table.
        watchdog = self.runtime.watch(name, always_due, pause_s=pause_s)
        while True:
            try:
                began = now()
                while await work():
                    watchdog.progress()
                    if rests:
                        await self.runtime.pause(f"{name}: rest", min(REST_S_MAX, rests * (now() - began)))
                        began = now()
            except Exception as error:  # noqa: BLE001 - one timer's bug must not stop the others; its watchdog tells
                observer.count("schedule", "failed", reason=type(error).__name__)
                observer.note("timer_failed", level="error", stage=name, error=type(error).__name__)
            else:
                watchdog.progress()
            await self.runtime.pause(name, pause_s)


def schedule(runtime: Runtime, connections: ScheduleConnections, terms: ScheduleTerms) -> ScheduleStage:
    """Put the schedule together."""
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    behind = connections.behind
    return ScheduleStage(
        runtime=runtime,
        terms=terms,
        expiry=ExpiryService(store=store, observer=observer, clock=clock, batch_max=terms.batch_max),
        used_proofs=UsedProofsService(store=store, observer=observer, clock=clock),
        outbox=OutboxRetentionService(store=store, observer=observer, clock=clock, settings=terms.retention),
        disclosures=DisclosureKeepingService(store=store, observer=observer, clock=clock, settings=terms.disclosures),
        open_payments=OpenPaymentsWatch(
            store=store,
            observer=observer,
            clock=clock,
            networks=[network.network_id for network in connections.networks()],
        ),
        erasures=OverdueErasures(store=store, observer=observer, clock=clock),
        cancellations=WaitingCancellations(
            store=store, cut_overs=terms.cut_overs, observer=observer, clock=clock, batch_max=terms.batch_max
        ),
        occurrences=OccurrenceService(
            store=store, observer=observer, clock=clock, days=terms.days, settings=terms.occurrences
        ),
        exports=ScheduledExports(store=store, observer=observer, clock=clock),
        silent_requests=SilentRequests(store=store, observer=observer, clock=clock),
        old_rows=OldRowsService(store=store, observer=observer, clock=clock, keep=terms.keep),
        orders=ScheduledOrderService(
            store=store,
            publisher=connections.publisher,
            dispatch=connections.dispatch,
            networks=connections.networks,
            observer=observer,
            clock=clock,
            settings=terms.orders,
            rooms=None if behind is None else NetworkRooms(behind, _ids(connections), ahead_max=terms.ahead_max),
        ),
    )


def _ids(connections: ScheduleConnections) -> Callable[[], list[NetworkId]]:
    return lambda: [network.network_id for network in connections.networks()]


# --- a process ---


@asynccontextmanager
async def schedule_process(process: Process) -> AsyncIterator[ScheduleStage]:
    """The schedule over PostgreSQL and a producer, with a fresh view of the networks for the orders that are due."""
    settings = process.settings
    configured = load_networks(settings.networks_dir)
    handing_on = dispatch(settings)
    batch = settings.schedule_batch_max
    terms = ScheduleTerms(
        cut_overs=cut_overs(configured),
        days=business_days(settings.holidays_file),
        batch_max=batch,
        ahead_max=settings.initiation_ahead_max,
        occurrences=OccurrenceSettings(batch=batch, late_s=settings.standing_late_s),
        orders=ScheduleSettings(batch=batch, again_s=settings.schedule_dispatch_again_s),
        retention=RetentionSettings(keep=timedelta(days=settings.outbox_keep_days)),
        disclosures=KeepingSettings(keep=timedelta(days=settings.disclosure_keep_days)),
        keep={
            OldRows.SHARES: timedelta(days=settings.sharing_keep_days),
            OldRows.CONTRIBUTIONS: timedelta(days=settings.marketing_keep_days),
            OldRows.OPERATING: timedelta(days=settings.operating_keep_days),
        },
        interval_s=settings.schedule_interval_s,
        open_payments_interval_s=settings.open_payments_interval_s,
        purge_interval_s=settings.purge_interval_s,
    )
    networks = NetworkView(process.store, process.clock, configured)
    backlogs = Backlogs(process.kafka, process.observer)
    await until_done(networks.start)
    try:
        async with publisher(process) as producer:
            connections = ScheduleConnections(
                publisher=producer,
                dispatch=handing_on,
                networks=networks.profiles,
                behind=partial(network_behind, backlogs, networks),
            )
            stage = schedule(process, connections, terms)
            state = StateGauges(state_of(process.store), process.observer, networks=configured)
            yield replace(stage, state=state)
    finally:
        await backlogs.stop()
        await networks.stop()
