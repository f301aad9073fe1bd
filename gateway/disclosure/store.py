"""What the disclosure log asks of the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.disclosure.rules.sequence import Head, Step
from gateway.disclosure.rules.uses import SourceRow
from gateway.outbox.store import OutboxEvent


@dataclass(frozen=True, slots=True)
class Read:
    """Part of the outbox.

    Attributes:
        rows: the events of it that may be uses, in order.
        to: the place up to which it was read; where nothing was read the place that it was read from.
        scanned: how many events that were, uses or not.
    """

    rows: Sequence[SourceRow]
    to: tuple[int, int]
    scanned: int


class DisclosureLog(Protocol):
    """The sequencer's side of the log. Holds a leader lock: one sequencer at a time works; what holds is the head."""

    async def acquire(self) -> bool:
        """Become the one sequencer; False while another is."""

    async def head(self) -> Head:
        """Where the chain ends."""

    async def read(self, after: tuple[int, int], limit: int) -> Read:
        """Events of the outbox past a place whose order can no longer change: at most ``limit``."""

    async def write(self, step: Step, publish: Sequence[OutboxEvent] = (), statement: str = "") -> None:
        """Write a step, all of it or nothing; with a root its statement and the event that tells of it.

        Raises:
            StoreConflictError: the head is not ``step.before`` any more: another sequencer has written.
        """

    async def release(self) -> None:
        """Let another sequencer in."""
