"""What the use cases need of the networks: what their files say, and which of them execution reports open."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Clock
from gateway.database.unit import Store
from gateway.directory.store import DirectoryUnit
from gateway.network.iso8583.config import NetworkConfig
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.rules.routing import NetworkProfile
from schemas.primitives import NetworkId

NETWORK_REPORT_FRESH_S: Final = 5.0
"""Workers report every second: five missed reports mean that nobody executes on that network."""


def cut_overs(networks: Mapping[str, NetworkConfig]) -> dict[NetworkId, CutOver]:
    """Cut-overs of the networks that have one."""
    return {n.network_id: CutOver(n.cutover, n.time_zone) for n in networks.values() if n.cutover is not None}


class NetworkView:
    """What routing knows of the networks: their files, and which of them execution reports open."""

    def __init__(self, store: Store[DirectoryUnit], clock: Clock, networks: Mapping[str, NetworkConfig]) -> None:
        self._store = store
        self._clock = clock
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
        since = self._clock.now() - timedelta(seconds=NETWORK_REPORT_FRESH_S)
        async with self._store.reading() as uow:
            self._open = await uow.directory.open_networks(reported_since=since)
