"""Frames on a TCP stream: where one message ends and the next begins.

Three headers: ``binary2`` (two bytes, big-endian length), ``ascii4`` (four ASCII digits) and ``tpdu`` (two bytes of
length that counts the five bytes of the TPDU after it). The length never counts itself. A frame of length zero, or a
TPDU with nothing behind it, is a keep-alive.
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
    ASCII4 = "ascii4"
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
    """

    header: FrameHeader
    tpdu: bytes = bytes.fromhex("6000010000")
    bytes_max: int = 8192

    def frame(self, message: bytes, *, tpdu: bytes | None = None) -> bytes:
        """Return one message with its header; ``tpdu`` overrides the configured one.

        Raises:
            FramingError: the message is longer than ``bytes_max`` or than the header can say.
        """
        body = (self.tpdu if tpdu is None else tpdu) + message if self.header is FrameHeader.TPDU else message
        if len(body) > self.bytes_max:
            raise FramingError(f"message of {len(body)} bytes is over the limit of {self.bytes_max}")
        match self.header:
            case FrameHeader.ASCII4:
                return b"%04d" % len(body) + body
            case FrameHeader.BINARY2 | FrameHeader.TPDU:
                return len(body).to_bytes(2, "big") + body
            case _:
                assert_never(self.header)

    def frames(self, messages: Iterable[bytes]) -> bytes:
        """Return many messages, each with its header, as one write."""
        return b"".join([self.frame(message) for message in messages])

    def keep_alive(self) -> bytes:
        """Return a frame of length zero."""
        return b"0000" if self.header is FrameHeader.ASCII4 else b"\x00\x00"


class FrameReader:
    """Cuts a byte stream into messages; one per connection.

    Attributes:
        keep_alives: how many empty frames have been read.
        last_tpdu: the TPDU of the last message, or None; a host answers with :func:`reply_tpdu` of it.
    """

    __slots__ = ("_buffer", "_failed", "_format", "_header_length", "keep_alives", "last_tpdu")

    def __init__(self, frame_format: FrameFormat) -> None:
        self._format = frame_format
        self._header_length = 4 if frame_format.header is FrameHeader.ASCII4 else 2
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
        if self._header_length == 2:
            length = int.from_bytes(header, "big")
        elif header.isdigit():
            length = int(header)
        else:
            self._failed = True
            raise FramingError("length is not four digits", before)
        if length > self._format.bytes_max:
            self._failed = True
            raise FramingError(f"length {length} is over the limit of {self._format.bytes_max}", before)
        if self._format.header is FrameHeader.TPDU and 0 < length < TPDU_LENGTH:
            self._failed = True
            raise FramingError(f"length {length} cannot hold a TPDU", before)
        return length

    def _message(self, body: bytes) -> bytes:
        if self._format.header is FrameHeader.TPDU and body:
            self.last_tpdu, body = body[:TPDU_LENGTH], body[TPDU_LENGTH:]
        if not body:
            self.keep_alives += 1
        return body
