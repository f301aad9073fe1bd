"""The intake and its view of the networks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from gateway.adapters.iso8583.config import NetworkConfig, load_networks
from gateway.bootstrap.holidays import business_days
from gateway.bootstrap.keys import dispatch
from gateway.bootstrap.networks import cut_overs
from gateway.bootstrap.process import Parts, dead_letters, publisher
from gateway.bootstrap.trust import proving
from gateway.domain.routing import NetworkProfile
from gateway.ports import StoreUnavailableError
from gateway.services.bulks import BulkService
from gateway.services.cancellation import CancellationService
from gateway.services.initiation import InitiationService
from gateway.services.intake import Intake
from gateway.services.isolation import IsolatedBatch
from gateway.services.refund_intake import RefundIntake
from gateway.services.retrying import until_done
from gateway.services.standing import StandingOrderService

NETWORK_REPORT_FRESH_S = 5.0
"""Workers report every second: five missed reports mean that nobody executes on that network."""


@asynccontextmanager
async def initiation_service(parts: Parts) -> AsyncIterator[tuple[InitiationService, IsolatedBatch]]:
    """The intake, with its key registry and its view of the networks kept fresh."""
    configured = load_networks(parts.settings.networks_dir)
    handing_on = dispatch(parts.settings)
    networks = NetworkView(parts, configured)
    await until_done(networks.start)
    try:
        async with proving(parts) as proofs, publisher(parts) as producer:
            parked = dead_letters(parts, producer)
            service = InitiationService(
                store=parts.store,
                keys=proofs.keys,
                verifier=proofs.signatures,
                trust=proofs.trust,
                assertions=proofs.assertions,
                networks=networks.profiles,
                publisher=producer,
                dispatch=handing_on,
                dead_letters=parked,
                observer=parts.observer,
                clock=parts.clock,
                ahead_days_max=parts.settings.order_ahead_days_max,
                handlers=[
                    CancellationService(
                        store=parts.store,
                        cut_overs=cut_overs(configured),
                        observer=parts.observer,
                        clock=parts.clock,
                    ),
                    StandingOrderService(
                        store=parts.store,
                        networks=networks.profiles,
                        observer=parts.observer,
                        trust=proofs.trust,
                        assertions=proofs.assertions,
                        days=business_days(parts.settings.holidays_file),
                        ahead_days_max=parts.settings.order_ahead_days_max,
                    ),
                    BulkService(
                        store=parts.store,
                        intake=Intake(
                            store=parts.store,
                            trust=proofs.trust,
                            networks=networks.profiles,
                            ahead_days_max=parts.settings.order_ahead_days_max,
                        ),
                        publisher=producer,
                        dispatch=handing_on,
                        observer=parts.observer,
                        clock=parts.clock,
                        trust=proofs.trust,
                        assertions=proofs.assertions,
                    ),
                    RefundIntake(store=parts.store, publisher=producer, dispatch=handing_on, observer=parts.observer),
                ],
            )
            yield service, IsolatedBatch("initiation", dead_letters=parked, observer=parts.observer)
    finally:
        await networks.stop()


class NetworkView:
    """What routing knows of the networks: their files, and which of them execution reports open."""

    def __init__(self, parts: Parts, networks: Mapping[str, NetworkConfig]) -> None:
        self._parts = parts
        self._networks = networks
        self._open: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def profiles(self) -> Sequence[NetworkProfile]:
        """The networks as they are known at this moment."""
        return [
            NetworkProfile(
                network_id=n.network_id,
                currencies=n.currencies,
                categories=n.categories or None,
                cost_fixed_minor=n.cost_fixed_minor,
                cost_basis_points=n.cost_basis_points,
                open=n.network_id in self._open,
            )
            for n in self._networks.values()
        ]

    async def start(self) -> None:
        """Look for the first time, and go on looking."""
        await self._look()
        self._task = asyncio.create_task(self._keep_looking(), name="network-view")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            # Without news the last view stands: it is a preference, not a decision.
            with suppress(StoreUnavailableError):
                await self._look()

    async def _look(self) -> None:
        since = self._parts.clock.now() - timedelta(seconds=NETWORK_REPORT_FRESH_S)
        async with self._parts.store.reading() as uow:
            self._open = await uow.directory.open_networks(reported_since=since)
