"""Bundles: many events of one topic, type and time as one row of the outbox.

What a row costs besides its event (its place, an index, two readers' looks) is as much as the event. So who tells by
the hundred tells in bundles. Only the outbox knows of them: the relay publishes each event by itself, as ever, and the
disclosure log makes an entry of each.

So nothing is told in bundles that anybody else looks for among the outbox's rows: by its key, as the archive and a
payment's story do, or by its type, as sharing and marketing follow consents and payments.

Each event has a number of its own, of the same sequence as rows have; a bundle's row stands at that of its last one.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final

import cramjam
import msgspec
from msgspec import structs

from gateway.outbox.store import OutboxEvent

BUNDLED_MAX: Final = 64
"""Events of a bundle. More save nothing, and a row is published, set aside and logged as one."""

BUNDLED_BYTES_MAX: Final = 128 * 1024
"""What the bodies of a bundle take together, unless one alone takes more."""

_PREFIX: Final = "bundle of "
"""A row's type begins with it: readers ask for rows by their types."""

_Member = tuple[int, str, str, bytes]
"""Number, key, id and body."""

_write: Final = msgspec.msgpack.Encoder().encode
_read: Final = msgspec.msgpack.Decoder(list[_Member]).decode


class UnreadableBundleError(ValueError):
    """A row of which nobody can say what it holds: it is damaged, or of another release."""


def bundle_type(event_type: str) -> str:
    """The type of rows that hold several events of a type."""
    return _PREFIX + event_type


def type_of(row_type: str) -> str:
    """The type of the events that a row holds."""
    return row_type.removeprefix(_PREFIX)


def bundled(events: Sequence[OutboxEvent], numbers: Iterable[int]) -> list[tuple[int, OutboxEvent]]:
    """Rows to write, with their numbers: each topic's events in their order, in as few rows as may be.

    An event that is part of a trace stands alone: a row has one.

    Args:
        events: to tell.
        numbers: one for each, ascending.
    """
    rows: list[tuple[int, OutboxEvent]] = []
    groups: dict[str, _Group] = {}
    for number, event in zip(numbers, events, strict=True):
        group = groups.get(event.topic)
        if group is None or not group.takes(event):
            if group is not None:
                rows.append(group.row())
            group = groups[event.topic] = _Group()
        group.add(number, event)
    rows += [group.row() for group in groups.values()]
    return sorted(rows, key=itemgetter(0))


def members_of(number: int, event: OutboxEvent) -> list[tuple[int, OutboxEvent]]:
    """The events that a row holds, with their numbers, in order: itself, unless it is a bundle.

    Raises:
        UnreadableBundleError: it is one, and does not hold what it should.
    """
    if not event.event_type.startswith(_PREFIX):
        return [(number, event)]
    topic, at, type_ = event.topic, event.occurred_at, type_of(event.event_type)
    try:
        read = _read(cramjam.lz4.decompress_block(event.body))
    except (cramjam.DecompressionError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableBundleError(f"row {number} for {topic}") from error
    if not read or read[-1][0] != number:
        raise UnreadableBundleError(f"row {number} for {topic}")
    return [(n, OutboxEvent(topic, key, event_id, type_, at, body)) for n, key, event_id, body in read]


def logged_of(number: int, event: OutboxEvent) -> list[tuple[int, OutboxEvent]]:
    """Likewise, for who logs what they tell: a row that cannot be read is one event, which tells nothing."""
    try:
        return members_of(number, event)
    except UnreadableBundleError:
        return [(number, structs.replace(event, event_type=type_of(event.event_type), body=b""))]


class _Group:
    """Events of a row to be, all of one topic; one at least, once it is made a row."""

    def __init__(self) -> None:
        self._events: list[tuple[int, OutboxEvent]] = []
        self._bytes = 0

    def takes(self, event: OutboxEvent) -> bool:
        if len(self._events) == BUNDLED_MAX or self._bytes + len(event.body) > BUNDLED_BYTES_MAX:
            return False
        other = self._events[0][1]
        if event.traceparent is not None or other.traceparent is not None:
            return False
        return event.event_type == other.event_type and event.occurred_at == other.occurred_at

    def add(self, number: int, event: OutboxEvent) -> None:
        self._events.append((number, event))
        self._bytes += len(event.body)

    def row(self) -> tuple[int, OutboxEvent]:
        number, last = self._events[-1]
        if len(self._events) == 1:
            return number, last
        body = _write([(n, e.key, e.event_id, e.body) for n, e in self._events])
        # Here in a few microseconds: the server would take a hundred, for what is this long.
        packed = bytes(cramjam.lz4.compress_block(body))
        type_ = bundle_type(last.event_type)
        return number, OutboxEvent(last.topic, "", last.event_id, type_, last.occurred_at, packed)
