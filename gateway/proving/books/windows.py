"""Limit windows, computed anew from the contract's words and not from the gateway's code.

Calendar windows follow Asia/Seoul (no other offset than +9 h since 1988; weeks begin on Monday), consent-aligned ones
begin at the consent's ``valid_from``; a month or year that is too short for its day begins on its last day.
"""

import calendar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from gateway.proving.books.evidence import ConsentRow, LimitCap

_SEOUL: Final = timedelta(hours=9)


def windows_of(consent: ConsentRow, currency: str, at_s: float) -> frozenset[str]:
    """Return ``limit_key@epoch-second`` of every window that a payment in ``currency`` counts in at ``at_s``."""
    return frozenset(
        f"{cap.limit_key}@{_start(cap, consent.valid_from_s, at_s)}"
        for cap in consent.caps
        if cap.currency is None or cap.currency == currency
    )


def days_left(cap: LimitCap, valid_from_s: float, starts_at: str) -> tuple[int, int]:
    """How many Seoul days of a calendar window the consent has, its first one included, and how many it is long.

    Of a window that is not of the calendar: all of it.
    """
    if cap.alignment != "calendar" or cap.period in {None, "day"}:
        return 1, 1
    day = timedelta(days=1)
    first = datetime.fromtimestamp(float(starts_at), UTC) + _SEOUL
    after = first + 7 * day if cap.period == "week" else _plus_months(first, {"month": 1, "year": 12}[cap.period or ""])
    begun = datetime.fromtimestamp(valid_from_s, UTC) + _SEOUL
    whole = (after - first) // day
    return min(whole, whole - (begun.replace(hour=0, minute=0, second=0, microsecond=0) - first) // day), whole


def _start(cap: LimitCap, valid_from_s: float, at_s: float) -> int:
    if cap.period is None:
        return int(valid_from_s)
    if cap.alignment == "calendar":
        return _calendar_start(cap.period, int(at_s + _SEOUL.total_seconds()) // 86_400)
    days = int(at_s - valid_from_s) // 86_400
    return _aligned_start(cap.period, valid_from_s, days)


@lru_cache(maxsize=1024)
def _calendar_start(period: str, seoul_day: int) -> int:
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=seoul_day)
    match period:
        case "day":
            first = day
        case "week":
            first = day - timedelta(days=day.weekday())
        case "month":
            first = day.replace(day=1)
        case "year":
            first = day.replace(month=1, day=1)
        case _:
            raise ValueError(f"unknown period {period}")
    return int((first - _SEOUL).timestamp())


@lru_cache(maxsize=65_536)
def _aligned_start(period: str, valid_from_s: float, days: int) -> int:
    start = datetime.fromtimestamp(valid_from_s, UTC) + _SEOUL
    today = start + timedelta(days=days)
    if period in {"day", "week"}:
        length = 1 if period == "day" else 7
        return int((start + timedelta(days=days - days % length) - _SEOUL).timestamp())
    step = {"month": 1, "year": 12}[period]
    months = 0
    while _plus_months(start, months + step) <= today:
        months += step
    return int((_plus_months(start, months) - _SEOUL).timestamp())


def _plus_months(moment: datetime, months: int) -> datetime:
    years, month0 = divmod(moment.month - 1 + months, 12)
    year, month = moment.year + years, month0 + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))
