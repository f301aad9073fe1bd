"""The gateway's side of a card network in memory: a window, and exchanges that fare as a script says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum, unique

from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    NetworkRequest,
    NotSent,
    NotSentCause,
    Unanswered,
    UnansweredCause,
    UnmatchedAnswer,
)
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.host import APPROVED, MemoryHost
from schemas.primitives import NetworkId


@unique
class Fate(StrEnum):
    """What becomes of a request and its answer on the way."""

    ANSWERED = "answered"
    NOT_SENT = "not_sent"  # nothing left
    REQUEST_LOST = "request_lost"  # the host never sees it
    ANSWER_LOST = "answer_lost"  # the host has booked it
    ANSWERED_LATE = "answered_late"  # booked; the answer comes after the gateway has given up
    ANSWERED_TWICE = "answered_twice"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one request fares.

    Attributes:
        code: DE39, where the host has nothing against the request.
        not_sent: why nothing left, with NOT_SENT.
        unanswered: how the gateway learns that it gets no answer.
        request_delay_s, answer_delay_s: event-loop seconds on the way; an answer may thus meet the time-out.
        alter: changes the answer on its way back: another amount, another RRN.
    """

    fate: Fate = Fate.ANSWERED
    code: str = APPROVED
    not_sent: NotSentCause = NotSentCause.NO_LINK
    unanswered: UnansweredCause = UnansweredCause.TIMEOUT
    request_delay_s: float = 0.0
    answer_delay_s: float = 0.0
    alter: Callable[[Answered], Answered] | None = None


Script = Callable[[NetworkRequest], Behaviour]


def answers(_request: NetworkRequest) -> Behaviour:
    """The script of a network without faults: everything is approved and answered at once."""
    return Behaviour()


@dataclass(eq=False, slots=True)
class _Exchange:
    request: NetworkRequest
    done: Callable[[ExchangeResult], None]
    ended: bool = False
    lost: bool = False


class MemoryCardNetwork:
    """Implements :class:`gateway.network.card_network.CardNetwork` towards a host that other workers' networks share.

    The boundary is awaited before a request leaves (``network.leave``), before the host sees it
    (``network.arrive``), and before its answer comes back (``network.answer``, ``network.late``).

    Args:
        script: asked once a request, when it is submitted.
        answer_timeout_s: event-loop seconds until an exchange ends Unanswered; None: only the script ends it so.
        on_unmatched: told of answers to no exchange: late ones, and second copies.
    """

    def __init__(
        self,
        network_id: NetworkId,
        host: MemoryHost,
        *,
        script: Script = answers,
        window: int = 1000,
        answer_timeout_s: float | None = None,
        on_unmatched: Callable[[UnmatchedAnswer], None] = lambda _: None,
        boundary: Boundary = no_boundary,
    ) -> None:
        self.network_id = network_id
        self.host = host
        self.script = script
        self.window = window
        self._answer_timeout_s = answer_timeout_s
        self._on_unmatched = on_unmatched
        self._boundary = boundary
        self._reserved = 0
        # A dict for its order, which is that of submission.
        self._in_flight: dict[_Exchange, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._is_open = True

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def reserved(self) -> int:
        """Places taken and neither used nor given back."""
        return self._reserved

    @property
    def in_flight(self) -> int:
        """Requests submitted and not ended."""
        return len(self._in_flight)

    async def wait_open(self) -> None:
        await self._boundary("network.wait_open")
        while not self._is_open:
            await self._wait_change()

    async def reserve(self, wanted: int, *, follow_up: bool = False, held: int = 0) -> int:  # noqa: ARG002 - no trial
        await self._boundary("network.reserve")
        while (room := self.window - self._reserved - len(self._in_flight)) <= 0:
            await self._wait_change()
        taken = min(room, wanted)
        self._reserved += taken
        return taken

    def release(self, places: int, *, follow_up: bool = False) -> None:  # noqa: ARG002 - no trial here
        if places > self._reserved:
            raise ValueError("more places given back than were taken")
        self._reserved -= places
        self._tell_change()

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        if self._reserved <= 0:
            raise RuntimeError("submit without a reserved place")
        self._reserved -= 1
        exchange = _Exchange(request, done)
        self._in_flight[exchange] = None
        loop = asyncio.get_running_loop()
        behaviour = self.script(request)
        if loop.time() > send_before:
            loop.call_soon(self._end, exchange, NotSent(NotSentCause.TOO_LATE))
        elif not self._is_open or behaviour.fate is Fate.NOT_SENT:
            cause = behaviour.not_sent if self._is_open else NotSentCause.NO_LINK
            loop.call_soon(self._end, exchange, NotSent(cause))
        else:
            self._spawn(exchange, behaviour)
            if self._answer_timeout_s is not None:
                loop.call_later(self._answer_timeout_s, self._end, exchange, Unanswered(UnansweredCause.TIMEOUT))

    async def start(self) -> None:
        self.open()

    async def stop(self, *, drain_seconds: float) -> None:
        self._is_open = False
        try:
            async with asyncio.timeout(drain_seconds):
                await self.wait_idle()
        except TimeoutError:
            self._end_all()

    async def wait_idle(self) -> None:
        """Return once nothing is in flight."""
        while self._in_flight:
            await self._wait_change()

    async def wait_quiet(self) -> None:
        """Return once also every late answer has come."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- faults ---

    def open(self) -> None:
        """Sign on."""
        self._is_open = True
        self._tell_change()

    def cut(self, *, requests_arrive: bool = False) -> None:
        """Lose the links: what is in flight ends Unanswered; what has not arrived yet never does, or does all the same.

        Whatever the host answers from now on comes unmatched.
        """
        self._is_open = False
        for exchange in self._in_flight:
            exchange.lost = not requests_arrive
        self._end_all()

    def crash(self, *, requests_arrive: bool) -> None:
        """End the worker that these links belong to: nobody is told anything any more."""
        self._is_open = False
        for exchange in self._in_flight:
            exchange.ended, exchange.lost = True, not requests_arrive
        self._in_flight.clear()
        self._on_unmatched = lambda _: None

    # --- inside ---

    def _spawn(self, exchange: _Exchange, behaviour: Behaviour) -> None:
        task = asyncio.get_running_loop().create_task(self._exchange(exchange, behaviour))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, exchange: _Exchange, behaviour: Behaviour) -> None:
        sent_at = await self._leave(behaviour.request_delay_s)
        # A link that was cut meanwhile may have taken the request with it.
        if behaviour.fate is Fate.REQUEST_LOST or exchange.lost:
            self._end(exchange, Unanswered(behaviour.unanswered, sent_at))
            return
        answer = replace(self.host.handle(exchange.request, behaviour.code), sent_at=sent_at)
        if behaviour.alter is not None:
            answer = behaviour.alter(answer)
        await self._boundary("network.answer")
        if behaviour.answer_delay_s > 0:
            await asyncio.sleep(behaviour.answer_delay_s)
        if behaviour.fate in (Fate.ANSWER_LOST, Fate.ANSWERED_LATE):
            self._end(exchange, Unanswered(behaviour.unanswered, sent_at))
            if behaviour.fate is Fate.ANSWER_LOST:
                return
            await self._boundary("network.late")
        self._answer(exchange, answer)
        if behaviour.fate is Fate.ANSWERED_TWICE:
            self._answer(exchange, answer)

    async def _leave(self, seconds: float) -> float:
        """Travel to the host; return when the request left."""
        await self._boundary("network.leave")
        sent_at = asyncio.get_running_loop().time()
        if seconds > 0:
            await asyncio.sleep(seconds)
        await self._boundary("network.arrive")
        return sent_at

    def _answer(self, exchange: _Exchange, answer: Answered) -> None:
        if not exchange.ended:
            self._end(exchange, answer)
            return
        trace = exchange.request.trace
        self._on_unmatched(
            UnmatchedAnswer(
                network_id=self.network_id,
                mti="0210",
                terminal_id=trace.terminal_id,
                stan=trace.stan,
                transmitted_at_raw=f"{trace.transmitted_at:%m%d%H%M%S}",
                answer=answer,
            )
        )

    def _end(self, exchange: _Exchange, result: ExchangeResult) -> None:
        if exchange.ended:
            return
        exchange.ended = True
        self._in_flight.pop(exchange, None)
        self._tell_change()
        exchange.done(result)

    def _end_all(self) -> None:
        for exchange in list(self._in_flight):
            self._end(exchange, Unanswered(UnansweredCause.LINK_LOST))

    def _tell_change(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    async def _wait_change(self) -> None:
        await self._changed.wait()
