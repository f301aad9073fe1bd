"""Connections of the API over TCP: who is slow, says too much, takes nothing or opens too many is cut."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.portability.api.connections import ConnectionBounds, Connections

ANSWER = b"x" * 8_000_000
"""More than the system's buffers take."""


class Calls(asyncio.Protocol):
    """Reads calls: a line each, ``big`` asks for :data:`ANSWER`."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.seen = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while b"\n" in self.seen:
            call, self.seen = self.seen.split(b"\n", 1)
            self.server.connections.head_is_read(self.transport)
            self.transport.write(ANSWER if call == b"big" else b"ok\n")
            self.server.connections.is_answered(self.transport)


@dataclass
class Server:
    port: int = 0
    cuts: list[str] = field(default_factory=list)
    is_cut: asyncio.Event = field(default_factory=asyncio.Event)
    connections: Connections = None  # type: ignore[assignment]

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)
        self.is_cut.set()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serving(whose: Callable[[Any], object] = lambda _: "one", **bounds: Any) -> AsyncIterator[Server]:
    made = Server()
    made.connections = Connections(
        lambda: Calls(made),
        ConnectionBounds(**bounds),
        whose=whose,
        cut=made.cut,  # type: ignore[arg-type]
    )
    listening = await asyncio.get_running_loop().create_server(made.connections, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()


async def gone(reader: asyncio.StreamReader) -> bool:
    try:
        while await reader.read(1 << 20):
            pass
    except ConnectionError:
        pass
    return True


async def test_who_says_nothing_or_never_ends_a_head_is_cut() -> None:
    async with serving(head_s=0.05) as server:
        silent, dribbles = await server.open(), await server.open()
        dribbles[1].write(b"GET /v1/ap")
        assert await gone(silent[0])
        assert await gone(dribbles[0])
        assert server.cuts == ["head_too_slow"] * 2


async def test_a_call_in_hand_is_no_head_and_the_next_one_has_its_time_anew() -> None:
    # Long enough for a busy machine to send its first call.
    async with serving(head_s=2.0) as server:
        reader, writer = await server.open()
        writer.write(b"one\n")
        assert await reader.readline() == b"ok\n"
        # Idle: the head of a call is not begun.
        assert not server.cuts
        writer.write(b"tw")
        assert await gone(reader)
        assert server.cuts == ["head_too_slow"]


async def test_a_head_without_end_is_cut() -> None:
    async with serving(head_bytes=1000) as server:
        reader, writer = await server.open()
        for _ in range(3):
            writer.write(b"a" * 900 + b"\n")
            assert await reader.readline() == b"ok\n"
        writer.write(b"a" * 1001)
        assert await gone(reader)
        assert server.cuts == ["head_too_large"]


async def test_who_takes_no_answer_is_cut() -> None:
    async with serving(taken_s=0.05) as server:
        reader, writer = await server.open()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"big\n")
        await server.is_cut.wait()
        assert server.cuts == ["answer_not_taken"]


async def test_who_takes_it_goes_on() -> None:
    async with serving(taken_s=30) as server:
        reader, writer = await server.open()
        writer.write(b"big\n")
        assert await reader.readexactly(len(ANSWER)) == ANSWER
        writer.write(b"one\n")
        assert await reader.readline() == b"ok\n"
        assert not server.cuts


async def test_one_who_opens_too_many_leaves_room_for_others_and_gets_it_back() -> None:
    names = iter(["a", "a", "a", "b", "c", "a"])
    async with serving(lambda _: next(names), of_one=2, of_all=3) as server:
        kept = [await server.open() for _ in range(2)]
        for _, writer in kept:
            writer.write(b"one\n")
        assert [await r.readline() for r, _ in kept] == [b"ok\n"] * 2
        assert await gone((await server.open())[0])
        other = await server.open()
        other[1].write(b"one\n")
        assert await other[0].readline() == b"ok\n"
        assert await gone((await server.open())[0])
        assert server.cuts == ["too_many_of_one", "too_many"]
        kept[0][1].close()
        await kept[0][1].wait_closed()
        while server.connections.count > 2:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0)
        again = await server.open()
        again[1].write(b"one\n")
        assert await again[0].readline() == b"ok\n"
