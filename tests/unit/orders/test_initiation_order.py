"""A cancellation and its order in one batch: the order is handed on when the cancellation is known already."""

from collections.abc import Sequence

from gateway.messaging.records import Outgoing
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, numbered_order, order_record
from tests.support.instructions import cancellation, instruction_record
from tests.support.rig import Rig


async def test_an_order_is_handed_on_after_the_cancellation_that_came_with_it() -> None:
    rig = Rig()
    known: list[int] = []
    publish = rig.publisher.publish

    async def watched(records: Sequence[Outgoing]) -> None:
        if any(r.topic == dispatch_topic(NETWORK) for r in records):
            known.append(len(rig.database.cancellations.rows))
        await publish(records)

    rig.publisher.publish = watched  # type: ignore[method-assign]
    await rig.initiation.take([instruction_record(cancellation(1), 0), order_record(numbered_order(1), offset=1)])
    assert known == [1]
    await rig.execute(rig.kafka.records(dispatch_topic(NETWORK)))
    assert rig.states() == {"order-1": "rejected"}
    assert not rig.host.received
