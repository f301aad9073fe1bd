"""Topics that close and open, and take now larger and now smaller events: whatever happens, all is told in the end."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base.errors import TopicClosedError
from gateway.messaging.records import Outgoing
from gateway.outbox.bundles import members_of
from gateway.outbox.relay import RelayService
from gateway.outbox.store import TOO_LARGE, OutboxEvent, OutboxRow
from gateway.proving.memory import MemoryOutboxReader
from tests.support.builders import outbox_event
from tests.support.narrow import Narrow
from tests.support.rig import Rig

TOPICS = ("t-0", "t-1", "t-2")

EVENTS = st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(3, 30)), max_size=6)
SENT = st.tuples(st.just("send"), EVENTS)
BUNDLED = st.tuples(st.just("bundle"), EVENTS)
RELAYED = st.tuples(st.just("relay"), st.none())
RETRIED = st.tuples(st.just("retry"), st.none())
REPLACED = st.tuples(st.just("another"), st.none())
LIMITED = st.tuples(st.just("limit"), st.tuples(st.sampled_from(TOPICS), st.integers(0, 31)))
CLOSED = st.tuples(st.just("closed"), st.sets(st.sampled_from(TOPICS)))
STEPS = st.lists(st.one_of(SENT, BUNDLED, RELAYED, RELAYED, RETRIED, REPLACED, LIMITED, CLOSED), max_size=25)


class Closing:
    """A publisher before a Kafka that lacks some topics."""

    def __init__(self, rig: Rig) -> None:
        self._inner = rig.publisher
        self.closed: set[str] = set()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        for topic in sorted({r.topic for r in records} & self.closed):
            raise TopicClosedError(topic)
        await self._inner.publish(records)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_all_is_told_in_the_end_and_nobody_waits_for_what_is_too_large(steps: list[tuple[str, Any]]) -> None:
    asyncio.run(told_in_the_end(steps))


async def told_in_the_end(steps: Sequence[tuple[str, Any]]) -> None:
    world = World()
    for step, given_ in steps:
        await getattr(world, step)(given_)
        world.note_large()
    await world.end()


def held_by(row: OutboxRow) -> list[OutboxEvent]:
    return [event for _, event in members_of(row.id, row.event)]


class World:
    """Events that are sent, a relay that leads at a time, and a Kafka of whims."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.closing = Closing(self.rig)
        self.narrow = Narrow(self.closing, {})
        self.rig.publisher = self.narrow  # type: ignore[assignment]
        self.sent: list[tuple[str, str]] = []
        self.ever_large: set[str] = set()
        self.reader = MemoryOutboxReader(self.rig.database)
        self.service: RelayService | None = None

    async def send(self, events: Sequence[tuple[str, int]]) -> None:
        async with self.rig.store.transaction() as uow:
            for topic, size in events:
                name = f"{len(self.sent)}".ljust(size, ".")
                self.sent.append((topic, name))
                await uow.outbox.append([outbox_event(name, topic=topic)])

    async def bundle(self, events: Sequence[tuple[str, int]]) -> None:
        """In as few rows as may be: told, and set aside, as a whole."""
        async with self.rig.store.transaction() as uow:
            names = [(topic, f"{n}".ljust(size, ".")) for n, (topic, size) in enumerate(events, len(self.sent))]
            self.sent += names
            await uow.outbox.append_bundled([outbox_event(name, topic=topic) for topic, name in names])

    async def relay(self, _: None) -> None:
        leads = await self.leading()
        while await leads.relay_once():
            pass
        aside = {e.event_id for row, _ in self.rig.database.outbox_parked.values() for e in held_by(row)}
        for topic in set(TOPICS) - self.closing.closed:
            # Of a topic that is open all is told that was not set aside.
            assert set(self.sent_to(topic)) <= {*self.told(topic)} | aside

    async def retry(self, _: None) -> None:
        await (await self.leading()).retry_parked()

    async def another(self, _: None) -> None:
        """Another relay takes the lead."""
        await self.reader.release()
        self.service = None

    async def limit(self, of: tuple[str, int]) -> None:
        self.narrow.limits[of[0]] = of[1]

    async def closed(self, topics: set[str]) -> None:
        self.closing.closed = topics

    async def leading(self) -> RelayService:
        if self.service is None:
            assert await self.reader.acquire()
            self.service = self.rig.new_relay(reader=self.reader, batch=4)
            await self.service.look_for_parked()
        return self.service

    def note_large(self) -> None:
        parked = self.rig.database.outbox_parked.values()
        self.ever_large |= {e.event_id for row, why in parked if why == TOO_LARGE for e in held_by(row)}

    def sent_to(self, topic: str) -> list[str]:
        return [name for of, name in self.sent if of == topic]

    def told(self, topic: str) -> list[str]:
        return list(dict.fromkeys(r.value.decode() for r in self.rig.kafka.records(topic)))

    async def end(self) -> None:
        """Kafka takes all: nothing is left behind, and what was never too large has kept its order."""
        self.narrow.limits, self.closing.closed = {}, set()
        await self.relay(None)
        await self.retry(None)
        assert self.rig.database.outbox_parked == {}
        for topic in TOPICS:
            assert sorted(self.told(topic)) == sorted(self.sent_to(topic))
            in_order = [
                [n for n in names if n not in self.ever_large] for names in (self.told(topic), self.sent_to(topic))
            ]
            assert in_order[0] == in_order[1]
