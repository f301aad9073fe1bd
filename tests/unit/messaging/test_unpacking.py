"""Batches are unpacked into room of fixed size, which is used again as long as it costs no memory."""

import re
import resource
from mmap import mmap
from pathlib import Path

import cramjam
import pytest

from gateway.messaging import unpacking


def test_room_is_made_once_and_again_only_after_much_of_it_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it costs more than unpacking a batch."""
    made: list[int] = []

    def counted(place: int, size: int) -> mmap:
        made.append(size)
        return mmap(place, size)

    kept = unpacking._Kept()
    monkeypatch.setattr(unpacking, "_KEPT", kept)
    monkeypatch.setattr(unpacking, "mmap", counted)
    small, other = b"a" * 1000, b"b" * 10
    for _ in range(3):
        assert unpacking.unpack(3, bytes(cramjam.lz4.compress(small))) == small
        # Nothing of what was unpacked before is left.
        assert unpacking.unpack(3, bytes(cramjam.lz4.compress(other))) == other
    assert len(made) == 1
    much = b"c" * (unpacking.KEPT_BYTES_MAX + 1)
    assert unpacking.unpack(3, bytes(cramjam.lz4.compress(much))) == much
    assert kept.room is None
    assert unpacking.unpack(3, bytes(cramjam.lz4.compress(small))) == small
    assert len(made) == 2


def test_room_of_what_cannot_be_unpacked_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch without end has filled it."""
    kept = unpacking._Kept()
    monkeypatch.setattr(unpacking, "_KEPT", kept)
    kept.room = room = mmap(-1, unpacking.UNPACKED_BYTES_MAX)
    endless = bytes(cramjam.lz4.compress(b"x" * (unpacking.UNPACKED_BYTES_MAX + 1)))
    with pytest.raises(unpacking.UnreadableError, match=re.escape(unpacking.TOO_LARGE)):
        unpacking.unpack(3, endless)
    assert room[unpacking.KEPT_BYTES_MAX + 1] == ord("x")
    assert kept.room is None


def test_room_takes_no_memory_where_nothing_was_unpacked_into_it() -> None:
    def held_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = held_bytes()
    rooms = [unpacking._Kept().take() for _ in range(8)]
    assert held_bytes() - before < unpacking.UNPACKED_BYTES_MAX
    assert {len(room) for room in rooms} == {unpacking.UNPACKED_BYTES_MAX}
