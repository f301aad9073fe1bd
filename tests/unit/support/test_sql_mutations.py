"""The bugs that are planted into the SQL."""

import pytest

from tests.support.sql import load
from tests.support.sql_mutants import LOCKING, TESTS, mutants, mutations

SQL = """SELECT a FROM t
WHERE b = 1 AND (c < $1 OR d >= $2) AND EXISTS (SELECT FROM u WHERE u.a = t.a AND u.b > t.b)
ORDER BY a LIMIT $3
FOR UPDATE OF t SKIP LOCKED"""


def test_each_kind_is_planted_alone() -> None:
    planted = dict(mutations(SQL))
    assert [name.partition(": …")[0] for name in planted] == [
        "dropped FOR UPDATE OF t SKIP LOCKED",
        "weakened FOR UPDATE OF t SKIP LOCKED",
        "dropped SKIP LOCKED",
        "dropped ORDER BY a",
        "turned",
        "by one",
        "turned",
        "by one",
        "turned",
        "by one",
        "without: b = 1",
        "without: (c < $1 OR d >= $2)",
        "without: EXISTS (SELECT FROM u WHERE u.a = t.a AND u.b > t.b)",
        "without: u.a = t.a",
        "without: u.b > t.b",
    ]
    assert all(text != SQL for text in planted.values())
    assert planted["dropped SKIP LOCKED"].endswith("FOR UPDATE OF t")
    assert planted["weakened FOR UPDATE OF t SKIP LOCKED"].endswith("FOR KEY SHARE OF t SKIP LOCKED")
    assert "WHERE TRUE AND (c" in planted["without: b = 1"]
    assert "(c >= $1 OR" in planted[list(planted)[4]]
    assert "(c <= $1 OR" in planted[list(planted)[5]]


@pytest.mark.parametrize("noun", TESTS)
def test_every_statement_that_can_be_spoiled_is(noun: str) -> None:
    spoiled = {m.block for m in mutants((noun,))}
    names = [m.name for m in mutants((noun,))]
    assert len(set(names)) == len(names)
    for block, sql in vars(load(noun)).items():
        text = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
        is_spoilt = any(word in text for word in ("WHERE", "ORDER BY")) or LOCKING.search(text) is not None
        assert (block in spoiled) == is_spoilt
