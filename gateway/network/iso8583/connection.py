"""One TCP connection: frames in, frames out, and for every request on it exactly one end.

Writing: everything that is ready in one turn of the event loop leaves in one write, in parts of at most
:data:`WRITE_BYTES_MAX`; while the kernel has not taken a part nothing more is handed over, so that what waits here has
certainly not been sent. A part counts as sent from the moment it is handed over.
Time: one timer per connection serves all deadlines.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.base.causes import cause_of
from gateway.network.exchange import ExchangeResult, NotSent, NotSentCause, TraceNumbers, Unanswered, UnansweredCause
from gateway.network.iso8583.framing import FrameFormat, FrameReader, FramingError
from gateway.network.iso8583.tls import REFUSED_AT_ONCE, tls_failure

WRITE_BYTES_MAX: Final = 65_536
"""About one socket send buffer: a stuck peer leaves no more than this in doubt."""


class Exchange:
    """One request and its one end.

    Attributes:
        trace: the numbers that it is sent under, by which its answer is known.
        is_order: a payment's own message, not a follow-up.
        response_mti: MTI of that response.
        generation: of the circuit breaker when it was submitted.
        submitted_at, send_before: ``loop.time()``.
        sent_at: the same, when its frame was handed to the kernel; None before.
        ended: True once; every later end is ignored.
    """

    __slots__ = (
        "_on_end",
        "deadline",
        "done",
        "ended",
        "frame",
        "generation",
        "is_order",
        "response_mti",
        "send_before",
        "sent_at",
        "submitted_at",
        "trace",
    )

    def __init__(
        self,
        trace: TraceNumbers,
        response_mti: str,
        *,
        is_order: bool,
        generation: int,
        submitted_at: float,
        send_before: float,
        done: Callable[[ExchangeResult], None],
        on_end: "Callable[[Exchange, ExchangeResult], None]",
    ) -> None:
        self.trace = trace
        self.is_order = is_order
        self.response_mti = response_mti
        self.generation = generation
        self.submitted_at = submitted_at
        self.send_before = send_before
        self.sent_at: float | None = None
        self.deadline = 0.0
        self.frame = b""
        self.done = done
        self.ended = False
        self._on_end = on_end

    def end(self, result: ExchangeResult) -> None:
        """End the exchange, unless it has ended."""
        if not self.ended:
            self.ended = True
            self.frame = b""
            self._on_end(self, result)


class ConnectionOwner(Protocol):
    """Who is told what happens on a connection."""

    def on_frame(self, data: bytes) -> None:
        """One message arrived."""

    def on_bytes(self, *, sent: int = 0, received: int = 0) -> None:
        """Bytes moved."""

    def on_lost(self, connection: "Connection") -> None:
        """The connection is gone; called once, before the exchanges on it end."""


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    Attributes:
        last_read: ``loop.time()`` of the last bytes from the peer.
        is_lost: True once the connection is gone or is being dropped.
        is_paused: True while the kernel has not taken what was written.
        lost: set when it is gone and every exchange on it has ended.
        reason: why it was lost.
    """

    def __init__(
        self, frame_format: FrameFormat, owner: ConnectionOwner, *, write_deadline_s: float, answer_timeout_s: float
    ) -> None:
        self._format = frame_format
        self._reader = FrameReader(frame_format)
        self._owner = owner
        self._write_deadline_s = write_deadline_s
        self._answer_timeout_s = answer_timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._control: list[bytes] = []
        self._queue: deque[Exchange] = deque()
        self._written: deque[Exchange] = deque()
        self._is_flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stuck_timer: asyncio.TimerHandle | None = None
        self._has_tls = self._has_read = False
        self.last_read = self._loop.time()
        self.is_lost = False
        self.is_paused = False
        self.lost = asyncio.Event()
        self.reason = ""

    # --- called by the transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; see asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        # Any byte that the kernel has not taken pauses writing. TLS holds whole records, and takes zero for "always".
        self._has_tls = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if self._has_tls else 0, low=0)
        self.last_read = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Cut frames and hand them on; a lost frame boundary closes the connection."""
        self.last_read = self._loop.time()
        self._has_read = True
        self._owner.on_bytes(received=len(data))
        try:
            messages = self._reader.feed(data)
        except FramingError as error:
            for message in error.messages:
                self._owner.on_frame(message)
            self.abort(f"framing: {error}")
            return
        for message in messages:
            self._owner.on_frame(message)
        self._forget_ended()

    def pause_writing(self) -> None:
        """Hold back until the kernel has taken what was written, and drop a peer that is stuck."""
        self.is_paused = True
        self._stuck_timer = self._loop.call_later(self._write_deadline_s, self.abort, "write deadline passed")

    def resume_writing(self) -> None:
        """Go on writing."""
        self.is_paused = False
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every exchange: what was written is unknown, what was not has certainly not been sent."""
        for timer in (self._timer, self._stuck_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._stuck_timer = None
        if not self.is_lost:
            self.reason = _loss(exc, at_once=self._has_tls and not self._has_read)
            self.is_lost = True
        self._owner.on_lost(self)
        queue, self._queue = self._queue, deque()
        written, self._written = self._written, deque()
        for exchange in queue:
            exchange.end(NotSent(NotSentCause.NO_LINK, "the link was lost before the request left"))
        for exchange in written:
            exchange.end(Unanswered(UnansweredCause.LINK_LOST, exchange.sent_at))
        self.lost.set()

    # --- called by the link ------------------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """Exchanges that wait here, to be sent or to be answered; a few may have ended already."""
        return len(self._queue) + len(self._written)

    def send(self, exchange: Exchange) -> None:
        """Send one request with the next write."""
        self._queue.append(exchange)
        if self.is_paused:
            self._wake_at(exchange.send_before)
        else:
            self._flush_soon()

    def send_control(self, frame: bytes) -> None:
        """Send one network management message, ahead of the requests."""
        self._control.append(frame)
        self._flush_soon()

    def abort(self, reason: str) -> None:
        """Drop the connection at once, with whatever was not sent."""
        if not self.is_lost and self._transport is not None:
            self.is_lost = True
            self.reason = reason
            self._transport.abort()

    def close(self, reason: str) -> None:
        """Close once what was written has left, or at the write deadline."""
        if not self.is_lost and self._transport is not None:
            self._flush()
            self.is_lost = True
            self.reason = reason
            self._transport.close()
            if self._stuck_timer is not None:
                self._stuck_timer.cancel()
            self._stuck_timer = self._loop.call_later(self._write_deadline_s, self._transport.abort)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        while (self._control or self._queue) and not self.is_paused and not self.is_lost and self._transport:
            parts, self._control = self._control, []
            self._take_requests(parts)
            if parts:
                data = b"".join(parts)
                self._owner.on_bytes(sent=len(data))
                self._transport.write(data)
        self._wake_for_next()

    def _take_requests(self, parts: list[bytes]) -> None:
        now = self._loop.time()
        deadline = now + self._answer_timeout_s
        size = 0
        while self._queue and size < WRITE_BYTES_MAX:
            exchange = self._queue.popleft()
            if exchange.ended:
                continue
            if now > exchange.send_before:
                exchange.end(NotSent(NotSentCause.TOO_LATE, "the request waited too long for the link"))
                continue
            parts.append(exchange.frame)
            size += len(exchange.frame)
            exchange.frame = b""
            exchange.sent_at = now
            exchange.deadline = deadline
            self._written.append(exchange)

    def _forget_ended(self) -> None:
        # Else the queue would be as long as the time-out, not as the slowest answer.
        written = self._written
        while written and written[0].ended:
            written.popleft()

    def _wake_at(self, when: float) -> None:
        if self._timer is None or when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        # The timer may fire up to one clock tick early.
        now = self._loop.time() + 0.001
        while self._written and (self._written[0].ended or self._written[0].deadline <= now):
            exchange = self._written.popleft()
            exchange.end(Unanswered(UnansweredCause.TIMEOUT, exchange.sent_at))
        late = [exchange for exchange in self._queue if exchange.send_before <= now]
        for exchange in late:
            exchange.end(NotSent(NotSentCause.TOO_LATE, "the request waited too long for the link"))
        if late:
            self._queue = deque(exchange for exchange in self._queue if not exchange.ended)
        self._wake_for_next()

    def _wake_for_next(self) -> None:
        if self._written:
            self._wake_at(self._written[0].deadline)
        if self._queue:
            self._wake_at(min(exchange.send_before for exchange in self._queue))


def _loss(error: Exception | None, *, at_once: bool) -> str:
    # In TLS 1.3 a host refuses a client certificate, or asks for one in vain, after the handshake.
    if isinstance(error, ssl.SSLError):
        return tls_failure(error)
    lost = f"connection lost: {cause_of(error)}" if error else "closed by the host"
    return f"{lost} {REFUSED_AT_ONCE}" if at_once else lost
