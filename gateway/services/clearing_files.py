"""Networks' clearing files: a file in, clearing batches on ``mypay.clearing.<network>`` out.

A file is read twice: once to see whether it is whole (header, trailer, count and sum), then to publish it, 500 records
a message. So nothing of a torn file is published, and memory does not grow with the file. A line that is no record is
parked alone as a dead letter named by file and line. Importing a file again publishes the same messages again, whose
records settlement knows by (network, cycle, record number).
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from gateway.ports import DeadLetters, Observer, Outgoing, Publisher, Record
from gateway.services.clearing_format import (
    LINE_BYTES_MAX,
    BadLine,
    ClearingFileError,
    Header,
    Trailer,
    read_body,
    read_lines,
    scan,
)
from gateway.services.retrying import until_done
from schemas.clearing import CLEARING_CHUNK_RECORDS, CLEARING_TYPE, ClearingBatch, ClearingRecord
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.topics import clearing_topic

FILE_TOPIC_PREFIX: Final = "file:"
"""What a parked line names as its topic; a colon stands in no Kafka topic's name."""

STILL_ARRIVING_S: Final = 60.0
"""A file in the inbox without a trailer that changed within this time is taken for one that is still being written."""

DONE: Final = "done"
BROKEN: Final = "broken"

_STAGE: Final = "clearing_import"
_SOURCE: Final = "/mypay/clearing-import"
_PUBLISH_CHUNKS: Final = 8
"""Messages a publication: 4,000 records in memory, about 6 MB."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file.

    Attributes:
        published: records in the messages; 0 where the file was refused.
        problems: why it was refused, or what was wrong with it although it was forced in.
    """

    file: str
    network_id: str
    cycle_id: str
    records: int
    published: int
    messages: int
    bad_lines: int
    sum_minor: int
    problems: tuple[str, ...] = ()


async def import_file(
    path: Path,
    publisher: Publisher,
    dead_letters: DeadLetters,
    observer: Observer,
    *,
    networks: Collection[str] | None = None,
    force: bool = False,
) -> ImportReport:
    """Publish a clearing file's records and park its bad lines. Safe to repeat.

    Args:
        path: the file; it is not changed.
        publisher: takes the batches.
        dead_letters: takes the bad lines.
        observer: counts both.
        networks: the networks that exist; None: not checked.
        force: publish what can be read although the trailer is missing or does not agree.

    Raises:
        ClearingFileError: it cannot be read, has no header, or names a network that does not exist.
        PublisherUnavailableError: not everything was confirmed; import it again.
    """
    try:
        with path.open("rb") as file:
            found = await asyncio.to_thread(scan, file)
            header = found.header
            if networks is not None and header.network_id not in networks:
                raise ClearingFileError("the header names a network that is not configured")
            report = ImportReport(
                file=path.name,
                network_id=header.network_id,
                cycle_id=header.cycle_id,
                records=found.records,
                published=0,
                messages=0,
                bad_lines=found.bad_lines,
                sum_minor=found.sum_minor,
                problems=tuple(found.problems),
            )
            if found.problems and not force:
                observer.count(_STAGE, "refused")
                return report
            file.seek(0)
            messages = await _publish(_Importing(file, path.name, header), publisher, dead_letters)
    except OSError as error:
        raise ClearingFileError(f"the file cannot be read: {error.strerror}") from error
    observer.count(_STAGE, "record", n=found.records)
    observer.count(_STAGE, "dead_letter", n=found.bad_lines)
    return replace(report, published=found.records, messages=messages)


class _Importing:
    """The second pass: hands out messages and bad lines, a bounded number at a time. Blocking."""

    def __init__(self, file: BinaryIO, name: str, header: Header) -> None:
        lines = read_lines(file)
        next(lines)
        self._body = read_body(lines)
        self._header = header
        self._reference = FILE_TOPIC_PREFIX + re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
        self._timestamp_ms = int(os.fstat(file.fileno()).st_mtime * 1000)
        self._chunks = 0

    def next_part(self) -> tuple[list[Outgoing], list[tuple[Record, Exception]]]:
        """The next messages and bad lines; both empty at the end."""
        messages: list[Outgoing] = []
        bad: list[tuple[Record, Exception]] = []
        records: list[ClearingRecord] = []
        for item in self._body:
            match item:
                case BadLine():
                    bad.append((self._parked(item), item.error))
                case ClearingRecord():
                    records.append(item)
                case Trailer():
                    continue
            if len(records) == CLEARING_CHUNK_RECORDS:
                messages.append(self._message(records))
                records = []
            if len(messages) == _PUBLISH_CHUNKS or len(bad) == CLEARING_CHUNK_RECORDS:
                break
        if records:
            messages.append(self._message(records))
        return messages, bad

    def _message(self, records: list[ClearingRecord]) -> Outgoing:
        header = self._header
        self._chunks += 1
        batch = ClearingBatch(
            network_id=header.network_id, cycle_id=header.cycle_id, chunk=self._chunks, records=tuple(records)
        )
        envelope = Envelope(
            id=f"{header.network_id}:{header.cycle_id}:{self._chunks}",
            source=_SOURCE,
            type=CLEARING_TYPE,
            time=header.created_at,
        )
        return Outgoing(
            topic=clearing_topic(header.network_id),
            key=header.cycle_id.encode(),
            value=encode(batch),
            headers=write_envelope(envelope),
        )

    def _parked(self, line: BadLine) -> Record:
        return Record(
            topic=self._reference,
            partition=0,
            offset=line.number,
            timestamp_ms=self._timestamp_ms,
            key=self._header.cycle_id.encode(),
            value=line.raw,
            headers=(),
        )


async def _publish(importing: _Importing, publisher: Publisher, dead_letters: DeadLetters) -> int:
    messages = 0
    while True:
        part, bad = await asyncio.to_thread(importing.next_part)
        if not part and not bad:
            return messages
        if bad:
            await dead_letters.park(_STAGE, bad)
        if part:
            await publisher.publish(part)
            messages += len(part)


# --- the inbox --------------------------------------------------------------------------------------------------------


async def watch_inbox(
    inbox: Path,
    publisher: Publisher,
    dead_letters: DeadLetters,
    observer: Observer,
    *,
    networks: Collection[str],
    poll_s: float,
    imported: Callable[[ImportReport], None] = lambda _: None,
) -> None:
    """Import every file that arrives in a folder, until cancelled. Waits while Kafka is away."""
    while True:
        for report in await take_inbox(inbox, publisher, dead_letters, observer, networks=networks):
            imported(report)
        await asyncio.sleep(poll_s)


async def take_inbox(
    inbox: Path, publisher: Publisher, dead_letters: DeadLetters, observer: Observer, *, networks: Collection[str]
) -> list[ImportReport]:
    """Import the files that are there, oldest name first; each goes to ``done/`` or, with the cause, ``broken/``."""
    reports: list[ImportReport] = []
    for path in await asyncio.to_thread(_files_in, inbox):
        report: ImportReport | None = None
        try:
            report = await until_done(partial(import_file, path, publisher, dead_letters, observer, networks=networks))
            problems = report.problems
        except ClearingFileError as error:
            problems = (str(error),)
        if problems:
            arriving = await asyncio.to_thread(_still_arriving, path)
            if arriving:
                continue
        place = BROKEN if problems else DONE
        observer.note(
            "clearing_file", level="error" if problems else "info", file=path.name, outcome=place, count=_count(report)
        )
        await asyncio.to_thread(_put_away, path, inbox / place, problems)
        if report is not None:
            reports.append(report)
    return reports


def _count(report: ImportReport | None) -> int:
    return report.published if report else 0


def _files_in(inbox: Path) -> list[Path]:
    return sorted(p for p in inbox.glob("*.csv") if p.is_file()) if inbox.is_dir() else []


def _still_arriving(path: Path) -> bool:
    """True for a file that changed a moment ago and has no trailer yet: most likely it is being copied in."""
    try:
        if time.time() - path.stat().st_mtime > STILL_ARRIVING_S:
            return False
        with path.open("rb") as file:
            return not scan(file).has_trailer
    except ClearingFileError:
        return path.stat().st_size < LINE_BYTES_MAX
    except OSError:
        return False


def _put_away(path: Path, folder: Path, problems: tuple[str, ...]) -> None:
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}.{number}{path.suffix}"
    if problems:
        target.with_suffix(".why.txt").write_text("\n".join(problems) + "\n", encoding="utf-8")
    path.replace(target)
