"""A client of the simulated network, on the gateway's own codec, and a host in this process to talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.network.iso8583.codec import Message, decode_message, encode_message
from gateway.network.iso8583.framing import FrameFormat, FrameHeader, FrameReader
from gateway.network.iso8583.layout import DialectName
from gateway.network.iso8583.wire import dialect_of
from gateway.proving.counterparts.books import Books
from gateway.proving.counterparts.config import Faults, SimulatorConfig
from gateway.proving.counterparts.host import Host

DEADLINE_S = 120
AT = "1123034500"


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # what is watched has no event to wait for
            await asyncio.sleep(0.001)


class Peer:
    """A client of one link: what it received, decoded, in order."""

    def __init__(self, dialect: DialectName, header: FrameHeader) -> None:
        self.dialect = dialect_of(dialect)
        self._format = FrameFormat(header)
        self._frames = FrameReader(self._format)
        self._bodies: list[bytes] = []
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    def send(self, *messages: Message) -> None:
        bodies = [encode_message(message, self.dialect) for message in messages]
        self.writer.write(self._format.frames(bodies))

    async def body(self) -> bytes:
        while not self._bodies:
            async with asyncio.timeout(DEADLINE_S):
                data = await self.reader.read(65536)
            if not data:
                raise ConnectionResetError
            self._bodies = self._frames.feed(data)
        return self._bodies.pop(0)

    async def receive(self) -> Message:
        return decode_message(await self.body(), self.dialect)

    async def ask(self, message: Message) -> Message:
        self.send(message)
        return await self.receive()

    async def sign_on(self) -> str:
        return (await self.ask(management("001")))[39]

    async def closed(self) -> bool:
        """Wait for the end of the stream; True when nothing more came before it."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read() == b"" and not self._bodies


def management(code: str) -> Message:
    return Message("0800", {7: AT, 11: "000001", 70: code})


def purchase(stan: int, amount: int = 1000, **other: str) -> Message:
    fields = {2: "4000001234567899", 3: "000000", 4: f"{amount:012d}", 7: AT, 11: f"{stan:06d}", 12: "124500"}
    fields |= {13: "1123", 18: "5411", 22: "012", 25: "08", 32: "12345", 37: f"RRN{stan:09d}", 41: "TERM1"}
    fields |= {42: "SHOP1", 43: "Shop Seoul KR", 49: "410"}
    return Message("0200", fields | {int(name[2:]): value for name, value in other.items()})


def reversal(original: Message, *, mti: str = "0420") -> Message:
    kept = {number: original[number] for number in (2, 3, 4, 7, 12, 13, 32, 37, 41, 42, 49)}
    asked = f"0200{original[11]}{original[7]}{original[32]:0>11}{'0' * 11}"
    return Message(mti, kept | {11: f"{500_000 + int(original[11]):06d}", 90: asked})


def inquiry(original: Message) -> Message:
    kept = {number: value for number, value in reversal(original).fields.items() if number not in {2, 12, 13}}
    return Message("0100", kept | {3: "380000", 11: f"{700_000 + int(original[11]):06d}"})


class Network:
    def __init__(self, host: Host, ledger: Path) -> None:
        self.host = host
        self.ledger = ledger
        self.peers: list[Peer] = []

    async def peer(self, *, sign_on: bool = True) -> Peer:
        peer = Peer(self.host.config.dialect, self.host.config.header)
        await peer.connect(self.host.port)
        self.peers.append(peer)
        if sign_on:
            assert await peer.sign_on() == "00"
        return peer

    async def until_counted(self, name: str, count: int = 1) -> None:
        await until(lambda: self.host.counters().get(name, 0) >= count)

    async def book(self) -> dict[int, str]:
        """Return STAN → state once everything that arrived is booked: the last message is, so all before it are."""
        peer = await self.peer()
        self.host.set_faults(Faults())
        await peer.ask(purchase(999_999))
        with Books(self.ledger) as books:
            return {entry.stan: entry.state for entry in books.entries() if entry.stan != 999_999}


@asynccontextmanager
async def running(tmp_path: Path, **config: Any) -> AsyncIterator[Network]:
    path = tmp_path / "ledger.db"
    host = Host(SimulatorConfig.model_validate({"ledger": {"path": path, "commit_window_ms": 1}, **config}))
    await host.start()
    serving = asyncio.create_task(host.serve())
    network = Network(host, path)
    try:
        yield network
    finally:
        host.begin_stop()
        await asyncio.wait_for(serving, DEADLINE_S)
        await host.close()
        for peer in network.peers:
            peer.writer.close()
