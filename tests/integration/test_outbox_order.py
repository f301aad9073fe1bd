"""The relay reads the outbox in the order of transaction numbers, not of their spelling."""

from datetime import UTC, datetime

import asyncpg

from gateway.database.migrate import migrate
from gateway.outbox.postgres import PostgresOutboxReader

NUMBERS = ("9", "10", "11", "99", "100")


async def test_rows_come_by_number_one_at_a_time_and_none_is_lost_or_repeated(database: str) -> None:
    await migrate(database)
    connection = await asyncpg.connect(database)
    try:
        for tx in reversed(NUMBERS):
            await connection.execute(
                "INSERT INTO outbox (tx, topic, key, event_id, event_type, occurred_at, body)"
                " VALUES ($1::text::xid8, 't', 'k', $1, 'e', $2, '')",
                tx,
                datetime.now(UTC),
            )
    finally:
        await connection.close()
    for limit in (1, 2, len(NUMBERS)):
        assert await read_all(database, limit) == list(NUMBERS)


async def read_all(database: str, limit: int) -> list[str]:
    reader = PostgresOutboxReader(database)
    assert await reader.acquire()
    seen: list[str] = []
    try:
        while rows := await reader.read(limit):
            seen += [r.event.event_id for r in rows]
            await reader.advance(rows[-1])
        assert len(seen) <= len(NUMBERS)
    finally:
        await reader.release()
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE outbox_cursor SET tx = '0', id = 0")
    await connection.close()
    return seen
