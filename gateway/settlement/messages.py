"""Reading clearing messages: whole where they are right, record by record where they are not.

A bad record is parked alone; it never takes its neighbours with it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from gateway.messaging.records import Record
from gateway.settlement.rules import is_from_the_future
from schemas.clearing import CLEARING_BYTES_MAX, CLEARING_TYPE, ClearingBatch, ClearingRecord, LooseClearingBatch
from schemas.codec import DecodeError, decode, encode_json
from schemas.envelope import EnvelopeError, read_envelope
from schemas.topics import clearing_topic

CHUNKS_MAX: Final = 1_000_000
"""Messages of a file: the largest that the inbox takes has a tenth of it. The number is told on, so it has an end."""


@dataclass(frozen=True, slots=True)
class ReadClearing:
    """What a message holds: the good records as a batch (None: there is none), and the bad ones with their errors.

    Attributes:
        created_at: when the network made the file that the records are from (``ce_time``).
    """

    batch: ClearingBatch | None
    created_at: datetime
    bad: tuple[tuple[Record, Exception], ...] = ()


def read_clearing(record: Record, now: datetime) -> ReadClearing:
    """Read one message of ``mypay.clearing.<network>`` at this moment; never raises for what is in it."""
    created_at = datetime.fromtimestamp(0, UTC)
    try:
        envelope = read_envelope(record.headers)
        if envelope.type != CLEARING_TYPE:
            raise EnvelopeError("ce_type", f"must be {CLEARING_TYPE}")
        if is_from_the_future(envelope.time, now):
            raise EnvelopeError("ce_time", "is more than a day ahead")
        created_at = envelope.time
        batch = decode(ClearingBatch, record.value, bytes_max=CLEARING_BYTES_MAX)
        if (
            batch.chunk <= CHUNKS_MAX
            and _is_own(batch, record)
            and len({r.record_no for r in batch.records}) == len(batch.records)
        ):
            return ReadClearing(batch, created_at)
    except EnvelopeError as error:
        return ReadClearing(None, created_at, ((record, error),))
    except DecodeError:
        pass
    try:
        loose = decode(LooseClearingBatch, record.value, bytes_max=CLEARING_BYTES_MAX)
        if not _is_own(loose, record):
            raise DecodeError("network_id", "is not the network of this topic")
        if loose.chunk > CHUNKS_MAX:
            raise DecodeError("chunk", f"is more than {CHUNKS_MAX}")
    except DecodeError as error:
        return ReadClearing(None, created_at, ((record, error),))
    return _read_one_by_one(record, loose, created_at)


def _is_own(batch: ClearingBatch | LooseClearingBatch, record: Record) -> bool:
    """A network speaks on its own topic alone: there nobody settles, or uses up, another's numbers."""
    return clearing_topic(batch.network_id) == record.topic


def _read_one_by_one(record: Record, loose: LooseClearingBatch, created_at: datetime) -> ReadClearing:
    good: dict[int, ClearingRecord] = {}
    bad: list[tuple[Record, Exception]] = []
    for item in loose.records:
        body = encode_json(item)
        try:
            read = decode(ClearingRecord, body)
            if read.record_no in good:
                raise DecodeError("record_no", "stands in the message before")
            good[read.record_no] = read
        except DecodeError as error:
            bad.append((structs.replace(record, value=body), error))
    batch = None
    if good:
        batch = ClearingBatch(
            network_id=loose.network_id, cycle_id=loose.cycle_id, chunk=loose.chunk, records=tuple(good.values())
        )
    return ReadClearing(batch, created_at, tuple(bad))
