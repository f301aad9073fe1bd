"""Reads a network's ledger from outside, also while the network runs: for whoever checks the books.

Depends on nothing but the ledger's tables. Amounts are minor units; times are microseconds since 1970 UTC.

    with Books(path) as books:
        print(books.totals().captured_minor)
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

SCHEMA_VERSION: Final = 1

_ENTRIES: Final = """
SELECT t.rrn, t.operation, t.amount_minor, t.currency, rtrim(substr(t.key, 1, 8)), CAST(substr(t.key, 9, 6) AS INTEGER),
    substr(t.key, 15), t.acceptor_id, t.response_code, t.approval_code, t.state, t.times_seen, t.received_at_us,
    t.reversed_at_us,
    CASE WHEN t.state = 'approved' OR EXISTS (SELECT 1 FROM contras AS c WHERE c.seq = t.seq) THEN
        (SELECT cycle_id FROM cycles AS y WHERE t.seq > y.after_seq AND t.seq <= y.through_seq)
    END
FROM transactions AS t
"""


class BooksError(RuntimeError):
    """The file is not a network's ledger, or one of another version."""


class Entry(NamedTuple):
    """One 0200 as the network booked it.

    Attributes:
        rrn: DE37. Two entries with one RRN are a payment that was sent twice.
        operation: ``purchase`` or ``refund``.
        currency: ISO 4217 alphabetic.
        transmitted_at: DE7, ``MMDDhhmmss`` UTC.
        state: ``approved`` (moves money), ``declined`` or ``reversed``.
        times_seen: how often the very same message arrived; only the first was booked.
        cycle_id: the clearing cycle that holds it, or None.
    """

    rrn: str
    operation: str
    amount_minor: int
    currency: str
    terminal_id: str
    stan: int
    transmitted_at: str
    acceptor_id: str
    response_code: str
    approval_code: str | None
    state: str
    times_seen: int
    received_at_us: int
    reversed_at_us: int | None
    cycle_id: str | None


@dataclass(slots=True)
class Totals:
    """The whole ledger in numbers.

    Attributes:
        by_state: state → number of transactions.
        captured_minor: currency → what was ever approved, purchases +, refunds -.
        reversed_minor: currency → the part of it that was reversed since; captured - reversed is what stands.
        doubled_rrns: RRNs with more than one transaction.
        duplicates_seen: repeats of a 0200 that arrived; none was booked.
        counters: everything that the network counted, by name: ``fault_…``, ``inquiries``, ``reversal_repeats`` …
    """

    transactions: int = 0
    by_state: dict[str, int] = field(default_factory=dict)
    captured_minor: dict[str, int] = field(default_factory=dict)
    reversed_minor: dict[str, int] = field(default_factory=dict)
    doubled_rrns: int = 0
    duplicates_seen: int = 0
    counters: dict[str, int] = field(default_factory=dict)


class Books:
    """A read-only view of a ledger; a context manager. Each call sees everything committed before it."""

    def __init__(self, ledger: Path) -> None:
        """Open the ledger.

        Raises:
            BooksError: it is none of this version.
            sqlite3.Error: it cannot be opened.
        """
        self._db = sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            self._db.close()
            raise BooksError(f"{ledger} is not a ledger of version {SCHEMA_VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the view."""
        self._db.close()

    def entries(self) -> Iterator[Entry]:
        """Yield every transaction in order of booking."""
        for row in self._db.execute(_ENTRIES + " ORDER BY t.seq"):
            yield Entry(*row)

    def by_rrn(self) -> dict[str, list[Entry]]:
        """Return every transaction under its RRN; a list longer than one is a payment that was sent twice."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries():
            found.setdefault(entry.rrn, []).append(entry)
        return found

    def settled_count(self) -> int:
        """Return how many transactions stand approved in closed clearing cycles."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM transactions WHERE state = 'approved'"
            " AND seq <= (SELECT coalesce(max(through_seq), 0) FROM cycles)"
        ).fetchone()
        return int(count)

    def totals(self) -> Totals:
        """Add the whole ledger up, in one consistent view of it."""
        totals = Totals()
        self._db.execute("BEGIN")
        try:
            for state, operation, currency, count, amount, repeats in self._db.execute(
                "SELECT state, operation, currency, count(*), sum(amount_minor), sum(times_seen - 1)"
                " FROM transactions GROUP BY state, operation, currency"
            ):
                totals.transactions += count
                totals.by_state[state] = totals.by_state.get(state, 0) + count
                totals.duplicates_seen += repeats
                signed = amount if operation == "purchase" else -amount
                if state in {"approved", "reversed"}:
                    totals.captured_minor[currency] = totals.captured_minor.get(currency, 0) + signed
                if state == "reversed":
                    totals.reversed_minor[currency] = totals.reversed_minor.get(currency, 0) + signed
            (totals.doubled_rrns,) = self._db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM transactions GROUP BY rrn HAVING count(*) > 1)"
            ).fetchone()
            totals.counters = dict(self._db.execute("SELECT name, value FROM counters ORDER BY name"))
        finally:
            self._db.execute("COMMIT")
        return totals
