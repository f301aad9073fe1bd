"""Rows whose time is over: which kinds there are, and the evidence that some of them were destroyed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique


@unique
class OldRows(StrEnum):
    """What is destroyed after its time; the database holds each to a least age."""

    SHARES = "shares"
    """Rounds of sharing with their shares: so long after the affiliate confirmed that it erased."""

    CONTRIBUTIONS = "contributions"
    """Which payments a published aggregate counted: so long after it was published."""

    OPERATING = "operating"
    """What operators did, proposed and decided, and attempts to sign in at the console: so long after that."""


@dataclass(frozen=True, slots=True)
class Destruction:
    """Evidence that rows of one kind were destroyed; nothing of it names anybody.

    Attributes:
        number: 1, 2, 3 …
        rule: by which they were.
        before: their time had begun then, or before it.
        digest: SHA-256 over what names the rows, in order: of requests over their digests by partner and id; of rounds
            of sharing over the ids of their erase notices; of aggregates over payments' ids (16 bytes each). None of
            others.
    """

    number: int
    kind: str
    rows: int
    rule: str
    before: datetime
    digest: bytes | None
    destroyed_at: datetime
