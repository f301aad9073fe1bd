"""Connections of the API: each has so much time and so many bytes for a call's head, and nobody has too many.

aiohttp bounds a line, a body and an idle connection. A call whose head never ends, and an answer that nobody takes,
hold a connection for as long as their sender likes: these are cut here.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, cast

HEAD_TOO_SLOW: Final = "head_too_slow"
HEAD_TOO_LARGE: Final = "head_too_large"
ANSWER_NOT_TAKEN: Final = "answer_not_taken"
TOO_MANY: Final = "too_many"
TOO_MANY_OF_ONE: Final = "too_many_of_one"


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """What one who calls may take; each bound has its reason.

    Attributes:
        head_s: from the first byte of a call, or from the handshake on, until its head is there; it is one packet.
        head_bytes: of all that comes before the head is read: a head has some twenty lines, each bounded by itself.
        taken_s: until an answer that is larger than the system's buffers is taken: it has 500 records at most.
        of_all, of_one: connections at a time, of everybody and of one certificate: one who opens all leaves room.
    """

    head_s: float = 10.0
    head_bytes: int = 64 * 1024
    taken_s: float = 30.0
    of_all: int = 512
    of_one: int = 32


class Connections:
    """Makes the protocol of each connection, a guarded one.

    Args:
        inner: makes a protocol that reads calls.
        whose: whose a connection is, once its handshake is done.
        cut: told the reason of each connection that is cut.
    """

    def __init__(
        self,
        inner: Callable[[], asyncio.BaseProtocol],
        bounds: ConnectionBounds,
        *,
        whose: Callable[[asyncio.Transport], Hashable],
        cut: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._whose = whose
        self.bounds = bounds
        self.cut = cut
        self._open: dict[asyncio.BaseTransport, Guarded] = {}
        self._of: Counter[Hashable] = Counter()

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return Guarded(cast("asyncio.Protocol", self._inner()), self)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def head_is_read(self, transport: asyncio.BaseTransport | None) -> None:
        """A call of this connection has a head: what follows of it is bounded by others."""
        if transport is not None and (found := self._open.get(transport)) is not None:
            found.head_is_read()

    def is_answered(self, transport: asyncio.BaseTransport | None) -> None:
        """The call is answered: the next byte begins another one."""
        if transport is not None and (found := self._open.get(transport)) is not None:
            found.is_answered()

    def enter(self, guarded: "Guarded", transport: asyncio.Transport) -> str | None:
        """Count a connection; return why there is no room for it, or None."""
        whose = self._whose(transport)
        if len(self._open) >= self.bounds.of_all:
            return TOO_MANY
        if self._of[whose] >= self.bounds.of_one:
            return TOO_MANY_OF_ONE
        self._open[transport] = guarded
        self._of[whose] += 1
        guarded.whose = whose
        return None

    def leave(self, guarded: "Guarded", transport: asyncio.BaseTransport) -> None:
        """Count it no more."""
        if self._open.pop(transport, None) is not None:
            self._of[guarded.whose] -= 1
            if not self._of[guarded.whose]:
                del self._of[guarded.whose]


class Guarded(asyncio.Protocol):
    """One connection: hands everything on, and cuts it where a bound is passed."""

    whose: Hashable = None

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._is_in = False
        self._in_call = False
        self._head = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or cut it."""
        self._transport = cast("asyncio.Transport", transport)
        refused = self._connections.enter(self, self._transport)
        if refused is not None:
            self._cut(refused)
            return
        self._is_in = True
        self._start(HEAD_TOO_SLOW, self._connections.bounds.head_s)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a head is there."""
        if not self._is_in:
            return
        if not self._in_call:
            self._head += len(data)
            if self._head > self._connections.bounds.head_bytes:
                self._cut(HEAD_TOO_LARGE)
                return
            if HEAD_TOO_SLOW not in self._timers:
                self._start(HEAD_TOO_SLOW, self._connections.bounds.head_s)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._inner.eof_received() if self._is_in else None

    def pause_writing(self) -> None:
        """What is sent is taken slower than it is made: for so long, and no longer."""
        self._start(ANSWER_NOT_TAKEN, self._connections.bounds.taken_s)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It was taken."""
        self._stop(ANSWER_NOT_TAKEN)
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place to another."""
        for name in [*self._timers]:
            self._stop(name)
        if self._is_in and self._transport is not None:
            self._is_in = False
            self._connections.leave(self, self._transport)
            self._inner.connection_lost(exc)

    def head_is_read(self) -> None:
        """The call's handler runs."""
        self._in_call, self._head = True, 0
        self._stop(HEAD_TOO_SLOW)

    def is_answered(self) -> None:
        """The call's handler has ended."""
        self._in_call = False

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, self._cut, name)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _cut(self, reason: str) -> None:
        self._connections.cut(reason)
        if self._transport is not None:
            self._transport.abort()
