"""The operators' own calendar."""

from datetime import date
from pathlib import Path

import pytest

from gateway.bootstrap import NotConfiguredError
from gateway.bootstrap.holidays import business_days


def test_days_are_added_and_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "days.toml"
    file.write_text("holidays = [2028-01-26, 2028-01-27]\nworking_days = [2028-05-01]\n")
    days = business_days(file)
    assert date(2028, 1, 26) not in days
    assert date(2028, 5, 1) in days
    assert date(2028, 1, 26) in business_days(None)


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
