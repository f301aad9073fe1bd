"""Putting the schedule together: what is done because time has come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from gateway.app.holidays import business_days
from gateway.app.initiation import NetworkView
from gateway.app.keys import dispatch
from gateway.app.networks import cut_overs
from gateway.app.process import Parts, publisher
from gateway.base.retrying import until_done
from gateway.consents.changing import ExpiryService
from gateway.identity.forgetting import UsedProofsService
from gateway.network.iso8583.config import load_networks
from gateway.orders.cancellations import WaitingCancellations
from gateway.orders.scheduled.service import ScheduledOrderService, ScheduleSettings
from gateway.orders.standing.occurrences import OccurrenceService, OccurrenceSettings
from gateway.outbox.retention import OutboxRetentionService, RetentionSettings
from gateway.payments.open_watch import OpenPaymentsWatch


@dataclass(frozen=True, slots=True)
class ScheduleParts:
    """The timers' use cases."""

    expiry: ExpiryService
    used_proofs: UsedProofsService
    open_payments: OpenPaymentsWatch
    outbox: OutboxRetentionService
    cancellations: WaitingCancellations
    occurrences: OccurrenceService
    orders: ScheduledOrderService


@asynccontextmanager
async def schedule_parts(parts: Parts) -> AsyncIterator[ScheduleParts]:
    """What time does, with a producer and a fresh view of the networks for the orders that are due."""
    store, observer, clock, settings = parts.store, parts.observer, parts.clock, parts.settings
    configured = load_networks(settings.networks_dir)
    handing_on = dispatch(settings)
    networks = NetworkView(parts, configured)
    await until_done(networks.start)
    try:
        async with publisher(parts) as producer:
            yield ScheduleParts(
                expiry=ExpiryService(
                    store=store, observer=observer, clock=clock, batch_max=settings.schedule_batch_max
                ),
                used_proofs=UsedProofsService(store=store, observer=observer, clock=clock),
                outbox=OutboxRetentionService(
                    store=store,
                    observer=observer,
                    clock=clock,
                    settings=RetentionSettings(keep=timedelta(days=settings.outbox_keep_days)),
                ),
                open_payments=OpenPaymentsWatch(store=store, observer=observer, clock=clock),
                cancellations=WaitingCancellations(
                    store=store,
                    cut_overs=cut_overs(configured),
                    observer=observer,
                    clock=clock,
                    batch_max=settings.schedule_batch_max,
                ),
                occurrences=OccurrenceService(
                    store=store,
                    observer=observer,
                    clock=clock,
                    days=business_days(settings.holidays_file),
                    settings=OccurrenceSettings(batch=settings.schedule_batch_max, late_s=settings.standing_late_s),
                ),
                orders=ScheduledOrderService(
                    store=store,
                    publisher=producer,
                    dispatch=handing_on,
                    networks=networks.profiles,
                    observer=observer,
                    clock=clock,
                    settings=ScheduleSettings(
                        batch=settings.schedule_batch_max, again_s=settings.schedule_dispatch_again_s
                    ),
                ),
            )
    finally:
        await networks.stop()
