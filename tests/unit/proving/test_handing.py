"""Aggregates of a run are laid beside what was counted: a number of too few, or another one, is found."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.proving.handing import tables_hold
from schemas.marketing import AggregateCell, AggregateTable
from schemas.primitives import Money

WEEK, K = "2026-W48", 10
COUNTED: list[tuple[Any, ...]] = [
    (WEEK, "KRW", None, None, 14, 40, 90_000),
    (WEEK, "KRW", "5411", "Seoul", 11, 30, 70_000),
    (WEEK, "KRW", "5812", "Seoul", 3, 10, 20_000),
]


def told(customers: int, payments: int, won: int, **place: str) -> AggregateCell:
    return AggregateCell(**place, customers=customers, payments=payments, amount=Money.of(won, "KRW"))  # type: ignore[arg-type]


ALL, MART = told(14, 40, 90_000), told(11, 30, 70_000, category="5411", region="Seoul")
FOOD = AggregateCell(category="5812", region="Seoul", suppressed=True)


def table(*cells: AggregateCell) -> AggregateTable:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    return AggregateTable(week=WEEK, currency="KRW", revision=1, k=K, cells=cells, published_at=now)


def test_a_table_that_tells_of_enough_customers_holds() -> None:
    checked = tables_hold([table(ALL, MART, FOOD)], COUNTED)
    assert (checked.ok, checked.looked_at) == (True, 3)


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param((ALL, MART), id="nothing is suppressed"),
        pytest.param((), id="nothing is told"),
        pytest.param((ALL, MART, told(3, 10, 20_000, category="5812", region="Seoul"), FOOD), id="too few customers"),
        pytest.param((ALL, told(12, 30, 70_000, category="5411", region="Seoul"), FOOD), id="other customers"),
        pytest.param((ALL, told(11, 30, 70_001, category="5411", region="Seoul"), FOOD), id="another sum"),
        pytest.param((told(14, 40, 90_000, category="5999"), FOOD), id="a cell that nobody counted"),
        pytest.param((ALL, FOOD.model_copy(update={"customers": 3})), id="a suppressed cell tells a number"),
    ],
)
def test_what_a_table_must_not_tell_is_found(cells: tuple[AggregateCell, ...]) -> None:
    assert not tables_hold([table(*cells)], COUNTED).ok
