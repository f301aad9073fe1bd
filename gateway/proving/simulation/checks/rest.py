"""When a world has come to rest: nothing is on its way, nobody has anything left to do."""

from datetime import datetime
from typing import Final

from gateway.proving.memory import Database
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.checks.states import FINAL
from gateway.proving.simulation.pending import (
    awaiting_match,
    due_occurrences,
    open_cancellations,
    past_their_end,
    unshared,
)
from gateway.proving.simulation.script.scene import NETWORK, PARTITIONS, WAITING_GROUP, Stage
from schemas.topics import CONSENT_COMMANDS, ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic

_READ: Final = (
    (ORDERS, Stage.INITIATION),
    (WAITING_ORDERS, WAITING_GROUP),
    (dispatch_topic(NETWORK), Stage.EXECUTION),
    (CONSENT_COMMANDS, Stage.CONSENTS),
    (clearing_topic(NETWORK), Stage.SETTLEMENT),
)


def unread(kafka: MemoryKafka) -> list[str]:
    """Partitions with records that their readers have not committed."""
    return [
        f"lag of {topic}/{partition}"
        for topic, group in _READ
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
    if database.outbox_parked:
        left.append("parked events")
    left.extend(f"{consent} past its end" for consent in past_their_end(database, now))
    return left
