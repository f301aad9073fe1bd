"""The next step of the chain: which entries follow, and when a period is closed with a root."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.disclosure.rules.entry import GENESIS, Entry, Use, chain
from gateway.disclosure.rules.merkle import Frontier
from schemas.disclosure import RootStatement

ROOT_ENTRIES_MAX: Final = 65_536
"""A root covers no more: a proof then takes 16 hashes, and is made of 512 rows at most."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends, and how far it has read the outbox.

    Attributes:
        tx, id: the place in the outbox up to which every use is an entry.
        seq, entry_hash: of the last entry.
        root_number, root_hash: of the last root; SHA-256 of its statement.
        root_seq: the last entry that a root covers.
        period_start: of the first entry that no root covers; None where there is none.
        frontier: of the tree over the entries that no root covers.
    """

    tx: int = 0
    id: int = 0
    seq: int = 0
    entry_hash: bytes = GENESIS
    root_number: int = 0
    root_hash: bytes = GENESIS
    root_seq: int = 0
    period_start: datetime | None = None
    frontier: Frontier = field(default_factory=Frontier)

    @property
    def room(self) -> int:
        """How many entries the next root can still take."""
        return ROOT_ENTRIES_MAX - self.frontier.size


@dataclass(frozen=True, slots=True)
class Step:
    """What is written in one transaction.

    Attributes:
        before: the head that it starts from: written only if the head is still that.
        after: the head then. Where there is a root, its hash is added once it is signed.
        blocks: (first entry, node) of the tree's blocks that became complete.
        root: to sign and publish.
    """

    before: Head
    after: Head
    entries: tuple[Entry, ...] = ()
    blocks: tuple[tuple[int, bytes], ...] = ()
    root: RootStatement | None = None


def close_due(head: Head, now: datetime, period: timedelta) -> Step | None:
    """Close the period whose time is over; None where there is none. A clock that goes back closes nothing."""
    if head.period_start is None or _start(now, period) <= head.period_start:
        return None
    return close(head, now)


def close(head: Head, now: datetime) -> Step:
    """Close the period before its time is over: what comes next does not fit under its root."""
    return _closed(Step(head, head), now)


def append(
    head: Head,
    uses: Sequence[tuple[int, int, Use]],
    read_to: tuple[int, int],
    salts: bytes,
    now: datetime,
    period: timedelta,
) -> Step:
    """Append what was read of the outbox.

    Args:
        head: where the chain ends.
        uses: each with its event's place, in order; no more than ``head.room``, unless one row alone holds more.
        read_to: the place up to which the outbox was read, also where the last events were no uses.
        salts: random bytes, for each entry.
        now: what the first entry of a period begins it with.
        period: how long one lasts.
    """
    entries = chain(uses, salts, after_seq=head.seq, after_hash=head.entry_hash)
    frontier, blocks = head.frontier.add([e.entry_hash for e in entries])
    after = replace(
        head,
        tx=read_to[0],
        id=read_to[1],
        seq=head.seq + len(entries),
        entry_hash=entries[-1].entry_hash if entries else head.entry_hash,
        period_start=head.period_start or (_start(now, period) if entries else None),
        frontier=frontier,
    )
    places = tuple((head.root_seq + 1 + index, hash_) for index, hash_ in blocks)
    step = Step(head, after, tuple(entries), places)
    return _closed(step, now) if after.room <= 0 else step


def _closed(step: Step, now: datetime) -> Step:
    head = step.after
    root = RootStatement.of_stored(
        number=head.root_number + 1,
        first_seq=head.root_seq + 1,
        last_seq=head.seq,
        root=text_of(head.frontier.root()),
        head=text_of(head.entry_hash),
        previous=text_of(head.root_hash),
        closed_at=now,
    )
    after = replace(head, root_number=root.number, root_seq=head.seq, period_start=None, frontier=Frontier())
    return replace(step, after=after, root=root)


def _start(now: datetime, period: timedelta) -> datetime:
    return now - (now - _EPOCH) % period


def text_of(hash_: bytes) -> str:
    """A hash as statements and proofs write it: base64url without padding."""
    return urlsafe_b64encode(hash_).rstrip(b"=").decode()


def of_text(text: str) -> bytes:
    """Read what :func:`text_of` writes.

    Raises:
        ValueError: it is not that.
    """
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
