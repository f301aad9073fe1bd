"""Marks: only who holds a key of the ring makes them, of exactly these parts, for one purpose."""

import base64
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sealing.mac import HmacMarks
from gateway.sealing.marks import MarkProblem
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, Purpose

OLD, NEW = MasterKeys({"20260101": bytes(32)}), MasterKeys({"20260101": bytes(32), "20260201": bytes(range(32))})
PURPOSE = Purpose.DISPATCH_MARK
PARTS = [b"net-a", None, b"", b"body"]


def marks(keys: MasterKeys) -> HmacMarks:
    return HmacMarks(keys, PURPOSE)


def test_a_mark_is_known_again() -> None:
    assert marks(OLD).check(marks(OLD).mark(PARTS), PARTS) is None


@pytest.mark.parametrize("given_parts", [[], [b""], PARTS, [bytes([n]) * n for n in range(200)]])
def test_a_mark_is_spelt_as_it_always_was(given_parts: list[bytes | None]) -> None:
    """Other processes, perhaps of another version, read it: parts' number and lengths first, then the parts."""
    lengths = [len(given_parts), *(2**64 - 1 if p is None else len(p) for p in given_parts)]
    said = b"".join([*(n.to_bytes(8, "big") for n in lengths), *(p or b"" for p in given_parts)])
    tag = hmac.digest(OLD.derive(PURPOSE, "20260101"), said, "sha256")
    assert marks(OLD).mark(given_parts) == b"20260101." + base64.urlsafe_b64encode(tag).rstrip(b"=")


parts = st.lists(st.one_of(st.none(), st.binary(max_size=12)), max_size=6)


@given(parts, parts)
def test_no_two_lists_of_parts_have_one_mark(one: list[bytes | None], other: list[bytes | None]) -> None:
    found = marks(OLD).check(marks(OLD).mark(one), other)
    assert found == (None if one == other else MarkProblem.WRONG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([b"ab"], [b"a", b"b"]),
        ([None], [b""]),
        ([b""], []),
        ([b"a", None], [b"a"]),
    ],
)
def test_what_only_looks_alike_when_joined_has_another_mark(one: list[bytes | None], other: list[bytes | None]) -> None:
    assert marks(OLD).mark(one) != marks(OLD).mark(other)


def test_a_mark_of_another_purpose_or_another_key_with_the_same_id_is_wrong() -> None:
    other_purpose = HmacMarks(OLD, Purpose.DEAD_LETTER_MARK).mark(PARTS)
    other_key = marks(MasterKeys({"20260101": bytes([1] * 32)})).mark(PARTS)
    assert marks(OLD).check(other_purpose, PARTS) is MarkProblem.WRONG
    assert marks(OLD).check(other_key, PARTS) is MarkProblem.WRONG


@pytest.mark.parametrize(
    "mark",
    [
        b"",
        b".",
        b"20260101",
        b"20260101.",
        b"20260101.!!!!",
        b"20260101.\xff\xfe",
        b"20260101." + b"A" * 42,
        b"A" * 9999,
    ],
)
def test_what_is_no_mark_is_wrong(mark: bytes) -> None:
    assert marks(OLD).check(mark, PARTS) in {MarkProblem.WRONG, MarkProblem.UNKNOWN_KEY}
    assert marks(OLD).check(marks(OLD).mark(PARTS)[:-1], PARTS) is MarkProblem.WRONG
    # Another spelling of the same bytes is not the mark.
    assert marks(OLD).check(marks(OLD).mark(PARTS) + b"=", PARTS) is MarkProblem.WRONG


def test_the_newest_key_marks_and_all_are_known() -> None:
    before, after = marks(OLD).mark(PARTS), marks(NEW).mark(PARTS)
    assert (before[:9], after[:9]) == (b"20260101.", b"20260201.")
    assert marks(NEW).check(before, PARTS) is None
    assert marks(OLD).check(after, PARTS) is MarkProblem.UNKNOWN_KEY
    with pytest.raises(NoMasterKeyError):
        marks(MasterKeys({})).mark(PARTS)


def test_a_new_key_is_read_when_it_is_met_at_most_once_a_second_and_marks_after_a_restart(tmp_path: Path) -> None:
    ring, now, reads = tmp_path / "internal", [0.0], [0]
    MasterKeys.create(ring)

    def reload() -> MasterKeys:
        reads[0] += 1
        return MasterKeys.load(ring)

    running = HmacMarks(MasterKeys.load(ring), PURPOSE, reload=reload, monotonic=lambda: now[0])
    before = running.mark(PARTS)
    for _ in range(5):
        assert running.check(b"nobody's." + before.rpartition(b".")[2], PARTS) is MarkProblem.UNKNOWN_KEY
    assert reads == [1]
    MasterKeys.create(ring)
    restarted = HmacMarks(MasterKeys.load(ring), PURPOSE)
    now[0] = 1.0
    assert running.check(restarted.mark(PARTS), PARTS) is None
    assert running.mark(PARTS) == before
    assert reads == [2]


def test_a_key_that_was_taken_away_is_known_no_more_once_the_ring_is_read_again(tmp_path: Path) -> None:
    ring, now = tmp_path / "internal", [0.0]
    first = MasterKeys.create(ring)
    old = HmacMarks(MasterKeys.load(ring), PURPOSE).mark(PARTS)
    MasterKeys.create(ring)
    reader = HmacMarks(MasterKeys.load(ring), PURPOSE, reload=lambda: MasterKeys.load(ring), monotonic=lambda: now[0])
    assert reader.check(old, PARTS) is None
    (ring / f"{first}.key").unlink()
    reader.check(b"x.y", PARTS)
    assert reader.check(old, PARTS) is MarkProblem.UNKNOWN_KEY


def test_a_ring_that_cannot_be_read_any_more_makes_no_unknown_mark_known(tmp_path: Path) -> None:
    ring = tmp_path / "internal"
    MasterKeys.create(ring)
    running = HmacMarks(MasterKeys.load(ring), PURPOSE, reload=lambda: MasterKeys.load(ring))
    ring.chmod(0o755)
    assert running.check(b"x.y", PARTS) is MarkProblem.UNKNOWN_KEY
    assert running.check(running.mark(PARTS), PARTS) is None
