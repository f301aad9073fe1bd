"""Archiving: files are written whole, their digests are stored, and only then are rows moved.

A run that is killed between any two steps is made up for by the next one. A file that was being written is thrown
away, for nobody has moved anything for it. From one that was written the payments that are left are moved: it is read
back, so each payment stands in one file alone. What changed meanwhile stays where it is, and is looked at again later.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from gateway.base.process import Clock
from gateway.database.unit import Store
from gateway.payments.archive.store import ArchiveFile, ArchiveRecord, ArchiveUnit, FileStatus


class ArchiveFileError(Exception):
    """A file is not there or not what was written; the text names it."""


class ArchiveFiles(Protocol):
    """The archive's folder. Blocking: call it in a thread."""

    def write(self, name: str, records: Sequence[ArchiveRecord]) -> bytes:
        """Write a file that is on the disk as a whole when this returns; return SHA-256 of its bytes."""

    def read(self, name: str, sha256: bytes) -> Sequence[ArchiveRecord]:
        """Read a file back.

        Raises:
            ArchiveFileError: it is not there, or its digest is another.
        """

    def discard(self, name: str) -> None:
        """Remove what there may be of a file that was not written to its end."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """Bounds of archiving.

    Attributes:
        after: payments that have been final for so long are archived.
        file_payments: about so many a file.
        batch: about so many are moved in one transaction.
    """

    after: timedelta
    file_payments: int = 20_000
    batch: int = 500


@dataclass(slots=True)
class Archived:
    """What a run did.

    Attributes:
        files: written, or taken up where another run had left them.
        payments: moved into the archive.
        left: written to a file, and not moved: they changed, or somebody held them.
        abandoned: files of runs that were killed while they wrote them.
    """

    files: int = 0
    payments: int = 0
    left: int = 0
    abandoned: int = 0


class ArchiveService:
    """Moves what has been final for long into files. One run at a time: a second would abandon the first one's file."""

    def __init__(self, store: Store[ArchiveUnit], files: ArchiveFiles, clock: Clock, settings: ArchiveSettings) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._settings = settings

    async def run(self, progress: Callable[[Archived], None] = lambda _: None) -> Archived:
        """Archive everything that is old enough; ``progress`` is called after each transaction that moved something.

        Raises:
            ArchiveFileError: a file of an earlier run is not as it was written: nothing is archived until it is back.
            StoreUnavailableError: what was done so far stands; run it again.
        """
        done = Archived()
        before = self._clock.now() - self._settings.after
        async with self._store.reading() as uow:
            unfinished = await uow.archive.unfinished()
        for file in unfinished:
            await self._take_up(file, before, done, progress)
        found: list[ArchiveRecord] = []
        place: int | None = 0
        while place is not None:
            async with self._store.reading() as uow:
                page = await uow.archive.page(place, before=before)
            found += page.records
            place = page.next_place
            if len(found) >= self._settings.file_payments:
                await self._archive(found, before, done, progress)
                found = []
        if found:
            await self._archive(found, before, done, progress)
        return done

    async def _take_up(
        self, file: ArchiveFile, before: datetime, done: Archived, progress: Callable[[Archived], None]
    ) -> None:
        if file.status is FileStatus.WRITING:
            # Only who has it noted may delete it: that a file is written may be on its way to the disk still, of a run
            # that was killed as it waited for that.
            if await self._end(file, FileStatus.ABANDONED):
                await asyncio.to_thread(self._files.discard, file.name)
                done.abandoned += 1
                return
            async with self._store.reading() as uow:
                found = [f for f in await uow.archive.unfinished() if f.file_id == file.file_id]
            if not found:
                return
            file = found[0]
        if file.sha256 is None:
            raise AssertionError("a file that is written has a digest")
        records = await asyncio.to_thread(self._files.read, file.name, file.sha256)
        await self._move(file, records, before, done, progress)

    async def _archive(
        self,
        records: Sequence[ArchiveRecord],
        before: datetime,
        done: Archived,
        progress: Callable[[Archived], None],
    ) -> None:
        async with self._store.transaction() as uow:
            file = await uow.archive.begin(self._clock.now())
        sha256 = await asyncio.to_thread(self._files.write, file.name, records)
        async with self._store.transaction() as uow:
            await uow.archive.written(file.file_id, payments=len(records), sha256=sha256, now=self._clock.now())
        await self._move(file, records, before, done, progress)

    async def _move(
        self,
        file: ArchiveFile,
        records: Sequence[ArchiveRecord],
        before: datetime,
        done: Archived,
        progress: Callable[[Archived], None],
    ) -> None:
        moved = 0
        for batch in batches(records, self._settings.batch):
            async with self._store.transaction() as uow:
                count = len(await uow.archive.move(file.file_id, batch, before=before))
            moved += count
            done.payments += count
            progress(done)
        done.files += 1
        done.left += len(records) - moved
        await self._end(file, FileStatus.MOVED)

    async def _end(self, file: ArchiveFile, status: FileStatus) -> bool:
        async with self._store.transaction() as uow:
            return await uow.archive.end(file.file_id, status, self._clock.now())


def batches(records: Iterable[ArchiveRecord], size: int) -> Iterator[Sequence[ArchiveRecord]]:
    """Cut into batches of ``size`` or a little more: payments and their refunds are never parted."""
    groups: dict[object, list[ArchiveRecord]] = {}
    for record in records:
        partner_id, payment_id = record.key
        groups.setdefault((partner_id, record.original_id or payment_id), []).append(record)
    batch: list[ArchiveRecord] = []
    for group in groups.values():
        batch += group
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
