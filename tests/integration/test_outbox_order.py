"""The relay reads the outbox in the order of transaction numbers, not of their spelling."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

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
        assert await reader.acquire()
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
