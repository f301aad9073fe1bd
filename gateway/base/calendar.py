"""Days of Asia/Seoul, and which of them are business days."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

from gateway.base.holidays import FIRST_YEAR, FIXED, HOLIDAYS, LAST_YEAR

# Korea has had no other offset since 1988. A constant needs no time zone database, which slim images lack.
SEOUL: Final = timezone(timedelta(hours=9), "KST")

_SATURDAY = 5
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BusinessDays:
    """Monday to Friday, without Korean public holidays.

    Attributes:
        more_holidays: the operators' own, added to those of :mod:`gateway.base.holidays`.
        working: days that are business days all the same.
    """

    more_holidays: frozenset[date] = frozenset()
    working: frozenset[date] = frozenset()

    def __contains__(self, day: date) -> bool:
        """True for a business day."""
        if day in self.working:
            return True
        if day.weekday() >= _SATURDAY or day in self.more_holidays:
            return False
        return day not in HOLIDAYS if FIRST_YEAR <= day.year <= LAST_YEAR else (day.month, day.day) not in FIXED

    def next(self, day: date) -> date:
        """The day itself, or the first business day after it."""
        while day not in self:
            day += _ONE_DAY
        return day

    def previous(self, day: date) -> date:
        """The day itself, or the last business day before it."""
        while day not in self:
            day -= _ONE_DAY
        return day


def day_start(day: date) -> datetime:
    """The first moment of a day in Seoul, in UTC."""
    return datetime.combine(day, time(), SEOUL).astimezone(UTC)


def day_of(moment: datetime) -> date:
    """The day in Seoul that a moment lies in."""
    return moment.astimezone(SEOUL).date()
