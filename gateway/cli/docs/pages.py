"""Markdown pages: tables between two comments (``<!-- generated: topics -->``, ``<!-- end -->``), where they lead."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

_MARKED: Final = re.compile(r"(<!-- generated: ([\w-]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_OPENING: Final = "<!-- generated:"
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_PATH: Final = re.compile(r"`((?:gateway|schemas|streams|tests|deploy)/[\w./-]*)`")
_TITLE: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


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


def dead_ends(name: str, page: str, root: Path) -> list[str]:
    """Links of a page that lead nowhere, and files that it names and that are not there.

    Args:
        name: of the page, from ``root``.
        page: its text.
        root: the project's.
    """
    return [*_dead_links(root / name, page), *(path for path in _PATH.findall(page) if not (root / path).exists())]


def _dead_links(file: Path, page: str) -> Iterator[str]:
    for target in _LINK.findall(page):
        path, _, title = target.partition("#")
        if "://" in target:
            continue
        led_to = file.parent / path if path else file
        if not led_to.exists() or (
            title and title not in _anchors(page if led_to == file else led_to.read_text(encoding="utf-8"))
        ):
            yield target


def _anchors(page: str) -> set[str]:
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _TITLE.findall(page)}
