"""Places in the outbox are ordered by their numbers: as text, 1000 comes before 999."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from tests.support.sql import SQL_FILES, load

SELECTED_AS_TEXT = re.compile(r"\b(\w+)::text\b(?!\s*\[|\s+AS\b|\s*::)", re.IGNORECASE)
"""What is selected under its own name as text: a bare name in ``ORDER BY`` is that text, not the column."""


def statements() -> Iterator[tuple[str, str]]:
    for noun in SQL_FILES:
        blocks = vars(load(noun, queue="reversal") if noun == "follow_up" else load(noun))
        yield from ((f"{noun}.{name}", sql) for name, sql in blocks.items())
    for path in sorted(Path(gateway.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "ORDER BY" in node.value:
                yield f"{path.name}:{node.lineno}", node.value


def ordered_as_text(sql: str) -> set[str]:
    names = {m[1] for m in SELECTED_AS_TEXT.finditer(sql)}
    ordered = re.findall(r"ORDER BY ([^()]+?)(?:LIMIT|OFFSET|FOR\b|\)|$)", sql, re.DOTALL)
    return {n for n in names for text in ordered if re.search(rf"(?<![\w.]){n}\b(?!::)", text)}


def test_no_statement_is_ordered_by_a_number_as_text() -> None:
    wrong = {place: found for place, sql in statements() if (found := ordered_as_text(sql))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT tx::text, id FROM outbox ORDER BY tx DESC, id DESC LIMIT 1", {"tx"}),
        ("SELECT (SELECT tx::text FROM page ORDER BY tx DESC LIMIT 1) AS place", {"tx"}),
        ("SELECT tx::text, id FROM outbox ORDER BY outbox.tx DESC, id DESC LIMIT 1", set()),
        ("SELECT tx::text AS place, id FROM outbox ORDER BY tx DESC", set()),
        ("SELECT id FROM outbox WHERE tx > $1::text::xid8 ORDER BY tx", set()),
        ("SELECT id FROM unnest($1::text[]) AS k (id) ORDER BY id", set()),
    ],
)
def test_what_is_ordered_as_text(sql: str, found: set[str]) -> None:
    assert ordered_as_text(sql) == found
