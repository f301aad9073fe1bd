"""One worker's links to the card network, with everything that happens to its messages on their way."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    FinancialRequest,
    NetworkRequest,
    NotSent,
    NotSentCause,
    Unanswered,
    UnansweredCause,
    UnmatchedAnswer,
)
from gateway.network.iso8583.breaker import BreakerState, CircuitBreaker, room
from gateway.network.iso8583.sections import Breaker
from gateway.network.matching import MatchBy
from gateway.proving.memory.host import APPROVED
from gateway.proving.simulation.faults import Fault
from gateway.proving.simulation.wire.wire import DECLINED, MTI, RESPONSE_MTI, Sent, Wire
from schemas.primitives import NetworkId

CLOSED_WRONGLY = "a network is closed for silence alone"

BREAKER = Breaker(open_after_failures=2, open_s=0.5, open_max_s=2.0, trial_window=4)
"""Small, so that a world sees it open and close."""


@dataclass(eq=False, slots=True)
class _Exchange:
    request: NetworkRequest
    generation: int
    send_before: float
    done: Callable[[ExchangeResult], None]
    left_at: float | None = None
    ended: bool = False
    lost: bool = False
    timer: asyncio.TimerHandle | None = None


class SimulatedLinks:
    """Implements :class:`gateway.network.card_network.CardNetwork` for one worker."""

    def __init__(
        self,
        network_id: NetworkId,
        worker: str,
        wire: Wire,
        *,
        on_unmatched: Callable[[UnmatchedAnswer], None],
        window: int = 50,
    ) -> None:
        self.network_id = network_id
        self._worker = worker
        self._wire = wire
        self._on_unmatched = on_unmatched
        self._window = window
        self._breaker = CircuitBreaker(BREAKER)
        self._silent = 0
        self._reserved = {False: 0, True: 0}
        self._in_flight: dict[_Exchange, None] = {}
        self._changed: list[asyncio.Future[None]] = []
        self._is_open = True
        self._crashed = False
        self._is_stopping = False
        wire.links.append(self)

    @property
    def is_open(self) -> bool:
        """True while signed on and not closed by the circuit breaker."""
        return self._is_open and self._breaker.state is not BreakerState.OPEN

    @property
    def in_flight(self) -> int:
        """Exchanges that have not ended."""
        return len(self._in_flight)

    async def wait_open(self) -> None:
        """Return once open."""
        while not self.is_open:
            await self._change()

    async def reserve(self, wanted: int, *, follow_up: bool = False, held: int = 0) -> int:
        """Take places in the window."""
        while (left := self._room(follow_up=follow_up)) <= 0:
            if held and self._breaker.state is BreakerState.HALF_OPEN:
                return 0
            await self._change()
        taken = min(left, wanted)
        self._reserved[follow_up] += taken
        return taken

    def _room(self, *, follow_up: bool) -> int:
        orders = sum(isinstance(e.request, FinancialRequest) for e in self._in_flight)
        return room(
            self._breaker.state,
            BREAKER,
            window=self._window,
            orders=self._reserved[False] + orders,
            follow_ups=self._reserved[True] + len(self._in_flight) - orders,
            follow_up=follow_up,
        )

    def release(self, places: int, *, follow_up: bool = False) -> None:
        """Give places back."""
        if places > self._reserved[follow_up]:
            raise ValueError("more places given back than were taken")
        self._reserved[follow_up] -= places
        self._tell()

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        """Send one request as a link would, past whatever the adversary does to it."""
        follow_up = not isinstance(request, FinancialRequest)
        if self._reserved[follow_up] <= 0:
            raise RuntimeError("submit without a reserved place")
        self._reserved[follow_up] -= 1
        exchange = _Exchange(request, self._breaker.generation, send_before, done)
        self._in_flight[exchange] = None
        loop, faults = asyncio.get_running_loop(), self._wire.faults
        if self._breaker.state is BreakerState.OPEN or faults.chance(Fault.NOT_SENT):
            self._note(Fault.NOT_SENT, request)
            loop.call_soon(self._end, exchange, NotSent(NotSentCause.NO_LINK))
        elif faults.chance(Fault.SLOW_LINK):
            self._note(Fault.SLOW_LINK, request)
            loop.call_later(self._wire.rng.uniform(0.0, 4.0), self._leave, exchange)
        else:
            loop.call_soon(self._leave, exchange)

    async def start(self) -> None:
        """Sign on."""
        self.open()

    async def stop(self, *, drain_seconds: float) -> None:
        """Wait for what is in flight, for a while; then sign off: the rest ends unanswered."""
        self._is_stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain_seconds
        while self._in_flight and loop.time() < deadline and not self._crashed:
            timer = loop.call_at(deadline, self._tell)
            await self._change()
            timer.cancel()
        self.cut()

    # --- faults ---

    def open(self) -> None:
        """Sign on (again)."""
        if not self._crashed and not self._is_stopping:
            self._is_open = True
            self._tell()

    def cut(self) -> None:
        """Lose the links: what is in flight ends; of what is on its way a part arrives all the same."""
        self._is_open = False
        for exchange in list(self._in_flight):
            if exchange.left_at is None:
                self._end(exchange, NotSent(NotSentCause.NO_LINK))
            else:
                exchange.lost = self._wire.rng.random() < 0.5
                self._end(exchange, Unanswered(UnansweredCause.LINK_LOST, exchange.left_at))

    def crash(self) -> None:
        """The worker is gone: nobody is told anything, and what had not left never will."""
        if self._crashed:
            return
        self._is_open, self._crashed = False, True
        for exchange in self._in_flight:
            exchange.ended = True
            exchange.lost = exchange.left_at is None or self._wire.rng.random() < 0.3
            if exchange.timer is not None:
                exchange.timer.cancel()
        self._in_flight.clear()
        self._wire.links.remove(self)

    # --- the way of a message ---

    def _leave(self, exchange: _Exchange) -> None:
        if exchange.ended:
            return
        wire, loop, request = self._wire, asyncio.get_running_loop(), exchange.request
        if not self._is_open:
            self._end(exchange, NotSent(NotSentCause.NO_LINK))
            return
        if loop.time() > exchange.send_before:
            self._end(exchange, NotSent(NotSentCause.TOO_LATE))
            return
        exchange.left_at = loop.time()
        wire.sent.append(Sent(loop.time(), self._worker, request))
        wire.on_leave(request)
        timed_out = Unanswered(UnansweredCause.TIMEOUT, exchange.left_at)
        exchange.timer = loop.call_later(wire.answer_timeout_s, self._end, exchange, timed_out)
        if wire.faults.chance(Fault.REQUEST_LOST):
            self._note(Fault.REQUEST_LOST, request)
            return
        wire.travelling += 1
        seconds = wire.rng.uniform(0.001, 0.05)
        if wire.faults.chance(Fault.REQUEST_LATE):
            self._note(Fault.REQUEST_LATE, request)
            seconds = wire.rng.uniform(0.0, 4 * wire.answer_timeout_s)
        loop.call_later(seconds, self._arrive, exchange)

    def _arrive(self, exchange: _Exchange) -> None:
        wire, request = self._wire, exchange.request
        wire.travelling -= 1
        if exchange.lost:
            return
        answer = replace(wire.answer(request), sent_at=exchange.left_at)
        if isinstance(request, FinancialRequest) and self._is_answered_by_another_day(request, answer):
            return
        answer = wire.altered(answer, request, partial(self._note, request=request))
        if wire.faults.chance(Fault.ANSWER_LOST):
            self._note(Fault.ANSWER_LOST, request)
            return
        seconds = wire.rng.uniform(0.001, 0.05)
        if wire.faults.chance(Fault.UNREADABLE):
            self._note(Fault.UNREADABLE, request)
            unreadable = Unanswered(UnansweredCause.GARBLED, exchange.left_at)
            asyncio.get_running_loop().call_later(seconds, self._end, exchange, unreadable)
            return
        if wire.faults.chance(Fault.ANSWER_LATE):
            self._note(Fault.ANSWER_LATE, request)
            # Around the time-out: the answer and the end of waiting may meet.
            seconds = wire.answer_timeout_s * wire.rng.uniform(0.8, 3.0)
        self._travel_back(seconds, exchange, answer)
        if wire.faults.chance(Fault.ANSWER_TWICE):
            self._note(Fault.ANSWER_TWICE, request)
            self._travel_back(seconds + wire.rng.uniform(0.0, 3.0), exchange, answer)

    def _travel_back(self, seconds: float, exchange: _Exchange, answer: Answered) -> None:
        self._wire.travelling += 1
        asyncio.get_running_loop().call_later(seconds, self._return, exchange, answer)

    def _return(self, exchange: _Exchange, answer: Answered) -> None:
        wire = self._wire
        wire.travelling -= 1
        elsewhere = wire.faults.chance(Fault.ANSWER_ELSEWHERE)
        if elsewhere:
            self._note(Fault.ANSWER_ELSEWHERE, exchange.request)
        if not exchange.ended and not elsewhere:
            self._end(exchange, answer)
            return
        wire.arrive_elsewhere(exchange.request, answer, partial(self._note, request=exchange.request))

    def _is_answered_by_another_day(self, request: FinancialRequest, answer: Answered) -> bool:
        """The opposite comes in the answer's place, under its numbers and another day's time: it must do nothing."""
        wire = self._wire
        if wire.match_by is not MatchBy.STRICT or not wire.faults.chance(Fault.STALE_ANSWER):
            return False
        self._note(Fault.STALE_ANSWER, request)
        opposite = replace(answer, response_code=DECLINED if answer.response_code == APPROVED else APPROVED)
        wire.travelling += 1
        seconds = wire.rng.uniform(0.0, 3 * wire.answer_timeout_s)
        asyncio.get_running_loop().call_later(seconds, self._stale, request, opposite)
        return True

    def _stale(self, request: FinancialRequest, answer: Answered) -> None:
        self._wire.travelling -= 1
        self._wire.arrive_of_another_day(request, answer)

    def arrived(self, request: NetworkRequest, answer: Answered, terminal_id: str, time: str) -> None:
        """Hand over an answer to another's request."""
        self._on_unmatched(
            UnmatchedAnswer(
                network_id=self.network_id,
                mti=RESPONSE_MTI[MTI[type(request)]],
                terminal_id=terminal_id,
                stan=request.trace.stan,
                transmitted_at_raw=time,
                answer=answer,
            )
        )

    # --- inside ---

    def _note(self, fault: Fault, request: NetworkRequest) -> None:
        where = f"{self._worker} {MTI[type(request)]} {request.trace.rrn}"
        self._wire.faults.note(asyncio.get_running_loop().time(), fault, where)

    def _end(self, exchange: _Exchange, result: ExchangeResult) -> None:
        if exchange.ended:
            return
        exchange.ended = True
        if exchange.timer is not None:
            exchange.timer.cancel()
        self._in_flight.pop(exchange, None)
        self._judge(exchange, result)
        self._tell()
        exchange.done(result)

    def _judge(self, exchange: _Exchange, result: ExchangeResult) -> None:
        """Tell the breaker as the real links do; that it opens for silence alone is checked beside it."""
        is_order = isinstance(exchange.request, FinancialRequest)
        if exchange.generation == self._breaker.generation and self._breaker.state is not BreakerState.OPEN:
            is_silence = isinstance(result, Unanswered) and result.cause is UnansweredCause.TIMEOUT
            is_silence = is_silence or (isinstance(result, NotSent) and result.cause is NotSentCause.TOO_LATE)
            came = isinstance(result, Answered) or (
                isinstance(result, Unanswered) and result.cause is UnansweredCause.GARBLED
            )
            self._silent = 0 if came else self._silent + is_silence
        was, loop = self._breaker.state, asyncio.get_running_loop()
        changed = self._breaker.ended(exchange.generation, result, loop.time(), is_order=is_order)
        if changed and self._breaker.state is BreakerState.OPEN:
            needed = 1 if was is BreakerState.HALF_OPEN else BREAKER.open_after_failures
            if self._silent < needed or (was is BreakerState.HALF_OPEN and not is_order):
                self._wire.violated(CLOSED_WRONGLY, f"{self._worker}: after {self._silent} unanswered requests")
            loop.call_at(self._breaker.probe_at, self._probe)
        if changed:
            self._silent = 0

    def _probe(self) -> None:
        # An echo is answered wherever the links are.
        if self._breaker.probed(asyncio.get_running_loop().time(), answered=True):
            self._tell()

    def _tell(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        await future
