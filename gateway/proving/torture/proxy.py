"""A TCP proxy between the gateway and a card network that can cut links, hold what they carry, or swallow it.

    async with open_proxy(listen=gateway_port, connect=port) as proxy:
        proxy.hold(Way.ANSWERS, proxy.links)
        …
        proxy.release(proxy.links)

Bytes pass unchanged and in order, per link and direction; what was swallowed is gone for good, so that such a link must
be cut in the end, as a firewall that has forgotten a connection leaves it.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from enum import Enum, StrEnum, unique
from typing import Final

CHUNK: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
"""``struct linger``: on, for no time: closing sends RST instead of FIN."""


@unique
class Way(StrEnum):
    """A direction."""

    REQUESTS = "requests"  # gateway → network
    ANSWERS = "answers"  # network → gateway


class _Mode(Enum):
    PASS = 1
    HOLD = 2
    SWALLOW = 3


class Link:
    """One connection of the gateway and the one to the network that goes with it."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self._modes = dict.fromkeys(Way, _Mode.PASS)
        self._passing = {way: asyncio.Event() for way in Way}
        for event in self._passing.values():
            event.set()

    def set(self, way: Way, mode: _Mode) -> None:
        """Treat what goes this way so from now on."""
        self._modes[way] = mode
        event = self._passing[way]
        event.clear() if mode is _Mode.HOLD else event.set()

    async def pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until either side ends."""
        while chunk := await reader.read(CHUNK):
            await self._passing[way].wait()
            if self._modes[way] is _Mode.SWALLOW:
                continue
            writer.write(chunk)
            await writer.drain()

    def cut(self, *, reset: bool) -> None:
        """End both connections at once, by RST or by FIN; what was held is lost."""
        for way in Way:
            # Whoever waits for a release would never see the end.
            self.set(way, _Mode.SWALLOW)
        for writer in self._writers:
            if reset and (sock := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Listens for the gateway and passes on to one network.

    Attributes:
        links: those that are open.
    """

    def __init__(self, connect: int) -> None:
        self._connect = connect
        self._tasks: set[asyncio.Task[None]] = set()
        self.links: list[Link] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection; called for each that comes in."""
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._connect)
        except OSError:
            # Nobody listens there: whoever called is refused, as far as a proxy can.
            writer.transport.abort()
            return
        link = Link(writer, there_writer)
        self.links.append(link)
        pumps = [
            asyncio.create_task(link.pump(Way.REQUESTS, reader, there_writer)),
            asyncio.create_task(link.pump(Way.ANSWERS, there_reader, writer)),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.links.remove(link)
            for pump in pumps:
                pump.cancel()
            # A broken connection ends its link, and that is all there is to it.
            await asyncio.gather(*pumps, return_exceptions=True)
            self._tasks.difference_update(pumps)
            for each in (writer, there_writer):
                each.close()

    def hold(self, way: Way, links: Collection[Link]) -> None:
        """Keep what goes this way until it is released: it then arrives late."""
        for link in links:
            link.set(way, _Mode.HOLD)

    def swallow(self, way: Way, links: Collection[Link]) -> None:
        """Throw away what goes this way; neither side is told."""
        for link in links:
            link.set(way, _Mode.SWALLOW)

    def release(self, links: Collection[Link]) -> None:
        """Let everything pass, beginning with what was held."""
        for link in links:
            for way in Way:
                link.set(way, _Mode.PASS)

    def cut(self, links: Collection[Link], *, reset: bool) -> None:
        """End these links."""
        for link in links:
            link.cut(reset=reset)


@asynccontextmanager
async def open_proxy(*, listen: int, connect: int) -> AsyncIterator[Proxy]:
    """Listen on one port of this machine and pass on to another.

    Raises:
        OSError: the port is taken.
    """
    proxy = Proxy(connect)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", listen)
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut(tuple(proxy.links), reset=False)
