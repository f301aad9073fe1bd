"""What the overview's charts show: looked at every few seconds, and kept for half an hour by this process alone."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final

from gateway.app.backlogs import Backlog, BacklogView
from gateway.app.console import ConsoleDatabase
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Clock
from gateway.views.attention import AttentionView
from gateway.views.networks import NetworksView

EVERY_S: Final = 5.0
KEPT: Final = 360


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. ``written``: payments ever written; ``open``: those whose outcome is open; ``waiting``: events."""

    at: datetime
    written: int
    open: int
    waiting: int


@dataclass(slots=True)
class Samples:
    """The last half hour, as far as this process has seen it.

    Attributes:
        backlog_view: None where there is no Kafka to look at.
        backlogs: what waits in Kafka now; None where it is not known.
    """

    database: ConsoleDatabase
    clock: Clock
    backlog_view: BacklogView | None = None
    backlogs: Sequence[Backlog] | None = None
    kept: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT))

    async def look(self) -> None:
        """Look once."""
        async with self.database.view(AttentionView) as attention:
            written, waiting = await attention.rows_written(), await attention.waiting()
        async with self.database.view(NetworksView) as networks:
            is_open = sum(o.payments for o in await networks.open_payments())
        self.kept.append(Sample(self.clock.now(), written, is_open, waiting.rows))

    async def keep_looking(self) -> None:
        """Look for as long as the process lives; a database that is away leaves a gap."""
        while True:
            try:
                await self.look()
            except StoreUnavailableError:
                self.kept.clear()
            await asyncio.sleep(EVERY_S)

    async def keep_looking_at_kafka(self) -> None:
        """The same of what waits in Kafka; a cluster that is away leaves nothing to show."""
        if self.backlog_view is None:
            return
        try:
            while True:
                self.backlogs = await self.backlog_view.look()
                await asyncio.sleep(EVERY_S)
        finally:
            await self.backlog_view.stop()

    def rates(self) -> list[float]:
        """Payments a second, from one look to the next. Statistics that were reset count as nothing."""
        looks = list(self.kept)
        return [max(0, b.written - a.written) / max(0.001, (b.at - a.at).total_seconds()) for a, b in pairwise(looks)]
