"""A card host of a few lines, for tests of links: answers as scripted and remembers what it was sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Any

from gateway.network.exchange import (
    Acceptor,
    CardData,
    ExchangeResult,
    FinancialRequest,
    Operation,
    TraceNumbers,
    UnmatchedAnswer,
)
from gateway.network.iso8583.codec import Message, decode_message, encode_message
from gateway.network.iso8583.config import NetworkConfig, network_from
from gateway.network.iso8583.framing import FrameReader
from gateway.network.iso8583.messages import response_to
from gateway.network.iso8583.observer import SilentObserver
from gateway.network.iso8583.pool import Iso8583Network

PAN = "4000123412341238"
AT = datetime(2026, 7, 3, 4, 5, 6, tzinfo=UTC)
PATIENCE_S = 60
"""Longer than a busy machine needs: only a test that fails waits for so long."""

BASE: dict[str, Any] = {
    "network_id": "bcard",
    "addresses": ["127.0.0.1:1"],
    "links_per_address": 1,
    "dialect": "iso87-ascii",
    "frame": "binary2",
    "acquirer_id": "410001",
    "time_zone": "Asia/Seoul",
    "currencies": ["KRW"],
    "terminals": {"prefix": "GW", "count": 4},
    "backoff_min_s": 0.01,
    "backoff_max_s": 0.02,
}


def config_of(**changes: Any) -> NetworkConfig:
    return network_from(BASE | changes, source="test")


def purchase(stan: int, **changes: Any) -> FinancialRequest:
    fields: dict[str, Any] = {
        "trace": TraceNumbers("GW000001", stan, f"{stan:012d}", AT),
        "operation": Operation.PURCHASE,
        "amount_minor": 12_500,
        "currency": "KRW",
        "acceptor": Acceptor("M0000001", "KIMBAP HEAVEN SEOUL KR", "5812"),
        "card": CardData(PAN, "2912"),
    }
    return FinancialRequest(**fields | changes)


class Peer:
    """The host's side of one connection."""

    def __init__(self, host: "Host", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.host, self.reader, self.writer = host, reader, writer

    def send(self, message: Message) -> None:
        self.send_raw(self.host.config.framing.frame(encode_message(message, self.host.config.wire)))

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    def drop(self) -> None:
        self.writer.transport.abort()


class Host:
    """Attributes: received: (peer, message) in order; script: what to do with a message instead of approving it."""

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.received: list[tuple[Peer, Message]] = []
        self.peers: list[Peer] = []
        self.scripts: dict[str, Callable[[Peer, Message], None]] = {}
        self.on_raw: Callable[[bytes], None] | None = None
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self._changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        self._changed.set()
        frames = FrameReader(self.config.framing)
        try:
            while data := await reader.read(65_536):
                for frame in frames.feed(data):
                    if self.on_raw is not None and frame[:4] != b"0800":
                        self.on_raw(frame)
                        continue
                    message = decode_message(frame, self.config.wire)
                    self.received.append((peer, message))
                    self._changed.set()
                    kind = f"{message.mti}/{message[70]}" if message.mti == "0800" else message.mti
                    (self.scripts.get(kind) or approve)(peer, message)
                await self.is_reading.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    def messages(self, mti: str, code: str | None = None) -> list[Message]:
        return [m for _, m in self.received if m.mti == mti and (code is None or m.get(70) == code)]


def approve(peer: Peer, message: Message) -> None:
    if message.mti[2] in "02":
        extra = {} if message.mti == "0800" else {"de38": "A12345"}
        peer.send(response_to(message, "00", **extra))


def ignore(peer: Peer, message: Message) -> None:
    pass


class Watcher(SilentObserver):
    """Remembers what the links report; ``until`` waits for it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    def link_state(self, network_id: str, link: str, state: Any, reason: str) -> None:
        self._note("link", state.value, reason)

    def echo_missed(self, network_id: str, link: str, missed: int) -> None:
        self._note("echo_missed", missed)

    def breaker_state(self, network_id: str, state: Any) -> None:
        self._note("breaker", state.value)

    def undecodable(self, network_id: str, link: str, field: str, reason: str) -> None:
        self._note("undecodable", field)

    def unexpected(self, network_id: str, link: str, mti: str) -> None:
        self._note("unexpected", mti)

    def host_asked(self, network_id: str, link: str, mti: str, answer: str) -> None:
        self._note("host_asked", mti, answer)

    async def until(self, *event: Any, count: int = 1) -> None:
        """Wait for events that begin so."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(seen[: len(event)] == event for seen in self.events) < count:
                self._changed.clear()
                await self._changed.wait()


class Bench:
    """A network and its host."""

    def __init__(self, config: NetworkConfig, host: Host) -> None:
        self.host, self.watcher = host, Watcher()
        self.network = Iso8583Network(config, on_unmatched=self.on_unmatched, observer=self.watcher)
        self.unmatched: list[UnmatchedAnswer] = []
        self._changed = asyncio.Event()

    def on_unmatched(self, answer: UnmatchedAnswer) -> None:
        self.unmatched.append(answer)
        self._changed.set()

    async def until_unmatched(self) -> UnmatchedAnswer:
        async with asyncio.timeout(PATIENCE_S):
            while not self.unmatched:
                self._changed.clear()
                await self._changed.wait()
        return self.unmatched[0]

    async def open(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.network.wait_open()

    def expire(self) -> None:
        """Let the answer time-out of all that was written pass now."""
        for link in self.network._links:
            connection = link._connection
            if connection is not None:
                for exchange in connection._written:
                    exchange.deadline = 0.0
                connection._sweep()

    async def unanswered(self, *requests: Any) -> list[ExchangeResult]:
        """Send these, let the host have them, and wait for their answers in vain."""
        received = len(self.host.received)
        waiting = [await self.submit(request) for request in requests]
        await self.host.until(lambda: len(self.host.received) >= received + len(requests))
        self.expire()
        return [await future for future in waiting]

    async def submit(self, request: Any, *, within_s: float = PATIENCE_S) -> "asyncio.Future[ExchangeResult]":
        assert await self.network.reserve(1, follow_up=not isinstance(request, FinancialRequest)) == 1
        loop = asyncio.get_running_loop()
        result: asyncio.Future[ExchangeResult] = loop.create_future()
        # set_result raises at a second end.
        self.network.submit(request, send_before=loop.time() + within_s, done=result.set_result)
        return result

    async def ask(self, request: Any, *, within_s: float = PATIENCE_S) -> ExchangeResult:
        async with asyncio.timeout(PATIENCE_S):
            return await (await self.submit(request, within_s=within_s))


@asynccontextmanager
async def bench(
    *, scripts: dict[str, Callable[[Peer, Message], None]] | None = None, **changes: Any
) -> AsyncIterator[Bench]:
    """A started network on a listening host."""
    host = Host(config_of(**changes))
    host.scripts = dict(scripts or {})
    async with bench_on(host, **changes) as b:
        yield b


@asynccontextmanager
async def bench_on(host: Host, *, ssl: SSLContext | None = None, **changes: Any) -> AsyncIterator[Bench]:
    """A started network on this host, which listens from now on."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Small, so that a host that does not read is stuck soon; connections inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    port = listener.getsockname()[1]
    server = await asyncio.start_server(host.serve, sock=listener, ssl=ssl)
    b = Bench(config_of(**{"addresses": [f"127.0.0.1:{port}"]} | changes), host)
    await b.network.start()
    try:
        yield b
    finally:
        host.is_reading.set()
        await b.network.stop(drain_seconds=0)
        server.close()
        for peer in host.peers:
            peer.drop()
        await server.wait_closed()


async def fill(b: Bench, requests: int) -> list["asyncio.Future[ExchangeResult]"]:
    """Send more than the two socket buffers (made small) can hold; return the futures."""
    transport = b.network._links[0]._connection._transport
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return [await b.submit(purchase(stan), within_s=PATIENCE_S) for stan in range(1, requests + 1)]
