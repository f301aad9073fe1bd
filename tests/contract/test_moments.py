"""What a pool's connections write and read as moments: the same as asyncpg itself, and nothing without a time zone."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Final

import asyncpg
import pytest

from gateway.database.pool import ConnectionPool

pytestmark = pytest.mark.integration

AT: Final = datetime(2026, 11, 28, 0, 4, 7, 123456, tzinfo=UTC)
MOMENTS: Final = [
    AT,
    AT.astimezone(timezone(timedelta(hours=9))),
    AT + timedelta(microseconds=1),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
]


@pytest.fixture
async def pooled(contract_dsn: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    pool = ConnectionPool(contract_dsn, pool_size=1)
    await pool.start()
    try:
        async with pool.connection() as connection:
            yield connection
    finally:
        await pool.stop()


@pytest.fixture
async def plain(contract_dsn: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(contract_dsn)
    try:
        yield connection
    finally:
        await connection.close()


ASK: Final = """
SELECT $1::timestamptz AS moment, $2::timestamptz[] AS moments, $1::timestamptz::text AS spelt, $2::timestamptz[]::text
"""


@pytest.mark.parametrize("moment", [*MOMENTS, None], ids=str)
async def test_moments_are_written_and_read_as_the_driver_does(
    pooled: "asyncpg.Connection[Any]", plain: "asyncpg.Connection[Any]", moment: datetime | None
) -> None:
    expected = await plain.fetchrow(ASK, moment, [moment, AT, None, moment])
    # Worked out, and then remembered.
    found = [await pooled.fetchrow(ASK, moment, [moment, AT, None, moment]) for _ in range(2)]
    assert found == [expected, expected]
    # Their time zone, too.
    assert [repr(row) for row in found] == [repr(expected)] * 2


async def test_moments_are_copied_into_a_table(pooled: "asyncpg.Connection[Any]") -> None:
    await pooled.execute("CREATE TEMP TABLE copied (at timestamptz)")
    await pooled.copy_records_to_table("copied", records=[(m,) for m in [*MOMENTS, None]])
    assert [row["at"] for row in await pooled.fetch("SELECT at FROM copied")] == [*MOMENTS, None]


async def test_what_never_ends_is_read_as_the_driver_does(
    pooled: "asyncpg.Connection[Any]", plain: "asyncpg.Connection[Any]"
) -> None:
    ask = "SELECT 'infinity'::timestamptz, '-infinity'::timestamptz"
    assert repr(await pooled.fetchrow(ask)) == repr(await plain.fetchrow(ask))


@pytest.mark.parametrize("other", [datetime(2026, 11, 28), date(2026, 11, 28), "2026-11-28", 1], ids=repr)  # noqa: DTZ001
async def test_what_names_no_moment_is_refused(pooled: "asyncpg.Connection[Any]", other: Any) -> None:
    with pytest.raises(asyncpg.DataError):
        await pooled.fetchval("SELECT $1::timestamptz", other)
