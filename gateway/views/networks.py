"""Card networks as execution workers and operators leave them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.database.queries import load
from gateway.views.view import View

_SQL = load(__name__, "networks")


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one execution worker last said of its network."""

    network_id: str
    worker: str
    is_open: bool
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class NetworkPause:
    """A network that an operator has paused."""

    network_id: str
    paused_at: datetime
    operator: str
    why: str


@dataclass(frozen=True, slots=True)
class OpenOnNetwork:
    """Payments of a network in one open state. ``oldest``: when the oldest of them was decided."""

    network_id: str
    state: str
    payments: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class FollowUps:
    """Inquiries or reversals that are not over. ``attempts``: the most that one of them took."""

    network_id: str
    kind: str
    open: int
    oldest: datetime
    attempts: int


def standing_of(fresh: Sequence[WorkerReport], *, is_paused: bool) -> str:
    """Say how a network stands: ``paused``, ``open``, ``closed`` or ``no worker``.

    Args:
        fresh: what its workers said lately enough to be believed.
        is_paused: by an operator.
    """
    if is_paused:
        return "paused"
    if not fresh:
        return "no worker"
    return "open" if any(r.is_open for r in fresh) else "closed"


class NetworksView(View):
    """Card networks."""

    async def reports(self) -> list[WorkerReport]:
        """What workers said within the last day, the latest first."""
        return [WorkerReport(**dict(r)) for r in await self._fetch(_SQL.reports)]

    async def pauses(self) -> list[NetworkPause]:
        """Networks that are paused now."""
        return [NetworkPause(**dict(r)) for r in await self._fetch(_SQL.pauses)]

    async def open_payments(self) -> list[OpenOnNetwork]:
        """How many payments are open, by network and state."""
        return [OpenOnNetwork(**dict(r)) for r in await self._fetch(_SQL.open_payments)]

    async def follow_ups(self) -> list[FollowUps]:
        """Inquiries and reversals that are not over, by network."""
        return [FollowUps(**dict(r)) for r in await self._fetch(_SQL.follow_ups)]
