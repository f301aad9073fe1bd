"""The clearing file of a closed cycle: what the network will move money for.

CSV, LF-ended. ``H,<network_id>,<cycle_id>,<business_date>,<created_at>``, then for each record ``D,<record_no>,
<purchase|refund>,<rrn>,<stan>,<terminal_id>,<acceptor_id>,<amount_minor>,<currency>,<approval_code>,<MMDDhhmmss>`` and
at the end ``T,<record_count>,<sum of amount_minor, purchases +, refunds ->``. A transaction that was reversed after an
earlier file held it appears once more as its opposite, under the same RRN.

The file is a function of the ledger and the cycle's row alone: written again after a crash it is the same to the byte.
"""

import csv
import hmac
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from gateway.proving.counterparts.config import ClearingFaults
from gateway.proving.counterparts.records import Cycle

# A reversed transaction that has a contra was reversed after its cycle was closed, so that cycle's file holds it.
_CLEARED: Final = """
SELECT operation, rrn, key, acceptor_id, amount_minor, currency, approval_code FROM transactions AS t
WHERE seq > :after_seq AND seq <= :through_seq
AND (state = 'approved' OR state = 'reversed' AND EXISTS (SELECT 1 FROM contras AS c WHERE c.seq = t.seq))
ORDER BY seq
"""
_CONTRAS: Final = """
SELECT CASE operation WHEN 'purchase' THEN 'refund' ELSE 'purchase' END,
    rrn, key, acceptor_id, amount_minor, currency, approval_code
FROM contras AS c JOIN transactions AS t USING (seq)
WHERE c.id > :after_contra AND c.id <= :through_contra ORDER BY c.id
"""
_REVERSED_IN_TIME: Final = """
SELECT operation, rrn, key, acceptor_id, amount_minor, currency, approval_code FROM transactions AS t
WHERE seq > :after_seq AND seq <= :through_seq AND state = 'reversed'
AND NOT EXISTS (SELECT 1 FROM contras AS c WHERE c.seq = t.seq) ORDER BY seq LIMIT :count
"""


class _Record(NamedTuple):
    operation: str
    rrn: str
    key: str
    acceptor_id: str
    amount_minor: int
    currency: str
    approval_code: str | None


@dataclass(slots=True)
class ClearingSummary:
    """What one file holds.

    Attributes:
        path: where it is.
        sum_minor: as in the trailer: signed, of every record as written.
        faulty: name of each fault that was put in → RRNs of the records concerned ("" for a garbage line).
    """

    path: Path
    cycle_id: str
    record_count: int = 0
    sum_minor: int = 0
    faulty: dict[str, list[str]] = field(default_factory=dict)


def write_file(
    ledger: Path, cycle: Cycle, network_id: str, directory: Path, *, seal_key: Path | None = None
) -> ClearingSummary:
    """Write a closed cycle's file through a read-only connection of its own; it appears whole or not at all.

    With a ``seal_key`` its HMAC-SHA256 in hexadecimal appears before it, in a file of its name with ``.hmac`` behind.

    Raises:
        sqlite3.Error: the ledger cannot be read.
        OSError: the file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{network_id}-{cycle.cycle_id}.csv"
    unfinished = path.with_suffix(".tmp")
    summary = ClearingSummary(path, cycle.cycle_id)
    faults = ClearingFaults.model_validate_json(cycle.faults)
    database = sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)
    try:
        with unfinished.open("w", encoding="ascii", newline="") as file:
            write_row = csv.writer(file, lineterminator="\n").writerow
            write_row(("H", network_id, cycle.cycle_id, cycle.business_date, cycle.created_at))
            for record in _records(database, cycle, faults, summary):
                write_row(_line_of(record, summary))
            for _ in range(faults.garbage):
                file.write("D,?,this is no record\n")
                summary.faulty.setdefault("garbage", []).append("")
            off = 1 if faults.wrong_trailer else 0
            write_row(("T", summary.record_count + off, summary.sum_minor + off))
            file.flush()
            os.fsync(file.fileno())
    finally:
        database.close()
    if seal_key is not None:
        seal = path.with_name(path.name + ".hmac.tmp")
        key = bytes.fromhex(seal_key.read_text(encoding="ascii").strip())
        seal.write_text(hmac.digest(key, unfinished.read_bytes(), "sha256").hex() + "\n", encoding="ascii")
        seal.replace(path.with_name(path.name + ".hmac"))
    unfinished.replace(path)
    _sync_directory(directory)
    return summary


def _records(
    database: sqlite3.Connection, cycle: Cycle, faults: ClearingFaults, summary: ClearingSummary
) -> Iterator[_Record]:
    """Yield what goes into the file; the faults fall on its first records, in the order omit, duplicate, amount."""
    left = {"omit": faults.omit, "duplicate": faults.duplicate, "wrong_amount": faults.wrong_amount}
    bounds = {**cycle._asdict(), "count": faults.clear_reversed}
    for row in database.execute(_CLEARED, bounds):
        record = _Record(*row)
        fault = next((name for name, count in left.items() if count), None)
        if fault is None:
            yield record
            continue
        left[fault] -= 1
        summary.faulty.setdefault(fault, []).append(record.rrn)
        if fault == "duplicate":
            yield record
            yield record
        elif fault == "wrong_amount":
            yield record._replace(amount_minor=record.amount_minor + 1)
    for row in database.execute(_CONTRAS, bounds):
        yield _Record(*row)
    for row in database.execute(_REVERSED_IN_TIME, bounds):
        record = _Record(*row)
        summary.faulty.setdefault("clear_reversed", []).append(record.rrn)
        yield record


def _line_of(record: _Record, summary: ClearingSummary) -> tuple[object, ...]:
    summary.record_count += 1
    summary.sum_minor += record.amount_minor if record.operation == "purchase" else -record.amount_minor
    return (
        "D",
        summary.record_count,
        record.operation,
        record.rrn,
        record.key[8:14],
        record.key[:8].rstrip(),
        record.acceptor_id,
        record.amount_minor,
        record.currency,
        record.approval_code or "",
        record.key[14:],
    )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
