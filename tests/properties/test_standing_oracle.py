"""Occurrences of standing orders against an oracle that walks day by day, and the holidays against known years."""

import calendar
from datetime import date, timedelta
from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.calendar import BusinessDays
from gateway.orders.standing.rules import occurrence, occurrences
from schemas.standing import DayRule, Frequency, HolidayRule, StandingSchedule

DAY = timedelta(days=1)
KOREA = BusinessDays()

days_of_life = st.dates(date(2020, 1, 1), date(2036, 12, 31))


@st.composite
def schedules(draw: st.DrawFn) -> StandingSchedule:
    frequency = draw(st.sampled_from(Frequency))
    first = draw(days_of_life)
    monthly = frequency in (Frequency.MONTHLY, Frequency.YEARLY)
    return StandingSchedule(
        frequency=frequency,
        interval=draw(st.integers(1, 4)),
        first_date=first,
        last_date=draw(st.none() | st.integers(0, 3000).map(lambda n: first + n * DAY)),
        count=draw(st.none() | st.integers(1, 40)),
        day_rule=draw(st.sampled_from(DayRule)) if monthly else DayRule.SAME_DAY,
        holiday_rule=draw(st.sampled_from(HolidayRule)),
    )


def is_on(schedule: StandingSchedule, day: date) -> bool:
    """Whether the schedule names this day: written down by looking at one day alone."""
    first = schedule.first_date
    match schedule.frequency:
        case Frequency.DAILY:
            return (day - first).days % schedule.interval == 0
        case Frequency.WEEKLY:
            return day.weekday() == first.weekday() and (day - first).days // 7 % schedule.interval == 0
        case Frequency.MONTHLY:
            months = (day.year - first.year) * 12 + day.month - first.month
            fits = months % schedule.interval == 0
        case Frequency.YEARLY:
            fits = day.month == first.month and (day.year - first.year) % schedule.interval == 0
    ends_month = (day + DAY).month != day.month
    if schedule.day_rule is DayRule.LAST_DAY:
        return fits and ends_month
    return fits and (day.day == first.day or (ends_month and day.day < first.day))


def oracle(schedule: StandingSchedule, until: date) -> list[date]:
    found: list[date] = []
    day = schedule.first_date
    while day <= min(until, schedule.last_date or until) and len(found) < (schedule.count or 10**6):
        if is_on(schedule, day):
            found.append(day)
        day += DAY
    return found


@given(schedules())
def test_occurrences_are_the_days_that_a_walk_finds(schedule: StandingSchedule) -> None:
    until = schedule.first_date + 1500 * DAY
    made = list(takewhile(lambda o: o.nominal <= until, occurrences(schedule, KOREA)))
    assert [o.nominal for o in made] == oracle(schedule, until)
    assert [o.number for o in made] == list(range(len(made)))


@given(schedules())
def test_the_holiday_rule_moves_to_the_nearest_business_day_on_its_side_and_never_turns_the_order(
    schedule: StandingSchedule,
) -> None:
    made = list(islice(occurrences(schedule, KOREA), 60))
    assert [o.day for o in made] == sorted(o.day for o in made)
    assert len({o.nominal for o in made}) == len(made)
    for o in made:
        if schedule.holiday_rule is HolidayRule.NONE or o.nominal in KOREA:
            assert o.day == o.nominal
            continue
        assert o.day in KOREA
        low, high = sorted((o.nominal, o.day))
        assert (o.day > o.nominal) is (schedule.holiday_rule is HolidayRule.NEXT)
        between = [low + n * DAY for n in range(1, (high - low).days)]
        assert not any(day in KOREA for day in between)


def nominal(schedule: StandingSchedule, number: int) -> str:
    found = occurrence(schedule, number, KOREA)
    return str(found.nominal) if found else "over"


def test_month_ends_and_leap_years() -> None:
    monthly = StandingSchedule(frequency=Frequency.MONTHLY, first_date=date(2027, 10, 31))
    assert [nominal(monthly, n)[5:] for n in range(6)] == ["10-31", "11-30", "12-31", "01-31", "02-29", "03-31"]
    ends = StandingSchedule(frequency=Frequency.MONTHLY, first_date=date(2026, 2, 3), day_rule=DayRule.LAST_DAY)
    assert [nominal(ends, n)[5:] for n in range(4)] == ["02-28", "03-31", "04-30", "05-31"]
    yearly = StandingSchedule(frequency=Frequency.YEARLY, first_date=date(2024, 2, 29))
    assert [nominal(yearly, n) for n in (1, 4)] == ["2025-02-28", "2028-02-29"]


@pytest.mark.parametrize(
    ("count", "last", "made"),
    [(3, None, 3), (None, date(2026, 1, 12), 12), (3, date(2026, 1, 12), 3), (13, date(2026, 1, 12), 12)],
)
def test_the_end_that_comes_first_counts(count: int | None, last: date | None, made: int) -> None:
    schedule = StandingSchedule(frequency=Frequency.DAILY, first_date=date(2026, 1, 1), count=count, last_date=last)
    assert len(list(occurrences(schedule, KOREA))) == made


def test_a_schedule_without_an_end_stops_before_the_calendar_does() -> None:
    endless = StandingSchedule(frequency=Frequency.YEARLY, interval=366, first_date=date(2999, 12, 31))
    assert occurrence(endless, 10_000, KOREA) is None
    assert 10 < len(list(occurrences(endless, KOREA))) < 20


HOLIDAYS = {
    2025: "0101 0127 0128 0129 0130 0303 0501 0505 0506 0603 0606 0815 1003 1006 1007 1008 1009 1225",
    2026: "0101 0216 0217 0218 0302 0501 0505 0525 0603 0717 0817 0924 0925 1005 1009 1225",
    2027: "0101 0208 0209 0301 0503 0505 0513 0719 0816 0914 0915 0916 1004 1011 1227",
}


@pytest.mark.parametrize("year", HOLIDAYS)
def test_weekdays_on_which_nothing_is_open(year: int) -> None:
    every = (date(year, m, d) for m in range(1, 13) for d in range(1, calendar.monthrange(year, m)[1] + 1))
    assert " ".join(f"{d:%m%d}" for d in every if d.weekday() < 5 and d not in KOREA) == HOLIDAYS[year]


@pytest.mark.parametrize(
    ("day", "is_open"),
    [
        (date(2024, 1, 1), False),
        (date(2024, 2, 9), True),  # the lunar new year, which only the table knows
        (date(2025, 1, 28), False),
        (date(2035, 2, 7), False),
        (date(2036, 1, 1), False),
        (date(2036, 1, 28), True),
    ],
)
def test_beyond_the_table_only_holidays_of_fixed_dates_are_known(day: date, *, is_open: bool) -> None:
    assert (day in KOREA) is is_open


def test_operators_add_holidays_and_take_them_away() -> None:
    days = BusinessDays(frozenset({date(2026, 7, 10)}), working=frozenset({date(2026, 5, 1)}))
    assert date(2026, 7, 10) in KOREA
    assert date(2026, 7, 10) not in days
    assert (date(2026, 5, 1) in days, date(2026, 5, 1) in KOREA) == (True, False)
    assert days.next(date(2026, 7, 10)) == date(2026, 7, 13)
    assert days.previous(date(2026, 7, 12)) == date(2026, 7, 9)
