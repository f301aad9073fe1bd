"""Whether this database and this Kafka belong together.

Consumer groups and topics have the same names in every deployment. A process with one deployment's database and another
one's Kafka would join the other's groups, and take its orders: what it does not know it parks, and commits away. So the
database knows its cluster's id, and nobody reads from, or writes to, a cluster with another one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from gateway.app.errors import AnothersKafkaError
from gateway.base.retrying import until_done
from gateway.database.belonging import PostgresBelonging
from gateway.database.pool import ConnectionPool
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.settings import KafkaSettings

ANSWER_S: Final = 2.0
"""A broker that takes longer has not answered: it is asked again."""

_ASK_S: Final = 0.5

Together = Callable[[], Awaitable[None]]
"""Returns once it is known that Kafka and the database belong together."""


def refuse_another(noted: str, found: str) -> None:
    """Refuse a cluster that is not the one that the database has noted.

    Raises:
        AnothersKafkaError: it is not.
    """
    if noted != found:
        raise AnothersKafkaError(
            f"this database belongs to the Kafka cluster {noted}, and the one that answers is {found}: "
            "these are two gateways' servers, and each would lose the other's orders"
        )


async def check_kafka(registry: PostgresBelonging, kafka: KafkaSettings) -> None:
    """For commands: note the cluster where none is noted. One that does not answer is told by what asks it next.

    Raises:
        AnothersKafkaError: the database belongs to another one.
    """
    if found := await KafkaProbe(kafka).cluster_id(timeout_s=ANSWER_S):
        refuse_another(await registry.note(found), found)


@asynccontextmanager
async def belonging_together(store: ConnectionPool, kafka: KafkaSettings) -> AsyncIterator[Together]:
    """For processes: make sure of it for as long as the block lasts, and let nobody talk to Kafka before it is sure.

    What needs no Kafka is begun where none answers yet. Where the one that answers later is another's, the block is
    ended.

    Raises:
        AnothersKafkaError: the database belongs to another one.
    """
    probe = KafkaProbe(kafka)
    if found := await probe.cluster_id(timeout_s=ANSWER_S):
        await _compare(store, found)
    task = asyncio.current_task()
    known = asyncio.create_task(_until_known(store, probe, found), name="kafka-cluster")

    def end(_: asyncio.Task[None]) -> None:
        if task is not None and _failure(known) is not None:
            task.cancel()

    known.add_done_callback(end)
    try:
        yield partial(_wait, known)
    except asyncio.CancelledError:
        if (failure := _failure(known)) is None:
            raise
        if task is not None:
            task.uncancel()
        raise failure from None
    finally:
        known.remove_done_callback(end)
        known.cancel()
        await asyncio.wait([known])


async def _until_known(store: ConnectionPool, probe: KafkaProbe, found: str | None) -> None:
    while found is None:
        await asyncio.sleep(_ASK_S)
        if found := await probe.cluster_id(timeout_s=ANSWER_S):
            await _compare(store, found)


async def _compare(store: ConnectionPool, found: str) -> None:
    async def note() -> str:
        async with store.connection() as connection:
            return await PostgresBelonging(connection).note(found)

    refuse_another(await until_done(note), found)


async def _wait(known: asyncio.Task[None]) -> None:
    await asyncio.shield(known)


def _failure(known: asyncio.Task[None]) -> BaseException | None:
    return known.exception() if known.done() and not known.cancelled() else None
