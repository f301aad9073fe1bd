"""What a table tells: nothing of fewer than k customers, whatever is added up, taken away or laid beside it."""

from datetime import datetime
from itertools import product
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.marketing.publishing import table_of
from gateway.marketing.rules.aggregates import (
    Contribution,
    Place,
    cells_of,
    determined,
    differs_too_little,
    suppressed,
    week_of,
)
from tests.support.builders import NOW

K = 3
CATEGORIES = ("5411", "5812", "5999")
REGIONS = ("Busan", "Seoul", "Ulsan")


def rows_of(counts: dict[tuple[str, str], int], first: int = 0) -> list[Contribution]:
    """So many customers in each cell, each with one payment."""
    made = []
    for (category, region), count in sorted(counts.items()):
        for n in range(count):
            customer = f"{category}{region}{first + n}"
            made.append(Contribution(uuid5(NAMESPACE_URL, customer), customer, category, region, 1_000))
    return made


grids = st.dictionaries(st.sampled_from(list(product(CATEGORIES, REGIONS))), st.integers(0, 7), max_size=9)


def solutions(told: dict[Place, int | None]) -> list[dict[Place, int]]:
    """Brute force: every table of small whole numbers that says what was told."""
    inner = [p for p in told if None not in p]
    hidden = [p for p in inner if told[p] is None]
    found = []
    for guess in product(range(9), repeat=len(hidden)):
        cells = {p: told[p] for p in inner if told[p] is not None} | dict(zip(hidden, guess, strict=True))
        whole: dict[Place, int] = {}
        for (c, r), n in cells.items():
            for place in ((c, r), (c, None), (None, r), (None, None)):
                whole[place] = whole.get(place, 0) + n  # type: ignore[operator]
        if all(n is None or whole[p] == n for p, n in told.items()):
            found.append(whole)
    return found


@settings(max_examples=150, deadline=None)
@given(grids)
def test_no_small_number_is_told_nor_follows(counts: dict[tuple[str, str], int]) -> None:
    """Each customer pays once, so that payments tell of customers. The oracle solves what was told by trying all."""
    counts = {p: n for p, n in counts.items() if n}
    cells = cells_of(rows_of(counts))
    hidden = suppressed(cells, K)
    for place, cell in cells.items():
        assert place in hidden or len(cell.customers) >= K
    inner = [p for p in hidden if None not in p]
    if len(inner) > 4:
        return
    told = {p: None if p in hidden else len(c.payments) for p, c in cells.items()}
    possible = solutions(told)
    assert possible
    for place in hidden:
        if len(cells[place].customers) < K:
            assert len({w[place] for w in possible}) > 1


@settings(deadline=None)
@given(grids)
def test_every_line_hides_none_or_enough(counts: dict[tuple[str, str], int]) -> None:
    cells = cells_of(rows_of({p: n for p, n in counts.items() if n}))
    hidden = suppressed(cells, K)
    for axis, names in ((0, CATEGORIES), (1, REGIONS)):
        for name in names:
            parts = [p for p in cells if p[axis] == name and None not in p]
            total: Place = (name, None) if axis == 0 else (None, name)
            gone = [p for p in parts if p in hidden]
            if gone and total not in hidden:
                assert len(gone) > 1
                assert len(frozenset().union(*(cells[p].customers for p in gone))) >= K


def test_a_lone_small_cell_takes_others_with_it() -> None:
    cells = cells_of(rows_of({(c, r): 5 for c in CATEGORIES[:2] for r in REGIONS[:2]} | {("5411", "Seoul"): 1}))
    assert suppressed(cells, K) == {(c, r) for c in CATEGORIES[:2] for r in REGIONS[:2]}


def test_what_is_determined_is_found() -> None:
    """One withheld in a line follows from the rest; of two, neither does."""
    lines = [(("a", None), (("a", "x"), ("a", "y"))), (("b", None), (("b", "x"), ("b", "y")))]
    assert determined({("a", "x"), ("a", "y")}, lines) == set()
    assert determined({("a", "x"), ("b", "y")}, lines) == {("a", "x"), ("b", "y")}


@pytest.mark.parametrize(
    ("more", "too_little"), [({}, False), ({("5411", "Seoul"): 2}, True), ({("5411", "Seoul"): 3}, False)]
)
def test_tables_side_by_side(more: dict[tuple[str, str], int], too_little: bool) -> None:
    old = rows_of({("5411", "Seoul"): 5, ("5812", "Busan"): 5})
    assert differs_too_little(old + rows_of(more, first=100), old, K) is too_little
    assert differs_too_little(old, old + rows_of(more, first=100), K) is too_little


def test_a_suppressed_cell_tells_its_place_alone() -> None:
    rows = rows_of({("5411", "Seoul"): 5, ("5411", "Busan"): 1, ("5812", "Seoul"): 4, ("5812", "Busan"): 6})
    table = table_of("2026-W48", "KRW", 1, rows, k=K, now=NOW)
    for cell in table.cells:
        numbers = (cell.customers, cell.payments, cell.amount)
        assert (numbers == (None, None, None)) is cell.suppressed
    assert any(c.suppressed for c in table.cells)
    assert not all(c.suppressed for c in table.cells)


@pytest.mark.parametrize(
    ("utc", "week"),
    [
        ("2026-11-29T14:59:59+00:00", "2026-W48"),
        ("2026-11-29T15:00:00+00:00", "2026-W49"),
        ("2027-01-03T12:00:00+00:00", "2026-W53"),
    ],
)
def test_weeks_are_of_seoul(utc: str, week: str) -> None:
    assert week_of(datetime.fromisoformat(utc)) == week
