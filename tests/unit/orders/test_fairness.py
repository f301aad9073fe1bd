"""Shares of a turn: nobody gets more than they ask for, and whoever asks for little gets it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orders.fairness import LARGE, cost_of, in_turn, shares

SENDERS = st.sampled_from(["a", "b", "c", "d"])
WANTED = st.dictionaries(SENDERS, st.integers(1, 1000), min_size=1)
ITEMS = st.lists(st.tuples(SENDERS, st.integers(1, 20)))


@pytest.mark.parametrize(
    ("wanted", "room", "expected"),
    [
        ({"a": 5}, 10, {"a": 5}),
        ({"a": 100}, 10, {"a": 10}),
        ({"a": 100, "b": 1}, 10, {"a": 9, "b": 1}),
        ({"a": 100, "b": 100}, 10, {"a": 5, "b": 5}),
        ({"a": 100, "b": 3, "c": 100}, 11, {"a": 4, "b": 3, "c": 4}),
        ({"a": 9, "b": 9, "c": 9}, 1, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_shares(wanted: dict[str, int], room: int, expected: dict[str, int]) -> None:
    assert shares(wanted, room) == expected


@pytest.mark.parametrize(("size", "cost"), [(0, 1), (1535, 1), (2047, 1), (2048, 2), (1_000_000, 1951)])
def test_what_a_record_costs(size: int, cost: int) -> None:
    assert cost_of(size) == cost


@given(wanted=WANTED, room=st.integers(0, 2000))
def test_nobody_has_more_than_asked_and_less_than_another_unless_they_asked_for_less(
    wanted: dict[str, int], room: int
) -> None:
    got = shares(wanted, room)
    assert all(1 <= got[s] <= wanted[s] for s in wanted)
    assert sum(got.values()) <= max(room, len(wanted))
    full = room >= sum(wanted.values())
    assert not full or got == wanted
    for poor in (s for s in wanted if got[s] < wanted[s]):
        assert all(got[s] <= got[poor] + 1 for s in wanted)


@given(items=ITEMS, room=st.integers(0, 100), waiting=st.sets(SENDERS))
def test_what_waits_is_never_overtaken_by_what_came_behind_it(
    items: list[tuple[str, int]], room: int, waiting: set[str]
) -> None:
    turn = in_turn(items, room, waiting)
    over: set[str] = set(waiting)
    for (sender, _), is_now in zip(items, turn, strict=True):
        assert not (is_now and sender in over)
        if not is_now:
            over.add(sender)


@given(items=ITEMS, room=st.integers(0, 100))
def test_a_turn_is_no_larger_than_its_room(items: list[tuple[str, int]], room: int) -> None:
    turn = in_turn(items, room)
    used: Counter[str] = Counter()
    for (sender, cost), is_now in zip(items, turn, strict=True):
        used[sender] += cost if is_now else 0
    assert used.total() <= max(room, len({s for s, _ in items}))
    if sum(cost for _, cost in items) <= room:
        assert all(turn)


def test_what_is_large_waits_however_much_room_there_is_and_what_its_sender_sends_behind_it_does() -> None:
    items = [("a", 1), ("a", LARGE), ("a", 1), ("b", LARGE - 1)]
    assert in_turn(items, 10_000) == [True, False, False, True]
