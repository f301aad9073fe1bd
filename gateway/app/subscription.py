"""A topic that a stage reads: how its loop is run is the transport's."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.messaging.consuming import Handle


class Subscription(Protocol):
    """One topic, read by :func:`gateway.messaging.consuming.consume` over whatever carries its records."""

    async def run(
        self,
        handle: Handle,
        stopping: asyncio.Event,
        *,
        on_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Handle batches until told to stop; the one in hand is finished, and its offsets are committed.

        Raises:
            Exception: what ended the loop: the process must end, to be started again.
        """
