"""What answers a message of a partner, and waiting for it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from gateway.client import Event, Events, answers, read_event
from gateway.messaging.records import Record
from schemas.codec import encode
from schemas.envelope import Envelope, write_envelope
from schemas.events import EventType
from schemas.primitives import payment_id_of
from tests.support.messages import NOW
from tests.unit.client.test_messages import SENT

MESSAGES: dict[str, Any] = {type(m).__name__: m for m in SENT}
PAYMENT = {"payment_id": str(payment_id_of("acme", "order-1"))}
REFUND = {"payment_id": str(payment_id_of("acme", "refund-1"))}
CANCELLATION = {"cancellation_id": "cancellation-1"}
COMMAND = {"consent_id": "consent-1", "command_id": "command-1"}
REQUEST = {"request_id": "request-1"}
E = EventType

# fmt: off
ANSWERS: list[tuple[str, EventType, dict[str, Any], bool]] = [
    ("PaymentOrder",        E.PAYMENT_APPROVED,      PAYMENT | {"status": "ACSP"},    True),
    ("PaymentOrder",        E.PAYMENT_SETTLED,       PAYMENT | {"status": "ACSC"},    True),
    ("PaymentOrder",        E.PAYMENT_REJECTED,      PAYMENT | {"status": "RJCT"},    True),
    ("PaymentOrder",        E.PAYMENT_REVERSED,      PAYMENT | {"status": "CANC"},    True),
    ("PaymentOrder",        E.PAYMENT_SENT,          PAYMENT | {"status": "ACTC"},    False),
    ("PaymentOrder",        E.PAYMENT_UNKNOWN,       PAYMENT | {"status": "PDNG"},    False),
    ("PaymentOrder",        E.PAYMENT_APPROVED,      REFUND | {"status": "ACSP"},     False),
    ("PaymentOrder",        E.ORDER_REFUSED,         {"order_id": "order-1"},         True),
    ("PaymentOrder",        E.ORDER_REFUSED,         {"order_id": "order-2"},         False),
    ("PaymentRefund",       E.PAYMENT_APPROVED,      REFUND | {"status": "ACSP"},     True),
    ("PaymentRefund",       E.PAYMENT_APPROVED,      PAYMENT | {"status": "ACSP"},    False),
    ("PaymentRefund",       E.ORDER_REFUSED,         {"order_id": "refund-1"},        True),
    ("PaymentCancellation", E.CANCELLATION_ACCEPTED, CANCELLATION,                    True),
    ("PaymentCancellation", E.CANCELLATION_REFUSED,  CANCELLATION,                    True),
    ("PaymentCancellation", E.CANCELLATION_ACCEPTED, {"cancellation_id": "other"},    False),
    ("PaymentCancellation", E.PAYMENT_REVERSED,      PAYMENT | CANCELLATION,          False),
    ("PaymentCancellation", E.ORDER_REFUSED,         {"order_id": "cancellation-1"},  True),
    ("PaymentBulk",         E.BULK_ACCEPTED,         {"bulk_id": "bulk-1"},           True),
    ("PaymentBulk",         E.BULK_REPORTED,         {"bulk_id": "bulk-1"},           True),
    ("PaymentBulk",         E.BULK_REFUSED,          {"bulk_id": "bulk-2"},           False),
    ("PaymentBulk",         E.ORDER_REFUSED,         {"order_id": "bulk-1"},          True),
    ("StandingOrderCreate", E.STANDING_CREATED,      {"standing_order_id": "rent"},   True),
    ("StandingOrderCreate", E.STANDING_REFUSED,      {"standing_order_id": "rent"},   True),
    ("StandingOrderCreate", E.STANDING_CREATED,      {"standing_order_id": "other"},  False),
    ("StandingOrderCancel", E.STANDING_CANCELLED,    {"standing_order_id": "rent"},   True),
    ("StandingOrderCancel", E.ORDER_REFUSED,         {"order_id": "rent"},            True),
    ("ConsentRequest",      E.CONSENT_CHANGED,       COMMAND,                         True),
    ("ConsentAmendment",    E.CONSENT_REPORTED,      COMMAND,                         True),
    ("ConsentInstruction",  E.CONSENT_REFUSED,       COMMAND,                         True),
    ("ConsentInstruction",  E.CONSENT_CHANGED,       COMMAND | {"command_id": "x"},   False),
    ("ConsentInstruction",  E.CONSENT_CHANGED,       COMMAND | {"consent_id": "x"},   False),
    ("ConsentInstruction",  E.ORDER_REFUSED,         COMMAND | {"order_id": "x"},     False),
    ("PortabilityRequest",  E.PORTABILITY_REFUSED,   REQUEST,                         True),
    ("PortabilityRequest",  E.PORTABILITY_REPORTED,  REQUEST,                         True),
    ("PortabilityRequest",  E.PORTABILITY_DELIVERED, REQUEST,                         True),
    ("PortabilityRequest",  E.PORTABILITY_VOIDED,    REQUEST,                         True),
    ("PortabilityRequest",  E.PORTABILITY_ACCEPTED,  REQUEST,                         False),
    ("PortabilityRequest",  E.PORTABILITY_DELIVERED, {"request_id": "other"},         False),
    ("PortabilityRequest",  E.ORDER_REFUSED,         REQUEST | {"order_id": "x"},     False),
]
# fmt: on


@pytest.mark.parametrize(("message", "type_", "body", "is_answer"), ANSWERS)
def test_what_answers_a_message(message: str, type_: EventType, body: dict[str, Any], is_answer: bool) -> None:
    assert answers(MESSAGES[message], Event("e", type_, body)) is is_answer


def test_every_message_has_an_answer_in_the_table() -> None:
    assert {name for name, *_, is_answer in ANSWERS if is_answer} == MESSAGES.keys()


def record(value: bytes, *, type_: str = EventType.CANCELLATION_ACCEPTED, headers: Any = None) -> Record:
    given = write_envelope(Envelope("e-1", "/mypay", type_, NOW)) if headers is None else headers
    return Record("mypay.events.acme", 0, 0, 0, b"k", value, tuple(given))


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[]", b"7", b"[" * 100_000])
def test_what_is_no_event_is_passed_over(value: bytes) -> None:
    assert read_event(record(value)) is None
    assert read_event(record(b"{}", headers=())) is None


def test_an_event_is_read_as_it_was_sent() -> None:
    assert read_event(record(b'{"a": 1}', type_="kr.mypay.newer.v9")) == Event("e-1", "kr.mypay.newer.v9", {"a": 1})


class Reader:
    """Batches of records, and then nothing for ever."""

    def __init__(self, *batches: list[Record]) -> None:
        self._batches = batches

    async def follow(self) -> AsyncIterator[list[Record]]:
        for batch in self._batches:
            yield batch
        await asyncio.Event().wait()


async def test_the_first_answer_ends_the_waiting() -> None:
    cancellation = MESSAGES["PaymentCancellation"]
    other, own = record(encode(cancellation.model_copy(update={"cancellation_id": "x"}))), record(encode(cancellation))
    events = Events(Reader([], [record(b"junk"), other], [own, own]))  # type: ignore[arg-type]
    shown: list[Event] = []

    def wanted(event: Event) -> bool:
        shown.append(event)
        return answers(cancellation, event)

    found = await events.first(wanted, seconds=30.0)
    assert found is not None
    assert found.body["cancellation_id"] == "cancellation-1"
    assert [e.body["cancellation_id"] for e in shown] == ["x", "cancellation-1"]


async def test_an_answer_that_does_not_come_is_none() -> None:
    events = Events(Reader([record(b"junk")]))  # type: ignore[arg-type]
    assert await events.first(partial(answers, MESSAGES["PaymentOrder"]), seconds=0.01) is None


async def test_what_came_together_with_an_answer_is_shown_to_whoever_waits_next() -> None:
    events = Events(Reader([record(b'{"n": 1}'), record(b'{"n": 2}'), record(b'{"n": 3}')]))  # type: ignore[arg-type]
    for number in (1, 2):
        found = await events.first(lambda event, number=number: event.body == {"n": number}, seconds=60.0)  # type: ignore[misc]
        assert found is not None
    assert [event.body async for event in aislice(events, 1)] == [{"n": 3}]


async def aislice(events: Events, count: int) -> AsyncIterator[Event]:
    async for event in events.follow():
        yield event
        if (count := count - 1) == 0:
            return
