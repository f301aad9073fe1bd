"""One TCP connection of the host: frames in, frames out, and whether it has signed on."""

import asyncio
from collections.abc import Iterable
from typing import Protocol, cast

from gateway.network.iso8583.framing import FrameFormat, FrameReader, FramingError, reply_tpdu


class LinkOwner(Protocol):
    """What a link reports to."""

    def opened(self, link: "Link") -> None:
        """The connection is made."""

    def closed(self, link: "Link") -> None:
        """The connection is lost."""

    def frame_boundary_lost(self) -> None:
        """The stream cannot be cut into frames any more; the link closes itself."""

    def received(self, link: "Link", body: bytes) -> None:
        """One message arrived."""


class Link(asyncio.Protocol):
    """One connection. A peer that does not read its answers is not read either."""

    def __init__(self, owner: LinkOwner, frame_format: FrameFormat) -> None:
        self.signed_on = False
        self._owner = owner
        self._format = frame_format
        self._reader = FrameReader(frame_format)
        self._transport: asyncio.Transport | None = None
        self._paused_by_peer = False
        self._paused_by_host = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`, as for the methods below."""
        # A cast, not a check: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Tell the owner; how a connection ended makes no difference to a host."""
        self._transport = None
        self.signed_on = False
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into messages and hand each to the owner."""
        try:
            bodies = self._reader.feed(data)
        except FramingError:
            self._owner.frame_boundary_lost()
            self.close()
            return
        for body in bodies:
            if self._transport is None or self._transport.is_closing():
                return
            self._owner.received(self, body)

    def send(self, body: bytes) -> None:
        """Write one message; on a link that is gone it is lost."""
        self.send_all((body,))

    def send_all(self, bodies: Iterable[bytes]) -> None:
        """Write many messages at once; on a link that is gone they are lost."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        asked = self._reader.last_tpdu
        tpdu = reply_tpdu(asked) if asked else None
        transport.write(b"".join([self._format.frame(body, tpdu=tpdu) for body in bodies]))

    def close(self) -> None:
        """Close after what has been written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once, without what has been written."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Stop reading a peer that does not read."""
        self._paused_by_peer = True
        self._set_reading()

    def resume_writing(self) -> None:
        """Read it again."""
        self._paused_by_peer = False
        self._set_reading()

    def pause_reading(self) -> None:
        """Take nothing more until :meth:`resume_reading`."""
        self._paused_by_host = True
        self._set_reading()

    def resume_reading(self) -> None:
        """Take messages again."""
        if self._paused_by_host:
            self._paused_by_host = False
            self._set_reading()

    def _set_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._paused_by_peer or self._paused_by_host:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
