"""Frames: headers by hand, lost boundaries, keep-alives."""

import pytest

from gateway.network.iso8583.framing import FrameFormat, FrameHeader, FrameReader, FramingError, reply_tpdu

BINARY = FrameFormat(FrameHeader.BINARY2)
ASCII = FrameFormat(FrameHeader.ASCII4)
TPDU = FrameFormat(FrameHeader.TPDU)


@pytest.mark.parametrize(
    ("frame_format", "data"),
    [
        (BINARY, b"\x00\x05HELLO"),
        (ASCII, b"0005HELLO"),
        (TPDU, b"\x00\x0a\x60\x00\x01\x00\x00HELLO"),
    ],
)
def test_headers_are_these_bytes(frame_format: FrameFormat, data: bytes) -> None:
    assert frame_format.frame(b"HELLO") == data
    assert FrameReader(frame_format).feed(data * 3) == [b"HELLO"] * 3
    assert frame_format.frames([b"HELLO", b"HELLO"]) == data * 2


@pytest.mark.parametrize("frame_format", [BINARY, ASCII, TPDU])
def test_empty_frames_are_keep_alives(frame_format: FrameFormat) -> None:
    reader = FrameReader(frame_format)
    empty = frame_format.keep_alive()
    assert reader.feed(empty + frame_format.frame(b"X") + empty + frame_format.frame(b"")) == [b"X"]
    assert reader.keep_alives == 3
    assert reader.buffered == 0


@pytest.mark.parametrize(
    ("frame_format", "header", "text"),
    [
        (BINARY, b"\x20\x01", "length 8193 is over the limit of 8192"),
        (BINARY, b"\xff\xff", "length 65535 is over"),
        (ASCII, b"9999", "length 9999 is over"),
        (ASCII, b"+005", "not four digits"),
        (ASCII, b"00A5", "not four digits"),
        (ASCII, "٠٠٠٥".encode()[:4], "not four digits"),
        (TPDU, b"\x00\x04", "cannot hold a TPDU"),
    ],
)
def test_a_bad_length_loses_the_boundary_but_not_what_came_before(
    frame_format: FrameFormat, header: bytes, text: str
) -> None:
    reader = FrameReader(frame_format)
    with pytest.raises(FramingError, match=text) as caught:
        reader.feed(frame_format.frame(b"GOOD") + header)
    assert caught.value.messages == (b"GOOD",)
    with pytest.raises(FramingError, match="lost earlier"):
        reader.feed(frame_format.frame(b"GOOD"))


def test_a_message_over_the_limit_is_not_written() -> None:
    with pytest.raises(FramingError, match="over the limit"):
        BINARY.frame(b"x" * 8193)
    assert len(BINARY.frame(b"x" * 8192)) == 8194


def test_a_tpdu_is_answered_in_reverse() -> None:
    reader = FrameReader(TPDU)
    reader.feed(TPDU.frame(b"X", tpdu=bytes.fromhex("6000030712")))
    assert reader.last_tpdu == bytes.fromhex("6000030712")
    assert reply_tpdu(reader.last_tpdu) == bytes.fromhex("6007120003")
