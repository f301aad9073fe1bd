"""Networks' clearing files: a file in, clearing batches on ``mypay.clearing.<network>`` out.

A file is a private copy that nobody else changes. It is read twice: once to see whether it is whole (header, trailer,
count and sum) and its network's (seal), then to publish it, 200 records a message. So nothing of a torn file is
published, and memory does not grow with the file. What is no record in it is one dead letter a file, a report without
a byte of it. Importing a file again publishes the same messages again, whose records settlement knows by (network,
cycle, record number) and content.
"""

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum, unique
from typing import BinaryIO, Final

from gateway.base.errors import TooLargeForTopicError
from gateway.base.process import Clock, Observer
from gateway.messaging.records import DeadLetters, Outgoing, Publisher, Record
from gateway.settlement.format import ClearingFileError, Header, Scan, read_body, read_lines, scan
from gateway.settlement.rules import is_from_the_future
from gateway.settlement.store import ClearingSealError, ClearingSeals
from schemas.clearing import CLEARING_TYPE, ClearingBatch, ClearingRecord
from schemas.codec import DecodeError, encode
from schemas.envelope import Envelope, write_envelope
from schemas.topics import clearing_topic

FILE_TOPIC_PREFIX: Final = "file:"
"""What the dead letter of a file names as its topic; a colon stands in no Kafka topic's name."""

STAGE: Final = "clearing_import"

_SOURCE: Final = "/mypay/clearing-import"
MESSAGE_RECORDS: Final = 200
"""Of a message: settled in one transaction, a tenth of a second's work. The contract lets it hold more."""
_PUBLISH_CHUNKS: Final = 20
"""Messages a publication: 4,000 records in memory, about 6 MB."""


@unique
class FileOutcome(StrEnum):
    """How a file ends, and the name of the folder that the inbox puts it in."""

    DONE = "done"
    PARTIAL = "partial"  # what could be read was published; something is missing or in doubt
    FAILED = "failed"  # nothing was published


@dataclass(frozen=True, slots=True)
class ClearingFile:
    """A private copy of a file that came.

    Attributes:
        file: open for reading; nobody else writes it.
        name: as it came.
        seals: the seals beside it, by suffix.
        modified_ms: when it was last written, Unix milliseconds.
        network_id: whose inbox it came through; None: an operator brought it.
    """

    file: BinaryIO
    name: str
    seals: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    modified_ms: int = 0
    network_id: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file.

    Attributes:
        published: records in the messages; 0 where the file was refused.
        problems: why it was refused, or what was wrong with it although the rest, or by force all, was published.
        bad: the first lines that are no records, a sentence each.
    """

    file: str
    outcome: FileOutcome
    network_id: str = ""
    cycle_id: str = ""
    records: int = 0
    published: int = 0
    messages: int = 0
    bad_lines: int = 0
    sum_minor: int = 0
    problems: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()


class ClearingImport:
    """Publishes clearing files and reports what is wrong with them."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        seals: ClearingSeals,
        networks: Collection[str],
    ) -> None:
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._networks = networks
        self.seals = seals

    async def bring(self, source: ClearingFile, *, force: bool = False, sealed: bool = True) -> ImportReport:
        """Publish a file's records, and park a report where anything is wrong with it. Safe to repeat.

        Args:
            source: the file.
            force: publish what can be read although the trailer is missing or does not agree.
            sealed: ask for the network's seal.

        Raises:
            PublisherUnavailableError: not everything was confirmed; bring it again. (What its topic never takes for its
                size is no such thing: the file is refused.)
        """
        try:
            found = await asyncio.to_thread(scan, source.file)
            await self._admit(source, found.header, sealed=sealed)
        except (ClearingFileError, ClearingSealError) as error:
            return await self._refused(source, ImportReport(source.name, FileOutcome.FAILED, problems=(str(error),)))
        except OSError as error:
            why = f"the file cannot be read: {error.strerror}"
            return await self._refused(source, ImportReport(source.name, FileOutcome.FAILED, problems=(why,)))
        report = _report(source, found)
        if found.problems and not force:
            return await self._refused(source, report)
        if report.problems:
            await self._park(source, report)
        source.file.seek(0)
        try:
            messages = await self._publish(_Importing(source.file, found.header))
        except TooLargeForTopicError as error:
            # Other files must not wait. Once the topic takes it, the file can be brought again: what is there stays.
            problems = (*report.problems, f"a message of it is {error}")
            return await self._refused(source, replace(report, problems=problems))
        self._observer.count(STAGE, "record", n=found.records)
        outcome = FileOutcome.PARTIAL if report.problems else FileOutcome.DONE
        self._observer.count(STAGE, outcome.value)
        return replace(report, outcome=outcome, published=found.records, messages=messages)

    async def _admit(self, source: ClearingFile, header: Header, *, sealed: bool) -> None:
        """Check that the file is sealed, of no day to come, and of a network that exists: the one whose inbox it is."""
        network_id = header.network_id
        if network_id not in self._networks:
            raise ClearingFileError("the header names a network that is not configured")
        if source.network_id is not None and source.network_id != network_id:
            raise ClearingFileError(f"the header names another network than {source.network_id}, whose inbox this is")
        if is_from_the_future(header.created_at, self._clock.now()):
            raise ClearingFileError("the header's created_at is more than a day ahead: no correction could follow")
        if sealed:
            source.file.seek(0)
            await asyncio.to_thread(self.seals.check, network_id, source.file, source.seals)

    async def _refused(self, source: ClearingFile, report: ImportReport) -> ImportReport:
        await self._park(source, report)
        self._observer.count(STAGE, FileOutcome.FAILED.value)
        return report

    async def _park(self, source: ClearingFile, report: ImportReport) -> None:
        """One dead letter a file, whatever is in it: the report, which holds nothing of it but its name."""
        self._observer.count(STAGE, "dead_letter")
        letter = Record(
            topic=FILE_TOPIC_PREFIX + re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[:100],
            partition=0,
            offset=0,
            timestamp_ms=source.modified_ms,
            key=report.cycle_id.encode() or None,
            value=json.dumps(asdict(report), separators=(",", ":")).encode(),
            headers=(),
        )
        await self._dead_letters.park(STAGE, [(letter, DecodeError("", "; ".join(report.problems)))])

    async def _publish(self, importing: "_Importing") -> int:
        messages = 0
        while part := await asyncio.to_thread(importing.next_part):
            await self._publisher.publish(part)
            messages += len(part)
        return messages


def _report(source: ClearingFile, found: Scan) -> ImportReport:
    return ImportReport(
        file=source.name,
        outcome=FileOutcome.FAILED,
        network_id=found.header.network_id,
        cycle_id=found.header.cycle_id,
        records=found.records,
        bad_lines=found.bad_lines,
        sum_minor=found.sum_minor,
        problems=(*found.problems, *found.losses),
        bad=tuple(found.bad),
    )


class _Importing:
    """The second pass: hands out messages, a bounded number at a time. Blocking."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        lines = read_lines(file)
        next(lines)
        self._records = (item for item in read_body(lines) if isinstance(item, ClearingRecord))
        self._header = header
        self._chunks = 0

    def next_part(self) -> list[Outgoing]:
        """The next messages; none at the end."""
        messages: list[Outgoing] = []
        while len(messages) < _PUBLISH_CHUNKS:
            records = [r for _, r in zip(range(MESSAGE_RECORDS), self._records, strict=False)]
            if not records:
                break
            messages.append(self._message(records))
        return messages

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
