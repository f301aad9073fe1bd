"""Partitions of the outbox in a real database: how they come to be, also under those who write, and what keeps them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from gateway.database import grants, migrate
from gateway.database.dsn import with_user
from gateway.database.roles import Role
from gateway.outbox.postgres import EVENT_COLUMNS, PostgresOutboxReader
from tests.support.leading import led
from tests.support.partitions import partition_outbox, use_up

Connection = asyncpg.Connection
NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=90)
LIMIT = NOW - timedelta(days=30)
READ_BEFORE_PARTITIONS = (
    "SELECT tx::text AS tx, id, event_id FROM outbox WHERE (tx, id) > ($1::text::xid8, $2::bigint) "
    "AND tx < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY outbox.tx, outbox.id LIMIT $3"
)
"""What a relay of the version before asks."""


@pytest.fixture
async def connection(database: str) -> AsyncIterator["Connection[Any]"]:
    await migrate.migrate(database)
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def append(connection: "Connection[Any]", *names: str, at: datetime = LONG_AGO) -> None:
    rows = [("t", "k", name, "e", at, None, b"") for name in names]
    await connection.copy_records_to_table("outbox", columns=EVENT_COLUMNS, records=rows)


async def events(connection: "Connection[Any]", table: str = "outbox") -> list[str]:
    return [r[0] for r in await connection.fetch(f"SELECT event_id FROM {table} ORDER BY tx, id")]


async def relay_all(dsn: str) -> list[str]:
    reader, told = await led(PostgresOutboxReader(dsn)), []
    while rows := await reader.read(3):
        told += [r.event.event_id for r in rows]
        await reader.advance(rows[-1])
    await reader.release()
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE disclosure_head SET (tx, id) = (SELECT tx, id FROM outbox_cursor)")
    await connection.execute("UPDATE sharing_place SET (tx, id) = (SELECT tx, id FROM outbox_cursor)")
    await connection.close()
    return told


async def drop(connection: "Connection[Any]") -> int:
    return int(await connection.fetchval("SELECT drop_outbox_partition($1)", LIMIT))


async def partitions(connection: "Connection[Any]") -> list[str]:
    return [r[0] for r in await connection.fetch("SELECT name FROM outbox_partition ORDER BY from_tx")]


async def test_whoever_writes_and_reads_goes_on_while_the_table_becomes_partitioned(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.migrations()
    before = [m for m in known if m.name < "0035"]
    monkeypatch.setattr(migrate, "migrations", lambda: before)
    monkeypatch.setattr(migrate, "apply_grants", give_what_is_there)
    await grants.apply_roles(database)
    await migrate.migrate(database)
    admin = await asyncpg.connect(database)
    writer = await asyncpg.connect(with_user(database, Role.EXECUTION.user))
    relay = await asyncpg.connect(with_user(database, Role.RELAY.user))
    try:
        await append(writer, "a", "b")
        last = await admin.fetchval("SELECT max(id) FROM outbox")
        reading = await relay.prepare(READ_BEFORE_PARTITIONS)
        assert [r["event_id"] for r in await reading.fetch("0", 0, 9)] == ["a", "b"]
        monkeypatch.setattr(migrate, "migrations", lambda: [m for m in known if m.name < "0038"])
        # Rights are given anew by a transaction of its own: it fails here, and nobody misses it.
        monkeypatch.setattr(migrate, "apply_grants", fail)
        with pytest.raises(NotGivenError):
            await migrate.migrate(database)
        await append(writer, "c")
        rows = await reading.fetch("0", 0, 9)
        assert [r["event_id"] for r in rows] == ["a", "b", "c"]
        assert rows[-1]["id"] > last
        assert await events(admin, "outbox_first") == ["a", "b", "c"]
    finally:
        for connection in (admin, writer, relay):
            await connection.close()


async def give_what_is_there(connection: "Connection[Any]") -> None:
    """The rights of the tables and columns that were there before."""
    for line in grants.grants_sql().splitlines():
        if line.startswith("GRANT "):
            with suppress(
                asyncpg.UndefinedObjectError,
                asyncpg.UndefinedTableError,
                asyncpg.UndefinedColumnError,
                asyncpg.UndefinedFunctionError,
            ):
                async with connection.transaction():
                    await connection.execute(line)


class NotGivenError(Exception):
    pass


async def fail(_: object) -> None:
    raise NotGivenError


async def test_there_is_room_ahead_from_the_first_day_on_and_beyond_it_a_net(connection: "Connection[Any]") -> None:
    made = await partitions(connection)
    assert made[0] == "outbox_first"
    assert await connection.fetchval("SELECT make_outbox_partitions(2, NULL)") == 0
    assert await connection.fetchval("SELECT make_outbox_partitions(5, NULL)") >= 1
    assert (await partitions(connection))[: len(made)] == made
    await partition_outbox(connection, width=None)
    await append(connection, "in the net")
    assert await events(connection, "outbox_rest") == ["in the net"]


async def test_a_look_at_the_outbox_is_planned_once(connection: "Connection[Any]", database: str) -> None:
    """For its own values each would be planned anew: with a day's partitions that takes longer than to look."""
    await append(connection, *"abcdefghij")
    reader = await led(PostgresOutboxReader(database))
    for _ in range(10):
        [row] = await reader.read(1)
        await reader.advance(row)
    plans = await reader._connected().fetch(
        "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement LIKE $1", "%now.bound%"
    )
    await reader.release()
    assert plans
    assert [p["custom_plans"] for p in plans] == [0] * len(plans)
    assert sum(p["generic_plans"] for p in plans) == 10


async def test_partitions_go_on_beyond_what_fell_into_the_net(connection: "Connection[Any]", database: str) -> None:
    """As after a long absence of the schedule, or after a dump was restored into a new cluster."""
    await partition_outbox(connection, width=None)
    await append(connection, "a")
    assert await connection.fetchval("SELECT make_outbox_partitions(1, 100000)") >= 1
    await append(connection, "b")
    assert await events(connection, "outbox_rest") == ["a", "b"]
    assert await relay_all(database) == ["a", "b"]
    # What is in the net is deleted row by row.
    assert await connection.fetchval("SELECT purge_unpartitioned_events($1, 1)", LIMIT) == 1
    assert await connection.fetchval("SELECT purge_unpartitioned_events($1, 9)", LIMIT) == 1
    assert await events(connection) == []


async def test_partitions_of_another_clusters_numbers_are_gone_around(connection: "Connection[Any]") -> None:
    await partition_outbox(connection, width=16, ahead=1)
    here, after = await connection.fetchrow("SELECT min(from_tx)::text, max(to_tx)::text FROM outbox_partition")
    assert await connection.fetchval("SELECT make_outbox_partitions(3, 16)") >= 1
    ranges = await connection.fetch(
        "SELECT from_tx::text::int, to_tx::text::int FROM outbox_partition ORDER BY from_tx"
    )
    assert str(ranges[0][0]) == here
    assert ranges[-1][1] > int(after)
    assert all(left[1] == right[0] for left, right in pairwise(ranges))


MANY_NUMBERS = """
DO $$ BEGIN FOR n IN 1 .. 40000 LOOP
    BEGIN INSERT INTO numbers VALUES (n); EXCEPTION WHEN unique_violation THEN NULL; END;
END LOOP; END $$
"""
"""A number for each subtransaction."""


async def test_a_partition_is_about_a_days_transactions_by_the_rate_so_far(connection: "Connection[Any]") -> None:
    await connection.execute("CREATE TEMPORARY TABLE numbers (n integer)")
    await connection.execute(MANY_NUMBERS)
    # As if everything that this cluster ever did had been done in the last quarter of an hour.
    await connection.execute("UPDATE outbox_partition SET at_tx = '0', made_at = now() - interval '15 minutes'")
    known = await partitions(connection)
    assert await connection.fetchval("SELECT make_outbox_partitions(4, NULL)") >= 1
    rows = await connection.fetch(
        "SELECT to_tx::text::bigint - from_tx::text::bigint AS width, at_tx::text::bigint AS done "
        "FROM outbox_partition WHERE name <> ALL ($1)",
        known,
    )
    for row in rows:
        expected = max(4_194_304, 96 * row["done"])
        assert 0.99 * expected <= row["width"] <= expected


async def test_another_readers_events_are_not_dropped_before_it_has_read_them(
    connection: "Connection[Any]", database: str
) -> None:
    await connection.execute("CREATE TABLE other_cursor AS SELECT '0'::xid8 AS tx, 0::bigint AS id")
    await connection.execute(
        "CREATE OR REPLACE VIEW outbox_reader AS SELECT 'relay' AS reader, tx, id FROM outbox_cursor "
        "UNION ALL SELECT 'other', tx, id FROM other_cursor"
    )
    await partition_outbox(connection, width=4)
    await append(connection, "a")
    await use_up(connection, 9)
    await relay_all(database)
    assert await drop(connection) == 0
    assert await events(connection) == ["a"]
    await connection.execute("UPDATE other_cursor SET (tx, id) = (SELECT tx, id FROM outbox_cursor)")
    assert await drop(connection) == 1
    assert await events(connection) == []


async def test_nor_deleted_from_the_net(connection: "Connection[Any]", database: str) -> None:
    await connection.execute(
        "CREATE OR REPLACE VIEW outbox_reader AS SELECT 'relay' AS reader, tx, id FROM outbox_cursor "
        "UNION ALL SELECT 'other', '0'::xid8, 0::bigint"
    )
    await partition_outbox(connection, width=None)
    await append(connection, "a")
    await relay_all(database)
    assert await connection.fetchval("SELECT purge_unpartitioned_events($1, 9)", LIMIT) == 0
    assert await events(connection) == ["a"]


async def test_nobody_waits_long_for_a_partition_to_be_dropped(connection: "Connection[Any]", database: str) -> None:
    await partition_outbox(connection, width=4)
    await append(connection, "a")
    await use_up(connection, 9)
    await relay_all(database)
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await events(other)  # a look that takes its time
            assert await drop(connection) == 0
            await append(connection, "meanwhile")
        assert await drop(connection) == 1
    finally:
        await other.close()
    assert await events(connection) == ["meanwhile"]


async def test_the_relay_reads_what_its_cursor_has_not_passed_and_no_older_partition(
    connection: "Connection[Any]", database: str
) -> None:
    await partition_outbox(connection, width=4, ahead=5)
    for n in range(12):
        await append(connection, f"e{n}")
    assert await relay_all(database) == [f"e{n}" for n in range(12)]
    await append(connection, "next")
    plan = await connection.fetch(
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT tx, id FROM outbox "
        "WHERE (tx, id) > ((SELECT tx FROM outbox_cursor), 0) AND tx >= (SELECT tx FROM outbox_cursor) "
        "AND tx < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY tx, id LIMIT 5"
    )
    text = "\n".join(r[0] for r in plan)
    first = (await partitions(connection))[0]
    assert "Seq Scan on outbox_" not in text.replace("Seq Scan on outbox_cursor", "")
    assert f"on {first} " not in text or "never executed" in text
    assert await relay_all(database) == ["next"]


async def test_no_partition_is_changed_by_hand(connection: "Connection[Any]") -> None:
    assert await connection.fetchval("SELECT make_outbox_partitions(5, NULL)") >= 1
    found = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relispartition AND relkind = 'r'"
    )
    assert len(found) >= 3
    for row in found:
        for statement in (f"UPDATE {row['name']} SET topic = 'x'", f"TRUNCATE {row['name']}"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await connection.execute(statement)
