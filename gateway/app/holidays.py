"""Korean business days, with what the operators add to the calendar that is built in."""

import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

from gateway.app.errors import NotConfiguredError
from gateway.base.calendar import BusinessDays
from gateway.base.causes import cause_of


def business_days(file: Path | None) -> BusinessDays:
    """Read the operators' file, if there is one.

    Raises:
        NotConfiguredError: it cannot be read, or holds something else than lists of dates.
    """
    if file is None:
        return BusinessDays()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotConfiguredError(f"{file} cannot be read: {cause_of(error)}") from None
    if unknown := found.keys() - {"holidays", "working_days"}:
        raise NotConfiguredError(f"{file}: unknown {', '.join(sorted(unknown))}; give holidays and working_days")
    return BusinessDays(_dates(file, found.get("holidays", [])), _dates(file, found.get("working_days", [])))


def _dates(file: Path, values: Any) -> frozenset[date]:
    if not isinstance(values, list) or not all(isinstance(v, date) and not isinstance(v, datetime) for v in values):
        raise NotConfiguredError(f"{file}: holidays and working_days are lists of dates: [2028-01-25, 2028-01-26]")
    return frozenset(values)
