"""The topic table and its members."""

from datetime import timedelta

import pytest

from gateway.database.places import KEPT_DAYS
from schemas.clearing import CLEARING_BYTES_MAX
from schemas.codec import BODY_BYTES_MAX
from schemas.events import EventType
from schemas.topics import (
    TOPICS,
    WAITING_ORDERS,
    clearing_topic,
    concrete_topics,
    dispatch_topic,
    events_topic,
    exports_topic,
)


def test_families_are_expanded_for_those_who_exist() -> None:
    members = concrete_topics(partners=["b", "a"], networks=["kcard"], recipients=["A1"], affiliates=["points"])
    names = [t.name for t in members]
    assert names == [
        "mypay.orders",
        "mypay.waiting-orders",
        "mypay.consents.commands",
        "mypay.dispatch.kcard",
        "mypay.events.a",
        "mypay.events.b",
        "mypay.portability.requests",
        "mypay.portability.exports.A1",
        "mypay.clearing.kcard",
        "mypay.settlements",
        "mypay.disclosure.roots",
        "mypay.sharing.points",
        "mypay.sharing-confirmations",
        "mypay.marketing.offers.points",
        "mypay.marketing.uses",
        "mypay.marketing.aggregates",
        "mypay.dead-letter",
    ]
    assert {dispatch_topic("kcard"), events_topic("a"), clearing_topic("kcard"), exports_topic("A1")} <= set(names)
    assert not any("{" in t.name for t in concrete_topics(partners=[], networks=[]))


def test_a_member_keeps_everything_of_its_family() -> None:
    family = next(t for t in TOPICS if t.name == "mypay.events.{partner}")
    [member] = [t for t in concrete_topics(partners=["a"], networks=[]) if t.name == "mypay.events.a"]
    assert (member.partitions, member.messages, member.retention_ms) == (
        family.partitions,
        family.messages,
        family.retention_ms,
    )


@pytest.mark.parametrize("part", ["", "a/b", "../x", "a b", ".a", "a" * 101, "é", "a\n"])
def test_a_name_part_cannot_leave_its_family(part: str) -> None:
    for name in (dispatch_topic, events_topic, clearing_topic, exports_topic):
        with pytest.raises(ValueError, match="topic name part"):
            name(part)
    with pytest.raises(ValueError, match="topic name part"):
        concrete_topics(partners=[part], networks=[])


def test_every_emitted_type_has_its_topic() -> None:
    told = {type_ for topic in TOPICS for type_ in topic.messages}
    assert {t.value for t in EventType} <= told


def test_every_topic_holds_its_messages() -> None:
    assert all(t.max_message_bytes >= max(BODY_BYTES_MAX, CLEARING_BYTES_MAX) * 2 for t in TOPICS)
    assert all(t.partitions > 0 and (t.retention_ms > 0 or t.compacted) for t in TOPICS)
    dead = next(t for t in TOPICS if t.name == "mypay.dead-letter")
    # What partners send is parked whole, sealed and all. A waiting order is one of theirs with headers of ours.
    others = [t for t in TOPICS if t is not dead and t.name != WAITING_ORDERS]
    assert dead.max_message_bytes > max(t.max_message_bytes for t in others)


def test_no_topic_keeps_a_record_for_longer_than_its_place_is_remembered() -> None:
    """Else a record that is refused, and comes again by a replay, is told twice."""
    longest = max(t.retention_ms for t in TOPICS)
    assert timedelta(milliseconds=longest) <= timedelta(days=KEPT_DAYS)
