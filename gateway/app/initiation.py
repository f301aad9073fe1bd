"""The intake and its view of the networks."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from gateway.app.holidays import business_days
from gateway.app.keys import dispatch, internal_marks
from gateway.app.networks import cut_overs
from gateway.app.orders import IntakeParts, order_intake
from gateway.app.process import Parts, dead_letters, publisher
from gateway.app.trust import proving
from gateway.base.errors import StoreUnavailableError
from gateway.base.retrying import until_done
from gateway.messaging.backlog import Backlogs
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.isolation import IsolatedBatch
from gateway.network.iso8583.config import NetworkConfig, load_networks
from gateway.orders.room import ExecutionRoom
from gateway.orders.turns import FairIntake
from gateway.payments.rules.routing import NetworkProfile
from gateway.sealing.sealing import Purpose
from schemas.principals import Principal, Role
from schemas.topics import TOPICS, WAITING_ORDERS, dispatch_topic

NETWORK_REPORT_FRESH_S = 5.0
"""Workers report every second: five missed reports mean that nobody executes on that network."""


WAITING_GROUP: Final = f"{Principal(Role.INITIATION).name}:waiting"

WAITING_PARTITIONS: Final = next(t.partitions for t in TOPICS if t.name == WAITING_ORDERS)


@dataclass(frozen=True, slots=True)
class InitiationParts:
    """What takes orders in. ``waiting``: reads those that wait for their turn; not started."""

    intake: FairIntake
    room: ExecutionRoom
    waiting: BatchConsumer


@asynccontextmanager
async def initiation_parts(parts: Parts) -> AsyncIterator[InitiationParts]:
    """The intake, with its key registry and its view of the networks kept fresh."""
    settings = parts.settings
    configured = load_networks(settings.networks_dir)
    networks = NetworkView(parts, configured)
    backlogs = Backlogs(parts.kafka, parts.observer)
    await until_done(networks.start)
    try:
        async with proving(parts) as proofs, publisher(parts) as producer:
            parked = dead_letters(parts, producer)
            room = ExecutionRoom(partial(_behind, backlogs, networks), ahead_max=settings.initiation_ahead_max)
            service = order_intake(
                IntakeParts(
                    store=parts.store,
                    keys=proofs.keys,
                    verifier=proofs.signatures,
                    trust=proofs.trust,
                    assertions=proofs.assertions,
                    networks=networks.profiles,
                    cut_overs=cut_overs(configured),
                    publisher=producer,
                    dispatch=dispatch(settings),
                    dead_letters=parked,
                    observer=parts.observer,
                    clock=parts.clock,
                    days=business_days(settings.holidays_file),
                    ahead_days_max=settings.order_ahead_days_max,
                    room=room,
                )
            )
            isolated = IsolatedBatch("initiation", dead_letters=parked, observer=parts.observer)
            intake = FairIntake(
                take=partial(isolated.run, service.take),
                keys=proofs.keys,
                verifier=proofs.signatures,
                publisher=producer,
                marks=internal_marks(settings, Purpose.WAITING_MARK),
                room=room,
                lane=KafkaLane(backlogs),
                partitions=WAITING_PARTITIONS,
                observer=parts.observer,
                clock=parts.clock,
                turn_min=settings.initiation_turn_min,
                turn_max=settings.initiation_batch_max,
            )
            waiting = BatchConsumer(
                parts.kafka, parts.observer, topics=[WAITING_ORDERS], group_id=WAITING_GROUP, in_turns=True
            )
            yield InitiationParts(intake, room, waiting)
    finally:
        await backlogs.stop()
        await networks.stop()


class KafkaLane:
    """Implements :class:`gateway.orders.turns.Lane`."""

    def __init__(self, backlogs: Backlogs) -> None:
        self._backlogs = backlogs

    async def busy(self) -> frozenset[int]:
        """All of them where Kafka does not say: an order could overtake another."""
        found = await self._backlogs.of([(WAITING_ORDERS, WAITING_GROUP)])
        return frozenset(range(WAITING_PARTITIONS)) if found is None else frozenset(n for _, n in found)


async def _behind(backlogs: Backlogs, networks: "NetworkView") -> int:
    waited = [(dispatch_topic(n), Principal(Role.EXECUTION, n).name) for n in networks.open_networks()]
    found = await backlogs.of(waited) if waited else {}
    return sum(found.values()) if found else 0


class NetworkView:
    """What routing knows of the networks: their files, and which of them execution reports open."""

    def __init__(self, parts: Parts, networks: Mapping[str, NetworkConfig]) -> None:
        self._parts = parts
        self._networks = networks
        self._open: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def open_networks(self) -> Sequence[str]:
        """Ids of those that execute at this moment."""
        return sorted(self._open & self._networks.keys())

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
