"""Bundles hold what went in, each event with its number, and nothing of two kinds."""

from collections import defaultdict
from contextlib import suppress
from operator import itemgetter

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import replace

from gateway.outbox.bundles import (
    BUNDLED_BYTES_MAX,
    BUNDLED_MAX,
    UnreadableBundleError,
    bundle_type,
    bundled,
    logged_of,
    members_of,
)
from gateway.outbox.store import OutboxEvent
from schemas.events import EventType
from tests.support.builders import NOW, later

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

EVENTS = st.builds(
    OutboxEvent,
    topic=st.sampled_from(["mypay.sharing.a", "mypay.sharing.b"]),
    key=st.text(max_size=4),
    event_id=st.text(max_size=4),
    event_type=st.sampled_from([EventType.PAYMENT_SHARED.value, EventType.CONSENT_SHARED.value]),
    occurred_at=st.sampled_from([NOW, later(1)]),
    body=st.binary(max_size=40),
    traceparent=st.sampled_from([None, None, None, TRACE]),
)


def event(body: bytes = b"{}", topic: str = "t", type_: str = EventType.CONSENT_SHARED) -> OutboxEvent:
    return OutboxEvent(topic, "k", "e", type_, NOW, body)


@given(events=st.lists(EVENTS, max_size=3 * BUNDLED_MAX), first=st.integers(1, 2**60))
def test_what_comes_out_is_what_went_in_in_each_topic_s_order(events: list[OutboxEvent], first: int) -> None:
    numbers = range(first, first + 2 * len(events), 2)
    rows = bundled(events, numbers)
    held = [members_of(number, row) for number, row in rows]
    assert sorted((one for members in held for one in members), key=itemgetter(0)) == list(
        zip(numbers, events, strict=True)
    )
    told = defaultdict(list)
    for members in held:
        for number, one in members:
            told[one.topic].append(number)
    assert all(found == sorted(found) for found in told.values())
    assert [number for number, _ in rows] == sorted({members[-1][0] for members in held})


def test_a_bundle_holds_so_many_and_a_row_says_which_type_it_holds() -> None:
    rows = bundled([event()] * (2 * BUNDLED_MAX + 1), range(1, 2 * BUNDLED_MAX + 2))
    assert [number for number, _ in rows] == [BUNDLED_MAX, 2 * BUNDLED_MAX, 2 * BUNDLED_MAX + 1]
    assert [row.event_type for _, row in rows] == [bundle_type(EventType.CONSENT_SHARED)] * 2 + [
        EventType.CONSENT_SHARED
    ]


def test_what_is_long_is_no_more_than_one_row_takes() -> None:
    half = event(b"x" * (BUNDLED_BYTES_MAX // 2))
    large = event(b"x" * (BUNDLED_BYTES_MAX + 1))
    rows = bundled([half, half, half, large, half], range(1, 6))
    assert [[n for n, _ in members_of(number, row)] for number, row in rows] == [[1, 2], [3], [4], [5]]


def test_what_is_part_of_a_trace_and_what_is_alone_stand_as_ever() -> None:
    traced = OutboxEvent("t", "k", "e", EventType.CONSENT_SHARED, NOW, b"{}", TRACE)
    alone = event(topic="u")
    assert bundled([traced, alone, traced], [1, 2, 3]) == [(1, traced), (2, alone), (3, traced)]


def packed(members: object) -> bytes:
    return bytes(cramjam.lz4.compress_block(msgpack.encode(members)))


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\x01", b"{}", b"\xff\xff\xff\x7f\x00", b"\xff\xff\xff\xff\x00"),
        *(packed({}), packed([]), packed([(9, "k", "e")]), packed([(9, "k", "e", b"{}", 1)])),
        packed([(9, "k", "e", b"{}"), (8, "k", "e", b"{}")]),
        packed([(9, "k", 1, b"{}")]),
    ],
)
def test_a_bundle_that_holds_something_else_is_told_apart_and_logged_as_one_that_tells_nothing(body: bytes) -> None:
    row = replace(event(body), event_type=bundle_type(EventType.CONSENT_SHARED))
    with pytest.raises(UnreadableBundleError):
        members_of(9, row)
    assert logged_of(9, row) == [(9, event(b""))]


@given(at=st.integers(0, 10_000), by=st.integers(1, 255), left=st.integers(0, 10_000))
def test_a_damaged_bundle_raises_nothing_else(at: int, by: int, left: int) -> None:
    ((number, row),) = bundled([event(f'{{"n": {n}}}'.encode()) for n in range(9)], range(1, 10))
    body = bytearray(row.body)
    body[at % len(body)] ^= by
    with suppress(UnreadableBundleError):
        members_of(number, replace(row, body=bytes(body[: left % (len(body) + 1)])))
