"""How much room the execution of each network has for what is due, so that one that is slow holds up its own orders."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from gateway.base.at_once import at_once
from gateway.orders.room import LOOK_S, ExecutionRoom
from schemas.primitives import NetworkId


class NetworkRooms:
    """Tells how many more orders may be handed on to each network now.

    Args:
        backlog: looks how many were handed on to a network and not taken; none of one that is closed.
        networks: those that there are.
        ahead_max: how many may be.
    """

    def __init__(
        self,
        backlog: Callable[[NetworkId], Awaitable[int]],
        networks: Callable[[], Collection[NetworkId]],
        *,
        ahead_max: int,
        look_s: float = LOOK_S,
    ) -> None:
        self._networks = networks
        self._backlog = backlog
        self._ahead_max = ahead_max
        self._look_s = look_s
        self._rooms: dict[NetworkId, ExecutionRoom] = {}

    async def free_beside_others(self) -> Mapping[NetworkId, int]:
        """For what comes all at once; none or less where a network is as far behind as it may be."""
        return {n: await self._room(n).free_beside_others() for n in self._networks()}

    def use(self, orders: Mapping[NetworkId, int]) -> None:
        """So many were handed on since the last look."""
        for network_id, n in orders.items():
            self._room(network_id).use(n)

    async def pause(self) -> None:
        """Return when another look is worth it."""
        async with at_once() as tasks:
            for network_id in self._networks():
                tasks.create_task(self._room(network_id).pause())

    def _room(self, network_id: NetworkId) -> ExecutionRoom:
        if network_id not in self._rooms:
            backlog = partial(self._backlog, network_id)
            self._rooms[network_id] = ExecutionRoom(backlog, ahead_max=self._ahead_max, look_s=self._look_s)
        return self._rooms[network_id]
