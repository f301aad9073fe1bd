"""What a session writes as an array: lists and tuples, and no other."""

from typing import Any

import asyncpg
import pytest

from gateway.database.sessions import session, session_settings

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("array", "found"),
    [
        ([], []),
        (["a", None, "", '{"b",c}'], ["a", None, "", '{"b",c}']),
        (("a", "b"), ["a", "b"]),
        ([["a", "b"], ["c", None]], [["a", "b"], ["c", None]]),
    ],
    ids=["empty", "list", "tuple", "nested"],
)
async def test_lists_and_tuples_come_back_as_they_were_written(contract_dsn: str, array: Any, found: Any) -> None:
    async with session(contract_dsn, session_settings("test")) as connection:
        assert await connection.fetchval("SELECT $1::text[]", array) == found


@pytest.mark.parametrize("other", [{"a"}, {"a": "b"}, "a", b"a", (n for n in "a")], ids=lambda o: type(o).__name__)
async def test_nothing_else_is_taken_for_an_array(contract_dsn: str, other: Any) -> None:
    async with session(contract_dsn, session_settings("test")) as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("SELECT $1::text[]", other)
