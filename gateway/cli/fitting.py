"""How wide a table's columns are on a terminal: no id is ever broken, for one in two pieces cannot be copied."""

import re
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

_FRAME: Final = 3
"""What the frame takes of a line for each column, and one more: a border and a space to either side."""


_TIME: Final = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}")
_TIME_CHARS: Final = 12
"""To the millisecond; the offset may stand below."""
_PATH_CHARS: Final = 20


def fitted(rows: Sequence[Sequence[str]], whole: Sequence[bool], width: int) -> list[int] | None:
    """Each column's width for a terminal of ``width``; None where not even words fit.

    ``rows``: the columns' names, then the cells; ``whole``: of which column no line is broken.
    """
    columns = list(zip(*rows, strict=True))
    most = [max(_longest(cell.split("\n")) for cell in column) for column in columns]
    least = [
        wide if kept else max(_unbroken(cell) for cell in column)
        for column, wide, kept in zip(columns, most, whole, strict=True)
    ]
    spare = width - 1 - _FRAME * len(columns) - sum(least)
    return None if spare < 0 else _shared_out(least, most, spare)


def _shared_out(least: Sequence[int], most: Sequence[int], spare: int) -> list[int]:
    """What is left of the line, in equal parts to those that can use it."""
    widths = list(least)
    while spare and (short := [n for n, width in enumerate(widths) if width < most[n]]):
        part = max(1, spare // len(short))
        for n in short:
            more = min(part, most[n] - widths[n], spare)
            widths[n] += more
            spare -= more
    return widths


def _unbroken(cell: str) -> int:
    """The room that a cell needs at least. A time of day and a file's path may be broken: they are no ids."""
    return max((_room(word) for word in cell.split()), default=0)


def _room(word: str) -> int:
    if _TIME.match(word):
        return min(cell_len(word), _TIME_CHARS)
    return min(cell_len(word), _PATH_CHARS) if word.startswith("/") else cell_len(word)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
