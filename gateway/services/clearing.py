"""Reading clearing messages: whole where they are right, record by record where they are not.

A bad record is parked alone; it never takes its neighbours with it.
"""

from dataclasses import dataclass, replace

from gateway.ports import Record
from schemas.clearing import CLEARING_BYTES_MAX, CLEARING_TYPE, ClearingBatch, ClearingRecord, LooseClearingBatch
from schemas.codec import DecodeError, decode, encode_json
from schemas.envelope import EnvelopeError, read_envelope


@dataclass(frozen=True, slots=True)
class ReadClearing:
    """What a message holds: the good records as a batch (None: there is none), and the bad ones with their errors."""

    batch: ClearingBatch | None
    bad: tuple[tuple[Record, Exception], ...] = ()


def read_clearing(record: Record) -> ReadClearing:
    """Read one message of ``mypay.clearing.<network>``; never raises for what is in it."""
    try:
        envelope = read_envelope(record.headers)
        if envelope.type != CLEARING_TYPE:
            raise EnvelopeError("ce_type", f"must be {CLEARING_TYPE}")
        return ReadClearing(decode(ClearingBatch, record.value, bytes_max=CLEARING_BYTES_MAX))
    except EnvelopeError as error:
        return ReadClearing(None, ((record, error),))
    except DecodeError as error:
        return _read_one_by_one(record, error)


def _read_one_by_one(record: Record, whole: DecodeError) -> ReadClearing:
    try:
        loose = decode(LooseClearingBatch, record.value, bytes_max=CLEARING_BYTES_MAX)
    except DecodeError:
        return ReadClearing(None, ((record, whole),))
    good: list[ClearingRecord] = []
    bad: list[tuple[Record, Exception]] = []
    for item in loose.records:
        body = encode_json(item)
        try:
            good.append(decode(ClearingRecord, body))
        except DecodeError as error:
            bad.append((replace(record, value=body), error))
    batch = None
    if good:
        batch = ClearingBatch(
            network_id=loose.network_id, cycle_id=loose.cycle_id, chunk=loose.chunk, records=tuple(good)
        )
    return ReadClearing(batch, tuple(bad))
