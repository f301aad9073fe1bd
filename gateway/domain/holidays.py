"""Korean public holidays, as data.

Source: the Regulations on Public Holidays of Government Offices (관공서의 공휴일에 관한 규정) with their rule on
substitute holidays, lunar days by the almanac of the Korea Astronomy and Space Science Institute (월력요항); and
Labour Day, on which banks are closed. Years outside the table know the holidays of fixed dates only. Days that are
declared later (elections, special holidays, new laws) belong into the operators' own file: ``MYPAY_HOLIDAYS_FILE``.
"""

from datetime import date
from typing import Final

FIXED: Final = ((1, 1), (3, 1), (5, 1), (5, 5), (6, 6), (8, 15), (10, 3), (10, 9), (12, 25))
"""(month, day): New Year, Independence, Labour, Children, Memorial, Liberation, Foundation, Hangul, Christmas."""

_MOVABLE: Final = {
    2025: (
        (1, 27),  # special holiday
        (1, 28), (1, 29), (1, 30),  # Seollal
        (3, 3),  # for 1 March, a Saturday
        (5, 6),  # for Buddha's birthday, on Children's Day
        (6, 3),  # presidential election
        (10, 5), (10, 6), (10, 7), (10, 8),  # Chuseok, with a substitute for its Sunday
    ),
    2026: (
        (2, 16), (2, 17), (2, 18),  # Seollal
        (3, 2),  # for 1 March, a Sunday
        (5, 24), (5, 25),  # Buddha's birthday, a Sunday, and its substitute
        (6, 3),  # local elections
        (8, 17),  # for 15 August, a Saturday
        (9, 24), (9, 25), (9, 26),  # Chuseok
        (10, 5),  # for 3 October, a Saturday
    ),
    2027: (
        (2, 6), (2, 7), (2, 8), (2, 9),  # Seollal, with a substitute for its Sunday
        (5, 13),  # Buddha's birthday
        (8, 16),  # for 15 August, a Sunday
        (9, 14), (9, 15), (9, 16),  # Chuseok
        (10, 4),  # for 3 October, a Sunday
        (10, 11),  # for 9 October, a Saturday
        (12, 27),  # for 25 December, a Saturday
    ),
}  # fmt: skip

MOVABLE: Final = frozenset(date(year, month, day) for year, days in _MOVABLE.items() for month, day in days)
"""Lunar holidays, substitutes, elections and special holidays of the years in the table."""
