"""What tests send and read: orders ready to go, events as partners get them, and names for the networks and ends."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from gateway.messaging.records import Outgoing
from gateway.proving.books import Ending, OrderFacts

BCARD: Final = "bcard"
KCARD: Final = "kcard"
SHOP_OF: Final = {BCARD: "m-chaek-nara", KCARD: "m-jangteo-mart"}
"""A shop whose category only this network takes, or which this network takes for less."""

SETTLED: Final = frozenset((Ending.SETTLED,))
DECLINED: Final = frozenset((Ending.DECLINED,))
REJECTED: Final = frozenset((Ending.REJECTED,))
REVERSED: Final = frozenset((Ending.REVERSED,))
DEAD: Final = frozenset((Ending.DEAD_LETTER,))


class Entry(NamedTuple):
    """A record to be sent to the orders topic. ``order``: None where the bytes are no order."""

    record: Outgoing
    order: OrderFacts | None
    expected: frozenset[Ending] = frozenset()
    label: str = "order"

    @property
    def facts(self) -> OrderFacts:
        """What the order says; only of an entry that is one."""
        assert self.order is not None
        return self.order

    @property
    def payment_id(self) -> UUID:
        return self.facts.payment_id


def payment_ids(entries: Sequence[Entry]) -> list[UUID]:
    return [e.payment_id for e in entries]


class Told(NamedTuple):
    """An event as a partner reads it."""

    topic: str
    key: bytes
    headers: dict[str, bytes]
    value: bytes
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.headers["ce_type"].decode().removeprefix("kr.mypay.").removesuffix(".v1")
