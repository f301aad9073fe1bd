"""The deployed alerts over a gateway at work, with nothing but their times and amounts made short.

A test says by ``@pytest.mark.alerts(…)`` which alerts its faults fire. They are quiet before it, all of them have fired
by its end, and they have ended before the next one that names them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from gateway.observability.alerts import ALERTS, OBJECTIVES, WINDOWS, recorded

BOUNDS: Final[Mapping[str, str]] = {
    "EventsLate": "> 1",
    "ConsumerLate": "> 1",
    "PaymentUnknownTooLong": "> 1",
    "OpenTransaction": "> 1",
    "DeadLetters": "> 2",
}
"""In place of minutes, and of many."""

HAPPENED_S: Final = 6
"""What has happened is over after so many seconds, in place of minutes and hours."""

SCALE: Final[Mapping[str, int]] = {"5m": 4, "30m": 6, "1h": 8, "2h": 8, "6h": 10, "1d": 10, "3d": 12}
"""Windows of objectives in seconds: in their order, and long enough for a rate."""

_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400}


def short_rules(more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The rules as Prometheus reads them; ``more``: bounds of single alerts besides :data:`BOUNDS`."""
    bounds = {**BOUNDS, **(more or {})}
    alerts = [{"alert": a.name, "expr": _short(f"{a.looks_at} {bounds.get(a.name, a.when)}".rstrip())} for a in ALERTS]
    records = [
        {"record": name, "expr": _scaled(expr), "labels": {"slo": objective.name}}
        for objective in OBJECTIVES
        for name, expr in (recorded(objective, window) for window in WINDOWS)
    ]
    return {"groups": [{"name": "objectives", "rules": records}, {"name": "alerts", "rules": alerts}]}


def _short(expr: str) -> str:
    if "slo_errors" in expr:
        return _scaled(expr)
    return re.sub(r"\[\d+[mh]\]", f"[{HAPPENED_S}s]", expr)


def _scaled(expr: str) -> str:
    """With each window, and the seconds that a rate over it is multiplied with, made short."""
    for window, seconds in SCALE.items():
        expr = expr.replace(f"[{window}]", f"[{seconds}s]")
        expr = expr.replace(f"* {int(window[:-1]) * _SECONDS[window[-1]]} >", f"* {seconds} >")
    return expr


def named(*modules: ModuleType) -> Iterator[str]:
    """The alerts that these modules' tests fire, each as often as it is named."""
    for module in modules:
        for function in vars(module).values():
            yield from of_marks(getattr(function, "pytestmark", ()))


def of_marks(marks: Iterable[Any]) -> Iterator[str]:
    """The alerts that marks of a test name."""
    for mark in marks:
        if mark.name == "alerts":
            yield from mark.args
