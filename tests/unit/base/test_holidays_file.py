"""The operators' own calendar."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from gateway.app.errors import NotConfiguredError
from gateway.app.holidays import business_days
from gateway.base import holidays
from gateway.base.calendar import SEOUL, BusinessDays
from gateway.base.holiday_table import found_by_package, text
from gateway.base.holidays import FIRST_YEAR, HOLIDAYS, LAST_YEAR


def test_days_are_added_and_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "days.toml"
    file.write_text("holidays = [2028-01-25, 2028-01-24]\nworking_days = [2028-05-01, 2028-05-06]\n")
    days = business_days(file)
    assert date(2028, 1, 25) not in days
    assert date(2028, 5, 1) in days
    assert date(2028, 5, 6) in days
    assert date(2028, 1, 25) in business_days(None)
    assert date(2028, 5, 1) not in business_days(None)


@pytest.mark.parametrize(
    "text",
    [
        "holidays = 2028-01-26",
        'holidays = ["2028-01-26"]',
        "holidays = [2028-01-26T00:00:00]",
        "holiday = [2028-01-26]",
        "holidays = [2028-02-30]",
        "\xff",
    ],
)
def test_a_file_that_says_something_else_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "days.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(NotConfiguredError, match=r"days\.toml"):
        business_days(file)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotConfiguredError):
        business_days(tmp_path / "missing.toml")


# --- the calendar that is built in ---


@pytest.mark.parametrize(
    "day",
    ["2026-07-17", "2027-05-03", "2027-07-19", "2028-01-26", "2028-01-27", "2028-01-28", "2028-05-02", "2028-10-05"],
)
def test_days_that_the_law_made_holidays_are_no_business_days(day: str) -> None:
    assert date.fromisoformat(day) not in BusinessDays()


def test_the_table_is_what_the_package_says() -> None:
    # Red when the package, brought up to date, knows a day that the table lacks: make holidays.
    assert found_by_package() == HOLIDAYS
    assert Path(holidays.__file__).read_text(encoding="utf-8") == text()


def test_the_coming_eighteen_months_are_covered() -> None:
    # Red in July 2034: make holidays with a later LAST_YEAR.
    today = datetime.now(SEOUL).date()
    assert date(FIRST_YEAR, 1, 1) <= today
    assert today + timedelta(days=549) <= date(LAST_YEAR, 12, 31)
    assert {d.year for d in HOLIDAYS} == set(range(FIRST_YEAR, LAST_YEAR + 1))
    # The package itself has lunar days and substitutes that far, not fixed dates alone.
    assert all(len([d for d in HOLIDAYS if d.year == year]) >= 17 for year in range(FIRST_YEAR, LAST_YEAR + 1))


def test_beyond_the_table_holidays_of_fixed_dates_are_known() -> None:
    assert date(LAST_YEAR + 1, 12, 25) not in BusinessDays()
    assert date(LAST_YEAR + 1, 7, 17) not in BusinessDays()
