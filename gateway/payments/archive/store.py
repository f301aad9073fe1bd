"""What the archive asks of the database."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Protocol

from gateway.payments.rules.payment import PaymentKey
from schemas.primitives import PaymentId


@unique
class FileStatus(StrEnum):
    """How far a file has come."""

    WRITING = "writing"  # nothing is known of what is on the disk → WRITTEN, ABANDONED
    WRITTEN = "written"  # whole and on the disk; its payments are being moved → MOVED
    MOVED = "moved"  # its payments stand in the archive
    ABANDONED = "abandoned"  # its writer died before it was whole: there is no such file


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of the archive as the database knows it.

    Attributes:
        payments: records in it; sha256: of its bytes. None before it is written, and where it never was.
    """

    file_id: int
    status: FileStatus
    payments: int | None = None
    sha256: bytes | None = None
    begun_at: datetime | None = None
    written_at: datetime | None = None
    moved_at: datetime | None = None

    @property
    def name(self) -> str:
        """In the archive's folder; none is used twice."""
        return f"payments-{self.file_id:08d}.parquet"


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """Everything that is kept of one payment.

    Attributes:
        original_id: the payment that this one refunds.
        record: JSON with the rows as they were: ``payment``, ``transfers``, ``clearing``, ``inquiry``, ``reversal``,
            ``schedule``.
    """

    key: PaymentKey
    original_id: PaymentId | None
    record: str

    @property
    def digest(self) -> bytes:
        """By which the database knows that the file holds what it deletes."""
        return hashlib.sha256(self.record.encode()).digest()


@dataclass(frozen=True, slots=True)
class Page:
    """What one look found. ``next_place``: where to look on, None at the end."""

    records: Sequence[ArchiveRecord]
    next_place: int | None


class ArchiveStore(Protocol):
    """Payments on their way into the archive."""

    async def page(self, place: int, *, before: datetime) -> Page:
        """Look through the next stretch of payments for those to archive; the first place is 0.

        They are final since before ``before``, and for a day at least; nobody waits for anything of them; each comes
        together with its refunds. Nothing is locked.
        """

    async def begin(self, now: datetime) -> ArchiveFile:
        """A new file, still to be written."""

    async def written(self, file_id: int, *, payments: int, sha256: bytes, now: datetime) -> None:
        """Note that a file is whole and on the disk.

        Raises:
            StoreConflictError: another run has abandoned it meanwhile.
        """

    async def move(self, file_id: int, records: Sequence[ArchiveRecord], *, before: datetime) -> frozenset[PaymentKey]:
        """Move payments into the archive that are still exactly what their records say; return which.

        What another transaction has locked stays, and so do its original and its refunds.

        Raises:
            StoreIntegrityError: the file is not written.
        """

    async def end(self, file_id: int, status: FileStatus, now: datetime) -> bool:
        """Note that a file is ``MOVED`` or ``ABANDONED``; False where it is not ``WRITTEN`` or ``WRITING`` any more."""

    async def unfinished(self) -> Sequence[ArchiveFile]:
        """Files that are neither, by number."""


class ArchiveUnit(Protocol):
    """The archive."""

    @property
    def archive(self) -> ArchiveStore:
        """Payments on their way into the archive."""
