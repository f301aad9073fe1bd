"""Asking whether Kafka answers, and lets us in: for health checks, and to say why it does not."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest

from gateway.messaging.settings import KafkaSettings

NO_ANSWER = "no answer"

_TOPIC_PROBLEMS: Final = {
    UnknownTopicOrPartitionError.errno: "does not exist",
    TopicAuthorizationFailedError.errno: "is closed to this principal",
}

_WHY_SECONDS = 5.0


class KafkaDeniedError(Exception):
    """The cluster does not let this principal in, or not do this. The text names who, and never a secret."""


class KafkaProbe:
    """Connects anew for each question, as a client that starts now would; tries one address after the other.

    Args:
        topics: that must be there.

    Raises:
        OSError, ssl.SSLError: a certificate file cannot be used.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str] = ()) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._arguments = settings.client_arguments()
        self._hosts = collect_hosts(self._arguments.pop("bootstrap_servers"), randomize=False)

    async def problem(self, *, timeout_s: float) -> str | None:
        """None if one of the addresses speaks Kafka to us within the time, authentication included; else why not."""
        told = NO_ANSWER
        try:
            async with asyncio.timeout(timeout_s):
                for host, port, _ in self._hosts:
                    problem = await self._problem(host, port, timeout_s)
                    if problem is None:
                        return None
                    # What a broker says tells more than the silence of the next one.
                    told = problem if told == NO_ANSWER else told
        except TimeoutError:
            pass
        return told

    async def cluster_id(self, *, timeout_s: float) -> str | None:
        """By which id the cluster knows itself, as the first of the addresses tells that lets us in; None: none does.

        Where a cluster has none it is ``""``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                for host, port, _ in self._hosts:
                    if (told := await self._cluster_id(host, port, timeout_s)) is not None:
                        return told
        except TimeoutError:
            pass
        return None

    async def _cluster_id(self, host: str, port: int, timeout_s: float) -> str | None:
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(timeout_s * 1000), **self._arguments)
        except (KafkaError, OSError):
            return None
        try:
            told = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
        except (KafkaError, OSError):
            return None
        finally:
            connection.close()
        return told.cluster_id or ""

    async def _problem(self, host: str, port: int, timeout_s: float) -> str | None:
        settings = self._settings
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(timeout_s * 1000), **self._arguments)
        except (AuthenticationFailedError, SaslAuthenticationFailed):
            return f"the password of user {settings.username} is not accepted"
        except ssl.SSLCertVerificationError as error:
            return f"the broker's certificate is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            return f"no TLS: {error.reason or 'the handshake failed'}"
        except (KafkaError, OSError):
            return NO_ANSWER
        try:
            return await self._missing(connection) if self._topics else None
        except (KafkaError, OSError):
            return NO_ANSWER
        finally:
            connection.close()

    async def _missing(self, connection: Any) -> str | None:
        """Which topics are not there, or not for us."""
        told = await connection.send(MetadataRequest(self._topics, allow_auto_topic_creation=False))
        wrong = {topic[1]: topic[0] for topic in told.topics if topic[0] in _TOPIC_PROBLEMS}
        return "; ".join(f"topic {name} {_TOPIC_PROBLEMS[wrong[name]]}" for name in sorted(wrong)) or None


async def denied(settings: KafkaSettings, error: Exception) -> KafkaDeniedError | None:
    """What an administrator's client ran into, if it is a matter of who we are; None where it is another.

    aiokafka tells of a connection that was refused alone, not why: the question is asked again.
    """
    who = settings.username or "this certificate"
    if isinstance(
        error, (ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)
    ):
        what = type(error).__name__.removesuffix("AuthorizationFailedError").lower()
        return KafkaDeniedError(f"{who} may not do this ({what})")
    problem = await KafkaProbe(settings).problem(timeout_s=_WHY_SECONDS)
    return None if problem in (None, NO_ANSWER) else KafkaDeniedError(f"Kafka does not let {who} in: {problem}")
