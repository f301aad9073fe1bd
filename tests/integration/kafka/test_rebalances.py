"""Members that come, go and come back: what is in hand is waited for, and nothing is lost or kept by two."""

import asyncio
import uuid

from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.group_sessions import ALLOWED_SESSION_MS
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from tests.support.kafka_groups import Group, eventually, numbered, take_all, take_until


async def test_a_rebalance_waits_for_what_is_in_hand(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 400)
    await publisher.publish(sent)
    first = await group.join()
    in_hand = await take_until(first, 200)
    joining = asyncio.create_task(group.join())

    async def is_asked_to_give_up() -> bool:
        return first._consumer._subscription.reassignment_in_progress

    await eventually(is_asked_to_give_up)
    assert not joining.done()
    assert await first.commit(in_hand)
    rest: list[Record] = []
    while not joining.done():
        records = await first.take(100, max_wait=0.1)
        await first.commit(records)
        rest += records
    left = set(range(400)) - {int(r.value) for r in [*in_hand, *rest]}
    rest += await take_all([first, await joining], left)
    assert sorted(int(r.value) for r in [*in_hand, *rest]) == list(range(400))
    assert observer.counted("consumer", "drain_timeout") == 0


async def test_what_is_held_too_long_comes_again_and_its_commit_is_lost(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    await publisher.publish(numbered(topic, 40))
    first = await group.join(drain_seconds=0.1)
    in_hand = await take_until(first, 40)
    joining = asyncio.create_task(group.join())
    polling = asyncio.create_task(first.take(1, max_wait=60))
    second = await joining
    assert not await first.commit(in_hand)
    repeated = list(await polling)
    repeated += await take_all([second, first], set(range(40)) - {int(r.value) for r in repeated})
    assert {int(r.value) for r in repeated} == set(range(40))
    assert observer.counted("consumer", "drain_timeout") >= 1
    assert observer.counted("consumer", "commit_lost") >= 1


async def test_owner_is_told_of_partitions_that_come_and_go(
    settings: KafkaSettings, observer: RecordingObserver, topic: str
) -> None:
    events: list[tuple[str, int]] = []

    async def note(kind: str, count: int) -> None:
        events.append((kind, count))

    group_id = uuid.uuid4().hex
    first, second = (
        BatchConsumer(
            settings,
            observer,
            topics=[topic],
            group_id=group_id,
            on_assigned=lambda partitions, kind=kind: note(f"{kind}+", len(partitions)),  # type: ignore[misc]
            on_revoked=lambda partitions, kind=kind: note(f"{kind}-", len(partitions)),  # type: ignore[misc]
        )
        for kind in ("first", "second")
    )
    await first.start()
    polling = asyncio.create_task(first.take(1, max_wait=60))
    await second.start()

    async def are_both_told() -> bool:
        return len(events) >= 4

    await eventually(are_both_told)
    await first.stop()
    await polling
    await second.stop()
    assert events[:2] == [("first+", 4), ("first-", 4)]
    assert sorted(events[2:4]) == [("first+", 2), ("second+", 2)]


async def test_who_starts_again_under_its_name_has_its_partitions_back_and_nobody_else_hears_of_it(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    # Longer than this test waits for anything: nobody is found dead meanwhile.
    group.session_s = 60.0
    first, other = await group.join(worker="first"), await _beside(group)
    sent = numbered(topic, 200)
    await publisher.publish(sent)
    in_hand = await take_until(first, sum(1 for _ in first.assignment))
    having = other.assignment, first.assignment
    assigned = len([n for n in observer.notes if n.event == "partitions_assigned"])
    # It says no word to the brokers, as if it had been killed.
    await first.stop()
    again = await group.join(worker="first")
    assert (other.assignment, again.assignment) == having
    assert len([n for n in observer.notes if n.event == "partitions_assigned"]) == assigned + 1
    taken = await take_all([other, again], range(200))
    assert {int(r.value) for r in in_hand} <= {int(r.value) for r in taken}
    assert sorted(int(r.value) for r in taken) == list(range(200))


async def _beside(group: Group) -> BatchConsumer:
    """A second member, once the first has given it its half."""
    [first] = group._members
    joining = asyncio.create_task(group.join(worker="other"))
    while not joining.done():
        await first.take(1, max_wait=0.1)
    other = await joining

    async def is_shared_out() -> bool:
        await first.take(1, max_wait=0.1)
        return len(first.assignment) == len(other.assignment) == 2

    await eventually(is_shared_out)
    return other


async def test_brokers_that_refuse_a_short_session_get_a_longer_one(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    # Below what even this stack's broker allows.
    group.session_s = 0.5
    await publisher.publish(numbered(topic, 20))
    member = await group.join()
    assert len(await take_until(member, 20)) == 20
    assert member._consumer._coordinator._session_timeout_ms == ALLOWED_SESSION_MS
    assert observer.counted("consumer", "consumer_replaced") == 0


async def test_who_was_replaced_under_its_name_and_lives_on_commits_nothing(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    group.session_s = 60.0
    await publisher.publish(numbered(topic, 40))
    first = await group.join(worker="same")
    in_hand = await take_until(first, 40)
    second = await group.join(worker="same")
    assert not await first.commit(in_hand)
    await first.stop()
    assert {int(r.value) for r in await take_all([second], range(40))} == set(range(40))
