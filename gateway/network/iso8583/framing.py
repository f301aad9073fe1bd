"""Frames on a TCP stream: where one message ends and the next begins.

Five headers: ``binary2`` and ``binary4`` (two or four bytes, big-endian length), ``ascii4`` (four ASCII digits),
``bcd2`` (four packed digits) and ``tpdu`` (two bytes of length that counts the five bytes of the TPDU after it). The
length counts what follows it, at some networks itself too. A frame with nothing in it, or with a TPDU alone, is a
keep-alive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, assert_never

TPDU_LENGTH: Final = 5


@unique
class FrameHeader(StrEnum):
    """The header in front of every message."""

    BINARY2 = "binary2"
    BINARY4 = "binary4"
    ASCII4 = "ascii4"
    BCD2 = "bcd2"
    TPDU = "tpdu"


class FramingError(ValueError):
    """The frame boundary is lost: nothing that follows on this connection can be read.

    Attributes:
        messages: the whole messages that came before the bad length in the same read; they are good.
    """

    def __init__(self, text: str, messages: Sequence[bytes] = ()) -> None:
        super().__init__(text)
        self.messages = tuple(messages)


def reply_tpdu(tpdu: bytes) -> bytes:
    """Return the TPDU of a reply: same protocol id, source and destination exchanged."""
    return tpdu[:1] + tpdu[3:5] + tpdu[1:3]


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """How messages are framed.

    Attributes:
        header: kind of header.
        tpdu: the five bytes that are written with ``FrameHeader.TPDU``.
        bytes_max: a longer length, as the header states it, is an error.
        counts_itself: the length counts its own bytes too.
    """

    header: FrameHeader
    tpdu: bytes = bytes.fromhex("6000010000")
    bytes_max: int = 8192
    counts_itself: bool = False

    @property
    def header_bytes(self) -> int:
        """How many bytes state the length."""
        return 4 if self.header in {FrameHeader.ASCII4, FrameHeader.BINARY4} else 2

    @property
    def counted(self) -> int:
        """How many bytes of the header the length counts."""
        return self.header_bytes if self.counts_itself else 0

    def frame(self, message: bytes, *, tpdu: bytes | None = None) -> bytes:
        """Return one message with its header; ``tpdu`` overrides the configured one.

        Raises:
            FramingError: the message is longer than ``bytes_max`` or than the header can say.
        """
        body = (self.tpdu if tpdu is None else tpdu) + message if self.header is FrameHeader.TPDU else message
        if len(body) + self.counted > self.bytes_max:
            raise FramingError(f"message of {len(body)} bytes is over the limit of {self.bytes_max}")
        return self._stated(len(body)) + body

    def _stated(self, length: int) -> bytes:
        total = length + self.counted
        match self.header:
            case FrameHeader.ASCII4:
                return b"%04d" % total
            case FrameHeader.BCD2:
                return bytes.fromhex(f"{total:04d}")
            case FrameHeader.BINARY2 | FrameHeader.BINARY4 | FrameHeader.TPDU:
                return total.to_bytes(self.header_bytes, "big")
            case _:
                assert_never(self.header)

    def frames(self, messages: Iterable[bytes]) -> bytes:
        """Return many messages, each with its header, as one write."""
        return b"".join([self.frame(message) for message in messages])

    def keep_alive(self) -> bytes:
        """Return a frame with nothing in it."""
        return self._stated(0)


class FrameReader:
    """Cuts a byte stream into messages; one per connection.

    Attributes:
        keep_alives: how many empty frames have been read.
        last_tpdu: the TPDU of the last message, or None; a host answers with :func:`reply_tpdu` of it.
    """

    __slots__ = ("_buffer", "_counted", "_failed", "_format", "_header_length", "keep_alives", "last_tpdu")

    def __init__(self, frame_format: FrameFormat) -> None:
        self._format = frame_format
        self._header_length = frame_format.header_bytes
        self._counted = frame_format.counted
        self._buffer = b""
        self._failed = False
        self.keep_alives = 0
        self.last_tpdu: bytes | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return every message that is now complete, in order.

        Raises:
            FramingError: a length is malformed or over the limit, now or at an earlier call. The connection cannot be
                used any more; the error carries the messages before it.
        """
        if self._failed:
            raise FramingError("frame boundary was lost earlier")
        buffer = self._buffer + data if self._buffer else bytes(data)
        messages: list[bytes] = []
        position = 0
        end = len(buffer)
        header_length = self._header_length
        while end - position >= header_length:
            start = position + header_length
            length = self._length(buffer[position:start], messages)
            if end - start < length:
                break
            position = start + length
            if message := self._message(buffer[start:position]):
                messages.append(message)
        self._buffer = buffer[position:]
        return messages

    def _length(self, header: bytes, before: list[bytes]) -> int:
        kind = self._format.header
        digits = header.hex().encode() if kind is FrameHeader.BCD2 else header
        if kind not in {FrameHeader.ASCII4, FrameHeader.BCD2}:
            length = int.from_bytes(header, "big")
        elif digits.isdigit():
            length = int(digits)
        else:
            raise self._lost("length is not four digits", before)
        if length > self._format.bytes_max:
            raise self._lost(f"length {length} is over the limit of {self._format.bytes_max}", before)
        # Some hosts that count the header send a bare zero to keep the connection alive.
        body = length - self._counted if length else 0
        if body < 0:
            raise self._lost(f"length {length} does not count itself", before)
        if kind is FrameHeader.TPDU and 0 < body < TPDU_LENGTH:
            raise self._lost(f"length {length} cannot hold a TPDU", before)
        return body

    def _lost(self, text: str, before: list[bytes]) -> FramingError:
        self._failed = True
        return FramingError(text, before)

    def _message(self, body: bytes) -> bytes:
        if self._format.header is FrameHeader.TPDU and body:
            self.last_tpdu, body = body[:TPDU_LENGTH], body[TPDU_LENGTH:]
        if not body:
            self.keep_alives += 1
        return body
