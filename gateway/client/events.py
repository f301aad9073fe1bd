"""What the gateway tells a partner: its events as they come, and which of them answers a message."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from gateway.client.messages import Message
from gateway.messaging.reader import TopicReader
from gateway.messaging.records import Record
from schemas.bulk import PaymentBulk
from schemas.cancellation import PaymentCancellation
from schemas.consent_commands import ConsentAmendment, ConsentInstruction, ConsentRequest
from schemas.envelope import EnvelopeError, read_envelope
from schemas.events import EventType
from schemas.orders import PaymentOrder
from schemas.portability import PortabilityRequest
from schemas.reasons import PaymentStatus
from schemas.refunds import PaymentRefund
from schemas.standing import StandingOrderCancel, StandingOrderCreate

_DECIDED: Final = frozenset({PaymentStatus.ACSP, PaymentStatus.ACSC, PaymentStatus.RJCT, PaymentStatus.CANC})
_CANCELLATIONS: Final = frozenset({EventType.CANCELLATION_ACCEPTED, EventType.CANCELLATION_REFUSED})
_CONSENTS: Final = frozenset({EventType.CONSENT_CHANGED, EventType.CONSENT_REPORTED, EventType.CONSENT_REFUSED})
_TRANSMISSIONS: Final = frozenset(
    {
        EventType.PORTABILITY_REFUSED,
        EventType.PORTABILITY_REPORTED,
        EventType.PORTABILITY_DELIVERED,
        EventType.PORTABILITY_VOIDED,
    }
)
_BULKS: Final = "kr.mypay.bulk."
_STANDING_ORDERS: Final = "kr.mypay.standing-order."


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a partner's topic.

    Attributes:
        id: CloudEvents id: the same event may come again, and has the same one.
        type: CloudEvents type (:class:`schemas.events.EventType`); a newer gateway may tell of others.
        body: its fields as they were sent; a newer gateway may add some.
    """

    id: str
    type: str
    body: dict[str, Any]


class Events:
    """A partner's events from the moment that they were opened. Get one from :meth:`gateway.client.Client.events`."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        # Came together with the last one that was shown.
        self._next: deque[Event] = deque()

    async def follow(self) -> AsyncIterator[Event]:
        """Yield each event that comes, for ever; those that cannot be read are passed over.

        Left and called again it goes on behind the last one, and so does :meth:`first`.

        Raises:
            KafkaUnavailableError: no broker answers.
        """
        while self._next:
            yield self._next.popleft()
        async for records in self._reader.follow():
            self._next.extend(event for record in records if (event := read_event(record)) is not None)
            while self._next:
                yield self._next.popleft()

    async def first(self, wanted: Callable[[Event], bool], *, seconds: float) -> Event | None:
        """Wait for the first event that is wanted; None where it has not come in time.

        ``wanted`` is shown every event once, in the order of its key, up to the one for which it returns True.

        Raises:
            KafkaUnavailableError: no broker answers.
        """
        try:
            async with asyncio.timeout(seconds):
                async for event in self.follow():
                    if wanted(event):
                        return event
        except TimeoutError:
            pass
        return None


def read_event(record: Record) -> Event | None:
    """Read a record of a partner's topic of events; None where it is no event."""
    try:
        envelope = read_envelope(record.headers)
        body = json.loads(record.value)
    except (EnvelopeError, ValueError, RecursionError):
        return None
    return Event(envelope.id, envelope.type, body) if isinstance(body, dict) else None


def answers(message: Message, event: Event) -> bool:  # noqa: PLR0911 - one a kind of message
    """True for an event that tells what came of a message: of an order or a refund, once its payment is decided.

    That is approved, or final: rejected, declined, reversed or settled. What the gateway cannot read as what it is
    meant to be, it tells as a refused order (:class:`schemas.events.OrderRefused`).
    """
    body = event.body
    match message:
        case ConsentRequest() | ConsentAmendment() | ConsentInstruction():
            ids = (body.get("consent_id"), body.get("command_id"))
            return event.type in _CONSENTS and ids == (message.consent_id, message.command_id)
        case PortabilityRequest():
            named = body.get("request_id") == message.request_id
            return event.type in _TRANSMISSIONS and named
        case _ if event.type == EventType.ORDER_REFUSED:
            return bool(body.get("order_id") == message.instruction_id)
        case PaymentOrder() | PaymentRefund():
            return body.get("payment_id") == str(message.payment_id) and body.get("status") in _DECIDED
        case PaymentCancellation():
            return event.type in _CANCELLATIONS and body.get("cancellation_id") == message.cancellation_id
        case PaymentBulk():
            return event.type.startswith(_BULKS) and body.get("bulk_id") == message.bulk_id
        case StandingOrderCreate() | StandingOrderCancel():
            named = body.get("standing_order_id") == message.standing_order_id
            return event.type.startswith(_STANDING_ORDERS) and named
        case _:
            assert_never(message)
