"""What is collected for the check of the books: one moment of the database, at which the relay is done."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.database.migrate import migrate
from gateway.proving.books.evidence import Evidence
from gateway.proving.collect import postgres

pytestmark = pytest.mark.integration

ROOT = """
INSERT INTO outbox (topic, key, event_id, event_type, occurred_at, body)
VALUES ('mypay.disclosure.roots', '1', 'disclosure-root:1', 'root', now(), '')
"""
RELAY = "UPDATE outbox_cursor SET (tx, id) = (SELECT tx, id FROM outbox ORDER BY tx DESC, id DESC LIMIT 1)"
LOOKED = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'mypay-books' AND query LIKE 'COMMIT%')"


@pytest.fixture
async def connection(module_database: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(module_database)
    connection = await asyncpg.connect(module_database)
    yield connection
    await connection.close()


async def test_what_is_told_as_the_books_are_read_is_waited_for(
    connection: asyncpg.Connection, module_database: str
) -> None:
    """A root of the disclosure log comes when its time comes, also where nothing else moves."""
    await connection.execute(ROOT)
    evidence = Evidence(produced=[])
    reading = asyncio.create_task(postgres.collect_postgres(module_database, evidence))
    while not reading.done() and not await connection.fetchval(LOOKED):
        pass
    await connection.execute(RELAY)
    await reading
    assert (evidence.outbox_rows, evidence.outbox_unrelayed) == (1, 0)


async def test_a_relay_that_stands_still_is_not_waited_for_for_ever(
    connection: asyncpg.Connection, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_RELAY_S", 0.1)
    await connection.execute("UPDATE outbox_cursor SET tx = '0', id = 0")
    await connection.execute(ROOT)
    evidence = Evidence(produced=[])
    await postgres.collect_postgres(module_database, evidence)
    assert evidence.outbox_unrelayed > 0
