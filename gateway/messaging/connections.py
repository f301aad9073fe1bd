"""A connection that has ended is a broken connection, also under uvloop; and no error ends who keeps the metadata.

Who writes to a transport that has ended is refused by uvloop with a RuntimeError, where asyncio's own takes what nobody
will read. aiokafka 0.14 expects an OSError (read, ran; its issue 1038): the RuntimeError ends whichever of its tasks
wrote. One of them keeps the cluster's metadata, and every other waits for that one without end: nothing is fetched,
sent or committed any more, and nothing is said. So here

- a connection that cannot be written to is closed, and said to be broken: whoever asked tries again on another,
- whatever else goes wrong while metadata are asked for is logged, and they are asked for again.

This reaches into aiokafka, whose version is pinned; a test on a real broker tells if an upgrade breaks it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka import conn
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

_update: Final[Callable[..., Awaitable[bool]]] = AIOKafkaClient._metadata_update  # noqa: SLF001
_log: Final = logging.getLogger(__name__)


def guard_connections() -> None:
    """Make every aiokafka client of this process (Faust's too) connect so. Doing it twice changes nothing."""
    conn.AIOKafkaConnection = SoundConnection
    AIOKafkaClient._metadata_update = _update_metadata  # noqa: SLF001


class SoundConnection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """aiokafka's connection, that is broken where it cannot be written to."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002 - aiokafka's signature
        """Send a request; awaiting what is returned gives the answer.

        Raises:
            KafkaConnectionError: the connection has ended.
        """
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            raise self._broken(error) from error

    def _send_sasl_token(self, payload: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002
        try:
            return super()._send_sasl_token(payload, expect_response)
        except RuntimeError as error:
            raise self._broken(error) from error

    def _broken(self, error: RuntimeError) -> KafkaConnectionError:
        if isinstance(error, NotImplementedError):
            # Of a request that this broker does not know; the connection is sound.
            raise error
        self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
        return KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}")


async def _update_metadata(client: Any, cluster: Any, topics: Any) -> bool:
    """As aiokafka's; False, which it takes for brokers that do not answer, also where it meets what it does not expect.

    Its task would end, and be waited for without end.
    """
    try:
        return await _update(client, cluster, topics)
    except Exception as error:  # noqa: BLE001 - told; whoever waits asks again
        _log.warning("Metadata could not be asked for: %s", type(error).__name__)
        return False


async def at_once() -> None:
    """Nothing has to be waited for before connecting."""
