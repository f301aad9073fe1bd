"""The disclosure log of an outbox in which rows hold one event or many: each use once, whoever writes and whenever."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.app.disclosure import DisclosureConnections, disclosure
from gateway.app.runtime import Runtime
from gateway.base.errors import StoreConflictError
from gateway.base.process import SilentObserver
from gateway.consents.rules.consent import Consent
from gateway.disclosure.rules import sequence
from gateway.disclosure.rules.sequence import Head
from gateway.disclosure.sequencer import SequencerService, SequencerSettings
from gateway.outbox.bundles import members_of
from gateway.outbox.store import OutboxEvent
from gateway.proving.memory import Database, MemoryClock, MemoryDisclosureLog, MemoryStore
from gateway.proving.memory.disclosure import verified
from schemas.codec import encode_json
from schemas.consents import ConsentStatus
from schemas.events import EventType
from schemas.topics import events_topic
from tests.support.builders import NOW, outbox_event
from tests.support.domain_samples import terms
from tests.support.leading import led
from tests.support.roots import ROOT_SIGNER, ROOT_VERIFIER

PERIOD = timedelta(hours=1)

SHARED = st.tuples(st.just("share"), st.lists(st.integers(1, 9), min_size=1, max_size=4))
TOLD = st.tuples(st.just("tell"), st.integers(1, 3))
STEPPED = st.tuples(st.just("step"), st.integers(0, 1))
LATER = st.tuples(st.just("wait"), st.integers(-90, 90))
STEPS = st.lists(st.one_of(SHARED, TOLD, STEPPED, STEPPED, STEPPED, LATER), max_size=30)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS, batch=st.integers(1, 12), covered=st.integers(1, 12))
def test_each_use_is_one_entry_in_order_under_roots_that_hold(
    steps: list[tuple[str, Any]], batch: int, covered: int
) -> None:
    with mock.patch.object(sequence, "ROOT_ENTRIES_MAX", covered):
        asyncio.run(all_logged(steps, batch, covered))


async def all_logged(steps: Sequence[tuple[str, Any]], batch: int, covered: int) -> None:
    world = World(batch)
    for step, given_ in steps:
        await getattr(world, step)(given_)
    await world.end()
    entries = world.database.disclosure_entries
    assert [e.use.reference for e in entries] == world.shared
    assert [(e.source_tx, e.source_id) for e in entries] == sorted((e.source_tx, e.source_id) for e in entries)
    assert verified(world.database, ROOT_VERIFIER) == (len(world.shared), [])
    # No more, but where one row alone holds more.
    sizes = [root.last_seq - root.first_seq + 1 for root, _ in world.database.disclosure_roots]
    rows = [sum(e.source_id in numbers for e in entries) for numbers in world.rows]
    assert all(size <= covered or size in rows for size in sizes)


class World:
    """An outbox that is told to, and two sequencers that both believe to lead, by a clock that may go back."""

    def __init__(self, batch: int) -> None:
        self.database = Database()
        self.database.put_consent(Consent(terms(), 1, ConsentStatus.AUTH))
        self.store = MemoryStore(self.database)
        self.clock = MemoryClock(NOW)
        self.settings = SequencerSettings(batch=batch, period=PERIOD)
        self.shared: list[str] = []
        self.rows: list[set[int]] = []
        self.leaders: list[tuple[MemoryDisclosureLog, SequencerService, Head] | None] = [None, None]

    async def share(self, sizes: list[int]) -> None:
        """Bundles, in one transaction."""
        async with self.store.transaction() as uow:
            for size in sizes:
                names = [str(n) for n in range(len(self.shared), len(self.shared) + size)]
                self.shared += names
                await uow.outbox.append_bundled([share(name) for name in names])
        self.rows = [{n for n, _ in held} for held in self._rows()]

    def _rows(self) -> list[list[tuple[int, OutboxEvent]]]:
        return [members_of(r.id, r.event) for r in self.database.outbox]

    async def tell(self, count: int) -> None:
        """What is no use."""
        async with self.store.transaction() as uow:
            events = [outbox_event(str(n)) for n in range(count)]
            await uow.outbox.append([replace(e, event_type=EventType.PAYMENT_APPROVED) for e in events])

    async def wait(self, minutes: int) -> None:
        self.clock.advance(60 * minutes)

    async def step(self, who: int) -> bool:
        """One of the two goes on from the head as it knows it."""
        log, service, head = self.leaders[who] or await self._taking_over()
        try:
            after, more = await service.step(head)
        except StoreConflictError:
            self.leaders[who] = None
            return True
        self.leaders[who] = (log, service, after)
        return more or after != head

    async def _taking_over(self) -> tuple[MemoryDisclosureLog, SequencerService, Head]:
        log = MemoryDisclosureLog(self.database)
        await led(log)
        runtime = Runtime(store=MemoryStore(Database()), observer=SilentObserver(), clock=self.clock, worker="w")
        connections = DisclosureConnections(log=log, sign=ROOT_SIGNER.sign, random=bytes)
        service = disclosure(runtime, connections, self.settings).service
        head = await log.head()
        # The lock goes to the other one as well, as after a failover.
        log.lose_lead()
        return log, service, head

    async def end(self) -> None:
        while await self.step(0):
            pass


def share(name: str) -> OutboxEvent:
    body = {
        "partner_id": "partner-1",
        "consent_id": "consent-1",
        "consent_version": 1,
        "payment_id": name,
        "affiliate_id": "points",
        "purposes": "loyalty",
        "legal_basis": "consent",
        "fields": "category",
    }
    return OutboxEvent(events_topic("partner-1"), "consent-1", name, EventType.CONSENT_SHARED, NOW, encode_json(body))
