"""What is shown to people, in words: the same at every place that shows it."""

from datetime import timedelta
from typing import Final


def money(minor: int, currency: str) -> str:
    """``12,500 KRW`` or ``1,050.20 USD``."""
    from schemas.primitives import decimal_of  # noqa: PLC0415 - commands that show no money load no models

    whole, point, fraction = decimal_of(minor, currency).partition(".")
    return f"{int(whole):,}{point}{fraction} {currency}"


def counted(number: int, noun: str) -> str:
    """``1 attempt``, ``2 attempts``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_UNITS: Final = ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600))


def age(span: timedelta) -> tuple[int, str]:
    """A span of time as people say it: ``(42, "s")``, ``(3, "min")``, ``(5, "h")``, ``(12, "d")``."""
    seconds = max(0, int(span.total_seconds()))
    unit, size = next(((unit, size) for most, unit, size in _UNITS if seconds < most), ("d", 86_400))
    return seconds // size, unit
