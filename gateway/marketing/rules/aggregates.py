"""Aggregates that tell of nobody: a threshold, complementary suppression, and a look at what was published before.

A table has a cell for each category and region, and totals over either and both. A number is told where at least k
customers stand behind it, and where nothing that is told gives a smaller group's away.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final
from uuid import UUID

from msgspec import Struct

from gateway.base.calendar import day_of
from gateway.marketing.rules.activity import MarketingActivity

UNKNOWN: Final = "unknown"
"""Where a payment's merchant names no region, or has left the directory."""
UNKNOWN_CATEGORY: Final = "0000"

Place = tuple[str | None, str | None]
"""Category and region of a cell; None: over all of them."""


class Contribution(Struct, frozen=True, order=True, gc=False):
    """One payment as a table counts it."""

    payment_id: UUID
    customer_id: str
    category: str
    region: str
    amount_minor: int


class Cell(Struct, frozen=True, gc=False):
    """What stands behind one cell."""

    customers: frozenset[str]
    payments: frozenset[UUID]
    amount_minor: int


def week_of(moment: datetime) -> str:
    """The ISO 8601 week of a moment in Asia/Seoul: ``2026-W48``."""
    year, week, _ = day_of(moment).isocalendar()
    return f"{year}-W{week:02d}"


def contributions(activities: Sequence[MarketingActivity]) -> Mapping[tuple[str, str], list[Contribution]]:
    """(Week, currency) → what its table counts, each payment once."""
    found: dict[tuple[str, str], list[Contribution]] = defaultdict(list)
    for activity in activities:
        for s in activity.spent:
            found[week_of(s.paid_at), s.currency].append(
                Contribution(
                    s.payment_id,
                    activity.permit.customer_id,
                    s.category or UNKNOWN_CATEGORY,
                    s.region or UNKNOWN,
                    s.amount_minor,
                )
            )
    return found


def cells_of(rows: Sequence[Contribution]) -> dict[Place, Cell]:
    """Cells and totals of a table; a place without payments has none."""
    behind: dict[Place, list[Contribution]] = defaultdict(list)
    for row in rows:
        places: tuple[Place, ...] = ((row.category, row.region), (row.category, None), (None, row.region), (None, None))
        for place in places:
            behind[place].append(row)
    return {
        place: Cell(
            frozenset(r.customer_id for r in of), frozenset(r.payment_id for r in of), sum(r.amount_minor for r in of)
        )
        for place, of in behind.items()
    }


def suppressed(cells: Mapping[Place, Cell], k: int) -> frozenset[Place]:
    """The cells that are not told: those of fewer than k customers, and those whose numbers would give these away.

    Every line (a category's or region's cells with their total, and the totals with theirs) has no cell withheld, or at
    least two; and no number that is withheld follows from all that are told.
    """
    hidden = {place for place, cell in cells.items() if len(cell.customers) < k}
    lines = _lines(cells)
    while True:
        more = _one_more(cells, lines, hidden, k)
        if more is None:
            return frozenset(hidden)
        hidden.add(more)


def _lines(cells: Mapping[Place, Cell]) -> list[tuple[Place, tuple[Place, ...]]]:
    """Each total with the cells that it is the sum of."""
    lines: list[tuple[Place, tuple[Place, ...]]] = []
    categories = sorted({c for c, _ in cells if c is not None})
    regions = sorted({r for _, r in cells if r is not None})
    lines += [((c, None), tuple((c, r) for r in regions if (c, r) in cells)) for c in categories]
    lines += [((None, r), tuple((c, r) for c in categories if (c, r) in cells)) for r in regions]
    lines.append(((None, None), tuple((c, None) for c in categories)))
    lines.append(((None, None), tuple((None, r) for r in regions)))
    return lines


def _one_more(
    cells: Mapping[Place, Cell], lines: Sequence[tuple[Place, tuple[Place, ...]]], hidden: set[Place], k: int
) -> Place | None:
    """A further cell to withhold, the smallest that helps; None where nothing is given away."""
    for total, parts in lines:
        withheld = [p for p in parts if p in hidden]
        if not withheld or total in hidden:
            continue
        # The total less what is told is the sum of those withheld: so many customers must stand behind it, too.
        together = frozenset[str]().union(*(cells[p].customers for p in withheld))
        if len(withheld) == 1 or len(together) < k:
            return _smallest(cells, [p for p in parts if p not in hidden] or [total])
    for total, parts in lines:
        if total in hidden and not any(p in hidden for p in parts):
            return _smallest(cells, parts)
    given = determined(hidden, lines)
    if not given:
        return None
    near = {p for total, parts in lines if given & {total, *parts} for p in (total, *parts)}
    return _smallest(cells, [p for p in near if p not in hidden] or [p for p in cells if p not in hidden])


def _smallest(cells: Mapping[Place, Cell], places: Sequence[Place]) -> Place | None:
    return min(places, key=lambda p: (len(cells[p].customers), p[0] or "", p[1] or ""), default=None)


def determined(hidden: set[Place], lines: Sequence[tuple[Place, tuple[Place, ...]]]) -> set[Place]:
    """Withheld cells whose sums follow from what is told: those that the lines' equations have one solution for."""
    order = sorted(hidden, key=lambda p: (p[0] or "", p[1] or ""))
    at = {p: n for n, p in enumerate(order)}
    rows: list[list[Fraction]] = []
    for total, parts in lines:
        row = [Fraction(0)] * len(order)
        for place, sign in ((total, -1), *((p, 1) for p in parts)):
            if place in at:
                row[at[place]] += sign
        if any(row):
            rows.append(row)
    # Gauss–Jordan: a variable has one value where its row names no other.
    pivots: list[int] = []
    for column in range(len(order)):
        rank = len(pivots)
        found = next((n for n in range(rank, len(rows)) if rows[n][column]), None)
        if found is None:
            continue
        rows[rank], rows[found] = rows[found], rows[rank]
        pivot = rows[rank][column]
        rows[rank] = [v / pivot for v in rows[rank]]
        for n, row in enumerate(rows):
            if n != rank and row[column]:
                factor = row[column]
                rows[n] = [v - factor * w for v, w in zip(row, rows[rank], strict=True)]
        pivots.append(column)
    return {order[column] for rank, column in enumerate(pivots) if sum(1 for v in rows[rank] if v) == 1}


def differs_too_little(new: Sequence[Contribution], old: Sequence[Contribution], k: int) -> bool:
    """True if a table beside one that was published before would tell of fewer than k customers.

    The difference of two cells in one place tells of those whose payments are in one of them alone.
    """
    ours, theirs = cells_of(new), cells_of(old)
    owners = {r.payment_id: r.customer_id for r in (*old, *new)}
    nothing = Cell(frozenset(), frozenset(), 0)
    for place in {*ours, *theirs}:
        changed = ours.get(place, nothing).payments ^ theirs.get(place, nothing).payments
        if 0 < len({owners[p] for p in changed}) < k:
            return True
    return False


def suppressed_of(rows: Sequence[Contribution], k: int) -> frozenset[Place]:
    """The cells of a table that are not told."""
    return suppressed(cells_of(rows), k)


def gives_away(tables: Sequence[Sequence[Contribution]], k: int) -> bool:
    """True if tables of one week and currency, each as it is told, give away together what one of them withholds.

    A cell with the same payments in two tables is one number: where either tells it, it is told. What a table withholds
    must stand what is left: no number that follows, and no sum over fewer than k customers.
    """
    every = [(cells := cells_of(rows), suppressed(cells, k)) for rows in tables]
    told = {(p, cell.payments) for cells, hidden in every for p, cell in cells.items() if p not in hidden}
    names: dict[tuple[Place, frozenset[UUID]], Place] = {}
    unknown: set[Place] = set()
    lines: list[tuple[Place, tuple[Place, ...]]] = []
    customers: dict[Place, frozenset[str]] = {}
    for cells, _ in every:
        own: dict[Place, Place] = {}
        for place, cell in cells.items():
            key = (place, cell.payments)
            own[place] = name = names.setdefault(key, (str(len(names)), None))
            customers[name] = cell.customers
            if key not in told:
                unknown.add(name)
        lines += [(own[total], tuple(own[p] for p in parts)) for total, parts in _lines(cells)]
    for total, parts in lines:
        withheld = [p for p in parts if p in unknown]
        if withheld and total not in unknown:
            together = frozenset[str]().union(*(customers[p] for p in withheld))
            if len(together) < k:
                return True
    return bool(determined(unknown, lines))
