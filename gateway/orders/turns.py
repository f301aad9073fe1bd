"""Turns between those who send orders: a flood of one delays its own orders only.

All partners' orders stand in the same partitions, in the order in which they came. Where more waits than execution has
room for, each sender gets its share of the turn (:mod:`gateway.orders.fairness`), and what is beyond goes, as it came,
to a topic of ours: there each sender has one partition, which is read in small turns while there is room. Everything is
judged there as if it came from outside. The place of the partner's own record goes along, under our mark, so that what
is told of it is told once.

A sender's records keep their order: once one of them waits, all that come behind it do, until none waits any more.

Whose a record is is read off the key id that it claims. Anybody may claim one: before a sender's records wait because
of their number, some of their signatures are checked, and where one does not hold all are, so that nobody can use up
another's share.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Protocol
from zlib import crc32

from gateway.base.errors import TopicClosedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.identity.signing import KeySource, SignatureVerifier, Signed
from gateway.messaging.records import Outgoing, Publisher, Record
from gateway.orders.fairness import NOBODY, cost_of, in_turn
from gateway.orders.room import ExecutionRoom
from gateway.payments.dispatch import MARK_HEADER
from gateway.sealing.marks import RecordMarks
from schemas.topics import WAITING_ORDERS

ORIGIN_HEADER: Final = "mypay-origin"
"""The last header but one of a record that waits: where the partner's own stands, its time and key, as JSON."""

SAMPLE: Final = 8
"""Signatures that are checked of a sender whose records are about to wait: a millisecond."""

VERIFIED_AT_ONCE: Final = 50
"""Before other work gets its turn: some milliseconds."""

WAITING_BYTES_MAX: Final = 1024 * 1024
"""Of a record that may wait, with its key and headers: with what is added the topic holds it. A larger one is refused
by its size or its key, which costs nothing."""

WAITING_HEADERS_MAX: Final = 100
"""Of a record that may wait: with those that are added it can be read again. An order has seven."""

LOOK_S: Final = 0.2
"""How long after the last of a sender's records was taken it is noticed that none waits."""

TURN: Final = 100
"""Records that wait, taken at a time: a second of work at most, where they are bulks each has its own turn."""

Take = Callable[[Sequence[Record]], Awaitable[None]]


class Lane(Protocol):
    """The topic where records wait."""

    async def busy(self) -> frozenset[int]:
        """Partitions with records that were not taken to their end."""


async def _nothing_more(_: Sequence[Record]) -> None:
    """Nothing is to be done after a turn."""


class FairIntake:
    """Stands before the intake.

    Args:
        take: brings records to their ends.
        marks: under the internal key.
        partitions: of the topic where records wait.
        turn_min: orders that a turn has room for however far execution is behind, shared by all senders.
        turn_max: and at most.
    """

    def __init__(
        self,
        *,
        take: Take,
        keys: KeySource,
        verifier: SignatureVerifier,
        publisher: Publisher,
        marks: RecordMarks,
        room: ExecutionRoom,
        lane: Lane,
        partitions: int,
        observer: Observer,
        clock: Clock,
        turn_min: int,
        turn_max: int,
    ) -> None:
        self._take = take
        self._keys = keys
        self._verifier = verifier
        self._publisher = publisher
        self._marks = marks
        self._room = room
        self._lane = lane
        self._partitions = partitions
        self._observer = observer
        self._clock = clock
        self._turn_min = turn_min
        self._turn_max = turn_max
        # Partition → senders of ours in it; those that were busy when we came may hold anybody's.
        self._waiting: defaultdict[int, set[str]] = defaultdict(set)
        self._inherited: frozenset[int] = frozenset()
        self._looked_at = 0.0

    async def assigned(self) -> None:
        """Partitions of orders came from others: whose records wait is not known."""
        self._inherited = await self._lane.busy()

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record to its end, or have it wait durably. Then the offsets may be committed."""
        await self._look()
        if len(records) <= self._turn_min and not self._waiting and not self._inherited:
            size = sum(cost_of(len(r.value)) for r in records)
            if size <= self._turn_min:
                await self._take(records)
                return
        room = min(self._turn_max, max(self._turn_min, await self._room.free()))
        senders = [self._claimed(r) for r in records]
        turn = self._in_turn(records, senders, room)
        if not all(turn) and await self._check_claims(records, senders, turn):
            turn = self._in_turn(records, senders, room)
        now = [r for r, is_now in zip(records, turn, strict=True) if is_now]
        later = [(r, s) for r, s, is_now in zip(records, senders, turn, strict=True) if not is_now]
        if now:
            self._room.use(len(now))
            await self._take(now)
        if later:
            await self._let_wait(later)

    async def take_waiting(
        self,
        records: Sequence[Record],
        *,
        taken: Callable[[Sequence[Record]], Awaitable[object]] = _nothing_more,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        """Bring records that waited to their ends, in turns for which there is room.

        Args:
            records: as they wait.
            taken: awaited after each turn, with its records.
            ending: true once no more turns shall begin: what is left goes on waiting.
        """
        left = 0
        turn: list[Record] = []
        for record in records:
            cost = cost_of(len(record.value))
            if not turn or cost > left:
                if turn:
                    await self._take_turn(turn)
                    await taken(turn)
                turn = []
                while (left := await self._room.free_for_patient()) <= 0:
                    if ending():
                        return
                    await self._room.pause()
            turn.append(record)
            left -= cost
        if turn:
            await self._take_turn(turn)
            await taken(turn)

    async def _take_turn(self, turn: Sequence[Record]) -> None:
        self._room.use(len(turn))
        await self._take([restored(record, self._marks) for record in turn])

    def _in_turn(self, records: Sequence[Record], senders: Sequence[str], room: int) -> list[bool]:
        waiting = {s for s in set(senders) if self._has_waiting(s)}
        costs = [cost_of(len(r.value)) for r in records]
        turn = in_turn(list(zip(senders, costs, strict=True)), room, waiting)
        # What was passed over unread has nothing that could wait, and what is too large is refused at once.
        return [is_now or r.unread is not None or not _may_wait(r) for r, is_now in zip(records, turn, strict=True)]

    def _has_waiting(self, sender: str) -> bool:
        partition = partition_of(sender, self._partitions)
        return partition in self._inherited or sender in self._waiting.get(partition, ())

    async def _check_claims(self, records: Sequence[Record], senders: list[str], turn: Sequence[bool]) -> bool:
        """Take from senders what they did not sign; True if there was any such."""
        by_sender: defaultdict[str, list[int]] = defaultdict(list)
        late: set[str] = set()
        for place, sender in enumerate(senders):
            by_sender[sender].append(place)
            if not turn[place]:
                late.add(sender)
        changed = False
        for sender in sorted(late - {NOBODY}):
            places = by_sender[sender]
            step = max(1, len(places) // SAMPLE)
            if all(self._holds(records[p], sender) for p in places[::step]):
                continue
            changed = True
            for number, place in enumerate(places, 1):
                if not self._holds(records[place], sender):
                    senders[place] = NOBODY
                if number % VERIFIED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return changed

    def _holds(self, record: Record, sender: str) -> bool:
        signed = self._verifier.authenticate(
            body=record.value,
            signature=_text(_header(record, "signature")),
            type_=_text(_header(record, "ce_type")),
            now=self._clock.now(),
        )
        return isinstance(signed, Signed) and signed.partner_id == sender

    def _claimed(self, record: Record) -> str:
        kid = claimed_kid(_header(record, "signature"))
        key = self._keys.key(kid) if kid else None
        return key.partner_id if key is not None else NOBODY

    async def _let_wait(self, later: Sequence[tuple[Record, str]]) -> None:
        for sender in {s for _, s in later}:
            self._waiting[partition_of(sender, self._partitions)].add(sender)
        outgoing = [kept(record, sender, self._partitions, self._marks) for record, sender in later]

        async def publish() -> bool:
            try:
                await self._publisher.publish(outgoing)
            except TopicClosedError as error:
                self._observer.note("topic_closed", level="error", topic=error.topic)
                return False
            return True

        if not await until_done(publish):
            # Without the topic there are no turns, and nothing else is lost.
            await self._take([record for record, _ in later])
            return
        self._observer.count("initiation", "waits", n=len(later))

    async def _look(self) -> None:
        """Forget about senders none of whose records waits any more."""
        if not self._waiting and not self._inherited:
            return
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        busy = await self._lane.busy()
        self._inherited &= busy
        for partition in set(self._waiting) - busy:
            del self._waiting[partition]


def kept(record: Record, sender: str, partitions: int, marks: RecordMarks) -> Outgoing:
    """The record as it waits."""
    where = {
        "place": [record.topic, record.partition, record.offset],
        "time": record.timestamp_ms,
        "key": None if record.key is None else base64.b64encode(record.key).decode(),
    }
    origin = json.dumps(where).encode()
    mark = marks.mark(_marked(record, origin))
    return Outgoing(
        topic=WAITING_ORDERS,
        key=sender.encode(),
        value=record.value,
        headers=[*record.headers, (ORIGIN_HEADER, origin), (MARK_HEADER, mark)],
        partition=partition_of(sender, partitions),
    )


def restored(record: Record, marks: RecordMarks) -> Record:
    """The partner's own record of one that waited; one that we did not write stays as it is, and is judged so."""
    if [name for name, _ in record.headers[-2:]] != [ORIGIN_HEADER, MARK_HEADER]:
        return record
    origin, mark = (value for _, value in record.headers[-2:])
    partners = replace(record, headers=record.headers[:-2])
    if marks.check(mark, _marked(partners, origin)) is not None:
        return record
    where = json.loads(origin)
    topic, partition, offset = where["place"]
    return replace(
        partners,
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=where["time"],
        key=None if where["key"] is None else base64.b64decode(where["key"]),
    )


def _marked(record: Record, origin: bytes) -> list[bytes | None]:
    """What a mark vouches for: everything but the record's place and time in the topic where it waits."""
    headers = [part for name, value in record.headers for part in (name.encode("utf-8", "surrogatepass"), value)]
    return [WAITING_ORDERS.encode(), origin, record.value, *headers]


def partition_of(sender: str, partitions: int) -> int:
    """Where a sender's records wait; those of nobody have a partition for themselves."""
    if sender == NOBODY or partitions == 1:
        return 0
    return 1 + crc32(sender.encode()) % (partitions - 1)


def claimed_kid(signature: bytes) -> str:
    """The key id in a detached JWS's header, which anybody may have written; empty where there is none."""
    return _kid(signature.partition(b".")[0]) if len(signature) < 10_000 else ""


@lru_cache(maxsize=1024)
def _kid(head: bytes) -> str:
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return ""
    kid = header.get("kid") if isinstance(header, dict) else None
    return kid if isinstance(kid, str) else ""


def _may_wait(record: Record) -> bool:
    # In bytes, names too: whatever is passed on here must not be too large to be published.
    size = len(record.key or b"") + len(record.value)
    size += sum(len(n.encode("utf-8", "surrogatepass")) + len(v) for n, v in record.headers)
    return size <= WAITING_BYTES_MAX and len(record.headers) <= WAITING_HEADERS_MAX


def _header(record: Record, name: str) -> bytes:
    return next((value for n, value in record.headers if n == name), b"")


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace")
