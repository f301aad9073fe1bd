"""Writes ``gateway/base/holidays.py`` from the package ``holidays``: ``make holidays``.

The domain stays without a dependency and gives the same answer on every machine; a test tells when the package, once it
is updated, knows better, and when the table ends too soon.
"""

from datetime import date
from pathlib import Path
from typing import Final

import holidays

from gateway.base import holidays as table

FIRST_YEAR: Final = 2025
LAST_YEAR: Final = 2035

_JUNE: Final = 6

_TEMPLATE: Final = '''\
"""Korean public holidays and the days on which banks are closed, as data. Made by ``make holidays``: do not edit.

Source: the package ``holidays`` (KR, public and bank), which follows the law on public holidays with its rule on
substitutes, and the almanac for lunar days. Years outside the table know the holidays of fixed dates only. Days that
are declared later (elections, special holidays, new laws) belong into the operators' own file, which wins:
``MYPAY_HOLIDAYS_FILE``.
"""

from datetime import date
from typing import Final

FIRST_YEAR: Final = {first}
LAST_YEAR: Final = {last}

_BY_YEAR: Final = """
{days}
"""

HOLIDAYS: Final = frozenset(
    date(int(year), int(day[:2]), int(day[2:]))
    for year, *days in (line.split() for line in _BY_YEAR.split("\\n") if line)
    for day in days
)
"""Every holiday from ``FIRST_YEAR`` to ``LAST_YEAR``."""

FIXED: Final = (
    (1, 1), (3, 1), (5, 1), (5, 5), (6, 6), (7, 17), (8, 15), (10, 3), (10, 9), (12, 25),
)  # fmt: skip
"""(month, day) of those that fall on the same date each year."""
'''


def found_by_package(first: int = FIRST_YEAR, last: int = LAST_YEAR) -> frozenset[date]:
    """The holidays of these years as the installed package tells them."""
    years = range(first, last + 1)
    return frozenset(holidays.country_holidays("KR", years=years, categories=("public", "bank")))


def text() -> str:
    """The module's text."""
    found = sorted(found_by_package())
    halves = ((year, half) for year in range(FIRST_YEAR, LAST_YEAR + 1) for half in (0, 1))
    lines = [
        f"{year} " + " ".join(f"{d:%m%d}" for d in found if (d.year, d.month > _JUNE) == (year, bool(half)))
        for year, half in halves
    ]
    return _TEMPLATE.format(first=FIRST_YEAR, last=LAST_YEAR, days="\n".join(lines))


if __name__ == "__main__":
    Path(table.__file__).write_text(text(), encoding="utf-8")
