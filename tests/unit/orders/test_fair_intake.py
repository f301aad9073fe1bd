"""Turns between senders: a flood of one makes its own records wait, in their order, and nobody else's."""

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.errors import TooLargeForTopicError, TopicClosedError
from gateway.directory.partners import PartnerKey
from gateway.identity.signing import Signed
from gateway.messaging.bounded_batches import HEADERS_MAX
from gateway.messaging.producer import RECORD_BYTES_MAX
from gateway.messaging.records import Outgoing, Record, Unread
from gateway.observability.recording import RecordingObserver
from gateway.orders.fairness import NOBODY
from gateway.orders.room import ExecutionRoom
from gateway.orders.turns import BEYOND_SHARE_MAX, HELD_UP_AGAIN_S, HELD_UP_S, LITTLE, LOOK_S, FairIntake, claimed_kid
from gateway.orders.waiting import TOGETHER_BYTES, TOGETHER_MAX, WAITING_BYTES_MAX, kept, partition_of, restored
from gateway.proving.memory import MemoryKeySource
from gateway.proving.memory.kafka import MemoryKafka, MemoryPublisher
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import ORDERS, WAITING_ORDERS
from tests.support.builders import NOW

PARTITIONS = 4
FLOOD, SHOP = "flood", "shop"
MARKS = HmacMarks(MasterKeys({"20260101": bytes(32)}), Purpose.WAITING_MARK)
FOREIGN = HmacMarks(MasterKeys({"20260101": bytes([1] * 32)}), Purpose.WAITING_MARK)
BAD = Reason(code=ReasonCode.DS02, text="no")
LAPSED = Reason(code=ReasonCode.DS0C, text="disabled")


class Clock:
    def now(self) -> datetime:
        return NOW


@dataclass
class Verifier:
    """A signature whose last part is ``good`` holds, and one with ``lapsed`` holds under a key that was disabled."""

    asked: int = 0

    def authenticate(self, *, signature: str | None, **_: Any) -> Signed | Reason:
        self.asked += 1
        last = (signature or "").rpartition(".")[2]
        if last not in ("good", "lapsed"):
            return BAD
        partner = SHOP if claimed_kid((signature or "").encode()).endswith(SHOP) else FLOOD
        return Signed(PartnerId(partner), LAPSED if last == "lapsed" else None)


@dataclass
class World:
    """The intake with everything around it in memory.

    ``behind``: what execution has not taken; ``drains``: what it is at the looks to come.
    """

    behind: int = 0
    drains: list[int] = field(default_factory=list)
    taken: list[Record] = field(default_factory=list)
    lane: frozenset[int] = frozenset()
    verifier: Verifier = field(default_factory=Verifier)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    kafka: MemoryKafka = field(default_factory=lambda: MemoryKafka(Clock(), partitions=PARTITIONS))
    publisher: Any = None

    async def backlog(self) -> int:
        if self.drains:
            self.behind = self.drains.pop(0)
        return self.behind

    async def busy(self) -> dict[int, int]:
        return dict.fromkeys(self.lane, LITTLE + 1)

    async def take(self, records: Sequence[Record]) -> None:
        self.taken.extend(records)

    def intake(self, *, turn_min: int = 4, turn_max: int = 10) -> FairIntake:
        return FairIntake(
            take=self.take,
            keys=MemoryKeySource([FLOOD, SHOP], [partner_key(FLOOD), partner_key(SHOP)]),
            verifier=self.verifier,  # type: ignore[arg-type]
            publisher=self.publisher or MemoryPublisher(self.kafka),
            marks=MARKS,
            room=ExecutionRoom(self.backlog, ahead_max=turn_max, look_s=0.0),
            lane=self,
            partitions=PARTITIONS,
            observer=self.observer,
            clock=Clock(),
            turn_min=turn_min,
            turn_max=turn_max,
        )

    def waiting(self) -> list[Record]:
        return self.kafka.records(WAITING_ORDERS)

    def own_waiting(self) -> list[Record]:
        """The partners' own of them."""
        return [own for r in self.waiting() for own in restored(r, MARKS)]


def partner_key(partner: str) -> PartnerKey:
    return PartnerKey(f"kid-{partner}", PartnerId(partner), "ES256", {}, NOW, None, None)


def record(sender: str, number: int, *, signature: str = "good", size: int = 100, partition: int = 0) -> Record:
    head = base64.urlsafe_b64encode(json.dumps({"kid": f"kid-{sender}"}).encode()).rstrip(b"=")
    headers = (("ce_type", b"t"), ("signature", head + b".." + signature.encode()))
    value = f"{sender}-{number}".encode().ljust(size)
    return Record(ORDERS, partition, number, 1_000 + number, b"key-%d" % number, value, headers)


def names(records: Sequence[Record]) -> list[str]:
    return [r.value.decode().strip() for r in records]


async def test_where_there_is_room_nothing_waits_and_nothing_is_asked() -> None:
    world = World()
    records = [record(FLOOD, n) for n in range(10)]
    await world.intake().take(records)
    assert world.taken == records
    assert not world.waiting()
    assert world.verifier.asked == 0


async def test_a_floods_rest_waits_and_everybody_elses_goes_through() -> None:
    world = World()
    flood = [record(FLOOD, n) for n in range(30)]
    shop = [record(SHOP, n) for n in range(30, 33)]
    await world.intake().take([*flood, *shop])
    assert names(world.taken) == ["shop-30", "shop-31", "shop-32", *(f"flood-{n}" for n in range(7))]
    assert names(world.own_waiting()) == [f"flood-{n}" for n in range(7, 30)]
    assert world.observer.counts["initiation", "waits", ""] == 23
    assert {r.partition for r in world.waiting()} == {partition_of(FLOOD, PARTITIONS)}


async def test_what_waited_is_taken_as_it_came() -> None:
    world = World()
    records = [replace(record(FLOOD, n), key=None if n == 19 else b"\xff") for n in range(20)]
    intake = world.intake()
    await intake.take(records)
    await intake.take_waiting(world.waiting())
    assert world.taken == records


async def test_behind_a_record_that_waits_all_of_its_sender_do_until_none_waits_any_more() -> None:
    world, intake = World(), None
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(20)])
    world.taken.clear()
    world.lane = frozenset({partition_of(FLOOD, PARTITIONS)})
    intake._looked_at = -LOOK_S
    await intake.take([record(FLOOD, 20), record(SHOP, 21)])
    assert names(world.taken) == ["shop-21"]
    assert names(world.own_waiting())[-1] == "flood-20"
    world.lane = frozenset()
    await look(intake)
    await intake.take([record(FLOOD, 22)])
    assert names(world.taken) == ["shop-21", "flood-22"]


async def test_whoever_goes_on_sending_is_held_up_for_the_little_that_waits_and_then_waits_no_more() -> None:
    world = World()
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(20)])
    answers = iter([{partition_of(FLOOD, PARTITIONS): LITTLE}, {partition_of(FLOOD, PARTITIONS): 1}, {}])

    async def busy() -> dict[int, int]:
        # Nothing is overtaken: what waits is taken before anything that comes behind it.
        assert names(world.taken)[-1] != "flood-20"
        return next(answers)

    world.busy = busy  # type: ignore[method-assign]
    await intake.take([record(FLOOD, 20)])
    await intake.take([record(FLOOD, 21)])
    assert names(world.taken)[-2:] == ["flood-20", "flood-21"]
    assert names(world.own_waiting())[-1] == "flood-19"
    assert next(answers, None) is None


@pytest.mark.parametrize("why", ["much waits", "it takes long"])
async def test_nobody_is_held_up_for_long_and_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr("gateway.orders.turns.HELD_UP_S", 0.0)
    world = World()
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(20)])
    asked = []

    async def busy() -> dict[int, int]:
        asked.append(1)
        return {partition_of(FLOOD, PARTITIONS): LITTLE + 1 if why == "much waits" else 1}

    world.busy = busy  # type: ignore[method-assign]
    for number in (20, 21):
        no_look_is_due(intake)
        await intake.take([record(FLOOD, number)])
    assert names(world.own_waiting())[-2:] == ["flood-20", "flood-21"]
    assert 1 <= len(asked) <= 2
    before = len(asked)
    intake._held_up_again_at = 0.0
    await intake.take([record(FLOOD, 22)])
    assert len(asked) > before
    assert intake._held_up_again_at > asyncio.get_running_loop().time() + HELD_UP_AGAIN_S


async def test_what_comes_while_execution_is_behind_is_held_up_where_that_costs_nobody_else_anything() -> None:
    world = World()
    world.drains = [10, 8, 6, 0]
    intake = world.intake()
    records = [*(record(FLOOD, n) for n in range(5)), *(record(SHOP, n) for n in range(5, 9))]
    await intake.take(records)
    assert world.taken == records
    assert not world.waiting()
    assert world.verifier.asked == 0


@pytest.mark.parametrize(
    ("why", "records"),
    [
        ("more stands behind it", [record(FLOOD, n) for n in range(10)]),
        ("another is within its share", [*(record(FLOOD, n) for n in range(6)), record(SHOP, 6)]),
        ("nobody signed some of it", [record(s, n) for n in range(6) for s in (FLOOD, "stranger")]),
        ("a bulk is among it", [*(record(FLOOD, n) for n in range(6)), record(FLOOD, 6, size=50_000)]),
    ],
)
async def test_nothing_is_held_up_at_others_cost(why: str, records: list[Record]) -> None:
    world = World()
    large = why == "a bulk is among it"
    world.drains = [200, 200, 0] if large else [20, 20, 0]
    await world.intake(turn_max=200 if large else 20 if "nobody" in why else 10).take(records)
    assert world.own_waiting(), why
    assert world.drains == ([200, 0] if large else [20, 0])


async def test_behind_what_waits_nothing_is_held_up_for_room() -> None:
    world = World()
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(20)])
    world.lane = frozenset({partition_of(FLOOD, PARTITIONS)})
    world.drains = [10, 10, 10, 10, 0]
    await intake.take([record(FLOOD, n) for n in range(20, 26)])
    assert names(world.own_waiting())[-6:] == [f"flood-{n}" for n in range(20, 26)]
    assert 0 in world.drains


async def test_what_is_held_up_for_room_in_vain_waits_and_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.orders.turns.HELD_UP_S", 0.0)
    world = World()
    world.drains = [10]
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(6)])
    assert len(world.own_waiting()) == 2
    await look(intake)
    monkeypatch.setattr("gateway.orders.turns.HELD_UP_S", 1000.0)
    async with asyncio.timeout(60):
        await intake.take([record(FLOOD, n) for n in range(6, 12)])
    assert len(world.own_waiting()) == 4
    intake._held_up_again_at -= HELD_UP_AGAIN_S
    await look(intake)
    world.drains = [10, 0]
    await intake.take([record(FLOOD, n) for n in range(12, 18)])
    assert len(world.own_waiting()) == 4


async def test_who_sends_as_much_as_can_be_paid_is_not_held_up_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()

    async def backlog() -> int:
        # A look takes a fifth of what anybody is held up for.
        nonlocal now
        now += HELD_UP_S / 5
        return await World.backlog(world)

    monkeypatch.setattr(loop, "time", lambda: now)
    world = World()
    monkeypatch.setattr(world, "backlog", backlog)
    intake = world.intake()
    held = 0
    while not world.waiting():
        assert held < 5
        # Execution has room in the end.
        world.drains = [10, 10, 0]
        await intake.take([record(FLOOD, 10 * held + n) for n in range(6)])
        held += 1
    assert held > 1
    now += HELD_UP_AGAIN_S
    await look(intake)
    waited = len(world.own_waiting())
    world.drains = [10, 10, 0]
    await intake.take([record(FLOOD, 100 + n) for n in range(6)])
    assert len(world.own_waiting()) == waited


async def test_nobody_is_held_up_for_what_nobody_signed() -> None:
    world, asked = World(), []
    intake = world.intake()
    await intake.take([record("stranger", n) for n in range(30)])
    assert {r.partition for r in world.waiting()} == {partition_of(NOBODY, PARTITIONS)}

    async def busy() -> dict[int, int]:
        asked.append(1)
        return {partition_of(NOBODY, PARTITIONS): 1}

    world.busy = busy  # type: ignore[method-assign]
    no_look_is_due(intake)
    await intake.take([record("stranger", 30), record(SHOP, 31)])
    assert names(world.taken)[-1] == "shop-31"
    assert not asked


def no_look_is_due(intake: FairIntake) -> None:
    """However long the machine takes until the next batch."""
    intake._looked_at = asyncio.get_running_loop().time() + 1000.0


async def look(intake: FairIntake) -> None:
    """Have the intake look whether senders still have records that wait, to the end."""
    if intake._looking is not None:
        await intake._looking
    intake._looked_at = -LOOK_S
    await intake.take([])
    assert intake._looking is not None
    await intake._looking


@pytest.mark.parametrize("published", ["before", "while"])
async def test_what_is_let_wait_while_it_is_looked_is_not_overtaken(published: str) -> None:
    world = World()
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def busy() -> dict[int, int]:
        if asked.is_set():
            return {partition_of(FLOOD, PARTITIONS): LITTLE + 1}
        # As it stood when the first look began: nothing waits.
        asked.set()
        await may_answer.wait()
        return {}

    world.busy = busy  # type: ignore[method-assign]
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(20)])
    intake._looked_at = -LOOK_S
    if published == "while":
        await intake.take([])
        await asked.wait()
    # Its own look begins before its records wait.
    await intake.take([record(FLOOD, n) for n in range(20, 40)])
    may_answer.set()
    assert intake._looking is not None
    await intake._looking
    await intake.take([record(FLOOD, 40)])
    assert names(world.own_waiting())[-1] == "flood-40"


async def test_after_an_assignment_whose_records_wait_is_not_known() -> None:
    world = World(lane=frozenset({partition_of(SHOP, PARTITIONS)}))
    intake = world.intake()
    await intake.assigned()
    await intake.take([record(SHOP, 1)])
    assert (names(world.taken), names(world.own_waiting())) == ([], ["shop-1"])


async def test_the_further_execution_is_behind_the_less_a_turn_has_and_never_nothing() -> None:
    world = World(behind=1_000)
    await world.intake().take([record(FLOOD, n) for n in range(20)])
    assert len(world.taken) == 4


@pytest.mark.parametrize("signature", ["forged", "lapsed"])
async def test_nobody_uses_up_anothers_share_by_its_key_id_or_a_key_that_was_stolen(signature: str) -> None:
    world = World()
    noise = [record(SHOP, n, signature=signature) for n in range(30)]
    honest = [record(SHOP, n) for n in range(30, 33)]
    await world.intake().take([*noise, *honest])
    assert names(world.taken)[-3:] == ["shop-30", "shop-31", "shop-32"]
    assert all(r.partition == partition_of(NOBODY, PARTITIONS) for r in world.waiting())
    # And the partner's own next one does not wait, either.
    await world.intake().take([record(SHOP, 33)])
    assert names(world.taken)[-1] == "shop-33"


async def test_a_large_bulk_waits_and_small_orders_of_others_do_not() -> None:
    world = World()
    bulk = record(FLOOD, 0, size=900_000)
    await world.intake().take([bulk, record(SHOP, 1)])
    assert (names(world.taken), names(world.own_waiting())) == (["shop-1"], ["flood-0"])


async def test_a_large_bulk_waits_alone_too_for_it_would_hold_up_whoever_comes_next() -> None:
    world = World()
    intake = world.intake(turn_max=10_000)
    await intake.take([record(FLOOD, 0, size=900_000)])
    assert (names(world.taken), names(world.own_waiting())) == ([], ["flood-0"])


async def test_what_nobody_signed_leaves_a_turn_that_is_too_small_for_all_to_the_others() -> None:
    world = World()
    noise = [record(SHOP, n, signature="forged") for n in range(30)]
    flood = [record(FLOOD, n) for n in range(30, 60)]
    await world.intake().take([*noise, *flood])
    assert names(world.taken) == [f"flood-{n}" for n in range(30, 40)]


async def test_those_whose_others_wait_get_little_of_a_large_turn_for_whoever_comes_next() -> None:
    world = World()
    flood = [record(FLOOD, n) for n in range(2_000)]
    await world.intake(turn_max=1_000).take([*flood, record(SHOP, 2_000)])
    assert names(world.taken)[0] == "shop-2000"
    assert len(world.taken) == 1 + BEYOND_SHARE_MAX


async def test_who_is_beyond_their_share_too_is_nobody_beside_whom_the_rest_is_slow() -> None:
    world = World()
    intake = world.intake()
    await intake.take([record(FLOOD, n) for n in range(30)])
    await intake.take([record(NOBODY, 30, signature="bad")])
    assert not intake._room.is_shared()
    await intake.take([record(SHOP, 31)])
    assert intake._room.is_shared()
    await intake.take([record(SHOP, n) for n in range(32, 42)])
    assert intake._room.is_shared()
    await intake.take([record(SHOP, n) for n in range(60, 70 + LITTLE)])
    assert not intake._room.is_shared()


async def test_who_is_within_their_share_does_not_wait_until_others_claims_are_checked() -> None:
    world, looked = World(), []
    shop_taken = asyncio.Event()

    async def take(records: Sequence[Record]) -> None:
        looked.append(world.verifier.asked)
        if b"shop" in records[0].value:
            shop_taken.set()

    intake = world.intake()
    intake._take = take
    noise = [record(FLOOD, n, signature="forged") for n in range(500)]
    await intake.take([*noise, record(SHOP, 500)])
    assert shop_taken.is_set()
    assert looked[0] < len(noise)


async def test_what_fails_of_a_turn_fails_it_with_nothing_left_running() -> None:
    class Broken:
        async def publish(self, records: Sequence[Outgoing]) -> None:
            raise ZeroDivisionError

    world = World(publisher=Broken())
    intake = world.intake()
    stuck = asyncio.Event()

    async def take(records: Sequence[Record]) -> None:
        if b"shop" in records[0].value:
            await stuck.wait()

    intake._take = take
    with pytest.raises(ZeroDivisionError):
        await intake.take([*(record(FLOOD, n) for n in range(30)), record(SHOP, 30)])
    assert not [t for t in asyncio.all_tasks() if t.get_name() == "orders-in-turn"]


async def test_bulks_that_waited_take_a_turn_each() -> None:
    world, turns = World(), []
    intake = world.intake()

    async def take(records: Sequence[Record]) -> None:
        turns.append(names(records))

    async def taken(records: Sequence[Record]) -> None:
        # Its records may be forgotten: only now, for until here the turn could be lost with the process.
        turns.append([f"done {name}" for r in records for name in names(restored(r, MARKS))])

    intake._take = take
    sizes = [900_000, 900_000, 100, 100]
    waiting = [wait(record(FLOOD, n, size=s)) for n, s in enumerate(sizes)]
    await intake.take_waiting(waiting, taken=taken)
    last = ["flood-2", "flood-3"]
    assert turns == [
        *(["flood-0"], ["done flood-0"]),
        *(["flood-1"], ["done flood-1"]),
        *(last, [f"done {name}" for name in last]),
    ]


async def test_what_waits_is_taken_in_whole_turns_where_there_are_no_others() -> None:
    world = World(drains=[12, 9, 8, 8, 0])
    sizes: list[int] = []

    async def taken(_: Sequence[Record]) -> None:
        sizes.append(len(world.taken) - sum(sizes))

    # Of twenty they have room for fifteen, seven a turn: with nine ahead there is room for six.
    waiting = [wait(*(record(FLOOD, n) for n in range(14)))]
    await world.intake(turn_max=20).take_waiting(waiting, taken=taken)
    assert sizes == [7, 7]


async def test_each_turn_is_told_and_none_begins_once_it_is_to_end() -> None:
    world, told = World(), []
    waiting = [wait(record(FLOOD, n, size=900_000)) for n in range(3)]

    async def taken(records: Sequence[Record]) -> None:
        told.append(records)
        world.behind = 1_000
        intake._room._looked_at = None

    intake = world.intake()
    await intake.take_waiting(waiting, taken=taken, ending=lambda: True)
    assert told == [waiting[:1]]
    assert names(world.taken) == ["flood-0"]


WAITS = record(FLOOD, 31)


@pytest.mark.parametrize(
    "larger",
    [
        replace(WAITS, value=b"", headers=(), unread=Unread(30, 30, "too large")),
        replace(WAITS, value=bytes(1_100_000)),
        # What follows shrinks well on its way to us, and would be too large for any topic with what is added.
        replace(WAITS, key=bytes(1_900_000)),
        replace(WAITS, headers=(*WAITS.headers, ("x", bytes(1_100_000)))),
        replace(WAITS, headers=(*WAITS.headers, ("가" * 650_000, b""))),
        replace(WAITS, headers=(*WAITS.headers, *(("x", b"") for _ in range(998)))),
    ],
    ids=["unread", "value", "key", "header", "header_name", "headers"],
)
async def test_what_cannot_wait_is_taken_at_once(larger: Record) -> None:
    world = World()
    await world.intake().take([*(record(FLOOD, n) for n in range(30)), larger])
    assert larger in world.taken
    assert len(world.taken) + len(world.own_waiting()) == 31
    assert all(len(r.headers) < HEADERS_MAX for r in world.waiting())


@pytest.mark.parametrize(
    "largest",
    [
        replace(WAITS, key=bytes(WAITING_BYTES_MAX - 1_000)),
        replace(WAITS, value=bytes(WAITING_BYTES_MAX - 1_000)),
        replace(WAITS, headers=(*WAITS.headers, ("가" * (WAITING_BYTES_MAX // 3 - 1_000), b""))),
    ],
    ids=["key", "value", "header_name"],
)
async def test_the_largest_that_may_wait_can_be_published_and_comes_back_whole(largest: Record) -> None:
    world = World()
    await world.intake().take([*(record(FLOOD, n) for n in range(30)), largest])
    (waits,) = [r for r in world.waiting() if restored(r, MARKS) == [largest]]
    size = len(waits.key or b"") + len(waits.value) + sum(len(n.encode()) + len(v) for n, v in waits.headers)
    assert size < RECORD_BYTES_MAX


async def test_without_the_topic_nothing_waits_and_nothing_is_lost() -> None:
    class Closed:
        async def publish(self, records: Sequence[Outgoing]) -> None:
            raise TopicClosedError(records[0].topic)

    world = World(publisher=Closed())
    records = [record(FLOOD, n) for n in range(30)]
    await world.intake().take(records)
    assert world.taken == records


async def test_what_is_larger_than_the_topic_takes_does_not_wait_and_holds_up_nothing() -> None:
    class Small:
        async def publish(self, records: Sequence[Outgoing]) -> None:
            raise TooLargeForTopicError(records[0].topic, frozenset([0]))

    world = World(publisher=Small())
    records = [record(FLOOD, n) for n in range(30)]
    await world.intake().take(records)
    assert world.taken == records


def to_record(outgoing: Outgoing) -> Record:
    return Record(outgoing.topic, 3, 7, 5, outgoing.key, outgoing.value, tuple(outgoing.headers))


def wait(*records: Record, sender: str = FLOOD, marks: HmacMarks = MARKS) -> Record:
    """The records as they stand in the topic where they wait."""
    (outgoing,) = kept([(r, sender) for r in records], PARTITIONS, marks)
    return to_record(outgoing)


def test_only_what_we_wrote_is_told_of_as_standing_elsewhere() -> None:
    originals = [record(SHOP, 1), replace(record(SHOP, 2), key=None, value=b"", headers=()), record(SHOP, 3)]
    whole = wait(*originals, sender=SHOP)
    assert restored(whole, MARKS) == originals
    (packed, mark) = whole.headers
    for forged in (
        wait(*originals, sender=SHOP, marks=FOREIGN),
        replace(whole, value=whole.value + b" "),
        replace(whole, key=FLOOD.encode()),
        replace(whole, headers=((packed[0], b"2"), mark)),
        replace(whole, headers=(packed, mark, mark)),
        replace(whole, headers=(mark, packed)),
        replace(whole, headers=(packed,)),
        replace(whole, headers=()),
    ):
        assert restored(forged, MARKS) == [forged]


def test_a_senders_records_wait_together_up_to_a_bound_and_keep_their_order() -> None:
    flood = [record(FLOOD, n) for n in range(TOGETHER_MAX + 1)]
    bulks = [record(SHOP, n, size=TOGETHER_BYTES) for n in range(2)]
    mixed = [(r, FLOOD) for r in flood[:10]] + [(r, SHOP) for r in bulks] + [(r, FLOOD) for r in flood[10:]]
    waiting = kept(mixed, PARTITIONS, MARKS)
    assert sorted((o.key, len(restored(to_record(o), MARKS))) for o in waiting) == [
        (b"flood", 1),
        (b"flood", TOGETHER_MAX),
        (b"shop", 1),
        (b"shop", 1),
    ]
    for sender, records in ((FLOOD, flood), (SHOP, bulks)):
        own = [o for o in waiting if o.key == sender.encode()]
        assert [r for o in own for r in restored(to_record(o), MARKS)] == records
        assert {o.partition for o in own} == {partition_of(sender, PARTITIONS)}


async def test_who_waits_with_little_is_not_behind_who_waits_with_much() -> None:
    world = World()
    much = [replace(wait(*(record(FLOOD, n) for n in range(first, first + 9))), partition=1) for first in (0, 9)]
    little = replace(wait(record(SHOP, 1), sender=SHOP), partition=2)
    await world.intake().take_waiting([*much, little])
    assert names(world.taken)[:3] == ["flood-0", "shop-1", "flood-1"]
    assert names([r for r in world.taken if b"flood" in r.value]) == [f"flood-{n}" for n in range(18)]


async def test_what_waits_may_be_forgotten_once_the_last_record_in_it_was_taken() -> None:
    world, told = World(), []
    waiting = [wait(*(record(FLOOD, n) for n in range(first, first + 7))) for first in (0, 7)]

    async def taken(records: Sequence[Record]) -> None:
        told.append((len(world.taken), len(records)))

    # Five at a time: half of what they have of the room.
    await world.intake(turn_max=14).take_waiting(waiting, taken=taken)
    assert told == [(5, 0), (10, 1), (14, 1)]


NO_KEY_ID = [
    b"",
    b".",
    b"!!..x",
    b"e30..x",
    b"W10..x",
    b"eyJraWQiOjF9..x",
    b"a" * 20_000,
    b"eyJraWQiOiJrIn0.." + b"x" * 1024,
]


@pytest.mark.parametrize("signature", NO_KEY_ID)
def test_a_signature_without_a_key_id_claims_nobody(signature: bytes) -> None:
    assert claimed_kid(signature) == ""
    assert claimed_kid(b"eyJraWQiOiJrIn0..x") == "k"


def test_nobody_has_a_partition_of_its_own() -> None:
    assert partition_of(NOBODY, PARTITIONS) == 0
    assert all(partition_of(f"p{n}", PARTITIONS) in range(1, PARTITIONS) for n in range(100))
    assert partition_of(SHOP, 1) == 0
