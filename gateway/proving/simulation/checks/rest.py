"""When a world has come to rest: nothing is on its way, nobody has anything left to do."""

from datetime import datetime
from typing import Final

from gateway.proving.memory import Database
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.checks.states import FINAL
from gateway.proving.simulation.pending import (
    awaiting_match,
    due_occurrences,
    due_transmissions,
    offers_due,
    open_cancellations,
    open_exports,
    past_their_end,
    unshared,
)
from gateway.proving.simulation.script.scene import NETWORK, PARTITIONS, WAITING_GROUP, DataScript, Stage
from schemas.topics import (
    CONSENT_COMMANDS,
    ERASURES,
    OFFER_USES,
    ORDERS,
    PORTABILITY_REQUESTS,
    WAITING_ORDERS,
    clearing_topic,
    dispatch_topic,
)

_READ: Final = (
    (ORDERS, Stage.INITIATION),
    (WAITING_ORDERS, WAITING_GROUP),
    (dispatch_topic(NETWORK), Stage.EXECUTION),
    (CONSENT_COMMANDS, Stage.CONSENTS),
    (clearing_topic(NETWORK), Stage.SETTLEMENT),
    (ERASURES, Stage.SHARING),
)
_READ_WITH_DATA: Final = (*_READ, (PORTABILITY_REQUESTS, Stage.PORTABILITY), (OFFER_USES, Stage.MARKETING))


def unread(kafka: MemoryKafka, data: DataScript | None) -> list[str]:
    """Partitions with records that their readers have not committed."""
    return [
        f"lag of {topic}/{partition}"
        for topic, group in (_READ if data is None else _READ_WITH_DATA)
        for partition in range(PARTITIONS)
        if kafka.committed(group, (topic, partition)) < len(kafka.log(topic, partition))
    ]


def unfinished(database: Database, now: datetime) -> list[str]:
    """Everything in the tables that somebody has left to do."""
    left = [
        f"{p.order_id} {p.state}"
        for p in database.payments.rows.values()
        if p.state.value not in FINAL and p.state.value != "approved"
    ]
    left.extend(f"{order_id}, cleared too early" for order_id in awaiting_match(database))
    left.extend(f"reversal of {k[1]}" for k, r in database.reversals.rows.items() if r.closed_at is None)
    left.extend(f"inquiry about {k[1]}" for k, r in database.inquiries.rows.items() if r.closed_at is None)
    if database.outbox and database.outbox_cursor < ((last := database.outbox[-1]).tx, last.id):
        left.append("outbox")
    head = database.disclosure_head
    if database.outbox and (head.tx, head.id) < ((last := database.outbox[-1]).tx, last.id):
        left.append("disclosure log")
    if unshared(database):
        left.append("shares")
    left.extend(f"cancellation of {order_id}" for order_id in open_cancellations(database))
    left.extend(f"an occurrence of {standing}" for standing in due_occurrences(database, now))
    left.extend(f"export {name}" for name in open_exports(database))
    left.extend(f"cycle of {request}" for request in due_transmissions(database, now))
    left.extend(f"offer of {campaign}" for campaign in offers_due(database, now))
    if database.outbox_parked:
        left.append("parked events")
    left.extend(f"{consent} past its end" for consent in past_their_end(database, now))
    return left
