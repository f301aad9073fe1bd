"""A place in Kafka at which another record stands by now: what was refused there before says nothing of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from gateway.database.belonging import PostgresBelonging
from gateway.identity.refusals import Refusal
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode
from tests.contract.conftest import PostgresBackend, postgres_backend

pytestmark = pytest.mark.integration

PARTNER = PartnerId("partner-1")
PLACE = "mypay.orders/0/1"


@pytest.fixture
async def backend(contract_dsn: str) -> AsyncIterator[PostgresBackend]:
    async with postgres_backend(contract_dsn) as backend:
        await backend.connection.execute("TRUNCATE kafka_cluster")
        yield backend


async def refuse(backend: PostgresBackend) -> bool:
    reason = Reason(code=ReasonCode.DS17, text="why")
    async with backend.store.transaction() as uow:
        return PLACE in await uow.refusals.insert([Refusal(PARTNER, "order-1", PLACE, reason)] * 2)


async def is_refused(backend: PostgresBackend) -> bool:
    async with backend.store.reading() as uow:
        return PLACE in await uow.refusals.find([(PARTNER, PLACE)])


async def refused_ago(backend: PostgresBackend, ago: timedelta, reference: str = PLACE) -> None:
    await backend.connection.execute(
        "INSERT INTO refusal (partner_id, reference, order_id, reason_code, reason_text, refused_at) "
        "VALUES ($1, $2, 'order-0', 'DS17', 'why', now() - $3::interval)",
        PARTNER,
        reference,
        ago,
    )


async def test_what_was_refused_before_a_topic_was_made_again_is_another_record(backend: PostgresBackend) -> None:
    """A good order that came to stand at such a place was taken for it: dropped, and its partner told nothing."""
    await refused_ago(backend, timedelta(days=40))
    for n in range(3):
        assert not await is_refused(backend), n
        assert await refuse(backend), n
        assert await is_refused(backend), n
        assert not await refuse(backend), n
        # And so on, whenever it is made again.
        await backend.connection.execute("ALTER TABLE refusal DISABLE TRIGGER USER")
        await backend.connection.execute("UPDATE refusal SET refused_at = refused_at - interval '40 days'")
        await backend.connection.execute("ALTER TABLE refusal ENABLE TRIGGER USER")


async def test_what_was_refused_before_the_gateway_moved_to_another_kafka_is_another_record(
    backend: PostgresBackend,
) -> None:
    belonging = PostgresBelonging(backend.connection)
    await belonging.note("one")
    await refused_ago(backend, timedelta(hours=2))
    await belonging.move("one")
    assert await is_refused(backend)
    assert not await refuse(backend)
    await belonging.move("another")
    assert not await is_refused(backend)
    assert await refuse(backend)
    assert await is_refused(backend)


async def test_what_can_still_come_again_stays_refused(backend: PostgresBackend) -> None:
    await refused_ago(backend, timedelta(days=20))
    assert await is_refused(backend)
    assert not await refuse(backend)


async def answer(backend: PostgresBackend) -> bool:
    async with backend.store.transaction() as uow:
        return await uow.cancellations.answer([(PARTNER, PLACE)] * 2) == {(PARTNER, PLACE)}


LONG_AGO = "UPDATE cancellation_answer SET answered_at = answered_at - interval '40 days'"


async def test_a_cancellation_is_answered_though_another_was_answered_at_its_place(backend: PostgresBackend) -> None:
    for n in range(3):
        assert await answer(backend), n
        assert not await answer(backend), n
        await backend.connection.execute("ALTER TABLE cancellation_answer DISABLE TRIGGER USER")
        await backend.connection.execute(LONG_AGO)
        await backend.connection.execute("ALTER TABLE cancellation_answer ENABLE TRIGGER USER")
