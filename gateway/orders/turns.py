"""Turns between those who send orders: a flood of one delays its own orders only.

All partners' orders stand in the same partitions, in the order in which they came. Where more waits than execution has
room for, each sender gets its share of the turn (:mod:`gateway.orders.fairness`), and what is beyond goes, as it came,
to a topic of ours: there each sender has one partition, which is read in small turns while there is room. Everything is
judged there as if it came from outside. Records wait many in one (:mod:`gateway.orders.waiting`), with the places of
the partner's own, so that what is told of each is told once.

A sender's records keep their order: once one of them waits, all that come behind it do, until none waits any more.

Whose a record is is read off the key id that it claims. Anybody may claim one: before a sender's records wait because
of their number, some of their signatures are checked, and where one does not hold all are, so that nobody can use up
another's share; not with a key of theirs, either, that was disabled or has lapsed.
"""

import asyncio
import base64
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

from gateway.base.errors import TooLargeForTopicError, TopicClosedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.identity.jose.signature import SIGNATURE_CHARS_MAX
from gateway.identity.signing import KeySource, SignatureVerifier, Signed
from gateway.messaging.records import Publisher, Record
from gateway.orders.fairness import LARGE, NOBODY, cost_of, in_turn
from gateway.orders.room import ExecutionRoom
from gateway.orders.waiting import Waited, kept, may_wait, one_by_one, partition_of
from gateway.sealing.marks import RecordMarks

SAMPLE: Final = 8
"""Signatures that are checked of a sender whose records are about to wait: a millisecond."""

VERIFIED_AT_ONCE: Final = 50
"""Before other work gets its turn: some milliseconds."""

BEYOND_SHARE_MAX: Final = 50
"""Orders of a turn that those share whose others wait: whoever comes next waits for as long as these take."""

LOOK_S: Final = 0.2
"""How long after the last of a sender's records was taken it is noticed that none waits."""

LITTLE: Final = 8
"""Records that wait so few are soon taken: whoever still sends behind them may as well be held up until then."""

HELD_UP_S: Final = 0.15
"""For no longer, though: others stand behind."""

HELD_UP_LOOK_S: Final = 0.01
"""Between the looks whether they were taken."""

HELD_UP_AGAIN_S: Final = 2.0
"""After an attempt in vain the next one comes no sooner, then after twice as long, and so on. In such a while nobody is
held up for room for longer than that altogether."""

WAITING_AT_ONCE: Final = 16
"""Records that wait are taken so many at a time: with what each holds a second of work, or a turn for each bulk."""

_REST_S_MAX: Final = 0.2

Take = Callable[[Sequence[Record]], Awaitable[None]]


class Lane(Protocol):
    """The topic where records wait."""

    async def busy(self) -> Mapping[int, int]:
        """Partition → its records that were not taken to their end, of those that have any."""


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
        self._looking: asyncio.Task[None] | None = None
        self._since_look: set[int] = set()
        self._held_up_again_at = 0.0
        self._held_up_in_vain = 0
        self._counting_since = float("-inf")
        self._held_up_s = 0.0

    async def assigned(self) -> None:
        """Partitions of orders came from others: whose records wait is not known."""
        if self._looking is not None:
            # What it was told is older.
            await asyncio.wait([self._looking])
        self._inherited = frozenset(await self._lane.busy())

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record to its end, or have it wait durably. Then the offsets may be committed."""
        self._look()
        if len(records) <= self._turn_min and not self._waiting and not self._inherited:
            size = sum(cost_of(len(r.value)) for r in records)
            if size <= self._turn_min:
                await self._take_now(records, ())
                return
        room = max(self._turn_min, await self._room.free())
        senders = [self._claimed(r) for r in records]
        if (self._waiting or self._inherited) and sum(cost_of(len(r.value)) for r in records) <= room:
            # Nobody waits for what nobody signed.
            whose = {s for s in set(senders) - {NOBODY} if self._has_waiting(s)}
            await self._let_lane_end({partition_of(s, self._partitions) for s in whose})
        # What nobody signed takes no room of execution's, and holds others up all the same.
        room = min(self._turn_max, room)
        turn = self._in_turn(records, senders, room)
        late = {s for s, is_now in zip(senders, turn, strict=True) if not is_now}
        if late and self._may_hold_up(records, senders, late):
            room = min(self._turn_max, await self._until_room(sum(cost_of(len(r.value)) for r in records)))
            turn = self._in_turn(records, senders, room)
            late = {s for s, is_now in zip(senders, turn, strict=True) if not is_now}
        if not late:
            await self._take_now(records, senders)
            return
        # Those all of whose records are for this turn have them taken while the others' are looked at.
        sure = [r for r, s in zip(records, senders, strict=True) if s not in late]
        taking = asyncio.create_task(self._take_now(sure, set(senders) - late), name="orders-in-turn")
        try:
            # It begins at once.
            await asyncio.sleep(0)
            rest = [place for place, sender in enumerate(senders) if sender in late]
            left = max(0, min(BEYOND_SHARE_MAX, room - sum(cost_of(len(r.value)) for r in sure)))
            await self._share([records[p] for p in rest], [senders[p] for p in rest], left)
        except BaseException:
            taking.cancel()
            await asyncio.wait([taking])
            raise
        await taking

    def _may_hold_up(self, records: Sequence[Record], senders: Sequence[str], late: Collection[str]) -> bool:
        """Whether all of it may as well wait a moment for room, where it is: at the cost of nobody who is not late.

        That is so where all senders are beyond their shares, none of them has others that wait, and all that came is
        one turn: little can stand behind it.
        """
        costs = [cost_of(len(r.value)) for r in records]
        return (
            sum(costs) < self._turn_max
            and max(costs) < LARGE
            and late == set(senders)
            and NOBODY not in late
            and not any(self._has_waiting(s) for s in late)
            and asyncio.get_running_loop().time() >= self._held_up_again_at
        )

    async def _until_room(self, wanted: int) -> int:
        """Wait for room for so many orders, for a moment; return how much there is.

        What is put aside is written, read and judged once more, and its sender's next orders with it, until none waits.
        Who sends as much as can be paid would be held up again and again, always with room in the end, and others would
        meet a line that is full: so all such moments of a while together are no longer than one.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began - self._counting_since >= HELD_UP_AGAIN_S:
            self._counting_since, self._held_up_s = began, 0.0
        ends = began + HELD_UP_S - self._held_up_s
        while (room := await self._room.free()) < wanted:
            if loop.time() >= ends:
                self._hold_up_less()
                break
            await self._room.pause()
        else:
            self._held_up_in_vain = 0
        self._held_up_s += loop.time() - began
        return max(self._turn_min, room)

    def _hold_up_less(self) -> None:
        self._held_up_again_at = asyncio.get_running_loop().time() + HELD_UP_AGAIN_S * 2**self._held_up_in_vain
        self._held_up_in_vain = min(4, self._held_up_in_vain + 1)

    async def _let_lane_end(self, partitions: Collection[int]) -> None:
        """Wait for the little that waits of these senders, where there is room for all that came.

        Without it, whoever goes on sending would always have some that wait, long after there was a need.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not partitions or began < self._held_up_again_at:
            return
        if self._looking is not None:
            # What it was told is older than what was let wait since.
            await asyncio.wait([self._looking])
        while True:
            self._since_look.clear()
            busy = await self._lane.busy()
            if sum(busy.get(p, 0) for p in partitions) > LITTLE or loop.time() - began > HELD_UP_S:
                self._hold_up_less()
                return
            self._forget_all_but(busy)
            if not busy.keys() & partitions:
                self._held_up_in_vain = 0
                return
            await asyncio.sleep(HELD_UP_LOOK_S)

    async def _take_now(self, records: Sequence[Record], senders: Collection[str]) -> None:
        if records:
            others = set(senders) - {NOBODY} if self._waiting or self._inherited else ()
            self._room.use(len(records), beside_others=others)
            await self._take(records)

    async def _share(self, records: Sequence[Record], senders: list[str], room: int) -> None:
        """Take of each sender what is for this turn, in its order; the rest waits."""
        false = await self._check_claims(records, senders)
        # Nobody waits for what becomes of it: all of what nobody signed leaves the turn to others.
        turn = self._in_turn(records, senders, room, {NOBODY} if false else ())
        now = [r for r, is_now in zip(records, turn, strict=True) if is_now]
        later = [(r, s) for r, s, is_now in zip(records, senders, turn, strict=True) if not is_now]
        await self._take_now(now, {s for s, is_now in zip(senders, turn, strict=True) if is_now})
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
            taken: awaited after each turn, with those of the records that were taken to their end.
            ending: true once no more turns shall begin: what is left goes on waiting.
        """
        left = 0
        turn: list[Waited] = []
        for waited in one_by_one(records, self._marks):
            cost = cost_of(len(waited.record.value))
            if not turn or cost > left:
                if turn:
                    await self._take_turn(turn, taken)
                turn = []
                while (left := await self._room.free_for_turn()) <= 0:
                    if ending():
                        return
                    await self._room.pause()
                left = min(left, self._room.turn_max)
            turn.append(waited)
            left -= cost
        if turn:
            await self._take_turn(turn, taken)

    async def _take_turn(self, turn: Sequence[Waited], taken: Callable[[Sequence[Record]], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._room.use(len(turn))
        await self._take([w.record for w in turn])
        await taken([w.ends for w in turn if w.ends is not None])
        if self._room.is_shared():
            # As much time for those who come beside it.
            await asyncio.sleep(min(_REST_S_MAX, loop.time() - began))

    def _in_turn(
        self, records: Sequence[Record], senders: Sequence[str], room: int, waits: Collection[str] = ()
    ) -> list[bool]:
        waiting = {s for s in set(senders) if s in waits or self._has_waiting(s)}
        costs = [cost_of(len(r.value)) for r in records]
        turn = in_turn(list(zip(senders, costs, strict=True)), room, waiting)
        # What was passed over unread has nothing that could wait, and what is too large is refused at once.
        return [is_now or r.unread is not None or not may_wait(r) for r, is_now in zip(records, turn, strict=True)]

    def _has_waiting(self, sender: str) -> bool:
        partition = partition_of(sender, self._partitions)
        return partition in self._inherited or sender in self._waiting.get(partition, ())

    async def _check_claims(self, records: Sequence[Record], senders: list[str]) -> bool:
        """Take from senders what they did not sign; True if there was any such."""
        by_sender: defaultdict[str, list[int]] = defaultdict(list)
        for place, sender in enumerate(senders):
            by_sender[sender].append(place)
        changed = False
        for sender in sorted(by_sender.keys() - {NOBODY}):
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
        # Whoever stole a key that was disabled must not use up its owner's share: such a record is a dead letter.
        return isinstance(signed, Signed) and signed.lapsed is None and signed.partner_id == sender

    def _claimed(self, record: Record) -> str:
        kid = claimed_kid(_header(record, "signature"))
        key = self._keys.key(kid) if kid else None
        return key.partner_id if key is not None else NOBODY

    async def _let_wait(self, later: Sequence[tuple[Record, str]]) -> None:
        waiting = Counter(s for _, s in later)
        self._room.wait_too([s for s, n in waiting.items() if n > LITTLE])
        for sender in waiting:
            partition = partition_of(sender, self._partitions)
            self._waiting[partition].add(sender)
            self._since_look.add(partition)
        outgoing = kept(later, self._partitions, self._marks)

        async def publish() -> bool:
            try:
                await self._publisher.publish(outgoing)
            except TopicClosedError as error:
                self._observer.note("topic_closed", level="error", topic=error.topic)
                return False
            except TooLargeForTopicError:
                # What it has taken comes again: it is known by its place.
                return False
            return True

        if not await until_done(publish):
            # Without a topic that takes them there are no turns, and nothing else is lost.
            await self._take([record for record, _ in later])
            return
        self._observer.count("initiation", "waits", n=len(later))

    def _look(self) -> None:
        """Have it looked, beside all else, whether senders whose records waited have none any more."""
        if not self._waiting and not self._inherited:
            return
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < LOOK_S:
            return
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        self._looked_at = now
        self._since_look.clear()
        self._looking = asyncio.create_task(self._forget(), name="waiting-lane")

    async def _forget(self) -> None:
        self._forget_all_but(await self._lane.busy())

    def _forget_all_but(self, busy: Collection[int]) -> None:
        self._inherited &= frozenset(busy)
        # What has been let wait since the brokers were asked may not be among it.
        for partition in set(self._waiting).difference(busy) - self._since_look:
            del self._waiting[partition]


def claimed_kid(signature: bytes) -> str:
    """The key id in a detached JWS's header, which anybody may have written; empty where there is none."""
    # A longer one never holds, and must not be kept.
    return _kid(signature.partition(b".")[0]) if len(signature) <= SIGNATURE_CHARS_MAX else ""


@lru_cache(maxsize=1024)
def _kid(head: bytes) -> str:
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return ""
    kid = header.get("kid") if isinstance(header, dict) else None
    return kid if isinstance(kid, str) else ""


def _header(record: Record, name: str) -> bytes:
    return next((value for n, value in record.headers if n == name), b"")


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace")
