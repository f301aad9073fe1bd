"""The relay reads the outbox in the order of transaction numbers, not of their spelling."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateway.database.migrate import migrate
from gateway.outbox.postgres import PostgresOutboxReader
from tests.support.leading import led

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
    reader = await led(PostgresOutboxReader(database))
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


INSERT = (
    "INSERT INTO outbox (topic, key, event_id, event_type, occurred_at, body) VALUES ('t', 'k', $1, 'e', now(), '')"
)


class Interrupted:
    """A connection: what ``then`` does happens between its first statement and the next."""

    def __init__(self, connection: Any, then: Callable[[], Awaitable[Any]]) -> None:
        self._connection = connection
        self._then: Callable[[], Awaitable[Any]] | None = then

    async def fetch(self, *arguments: Any) -> Any:
        found = await self._connection.fetch(*arguments)
        then, self._then = self._then, None
        if then is not None:
            await then()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_a_transaction_that_commits_right_after_a_look_is_not_passed_by(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database)
    slow, fast = await asyncpg.connect(database), await asyncpg.connect(database)
    reader = PostgresOutboxReader(database)
    try:
        await led(reader)
        begun = slow.transaction()
        await begun.start()
        await slow.execute(INSERT, "slow")
        await fast.execute(INSERT, "fast")
        rows = await reader.read(10)
        assert [r.event.event_id for r in rows] == ["fast"]
        await reader.advance(rows[-1])
        with monkeypatch.context() as patched:
            patched.setattr(reader, "_connection", Interrupted(reader._connection, begun.commit))
            assert await reader.read(10) == []
        assert [r.event.event_id for r in await reader.read(10)] == ["slow"]
    finally:
        await reader.release()
        await slow.close()
        await fast.close()


async def test_the_cursor_is_written_with_the_next_look_and_as_the_lead_is_given_up(database: str) -> None:
    """A statement of its own would cost as much as the look: whoever dies in between tells its last rows again."""
    await migrate(database)
    connection = await asyncpg.connect(database)
    reader = PostgresOutboxReader(database)

    async def written() -> str | None:
        at: str | None = await connection.fetchval(
            "SELECT event_id FROM outbox JOIN outbox_cursor USING (tx, id) UNION ALL SELECT NULL LIMIT 1"
        )
        return at

    try:
        await led(reader)
        for name in ("first", "second", "third"):
            await connection.execute(INSERT, name)
        [first] = await reader.read(1)
        await reader.advance(first)
        assert await written() is None
        [second] = await reader.read(1)
        assert (second.event.event_id, await written()) == ("second", "first")
        await reader.advance(second)
        await reader.release()
        assert await written() == "second"
        await led(reader)
        assert [r.event.event_id for r in await reader.read(9)] == ["third"]
    finally:
        await reader.release()
        await connection.close()


async def test_the_lead_is_given_up_also_where_the_cursor_cannot_be_written(database: str) -> None:
    await migrate(database)
    holder = await asyncpg.connect(database)
    reader = PostgresOutboxReader(database)
    try:
        await led(reader)
        for name in ("first", "second"):
            await holder.execute(INSERT, name)
        [first] = await reader.read(1)
        await reader.advance(first)
        async with holder.transaction():
            await holder.execute("LOCK TABLE outbox_cursor IN EXCLUSIVE MODE")
            await reader.release()
        await led(reader)
        # What was told is told again, or the cursor was written after all: nothing is passed by.
        assert [r.event.event_id for r in await reader.read(9)][-1:] == ["second"]
    finally:
        await reader.release()
        await holder.close()
