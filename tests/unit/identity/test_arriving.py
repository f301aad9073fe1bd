"""What goes on of the trace contexts that partners send, where nobody traces."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.base.process import SilentObserver
from gateway.identity.arriving import arriving
from gateway.identity.door import Authentic, Faulty
from gateway.messaging.records import Record
from schemas.envelope import Envelope
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RECORD = Record("mypay.orders", 0, 7, 0, b"k", b"{}", ())
FAULT = Reason(code=ReasonCode.FF01, text="no")


def going_on(context: str | None) -> tuple[str | None, str | None]:
    """Of a message, and of a record with a fault."""
    envelope = Envelope("i", "s", "t", NOW, None, context)
    read: list[Any] = [
        Authentic(RECORD, envelope, None, b"", NOW),
        Faulty(RECORD, PartnerId("p"), None, FAULT, context),
    ]
    with arriving(SilentObserver(), read) as (message, faulty):
        return message.envelope.traceparent, faulty.traceparent


@pytest.mark.parametrize(
    "context",
    [
        None,
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-4929123456789016-01",
    ],
)
def test_a_context_goes_on_as_it_came(context: str | None) -> None:
    assert going_on(context) == (context, context)


@pytest.mark.parametrize(
    "context",
    [
        "00-4bf92f3577b34da6a3ce929d0e0ea736-4929123456789015-01",
        "00-00000000000000004929123456789015-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0ea736-0004222222222222-00",
    ],
)
def test_a_context_that_spells_a_card_number_goes_no_further(context: str) -> None:
    assert going_on(context) == (None, None)
