"""After a restore: what Kafka tells of the time since, kept on disk while it is worked through, however much it is.

It lies in files of SQLite's without a name, in the folder that ``TMPDIR`` names, or else in ``/tmp``, and is gone with
the process. Orders lie in it as they came: that folder is to be as private as Kafka's disks.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from tempfile import TemporaryFile
from typing import Final
from uuid import UUID

import msgspec

from gateway.app.errors import NotConfiguredError
from gateway.messaging.records import Record
from gateway.payments.restoring.rules import Told, told_further
from gateway.payments.restoring.service import HandedOn, ambiguous
from gateway.payments.rules.payment import PaymentKey
from schemas.codec import decode
from schemas.events import PaymentEvent
from schemas.primitives import NetworkId, PartnerId, PaymentId

PAGE: Final = 500

_TABLES: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -262144;  -- 256 MiB are held in memory; what is beyond lies in the file
CREATE TABLE event (partner TEXT, payment BLOB, body BLOB);
CREATE TABLE refused (place TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE handed_on (network TEXT, partner TEXT, payment BLOB, came_at TEXT, place TEXT, record BLOB);
CREATE TABLE found (partner TEXT, payment BLOB, PRIMARY KEY (partner, payment)) WITHOUT ROWID;
CREATE TABLE ended (partner TEXT, payment BLOB, PRIMARY KEY (partner, payment)) WITHOUT ROWID;
"""
_SORTED: Final = """
CREATE INDEX event_key ON event (partner, payment);
CREATE INDEX handed_on_key ON handed_on (partner, payment);
DELETE FROM handed_on WHERE came_at IN (SELECT place FROM refused);
"""

Read = Callable[[Record, NetworkId], HandedOn | None]


class Kept:
    """What was told and handed on since: first all of it is added, then it is sorted, then read.

    Args:
        read: what a record of an execution's topic hands on; None where nobody of the gateway wrote it.
        folder: for files without a name; of the whole process.

    Raises:
        NotConfiguredError: no file can be made in the folder.
    """

    def __init__(self, read: Read, folder: str) -> None:
        self._read = read
        self._db = sqlite3.connect("", isolation_level=None)
        self._place(folder)
        self._db.executescript(_TABLES)
        # Each commit would look at all that was written and is still in memory.
        self._db.execute("BEGIN")

    def _place(self, folder: str) -> None:
        """What SQLite sorts by the way lies there, too. By itself it goes elsewhere where a folder cannot be used."""
        quoted = folder.replace("'", "''")
        try:
            with TemporaryFile(dir=folder):
                self._db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        except (OSError, sqlite3.OperationalError) as error:
            self._db.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise NotConfiguredError(f"no file can be made in {folder} (TMPDIR): {why}") from None
        if self._db.execute("PRAGMA temp_store_directory").fetchall() != [(folder,)]:
            self._db.close()
            raise NotConfiguredError("this SQLite takes no folder for temporary files: run it with another Python")

    def close(self) -> None:
        """Let all of it go."""
        self._db.close()

    # --- adding ---

    def tell(self, event: PaymentEvent, body: bytes) -> None:
        """Its partner was told this of a payment."""
        key = _row(PartnerId(event.partner_id), PaymentId(event.payment_id))
        self._db.execute("INSERT INTO event VALUES (?, ?, ?)", (*key, body))

    def refuse(self, place: str) -> None:
        """The partner's record at this place was refused: it became no payment."""
        self._db.execute("INSERT OR IGNORE INTO refused VALUES (?)", (place,))

    def hand_on(self, record: Record, network_id: NetworkId) -> None:
        """Execution may have taken this record. Raises as ``read`` does."""
        if (one := self._read(record, network_id)) is not None:
            row = (network_id, *_row(*one.key), one.received.reference, one.place, msgspec.msgpack.encode(record))
            self._db.execute("INSERT INTO handed_on VALUES (?, ?, ?, ?, ?, ?)", row)

    def sort(self) -> None:
        """All is added. What was refused was not handed on."""
        self._db.executescript(_SORTED)
        self._db.execute("BEGIN")

    def take(self, places: frozenset[str]) -> frozenset[str]:
        """Of what was handed on more than once, what stands at these places counts; return places that cannot count."""
        chosen: dict[tuple[str, bytes], str] = {}
        for place in sorted(places):
            rows = self._db.execute("SELECT partner, payment FROM handed_on WHERE place = ?", (place,))
            chosen |= dict.fromkeys(rows.fetchall(), place)
        if strange := places - set(chosen.values()):
            return strange
        sql = "DELETE FROM handed_on WHERE (partner, payment) = (?, ?) AND place <> ?"
        self._db.executemany(sql, [(*key, place) for key, place in chosen.items()])
        return frozenset()

    # --- reading ---

    def counts(self) -> tuple[int, int]:
        """Payments that were told of, and records that were handed on."""
        (told,) = self._db.execute("SELECT count(*) FROM (SELECT DISTINCT partner, payment FROM event)").fetchone()
        (handed_on,) = self._db.execute("SELECT count(*) FROM handed_on").fetchone()
        return told, handed_on

    def ambiguous(self) -> Mapping[PaymentKey, Sequence[str]]:
        """As :func:`gateway.payments.restoring.service.ambiguous` of all that was handed on."""
        rows = self._db.execute(
            "SELECT network, record FROM handed_on JOIN (SELECT partner, payment FROM handed_on "
            "GROUP BY partner, payment HAVING count(*) > 1) USING (partner, payment) "
            "ORDER BY partner, payment, handed_on.rowid"
        )
        found: dict[PaymentKey, Sequence[str]] = {}
        for _, same in groupby(self._all_read(rows), key=lambda one: one.key):
            found |= ambiguous(same)
        return found

    def handed_on(self, network_id: NetworkId) -> Iterator[list[HandedOn]]:
        """What was handed on to a network, in the order in which it was added, batch by batch."""
        last = 0
        sql = "SELECT rowid, network, record FROM handed_on WHERE rowid > ? AND network = ? ORDER BY rowid LIMIT ?"
        while rows := self._db.execute(sql, (last, network_id, PAGE)).fetchall():
            last = rows[-1][0]
            yield list(self._all_read((network, record) for _, network, record in rows))

    def told(self, keys: Iterable[PaymentKey]) -> dict[PaymentKey, Told]:
        """All that was told of these payments."""
        found: dict[PaymentKey, Told] = {}
        sql = "SELECT body FROM event WHERE (partner, payment) = (?, ?) ORDER BY rowid"
        for key in keys:
            for (body,) in self._db.execute(sql, _row(*key)):
                found[key] = told_further(found.get(key), decode(PaymentEvent, body, trusted=True))
        return found

    def all_told(self) -> Iterator[list[Told]]:
        """What was told of every payment, page by page."""
        last: tuple[str, bytes] = ("", b"")
        sql = "SELECT DISTINCT partner, payment FROM event WHERE (partner, payment) > (?, ?) ORDER BY 1, 2 LIMIT ?"
        while rows := self._db.execute(sql, (*last, PAGE)).fetchall():
            last = rows[-1]
            keys = [(PartnerId(partner), PaymentId(UUID(bytes=payment))) for partner, payment in rows]
            yield list(self.told(keys).values())

    # --- what became of it ---

    def note_found(self, keys: Iterable[PaymentKey]) -> None:
        """These were written down, or are named to people."""
        self._db.executemany("INSERT OR IGNORE INTO found VALUES (?, ?)", [_row(*key) for key in keys])

    def was_found(self, key: PaymentKey) -> bool:
        """True if that was noted."""
        return self._has("found", key)

    def await_end(self, keys: Iterable[PaymentKey]) -> None:
        """What the partners of these had signed is looked for."""
        self._db.executemany("INSERT OR IGNORE INTO ended VALUES (?, ?)", [_row(*key) for key in keys])

    def awaited(self, key: PaymentKey) -> Told | None:
        """What was told of a payment whose end is awaited; None of any other."""
        return self.told([key]).get(key) if self._has("ended", key) else None

    def stands(self, key: PaymentKey) -> None:
        """Its end is awaited no more."""
        self._db.execute("DELETE FROM ended WHERE (partner, payment) = (?, ?)", _row(*key))

    def still_awaited(self) -> Iterator[list[Told]]:
        """What was told of each payment whose end is awaited still, page by page."""
        last: tuple[str, bytes] = ("", b"")
        sql = "SELECT partner, payment FROM ended WHERE (partner, payment) > (?, ?) ORDER BY 1, 2 LIMIT ?"
        while rows := self._db.execute(sql, (*last, PAGE)).fetchall():
            last = rows[-1]
            keys = [(PartnerId(partner), PaymentId(UUID(bytes=payment))) for partner, payment in rows]
            yield list(self.told(keys).values())

    def _has(self, table: str, key: PaymentKey) -> bool:
        sql = f"SELECT 1 FROM {table} WHERE (partner, payment) = (?, ?)"  # noqa: S608 - one of ours
        return self._db.execute(sql, _row(*key)).fetchone() is not None

    def _all_read(self, rows: Iterable[tuple[str, bytes]]) -> Iterator[HandedOn]:
        for network, record in rows:
            if (one := self._read(msgspec.msgpack.decode(record, type=Record), NetworkId(network))) is not None:
                yield one


@contextmanager
def open_kept(read: Read) -> Iterator[Kept]:
    """For as long as the block lasts.

    Raises:
        NotConfiguredError: no file can be made in ``TMPDIR``, or there is no more room in it.
    """
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - SQLite makes files there that nobody else can open
    kept = Kept(read, folder)
    try:
        yield kept
    except sqlite3.OperationalError as error:
        raise NotConfiguredError(f"nothing more can be written in {folder} (TMPDIR): {error}") from None
    finally:
        kept.close()


def _row(partner_id: PartnerId, payment_id: PaymentId) -> tuple[str, bytes]:
    return partner_id, payment_id.bytes
