"""Events to be told: the writers' side and the relay's."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final, Protocol

from msgspec import Struct

from gateway.base.discreet import Discreet

TOO_LARGE: Final = "larger than its topic takes"
"""Why an event is set aside alone: those behind it go on without it."""


UNREADABLE: Final = "cannot be read"
"""Likewise of a row of which nobody can say what it holds."""


class OutboxEvent(Discreet, frozen=True, gc=False):
    """One event to be relayed to Kafka once the transaction that holds it has committed."""

    topic: str
    key: str
    event_id: str
    event_type: str
    occurred_at: datetime
    body: bytes
    traceparent: str | None = None

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"body"})


class Outbox(Protocol):
    """Events that wait for the relay."""

    async def append(self, events: Sequence[OutboxEvent]) -> None:
        """Add events to this transaction."""

    async def append_bundled(self, events: Sequence[OutboxEvent]) -> None:
        """Likewise, in as few rows as may be (:mod:`gateway.outbox.bundles`): for who tells by the hundred."""

    async def make_partitions(self, *, ahead: int) -> int:
        """Make room for the events of about the next ``ahead`` days; return how many partitions that took.

        Events have a place also where this was not done for long: it only keeps what is old easy to drop.
        """

    async def drop_partition(self, *, before: datetime) -> int:
        """Forget the oldest whole partition (1), if that can be done now, or none (0).

        It can where no further event may come to stand in it, everybody who reads the outbox has passed it, and all in
        it occurred before. One with events that are set aside stays, and so do all behind the first that is younger.
        """

    async def purge(self, *, before: datetime, limit: int) -> int:
        """Of what stands in no partition that ends: forget up to ``limit`` of the first events that all have passed.

        Those that are set aside stay, and so do all behind the first event that is younger. Returns how many went.
        """


class OutboxUnit(Protocol):
    """Events to be told with what this transaction does."""

    @property
    def outbox(self) -> Outbox:
        """Events that wait for the relay."""


class OutboxRow(Struct, frozen=True, gc=False):
    """One outbox row with its place in the relay's order."""

    tx: int
    id: int
    event: OutboxEvent


class OutboxReader(Protocol):
    """The relay's side of the outbox. Holds a leader lock: one reader at a time."""

    async def acquire(self) -> bool:
        """Become the one relay; False while another is."""

    async def read(self, limit: int) -> Sequence[OutboxRow]:
        """Committed rows that were not told yet, one payment's in their order.

        Also those that a transaction which still runs may put events before: it holds up nobody else's.
        """

    async def advance(
        self,
        last: OutboxRow,
        *,
        parked: Sequence[OutboxRow] = (),
        reason: str = "",
        large: Sequence[OutboxRow] = (),
        unreadable: Sequence[OutboxRow] = (),
    ) -> None:
        """The rows that were read last are told, up to this one: Kafka has confirmed them, or they are set aside now.

        ``large`` are set aside as :data:`TOO_LARGE`, ``unreadable`` as :data:`UNREADABLE`, and ``parked`` with their
        topic, for ``reason``.

        The cursor moves past what is told, as far as nothing can come to stand before it any more. It may be written
        with the next look, or as the lead is given up: whoever follows one that dies before tells its last rows again.
        """

    async def parked_topics(self) -> frozenset[str]:
        """Topics with rows that are set aside with their topic."""

    async def read_parked(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        """A topic's rows that are set aside with it, in their order."""

    async def read_large(self) -> Sequence[OutboxRow]:
        """Of each topic's rows that are set aside as :data:`TOO_LARGE`, the smallest."""

    async def read_unreadable(self, limit: int) -> Sequence[OutboxRow]:
        """Rows that are set aside as :data:`UNREADABLE`, in their order."""

    async def set_alone(self, rows: Sequence[OutboxRow], reason: str) -> None:
        """Rows that were set aside otherwise are from now on as :data:`TOO_LARGE` or :data:`UNREADABLE`."""

    async def unpark(self, rows: Sequence[OutboxRow]) -> None:
        """Forget that these were set aside: Kafka has confirmed them now."""

    async def release(self) -> None:
        """Let another relay in."""
