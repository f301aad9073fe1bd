"""The pipeline without features: an order is read, written down, paid at the card network, and told.

As whoever begins such a program would write it today, in batches, and with the same promises about a crash as far as
they cost nothing: a row is committed before its request is sent, an order that comes twice is paid once, and offsets
follow what was confirmed. There are no signatures, proofs, consents, limits, tokens, outbox, reversals or settlement.

What it reads, how it asks the network and what it tells come in two forms: the gateway's own parts
(:mod:`gateway.proving.bench.lean.parts`), and the least that works (:mod:`gateway.proving.bench.lean.least`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import asyncpg

from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing

BATCH: Final = 500
"""As the gateway's stages take them."""

TABLE: Final = "bench_lean_payment"

MAKE_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    partner_id text, order_id text, consent_id text NOT NULL, merchant_id text NOT NULL, amount_minor bigint NOT NULL,
    currency text NOT NULL, state text NOT NULL, stan integer NOT NULL, rrn text NOT NULL, response_code text,
    approval_code text, created_at timestamptz NOT NULL, changed_at timestamptz NOT NULL,
    PRIMARY KEY (partner_id, order_id)
)"""
_INSERT: Final = f"""
INSERT INTO {TABLE} (partner_id, order_id, consent_id, merchant_id, amount_minor, currency, state, stan, rrn,
                     created_at, changed_at)
SELECT a, b, c, d, e, f, 'sent', g, h, $9, $9
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::text[])
     AS t (a, b, c, d, e, f, g, h)
ON CONFLICT DO NOTHING
RETURNING partner_id, order_id"""  # noqa: S608 - ours
_UPDATE: Final = f"""
UPDATE {TABLE} AS p SET state = t.s, response_code = t.r, approval_code = t.a, changed_at = $6
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS t (i, o, s, r, a)
WHERE p.partner_id = t.i AND p.order_id = t.o"""  # noqa: S608 - ours

Headers = Sequence[tuple[str, bytes]]


class Order(NamedTuple):
    """What the pipeline knows of an order."""

    partner_id: str
    order_id: str
    consent_id: str
    merchant_id: str
    amount_minor: int
    currency: str


class Trace(NamedTuple):
    """DE11 and DE37 of a request."""

    stan: int
    rrn: str


class Answer(NamedTuple):
    """DE39 and DE38; the latter is None where it was refused."""

    response_code: str
    approval_code: str | None


class Form(Protocol):
    """How orders are read, paid and told."""

    def read(self, value: bytes, headers: Headers) -> Order:
        """Decode a record; raises ValueError if it is none."""

    def trace(self, now: datetime) -> Trace:
        """The next request's numbers."""

    async def purchase(self, asked: Sequence[tuple[Order, Trace]], now: datetime) -> Sequence[Answer]:
        """Ask the network for all of them at once; raises OSError or TimeoutError if not all are answered."""

    def tell(self, order: Order, trace: Trace, answer: Answer, topic: str, now: datetime) -> Outgoing:
        """The event of one that was answered."""


def orders_topic(how: str, window: int) -> str:
    """Where a worker of this kind reads, in the window of this number."""
    return f"bench.lean.{how}.{window}.orders"


def events_topic(how: str, window: int) -> str:
    """Where it tells."""
    return f"bench.lean.{how}.{window}.events"


class Pipeline:
    """Handles batches, one at a time.

    Args:
        connection: of a database that has the table.
        events: the topic where states are told.
    """

    def __init__(
        self, connection: "asyncpg.Connection[Any]", form: Form, publisher: KafkaPublisher, events: str
    ) -> None:
        self._connection = connection
        self._form = form
        self._publisher = publisher
        self._events = events

    async def handle(self, records: Sequence[tuple[bytes, Headers]]) -> None:
        """Bring orders to their ends; when it returns they are in PostgreSQL and in Kafka."""
        now = datetime.now(UTC)
        form = self._form
        asked = await self._write_down([form.read(*record) for record in records], now)
        if not asked:
            return
        answers = await form.purchase(asked, now)
        now = datetime.now(UTC)
        await self._connection.execute(
            _UPDATE,
            [order.partner_id for order, _ in asked],
            [order.order_id for order, _ in asked],
            ["approved" if a.response_code == "00" else "declined" for a in answers],
            [a.response_code for a in answers],
            [a.approval_code for a in answers],
            now,
        )
        await self._publisher.publish(
            [
                form.tell(order, trace, answer, self._events, now)
                for (order, trace), answer in zip(asked, answers, strict=True)
            ]
        )

    async def _write_down(self, orders: Sequence[Order], now: datetime) -> list[tuple[Order, Trace]]:
        """Insert those that were not there; each with its request's numbers."""
        asked = [(order, self._form.trace(now)) for order in orders]
        columns: list[list[Any]] = [list(column) for column in zip(*orders, strict=True)]
        traces = [list(column) for column in zip(*(trace for _, trace in asked), strict=True)]
        rows = await self._connection.fetch(_INSERT, *columns, *traces, now)
        if len(rows) == len(asked):
            return asked
        new = {(row["partner_id"], row["order_id"]) for row in rows}
        return [entry for entry in asked if (entry[0].partner_id, entry[0].order_id) in new]
