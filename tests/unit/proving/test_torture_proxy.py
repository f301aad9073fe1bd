"""The proxy between gateway and network: it passes all, and holds, swallows and cuts what it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from gateway.proving.stack.ports import free_ports
from gateway.proving.torture.proxy import Link, Proxy, Way, open_proxy


@dataclass
class Host:
    """Echoes every line; remembers what it got."""

    got: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.got.append(line)
            self.arrived.set()
            writer.write(line.upper())
        writer.close()


@dataclass
class Rig:
    host: Host
    proxy: Proxy
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Link]:
        before = len(self.proxy.links)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await until(lambda: len(self.proxy.links) > before)
        return reader, writer, self.proxy.links[-1]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.01)


async def soon(awaitable: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout(60):
        return await awaitable


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    host = Host()
    listen, connect = free_ports(2)
    server = await asyncio.start_server(host.serve, "127.0.0.1", connect)
    try:
        async with open_proxy(listen=listen, connect=connect) as proxy:
            yield Rig(host, proxy, listen)
    finally:
        server.close()


async def test_bytes_pass_both_ways() -> None:
    async with rig() as r:
        reader, writer, _ = await r.connect()
        writer.write(b"one\ntwo\n")
        assert [await soon(reader.readline()) for _ in range(2)] == [b"ONE\n", b"TWO\n"]
        writer.close()


async def test_held_requests_arrive_late_and_other_links_overtake_them() -> None:
    async with rig() as r:
        _, writer, link = await r.connect()
        other_reader, other_writer, _ = await r.connect()
        r.proxy.hold(Way.REQUESTS, (link,))
        writer.write(b"first\n")
        other_writer.write(b"second\n")
        assert await soon(other_reader.readline()) == b"SECOND\n"
        assert r.host.got == [b"second\n"]
        r.proxy.release((link,))
        await until(lambda: r.host.got == [b"second\n", b"first\n"])
        for each in (writer, other_writer):
            each.close()


async def test_swallowed_answers_never_come() -> None:
    async with rig() as r:
        reader, writer, link = await r.connect()
        r.proxy.swallow(Way.ANSWERS, (link,))
        writer.write(b"lost\n")
        await until(lambda: r.host.got == [b"lost\n"])
        r.proxy.cut((link,), reset=False)
        assert await soon(reader.read()) == b""


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_ends_both_sides_also_while_held(reset: bool) -> None:
    async with rig() as r:
        reader, writer, link = await r.connect()
        r.proxy.hold(Way.REQUESTS, (link,))
        r.proxy.hold(Way.ANSWERS, (link,))
        writer.write(b"never\n")
        r.proxy.cut((link,), reset=reset)
        # The kernel resets also a connection that is closed with bytes unread.
        with suppress(ConnectionResetError):
            assert await soon(reader.read()) == b""
            assert not reset
        await until(lambda: not r.proxy.links)
        assert r.host.got == []


async def test_where_nobody_listens_a_connection_ends_at_once() -> None:
    listen, connect = free_ports(2)
    async with open_proxy(listen=listen, connect=connect) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", listen)
        assert await soon(reader.read()) == b""
        assert not proxy.links
        writer.close()
