"""The network's own durable ledger: one SQLite file, one writer, one transaction a batch.

:meth:`Ledger.process` returns only after the commit that holds every ruling of its batch, so an answer that
has left is in the books whatever happens to the process (and, with ``synchronous = full``, to the machine). Not
thread-safe: one worker thread at a time. Round trips for each batch: at most three reads, one write for each kind of
row that changed, one commit.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.proving.counterparts.config import ClearingFaults, MessageClass, Synchronous
from gateway.proving.counterparts.records import Cycle, Operation, Request, Reversal, State, Transaction
from gateway.proving.counterparts.rules import Book, Rules, Ruling, apply

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
BEGIN;
CREATE TABLE transactions (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    rrn TEXT NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('purchase', 'refund')),
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    acceptor_id TEXT NOT NULL,
    response_code TEXT NOT NULL,
    approval_code TEXT,
    state TEXT NOT NULL CHECK (state IN ('approved', 'declined', 'reversed')),
    pan_last4 TEXT NOT NULL,
    pan_hash TEXT,
    received_at_us INTEGER NOT NULL,
    times_seen INTEGER NOT NULL,
    reversed_at_us INTEGER,
    reversal_key TEXT
) STRICT;
CREATE TABLE reversals (
    key TEXT PRIMARY KEY,
    original_key TEXT NOT NULL,
    rrn TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    response_code TEXT NOT NULL,
    received_at_us INTEGER NOT NULL,
    times_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reversals_of_unknown ON reversals (original_key) WHERE response_code = '25';
CREATE TABLE contras (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL UNIQUE REFERENCES transactions (seq)
) STRICT;
CREATE TABLE cycles (
    cycle_id TEXT PRIMARY KEY,
    business_date TEXT NOT NULL,
    created_at TEXT NOT NULL,
    after_seq INTEGER NOT NULL,
    through_seq INTEGER NOT NULL,
    after_contra INTEGER NOT NULL,
    through_contra INTEGER NOT NULL,
    faults TEXT NOT NULL,
    file_name TEXT
) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""

_INSERT_TRANSACTION: Final = "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHANGE_TRANSACTION: Final = """
UPDATE transactions SET state = ?, times_seen = ?, reversed_at_us = ?, reversal_key = ? WHERE seq = ?
"""
_PUT_REVERSAL: Final = "INSERT OR REPLACE INTO reversals VALUES (?, ?, ?, ?, ?, ?, ?)"
_COUNT: Final = """
INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value
"""


class LedgerError(RuntimeError):
    """The ledger file is not one of this program, or of another version."""


class Ledger:
    """The open ledger. Close it in the thread that used it last."""

    def __init__(self, path: Path, rules: Rules, synchronous: Synchronous = Synchronous.NORMAL) -> None:
        """Open the file, and create it with its schema when missing.

        Raises:
            LedgerError: the file holds something else.
            sqlite3.Error: it cannot be opened or written.
        """
        self.path = path
        self._rules = rules
        path.parent.mkdir(parents=True, exist_ok=True)
        # The worker thread is one at a time, not the same for ever.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(synchronous)
        except BaseException:
            self._db.close()
            raise
        self.counters: Counter[str] = Counter(dict(self._db.execute("SELECT name, value FROM counters")))
        """Durable counts since the ledger was created, by name."""

    def _prepare(self, synchronous: Synchronous) -> None:
        version = self._one("PRAGMA user_version")
        if version == 0 and self._one("SELECT count(*) FROM sqlite_schema") == 0:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise LedgerError(f"{self.path} is not a ledger of version {SCHEMA_VERSION}")
        self._db.execute(f"PRAGMA synchronous = {synchronous.value}")
        # 16 MB of pages; a checkpoint every 16 MB of log keeps its fsyncs to about one a second at full load.
        self._db.execute("PRAGMA cache_size = -16384")
        self._db.execute("PRAGMA wal_autocheckpoint = 4096")
        self._next_seq = self._one("SELECT coalesce(max(seq), 0) + 1 FROM transactions")
        self._cleared_through = self._one("SELECT coalesce(max(through_seq), 0) FROM cycles")

    def _one(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchone()[0])

    def close(self) -> None:
        """Close the file; every commit is already in it."""
        self._db.close()

    def process(self, requests: Sequence[Request], counted: Mapping[str, int], now_us: int) -> list[Ruling]:
        """Judge a batch in order and commit it; return one ruling for each request.

        Args:
            requests: in order of arrival.
            counted: counts of what never reached the ledger, to be kept with it.
            now_us: time of receipt.

        Raises:
            sqlite3.Error: nothing of the batch was booked and none of it may be answered.
        """
        counts = Counter(counted)
        rulings: list[Ruling] = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            book = self._load(requests)
            first_new = book.next_seq
            for request in requests:
                ruling = self._rules.judge(request, book, now_us)
                apply(ruling, book)
                counts[ruling.counted] += 1
                rulings.append(ruling)
            self._save(rulings, book, first_new)
            self._db.executemany(_COUNT, counts.items())
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._next_seq = book.next_seq
        self.counters.update(counts)
        return rulings

    def _load(self, requests: Sequence[Request]) -> Book:
        book = Book(next_seq=self._next_seq, cleared_through=self._cleared_through)
        originals = _json_keys(request.original_key for request in requests)
        for row in self._db.execute(
            "SELECT * FROM transactions WHERE key IN (SELECT value FROM json_each(?))", (originals,)
        ):
            book.transactions[row[1]] = _transaction_of(row)
        for (key,) in self._db.execute(
            "SELECT original_key FROM reversals WHERE response_code = '25'"
            " AND original_key IN (SELECT value FROM json_each(?))",
            (originals,),
        ):
            book.tombstones.add(key)
        own = [request.key for request in requests if request.message_class is MessageClass.REVERSAL]
        if own:
            for row in self._db.execute(
                "SELECT * FROM reversals WHERE key IN (SELECT value FROM json_each(?))", (_json_keys(own),)
            ):
                book.reversals[row[0]] = Reversal(*row)
        return book

    def _save(self, rulings: Sequence[Ruling], book: Book, first_new: int) -> None:
        # A key may have changed more than once in the batch: what counts is how the book ended.
        touched = {ruling.transaction.key for ruling in rulings if ruling.transaction is not None}
        rows = [book.transactions[key] for key in touched]
        new = sorted(row for row in rows if row.seq >= first_new)
        self._db.executemany(_INSERT_TRANSACTION, new)
        if len(new) < len(rows):
            changed = [
                (row.state, row.times_seen, row.reversed_at_us, row.reversal_key, row.seq)
                for row in rows
                if row.seq < first_new
            ]
            self._db.executemany(_CHANGE_TRANSACTION, changed)
        reversed_keys = {ruling.reversal.key for ruling in rulings if ruling.reversal is not None}
        if reversed_keys:
            self._db.executemany(_PUT_REVERSAL, [book.reversals[key] for key in reversed_keys])
        contras = [(ruling.transaction.seq,) for ruling in rulings if ruling.contra and ruling.transaction is not None]
        if contras:
            self._db.executemany("INSERT INTO contras (seq) VALUES (?)", contras)

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close_cycle(self, now: datetime, faults: ClearingFaults) -> Cycle:
        """Close the clearing cycle: whatever is approved now and in no earlier cycle belongs to it.

        Only bounds are written, so the cost does not grow with the cycle. A reversal that comes later finds its
        transaction cleared and becomes a contra record of the next cycle.

        Args:
            now: aware; its UTC date is the business date.
            faults: kept with the cycle, for its file may have to be written again.
        """
        moment = now.astimezone(UTC)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            of_day = f"{moment:%Y%m%d}-"
            (number,) = self._db.execute(
                "SELECT coalesce(max(CAST(substr(cycle_id, 10) AS INTEGER)), 0) + 1 FROM cycles"
                " WHERE substr(cycle_id, 1, 9) = ?",
                (of_day,),
            ).fetchone()
            after_seq, after_contra = self._db.execute(
                "SELECT coalesce(max(through_seq), 0), coalesce(max(through_contra), 0) FROM cycles"
            ).fetchone()
            cycle = Cycle(
                f"{of_day}{number:04d}",
                f"{moment:%Y-%m-%d}",
                f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                after_seq,
                self._next_seq - 1,
                after_contra,
                self._one("SELECT coalesce(max(id), 0) FROM contras"),
                faults.model_dump_json(),
            )
            self._db.execute("INSERT INTO cycles VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", cycle)
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._cleared_through = cycle.through_seq
        return cycle

    def unwritten_cycles(self) -> list[Cycle]:
        """Return the closed cycles whose file is not known to be complete, oldest first."""
        rows = self._db.execute("SELECT * FROM cycles WHERE file_name IS NULL ORDER BY through_seq, cycle_id")
        return [Cycle(*row[:-1]) for row in rows]

    def mark_written(self, cycle_id: str, file_name: str) -> None:
        """Remember that a cycle's file is complete and in its place."""
        self._db.execute("UPDATE cycles SET file_name = ? WHERE cycle_id = ?", (file_name, cycle_id))


def _json_keys(keys: Iterable[str]) -> str:
    return json.dumps(list(keys))


def _transaction_of(row: tuple[int | str | None, ...]) -> Transaction:
    transaction = Transaction(*row)  # type: ignore[arg-type]  # the columns are STRICT and in this order
    return transaction._replace(operation=Operation(transaction.operation), state=State(transaction.state))
