"""Following a run as partners and operators see it: events and dead letters, as they come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from pydantic_core import from_json

from gateway.proving.books.evidence import EventRow
from gateway.proving.collect.topics import event_row, open_reader
from schemas.topics import DEAD_LETTER, ORDERS, events_topic

_POLL_MS: Final = 100

RESULTS: Final = frozenset(("approved", "declined", "rejected", "reversed"))
"""States that tell a partner how its order ended; settlement follows for approved ones."""


@dataclass(slots=True)
class Watch:
    """What was told so far.

    Attributes:
        states: payment id → its latest state.
        result_at_ms: payment id → when its result was told (Kafka's timestamp).
        refused, repeated, dead: references of refused orders, ids of repeated answers, places of dead letters.
        cancellations: answers to cancellations, by their ids.
        been_unknown: payments whose outcome was in doubt at some time.
        by_state: payments by their latest state.
    """

    states: dict[str, str] = field(default_factory=dict)
    result_at_ms: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    dead: set[tuple[int, int]] = field(default_factory=set)
    cancellations: set[str] = field(default_factory=set)
    been_unknown: set[str] = field(default_factory=set)
    by_state: Counter[str] = field(default_factory=Counter)
    following: "asyncio.Task[None] | None" = None
    _overheard: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise what ended the following, if anything did."""
        if self.following is not None and self.following.done():
            self.following.result()

    @property
    def ended(self) -> int:
        """Records that have come to a result; approved ones only wait for clearing."""
        payments = sum(self.by_state[s] for s in (*RESULTS, "settled"))
        return payments + len(self.refused) + len(self.repeated) + len(self.dead)

    def overhear(self, subject: str) -> list[dict[str, Any]]:
        """Keep the bodies of a payment's or consent's events from now on, in a list that grows."""
        return self._overheard.setdefault(subject, [])

    def record(self, record: Any) -> None:
        """Take in a record of a partner's topic."""
        event = event_row(record)
        self.event(event)
        if event.subject in self._overheard:
            self._overheard[event.subject].append(from_json(record.value))

    def event(self, event: EventRow) -> None:
        """Take in a partner's event."""
        match event.kind:
            case "order.refused":
                self.refused.add(event.subject)
            case "cancellation.accepted" | "cancellation.refused":
                self.cancellations.add(event.event_id)
            case "payment.reported":
                self.repeated.add(event.event_id)
            case kind if kind.startswith("payment.") and event.state is not None:
                self._moved(event.subject, event.state, event.timestamp_ms)
            case _:
                # A consent's event: no order's.
                pass

    def _moved(self, payment_id: str, state: str, at_ms: int) -> None:
        before = self.states.get(payment_id)
        if before is not None:
            self.by_state[before] -= 1
        self.states[payment_id] = state
        self.by_state[state] += 1
        if state in RESULTS:
            self.result_at_ms.setdefault(payment_id, at_ms)
        if state == "unknown":
            self.been_unknown.add(payment_id)


@asynccontextmanager
async def open_watch(bootstrap_servers: str, partners: Sequence[str]) -> AsyncIterator[Watch]:
    """Follow all partners' topics and the dead letters in the background."""
    watch = Watch()
    topics = [*(events_topic(p) for p in partners), DEAD_LETTER]
    async with open_reader(bootstrap_servers, topics) as consumer:
        watch.following = following = asyncio.create_task(_follow(consumer, watch), name="watch")
        try:
            yield watch
        finally:
            following.cancel()
            await asyncio.wait([following])


async def _follow(consumer: Any, watch: Watch) -> None:
    while True:
        for record in chain(*(await consumer.getmany(timeout_ms=_POLL_MS)).values()):
            if record.topic == DEAD_LETTER:
                _note_letter(record, watch)
            else:
                watch.record(record)


def _note_letter(record: Any, watch: Watch) -> None:
    headers = dict(record.headers)
    # Those of the gateway's own topics, and what is forged, are no ends of what partners sent.
    if headers.get(_TOPIC) == ORDERS.encode():
        watch.dead.add((int(headers[_PARTITION]), int(headers[_OFFSET])))


_TOPIC: Final = "kafka_dlt-original-topic"
_PARTITION: Final = "kafka_dlt-original-partition"
_OFFSET: Final = "kafka_dlt-original-offset"
