"""The queues of reversals and of inquiries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.network.exchange import UnmatchedAnswer
from gateway.payments.rules.payment import PaymentKey
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """An answer that belonged to no exchange in flight, as it is kept.

    Attributes:
        key: the payment that it names by its RRN; None where there is none.
        outcome: what it did: the payment's new state, ``ignored``, ``undone`` or ``unsolicited``.
    """

    unmatched: UnmatchedAnswer
    key: PaymentKey | None
    outcome: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A reversal or an inquiry that waits to be sent, again and again until the network has settled it.

    Attributes:
        terminal_id: the original's, which is its own too.
        stan, transmitted_at: its own trace numbers, the same in every repeat.
        attempts: how often it was sent; above zero the next is a repeat (0421).
    """

    key: PaymentKey
    network_id: NetworkId
    terminal_id: str
    stan: int
    transmitted_at: datetime
    attempts: int = 0
    queued_at: datetime | None = None


UNSENDABLE = "unsendable"
"""Code of a follow-up that could not be made into a message: its card does not open, its merchant is gone."""


class FollowUpStore(Protocol):
    """A durable store-and-forward queue: of reversals, or of inquiries."""

    async def queue(self, follow_ups: Sequence[FollowUp]) -> None:
        """Add; a payment has one that is open at most, which stands. A closed one is opened anew under new numbers."""

    async def claim(
        self,
        network_id: NetworkId,
        *,
        owner: str,
        now: datetime,
        lease_until: datetime,
        limit: int,
        in_order: bool = False,
    ) -> Sequence[FollowUp]:
        """Take due ones that nobody holds, oldest first; counts one more attempt on each.

        ``in_order``: of each terminal only the oldest open one, due or not. One that was given back as
        :data:`UNSENDABLE` keeps its own time and holds up no younger one.
        """

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        """Give back those that were not settled, with what the network said (raw code or cause)."""

    async def hurry(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        """Let open ones that wait for a later time be due at once; return these."""

    async def close(self, codes: Mapping[PaymentKey, str], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        """Close each with what the network said last; return those that were open and held by ``owner``.

        Only their outcome counts.
        """

    async def begin_anew(self, follow_ups: Sequence[FollowUp]) -> None:
        """Of those that were sent: put them back under new numbers, due at once, with the age that they have.

        Whoever holds one finds none to :meth:`close`: what it learns is older than the reason to begin anew. And an
        answer that is under way to nobody, or that the network would repeat, is to the old numbers. What is closed, or
        open and never sent, stands.
        """

    async def take_away(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        """Close whoever holds them; return those that were open. The holder's :meth:`close` then finds none."""

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        """When the earliest open one is due."""


class FollowUpUnit(Protocol):
    """The two queues."""

    @property
    def reversals(self) -> FollowUpStore:
        """Reversals."""

    @property
    def inquiries(self) -> FollowUpStore:
        """Inquiries."""
