"""A poison record is parked alone; its neighbours are handled; an outage never comes here."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import Outgoing, Record, Unread, UnreadError
from schemas.topics import dispatch_topic
from tests.support.builders import NETWORK, dispatched_record, numbered_order, order_record
from tests.support.rig import Rig


class PoisonError(Exception):
    pass


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def isolated(rig: Rig) -> IsolatedBatch:
    return IsolatedBatch("execution", dead_letters=rig.dead_letters, observer=rig.observer)


def records(count: int) -> list[Record]:
    return [dispatched_record(numbered_order(n), offset=n) for n in range(count)]


def stage(poison: set[int], taken: list[list[int]]) -> Any:
    async def take(batch: Sequence[Record]) -> None:
        taken.append([r.offset for r in batch])
        if poison & {r.offset for r in batch}:
            raise PoisonError("4111111111111111")

    return take


async def test_a_batch_without_poison_is_taken_once(rig: Rig, isolated: IsolatedBatch) -> None:
    taken: list[list[int]] = []
    await isolated.run(stage(set(), taken), records(3))
    assert taken == [[0, 1, 2]]
    assert (rig.dead_letters.parked, rig.observer.counts) == ([], {})


async def test_poison_is_parked_with_its_error_and_every_neighbour_is_taken(rig: Rig, isolated: IsolatedBatch) -> None:
    taken: list[list[int]] = []
    await isolated.run(stage({1, 3}, taken), records(5))
    assert taken == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    assert [(p.stage, p.record.offset, type(p.error)) for p in rig.dead_letters.parked] == [
        ("execution", 1, PoisonError),
        ("execution", 3, PoisonError),
    ]
    assert rig.observer.counts["execution", "failed", "PoisonError"] == 3


async def test_logs_name_the_record_and_the_error_and_show_nothing_of_either(rig: Rig, isolated: IsolatedBatch) -> None:
    await isolated.run(stage({0}, []), records(1))
    noted = [(n.event, n.level, n.fields["error"], n.fields["reference"]) for n in rig.observer.notes]
    assert noted == [
        ("batch_failed", "error", "PoisonError", None),
        ("record_parked", "error", "PoisonError", "mypay.dispatch.net-a/0/0"),
    ]
    assert "4111111111111111" not in repr(rig.observer)


async def test_parking_waits_for_kafka(rig: Rig, isolated: IsolatedBatch) -> None:
    rig.faults.plan("dead_letters.park", PublisherUnavailableError("away"))
    await isolated.run(stage({0}, []), records(2))
    assert [p.record.offset for p in rig.dead_letters.parked] == [0]


async def test_a_defect_that_one_order_meets_in_execution_costs_that_order_alone(
    rig: Rig, isolated: IsolatedBatch
) -> None:
    poison = dispatched_record(numbered_order(2), offset=2)
    original = rig.execution._request

    def request(payment: Any, facts: Any) -> Any:
        if payment.order_id == "order-2":
            raise PoisonError
        return original(payment, facts)

    rig.execution._request = request  # type: ignore[method-assign]
    batch = [dispatched_record(numbered_order(1), offset=1), poison, dispatched_record(numbered_order(3), offset=3)]
    async with rig.results():
        await isolated.run(rig.execution.take, batch)
        await rig.network.wait_idle()
        await rig.execution.results.written()
    assert rig.states() == {"order-1": "approved", "order-3": "approved"}
    assert [p.record for p in rig.dead_letters.parked] == [poison]
    assert (rig.network.reserved, len(rig.host.entries)) == (0, 2)


async def test_what_came_unread_is_parked_by_its_place_and_never_taken(rig: Rig, isolated: IsolatedBatch) -> None:
    first, second, third = records(3)
    unread = replace(second, key=None, value=b"", headers=(), unread=Unread(1, 5, "cannot be read"))
    taken: list[list[int]] = []
    await isolated.run(stage(set(), taken), [first, unread, third])
    assert taken == [[0, 2]]
    [parked] = rig.dead_letters.parked
    assert isinstance(parked.error, UnreadError)
    assert (parked.record, str(parked.error)) == (unread, "offsets 1 to 5: what stands there cannot be read")
    assert rig.observer.counts["execution", "unread", ""] == 1
    await isolated.run(stage(set(), taken), [unread])
    assert taken == [[0, 2]]


async def test_an_order_that_no_topic_of_execution_takes_is_parked_and_its_neighbours_go_on(rig: Rig) -> None:
    """Tried for ever, it held up every order behind it."""
    usual = rig.publisher

    class Small:
        async def publish(self, records: Sequence[Outgoing]) -> None:
            large = [n for n, r in enumerate(records) if b"order-2" in r.value]
            if large:
                raise TooLargeForTopicError(records[large[0]].topic, frozenset(large))
            await usual.publish(records)

    rig.publisher = Small()  # type: ignore[assignment]
    intake = IsolatedBatch("initiation", dead_letters=rig.dead_letters, observer=rig.observer)
    await intake.run(rig.new_initiation().take, [order_record(numbered_order(n), offset=n) for n in range(1, 4)])
    assert [(p.stage, p.record.offset, type(p.error)) for p in rig.dead_letters.parked] == [
        ("initiation", 2, TooLargeForTopicError)
    ]
    handed_on = rig.kafka.records(dispatch_topic(NETWORK))
    assert {n for n in (1, 2, 3) if any(b"order-%d" % n in r.value for r in handed_on)} == {1, 3}
