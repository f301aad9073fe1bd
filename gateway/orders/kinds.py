"""Kinds of messages on ``mypay.orders``: what the intake asks of each. It knows none of them by name.

A kind is one module: its model, its place in a batch, what of it was accepted before, how it is judged and written, and
how a fault in one is told. A batch of one kind moves through its steps as one value, the kind's *work*: prepared once,
judged and written as often as it takes, then handed on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, unique
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from gateway.base.retrying import until_done
from gateway.identity.door import Authentic, Faulty
from schemas.events import EventType
from schemas.primitives import Model, PartnerId


class SignedInstruction(Protocol):
    """What every signed message on ``mypay.orders`` tells of itself."""

    @property
    def partner_id(self) -> PartnerId:
        """The partner that signs."""

    @property
    def record_key(self) -> str:
        """What the record's Kafka key must be."""

    @property
    def instruction_id(self) -> str:
        """The partner's own id of it, named when it is refused."""


class OvertakenError(Exception):
    """What was read no longer holds: another worker, or execution, has written under an id of the batch since."""


@unique
class Precedence(IntEnum):
    """When a kind's messages of a batch are brought to their ends.

    Orders and cancellations are written, in this order, before the orders are handed on: execution then finds each
    cancellation that came before its order, also where both came in one batch. All other kinds follow, so that none
    overtakes an order before it.
    """

    ORDERS = 1
    CANCELLATIONS = 2
    AFTERWARDS = 3


@dataclass(frozen=True, slots=True)
class FaultAnswer:
    """What a partner is told of a message that is none.

    Attributes:
        own_id: the message's own id; None where it cannot be read.
        told: type, key and body of the event that answers its kind; None where that would name what cannot be read:
            then it is told as an order is.
    """

    own_id: str | None
    told: tuple[EventType, str, Model] | None = None


M = TypeVar("M", bound=SignedInstruction)
W = TypeVar("W")


class Kind(ABC, Generic[M, W]):
    """One kind of message. Every step must be safe to repeat, for a record may come twice.

    Attributes:
        models: CloudEvents type → body model (a :class:`schemas.primitives.Model`).
        precedence: its place in a batch.
        at_once: how many are judged and written together; None: all of a batch.
        is_carried_out_here: what is handed on is asked once more who signed it; of this kind nothing is.
    """

    models: Mapping[str, type[M]]
    precedence: Precedence = Precedence.AFTERWARDS
    at_once: int | None = None
    is_carried_out_here: bool = False

    async def accepted(self, messages: Sequence[Authentic[M]]) -> frozenset[str]:  # noqa: ARG002 - none is by itself
        """References of those that were accepted before, with these very bytes.

        A key that was disabled may be stolen: of what it signs nothing else is looked at, and nobody is told of it.
        """
        return frozenset()

    @abstractmethod
    async def prepare(self, messages: Sequence[Authentic[M]], now: datetime) -> W:
        """Read what the messages themselves say, proofs too: once, however often they are judged."""

    async def judge(self, work: W, now: datetime) -> W:  # noqa: ARG002 - as above
        """Decide by what is read without locks. What is decided under locks is decided by :meth:`write`."""
        return work

    @abstractmethod
    async def write(self, work: W, now: datetime) -> W:
        """Write, in one transaction, what ends here; return what was written, for :meth:`hand_on`.

        Raises:
            OvertakenError: nothing was written; it must be judged anew.
        """

    async def hand_on(self, work: W) -> None:
        """Publish, durably, what goes on, and count what became of the batch."""

    def answer_fault(self, fault: Faulty, now: datetime) -> FaultAnswer | None:  # noqa: ARG002 - as above
        """What the partner is told of a message with a fault; None: it is told as an order is, by its order id."""
        return FaultAnswer(None)


AnyKind = Kind[Any, Any]


def _vouched(_: Authentic[Any]) -> bool:
    return True


async def settle(
    kind: Kind[M, W],
    messages: Sequence[Authentic[M]],
    now: datetime,
    vouched: Callable[[Authentic[Any]], bool] = _vouched,
) -> W:
    """Judge messages and write them down, through outages and anew where they were overtaken; they are read once.

    Args:
        kind: theirs.
        messages: in their order.
        now: when they were taken.
        vouched: whether a message's key vouches for it still; asked with each attempt to write what nobody asks again.
    """
    prepared = await kind.prepare(messages, now)

    async def judge() -> W:
        return await kind.judge(prepared, now)

    async def write(judged: W) -> W:
        if kind.is_carried_out_here and not all(vouched(m) for m in messages):
            raise OvertakenError
        return await kind.write(judged, now)

    while True:
        judged = await until_done(judge)
        try:
            return await until_done(partial(write, judged))
        except OvertakenError:
            left = [m for m in messages if vouched(m)] if kind.is_carried_out_here else messages
            if len(left) < len(messages):
                messages = left
                prepared = await kind.prepare(messages, now)


async def bring_to_end(
    kind: Kind[M, W],
    messages: Sequence[Authentic[M]],
    now: datetime,
    vouched: Callable[[Authentic[Any]], bool] = _vouched,
) -> None:
    """Bring messages to their ends, as many at once as the kind says."""
    step = kind.at_once or len(messages) or 1
    for begin in range(0, len(messages), step):
        await kind.hand_on(await settle(kind, messages[begin : begin + step], now, vouched))
