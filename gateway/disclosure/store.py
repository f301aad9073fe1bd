"""What the disclosure log asks of the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.disclosure.rules.entry import Use
from gateway.disclosure.rules.notices import CustomerOfPartner, Disclosed
from gateway.disclosure.rules.sequence import Head, Step
from gateway.outbox.store import OutboxEvent, OutboxUnit


@dataclass(frozen=True, slots=True)
class Read:
    """Part of the outbox.

    Attributes:
        uses: what its events tell of uses, in order, each behind the event's place.
        to: the place up to which it was read; where nothing was read the place that it was read from.
        is_full: as many events, uses or not, as were asked for, or as of whole rows fit into that; there may be more.
    """

    uses: Sequence[tuple[int, int, Use]]
    to: tuple[int, int]
    is_full: bool = False


class DisclosureLog(Protocol):
    """The sequencer's side of the log. Holds a leader lock: one sequencer at a time works; what holds is the head."""

    async def acquire(self) -> bool:
        """Become the one sequencer; False while another is."""

    async def head(self) -> Head:
        """Where the chain ends."""

    async def read(self, after: tuple[int, int], limit: int) -> Read:
        """Events of the outbox past a place whose order can no longer change: at most ``limit``.

        Those of a row come all at once. So they are more where the first row alone holds more, and fewer where the next
        one does not fit.
        """

    async def write(self, step: Step, publish: Sequence[OutboxEvent] = (), statement: str = "") -> None:
        """Write a step, all of it or nothing; with a root its statement and the event that tells of it.

        Raises:
            StoreConflictError: the head is not ``step.before`` any more: another sequencer has written.
        """

    async def release(self) -> None:
        """Let another sequencer in."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was destroyed, by which rule; the digest is over the content hashes, which stay."""

    first_seq: int
    last_seq: int
    rule: str
    before: datetime
    digest: bytes
    destroyed_at: datetime


class DisclosureContents(Protocol):
    """What time does to the log: contents are destroyed, and customers are told once a year."""

    async def destroy(self, *, before: datetime, limit: int) -> Evidence | None:
        """Destroy up to ``limit`` of the first contents, that occurred before; None where there are none."""

    async def find_customers(self, *, limit: int) -> int:
        """Take note of whom the next entries are about; return how many were looked at. 0: somebody else looks."""

    async def due_notices(self, now: datetime, *, limit: int) -> Sequence[CustomerOfPartner]:
        """Lock customers whose next notice is due, and whom nobody else has locked."""

    async def disclosed(self, whom: CustomerOfPartner) -> Sequence[Disclosed]:
        """What was used of one customer, from ``whom.since`` until before ``whom.until``, counted."""

    async def notified(self, told: Sequence[CustomerOfPartner]) -> None:
        """Take note that these were told: their next notice tells of what follows."""


class DisclosureUnit(OutboxUnit, Protocol):
    """The log's contents, and what is told of them, in one transaction."""

    @property
    def disclosures(self) -> DisclosureContents:
        """What time does to the contents."""
