"""Asking whether Kafka answers, for health checks."""

import asyncio

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from gateway.adapters.kafka.settings import KafkaSettings


class KafkaProbe:
    """Connects anew for each question, as a client that starts now would; tries one address after the other.

    Raises:
        OSError, ssl.SSLError: a certificate file cannot be used.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._arguments = settings.client_arguments()
        self._hosts = collect_hosts(self._arguments.pop("bootstrap_servers"), randomize=False)

    async def answers(self, *, timeout_s: float) -> bool:
        """True if one of the addresses speaks Kafka to us within the time, authentication included."""
        try:
            async with asyncio.timeout(timeout_s):
                for host, port, _ in self._hosts:
                    if await self._answers(host, port, timeout_s):
                        return True
        except TimeoutError:
            pass
        return False

    async def _answers(self, host: str, port: int, timeout_s: float) -> bool:
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(timeout_s * 1000), **self._arguments)
        except (KafkaError, OSError):
            return False
        connection.close()
        return True
