"""The archive's folder: one Parquet file a batch of payments, with columns to search by and each record as it was.

Needs pyarrow (the extra ``archive``).
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet

from gateway.payments.archive.service import ArchiveFileError
from gateway.payments.archive.store import ArchiveRecord
from gateway.payments.rules.payment import PaymentKey
from schemas.primitives import PaymentId

_parquet: Any = pyarrow.parquet
"""It has no types."""

_TIME: Final = pa.timestamp("us", tz="UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("partner_id", pa.string(), nullable=False),
        pa.field("payment_id", pa.string(), nullable=False),
        pa.field("order_id", pa.string(), nullable=False),
        pa.field("consent_id", pa.string(), nullable=False),
        pa.field("merchant_id", pa.string(), nullable=False),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("amount_minor", pa.int64(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("network_id", pa.string()),
        pa.field("rrn", pa.string()),
        pa.field("original_payment_id", pa.string()),
        pa.field("ordered_at", _TIME, nullable=False),
        pa.field("decided_at", _TIME, nullable=False),
        pa.field("changed_at", _TIME, nullable=False),
        pa.field("record", pa.string(), nullable=False),
    ]
)
"""``record`` is JSON, and holds all the rest too; the other columns are copies of what is searched by."""

_ROW_GROUP: Final = 5_000


class ParquetFiles:
    """Implements :class:`gateway.payments.archive.service.ArchiveFiles`. Files are readable by their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, records: Sequence[ArchiveRecord]) -> bytes:
        """Write a file beside its name, flush it, and give it its name; return SHA-256 of its bytes."""
        rows = [_row(r) for r in records]
        buffer = io.BytesIO()
        _parquet.write_table(
            pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd", row_group_size=_ROW_GROUP
        )
        content = buffer.getvalue()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._part(name)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of its descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._folder / name)
        _sync_folder(self._folder)
        return hashlib.sha256(content).digest()

    def read(self, name: str, sha256: bytes) -> Sequence[ArchiveRecord]:
        """Read all records.

        Raises:
            ArchiveFileError: the file is not there, or its digest is another.
        """
        table = _parquet.read_table(
            pa.BufferReader(self._content(name, sha256)),
            columns=["partner_id", "payment_id", "original_payment_id", "record"],
        )
        return [
            ArchiveRecord(
                (row["partner_id"], PaymentId(UUID(row["payment_id"]))),
                _uuid(row["original_payment_id"]),
                row["record"],
            )
            for row in table.to_pylist()
        ]

    def find(self, name: str, sha256: bytes, key: PaymentKey) -> str | None:
        """The record of one payment, or None where the file has none.

        Raises:
            ArchiveFileError: the file is not there, or its digest is another.
        """
        partner_id, payment_id = key
        table = _parquet.read_table(
            pa.BufferReader(self._content(name, sha256)),
            columns=["record"],
            filters=[("payment_id", "=", str(payment_id)), ("partner_id", "=", partner_id)],
        )
        rows = table.to_pylist()
        return str(rows[0]["record"]) if rows else None

    def discard(self, name: str) -> None:
        """Remove a file that was not written to its end, whatever there is of it."""
        for path in (self._part(name), self._folder / name):
            path.unlink(missing_ok=True)

    def problem(self, name: str, sha256: bytes) -> str | None:
        """What is wrong with a file, in words; None where it is as it was written."""
        try:
            self._content(name, sha256)
        except ArchiveFileError as error:
            return str(error)
        return None

    def _content(self, name: str, sha256: bytes) -> bytes:
        path = self._folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArchiveFileError(f"{path} cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).digest() != sha256:
            raise ArchiveFileError(f"{path} is not the file that was written: its SHA-256 is another")
        return content

    def _part(self, name: str) -> Path:
        return self._folder / f".{name}.part"


def _row(record: ArchiveRecord) -> Mapping[str, Any]:
    payment = json.loads(record.record)["payment"]
    row: dict[str, Any] = {name: payment.get(name) for name in SCHEMA.names if name != "record"}
    for name in ("ordered_at", "decided_at", "changed_at"):
        row[name] = datetime.fromisoformat(payment[name])
    return {**row, "record": record.record}


def _uuid(text: str | None) -> PaymentId | None:
    return None if text is None else PaymentId(UUID(text))


def _sync_folder(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
