"""Tables in Markdown pages, between two comments: ``<!-- generated: topics -->`` and ``<!-- end -->``."""

import re
from collections.abc import Callable, Mapping
from typing import Final

_MARKED: Final = re.compile(r"(<!-- generated: ([\w-]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_OPENING: Final = "<!-- generated:"


class MarkerError(ValueError):
    """A page's comments cannot be followed; the text says which."""


def tables_in(page: str) -> list[str]:
    """The names of the tables of a page, in order."""
    return [match[2] for match in _MARKED.finditer(page)]


def filled(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with every marked table as the code has it now.

    Raises:
        MarkerError: a marker names no table, or has no end.
    """
    found = tables_in(page)
    if unknown := [name for name in found if name not in tables]:
        raise MarkerError(f"there is no table {unknown[0]}: {', '.join(tables)}")
    if len(found) != page.count(_OPENING):
        raise MarkerError("a generated table has no <!-- end -->")
    return _MARKED.sub(lambda m: f"{m[1]}\n{tables[m[2]]()}\n\n{m[4]}", page)
