"""What the simulated network clears, and how it corrects itself: right in the end, whatever comes before that."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from gateway.messaging.records import Outgoing
from gateway.proving.memory.host import Entry
from gateway.proving.simulation.script.scene import NETWORK
from schemas.clearing import CLEARING_TYPE, ClearingBatch, ClearingKind, ClearingRecord
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.topics import clearing_topic


def clearing_messages(
    entries: Sequence[Entry], cycle: int, now: datetime, rng: Random, corrected: Callable[[str], None]
) -> Iterator[Outgoing]:
    """Yield the messages of one cycle, in their order: at times twice, at times with a record that is corrected later.

    Args:
        entries: what the cycle clears.
        cycle: its number.
        now: when the network made its first file.
        rng: decides.
        corrected: told of a correction.
    """
    right = tuple(_record(e, number) for number, e in enumerate(entries, 1))
    if rng.random() < 0.7:
        yield from [_message(cycle, right, now)] * (2 if rng.random() < 0.3 else 1)
        return
    place = rng.randrange(len(right))
    wrong = (*right[:place], _wrong(right, place, rng), *right[place + 1 :])
    files = rng.choice(((wrong, right), (right, wrong, right), (wrong, right, wrong, right)))
    corrected(f"record {place + 1} of cycle {cycle}")
    messages = [_message(cycle, records, now + timedelta(seconds=n)) for n, records in enumerate(files)]
    yield from messages
    # What was superseded may be delivered again at any time.
    if rng.random() < 0.5:
        yield rng.choice(messages[:-1])


def _wrong(records: Sequence[ClearingRecord], place: int, rng: Random) -> ClearingRecord:
    """Another amount, another payment's numbers, or those of none."""
    record = records[place]
    match rng.randrange(3):
        case 0:
            return record.model_copy(update={"amount_minor": record.amount_minor + 1})
        case 1:
            return rng.choice(records).model_copy(update={"record_no": record.record_no})
        case _:
            return record.model_copy(update={"rrn": "0" * 12})


def _message(cycle: int, records: tuple[ClearingRecord, ...], created_at: datetime) -> Outgoing:
    batch = ClearingBatch(network_id=NETWORK, cycle_id=f"cycle-{cycle}", chunk=1, records=records)
    envelope = Envelope(f"clearing-{cycle}", "/network", CLEARING_TYPE, created_at)
    return Outgoing(clearing_topic(NETWORK), b"cycle", encode(batch), write_envelope(envelope))


def _record(entry: Entry, number: int) -> ClearingRecord:
    return ClearingRecord(
        record_no=number,
        kind=ClearingKind(entry.operation.value),
        rrn=entry.trace.rrn,
        stan=entry.trace.stan,
        terminal_id=entry.trace.terminal_id,
        acceptor_id="ACCEPTOR1",
        amount_minor=entry.amount_minor,
        currency=entry.currency,
    )
