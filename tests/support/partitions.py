"""Partitions of the outbox that end soon."""

from typing import Any

import asyncpg

PLACE = "(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)"


async def partition_outbox(connection: "asyncpg.Connection[Any]", *, width: int | None, ahead: int = 40) -> None:
    """Put partitions of ``width`` transactions in the place of those that there are; the outbox is emptied.

    None: no partition but the net below.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("TRUNCATE outbox")
        for row in await connection.fetch("DELETE FROM outbox_partition RETURNING name"):
            await connection.execute(f"DROP TABLE {row['name']}")
        if width is None:
            return
        here = await connection.fetchval(f"SELECT {PLACE}")
        await connection.execute(
            f"CREATE TABLE outbox_{here} PARTITION OF outbox FOR VALUES FROM ('{here}') TO ('{here + width}')"
        )
        await connection.execute(
            "INSERT INTO outbox_partition (name, from_tx, to_tx, at_tx) "
            "VALUES ('outbox_' || $1, $1::text::xid8, $2::text::xid8, $1::text::xid8)",
            str(here),
            str(here + width),
        )
        await connection.fetchval("SELECT make_outbox_partitions($1, $2)", ahead, width)


async def use_up(connection: "asyncpg.Connection[Any]", transactions: int) -> None:
    """Let so many transactions pass."""
    for _ in range(transactions):
        await connection.execute("SELECT pg_current_xact_id()")
