"""When a world has come to rest: nothing is on its way, nobody has anything left to do."""

from typing import TYPE_CHECKING, Final

from gateway.proving.simulation.audit import FINAL
from gateway.proving.simulation.scene import NETWORK
from gateway.proving.simulation.workers import OPEN, PARTITIONS, WAITING_GROUP, Stage
from schemas.topics import CONSENT_COMMANDS, ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic

if TYPE_CHECKING:
    from gateway.proving.simulation.world import World

_READ: Final = (
    (ORDERS, Stage.INITIATION),
    (WAITING_ORDERS, WAITING_GROUP),
    (dispatch_topic(NETWORK), Stage.EXECUTION),
    (CONSENT_COMMANDS, Stage.CONSENTS),
    (clearing_topic(NETWORK), Stage.SETTLEMENT),
)


def left_to_do(world: "World") -> list[str]:
    """Name everything that a world at rest does not have."""
    left: list[str] = []
    now = world.clock.now()
    for topic, group in _READ:
        left.extend(
            f"lag of {topic}/{partition}"
            for partition in range(PARTITIONS)
            if world.kafka.committed(group, (topic, partition)) < len(world.kafka.log(topic, partition))
        )
    if world.wire.travelling:
        left.append("messages on the wire")
    left.extend(f"{w.name}, frozen" for w in world.workers if w.frozen_until > world.loop.time())
    left.extend(
        f"{p.order_id} {p.state}"
        for p in world.database.payments.rows.values()
        if p.state.value not in FINAL and p.state.value != "approved"
    )
    left.extend(f"{order_id}, cleared too early" for order_id in world.awaiting_match())
    left.extend(f"reversal of {k[1]}" for k, r in world.database.reversals.rows.items() if r.closed_at is None)
    left.extend(f"inquiry about {k[1]}" for k, r in world.database.inquiries.rows.items() if r.closed_at is None)
    if world.database.outbox and world.database.outbox_cursor < (
        (last := world.database.outbox[-1]).tx,
        last.id,
    ):
        left.append("outbox")
    left.extend(f"cancellation of {c.order_id}" for c in world.database.cancellations.rows.values() if c.is_open)
    left.extend(
        f"an occurrence of {key[1]}"
        for key, o in world.database.standing.rows.items()
        if o.next_due_at is not None and o.next_due_at <= now
    )
    if world.database.outbox_parked:
        left.append("parked events")
    left.extend(
        f"{key[1]} past its end"
        for key, c in world.database.consents.rows.items()
        if c.status in OPEN and c.terms.valid_until <= now
    )
    return left
