"""Charts as SVG, computed here: no script draws them, and they need no style of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 600
HEIGHT: Final = 120
_PAD: Final = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A line chart. ``points``: of a polyline; ``area``: the same, closed at the bottom; ``top``: the largest value."""

    points: str
    area: str
    top: float
    last: float


def line(values: Sequence[float]) -> Line | None:
    """A line through the values, the oldest on the left; None of fewer than two."""
    if len(values) < 2:
        return None
    top = max(*values, 1e-9)
    step = (WIDTH - 2 * _PAD) / (len(values) - 1)
    spots = [
        (round(_PAD + i * step, 1), round(HEIGHT - _PAD - v / top * (HEIGHT - 2 * _PAD), 1))
        for i, v in enumerate(values)
    ]
    points = " ".join(f"{x},{y}" for x, y in spots)
    return Line(points, f"{_PAD},{HEIGHT - _PAD} {points} {spots[-1][0]},{HEIGHT - _PAD}", max(values), values[-1])


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a whole as a bar. ``x`` and ``width`` in percent."""

    label: str
    count: int
    x: float
    width: float


def stacked(parts: Sequence[tuple[str, int]]) -> list[Bar]:
    """Parts of a whole side by side; those of nothing are left out."""
    whole = sum(n for _, n in parts)
    bars: list[Bar] = []
    x = 0.0
    for label, n in parts:
        if n:
            width = 100 * n / whole
            bars.append(Bar(label, n, round(x, 2), round(width, 2)))
            x += width
    return bars


def share_of(used: int, most: int) -> float:
    """How much of a limit is used, in percent from 0 to 100."""
    return 100.0 if most <= 0 else round(min(100.0, 100 * used / most), 1)
