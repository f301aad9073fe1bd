"""A card network over all of its links: the window, the matching of answers, the choice of a link, the breaker."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime

from gateway.network.exchange import (
    Answered,
    Echoed,
    ExchangeResult,
    FinancialRequest,
    NetworkRequest,
    NotSent,
    NotSentCause,
    Unanswered,
    UnansweredCause,
    UnmatchedAnswer,
)
from gateway.network.iso8583 import messages
from gateway.network.iso8583.breaker import BreakerState, CircuitBreaker, room
from gateway.network.iso8583.codec import Iso8583Error, encode_message
from gateway.network.iso8583.config import NetworkConfig
from gateway.network.iso8583.connection import Exchange
from gateway.network.iso8583.financial import FinancialEncoder
from gateway.network.iso8583.framing import FramingError
from gateway.network.iso8583.in_flight import InFlight
from gateway.network.iso8583.link import Link
from gateway.network.iso8583.observer import LinkObserver, SilentObserver


class NetworkStoppedError(RuntimeError):
    """The network was stopped: there is nothing to wait for."""


class Iso8583Network:
    """Implements the CardNetwork port over TCP.

    Answers are matched over all links, as a host may answer on another one than it was asked on.

    Attributes:
        network_id: as configured.
        config: as given.
        in_flight: requests submitted and not ended.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        on_unmatched: Callable[[UnmatchedAnswer], None],
        observer: LinkObserver | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.network_id = config.network_id
        self.config = config
        self._on_unmatched = on_unmatched
        self._observer: LinkObserver = observer or SilentObserver()
        self._framing = config.framing
        self._financial = FinancialEncoder(config)
        self._breaker = CircuitBreaker(config.breaker)
        self._exchanges = InFlight(config.matching)
        # Places taken and not used yet: orders', follow-ups'.
        self._reserved = {False: 0, True: 0}
        self._next_link = 0
        self._is_stopping = False
        self._is_open_now = asyncio.Event()
        self._is_link_up = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._links = [
            Link(config, address, number, owner=self, observer=self._observer, now=now, jitter=jitter)
            for address in config.addresses
            for number in range(config.links_per_address)
        ]

    # --- CardNetwork -------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True while at least one link is signed on and the circuit breaker lets traffic through."""
        return (
            not self._is_stopping
            and self._breaker.state is not BreakerState.OPEN
            and any(link.is_up for link in self._links)
        )

    async def wait_open(self) -> None:
        """Return once :attr:`is_open`.

        Raises:
            NetworkStoppedError: it never will be.
        """
        while not self.is_open:
            self._refuse_if_stopping()
            self._is_open_now.clear()
            await self._is_open_now.wait()

    async def reserve(self, wanted: int, *, follow_up: bool = False, held: int = 0) -> int:
        """Wait until the in-flight window has room; take and return 1 … ``wanted`` places.

        In the breaker's trial who holds some already gets 0 instead of waiting: only what is sent ends the trial.

        Raises:
            NetworkStoppedError: the network was stopped.
        """
        while (left := self._room(follow_up=follow_up)) <= 0:
            self._refuse_if_stopping()
            if held and self._breaker.state is BreakerState.HALF_OPEN:
                return 0
            self._has_room.clear()
            await self._has_room.wait()
        self._refuse_if_stopping()
        taken = min(left, wanted)
        self._reserved[follow_up] += taken
        return taken

    def release(self, places: int, *, follow_up: bool = False) -> None:
        """Give back places that will not be used.

        Raises:
            ValueError: more than were taken.
        """
        if places > self._reserved[follow_up]:
            raise ValueError("more places given back than were taken")
        self._reserved[follow_up] -= places
        self._has_room.set()

    def submit(self, request: NetworkRequest, *, send_before: float, done: Callable[[ExchangeResult], None]) -> None:
        """Encode and write one request; ``done`` is called exactly once, later, from the event loop.

        Raises:
            RuntimeError: no place was reserved for it.
        """
        follow_up = not isinstance(request, FinancialRequest)
        if self._reserved[follow_up] <= 0:
            raise RuntimeError("submit without a reserved place")
        self._reserved[follow_up] -= 1
        refusal = self._try_submit(request, send_before, done)
        if refusal is not None:
            self._has_room.set()
            asyncio.get_running_loop().call_soon(self._refuse, refusal, done)

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        for link in self._links:
            self._spawn(link.run())

    async def stop(self, *, drain_seconds: float) -> None:
        """Take no more, wait for what is in flight up to the deadline (the rest ends Unanswered), sign off, close."""
        self._is_stopping = True
        self._is_open_now.set()
        self._has_room.set()
        try:
            async with asyncio.timeout(drain_seconds):
                await self._is_idle.wait()
        except TimeoutError:
            pass  # what is left ends with its link
        await asyncio.gather(*(link.sign_off() for link in self._links))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._is_idle.wait()

    # --- state for metrics and routing -------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests submitted and not ended."""
        return len(self._exchanges)

    @property
    def links_up(self) -> int:
        """Links that are signed on."""
        return sum(link.is_up for link in self._links)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether the circuit breaker lets requests through."""
        return self._breaker.state

    # --- LinkOwner ---------------------------------------------------------------------------------------------------

    def on_answer(self, answer: messages.Answer) -> None:
        """Give an answer to its exchange, or report it as unmatched."""
        echoed = answer.echoed
        exchange = self._exchanges.find(answer.mti, echoed)
        if exchange is not None:
            exchange.end(answer.answered(exchange.sent_at))
            return
        self._on_unmatched(
            UnmatchedAnswer(
                network_id=self.network_id,
                mti=answer.mti,
                terminal_id=echoed.terminal_id or "",
                stan=echoed.stan,
                transmitted_at_raw=echoed.transmitted_at or "",
                answer=answer.answered(),
            )
        )

    def on_garbled(self, mti: str, echoed: Echoed) -> None:
        """End the exchange whose answer cannot be read: its outcome is unknown."""
        exchange = self._exchanges.find(mti, echoed)
        if exchange is not None:
            exchange.end(Unanswered(UnansweredCause.GARBLED, exchange.sent_at))

    def on_link_changed(self) -> None:
        """Let waiters look again."""
        if self.is_open:
            self._is_open_now.set()
        if self.links_up:
            self._is_link_up.set()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _room(self, *, follow_up: bool) -> int:
        orders = self._exchanges.orders
        return room(
            self._breaker.state,
            self.config.breaker,
            window=self.config.window,
            orders=self._reserved[False] + orders,
            follow_ups=self._reserved[True] + len(self._exchanges) - orders,
            follow_up=follow_up,
        )

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise NetworkStoppedError(f"network {self.network_id} was stopped")

    def _try_submit(
        self, request: NetworkRequest, send_before: float, done: Callable[[ExchangeResult], None]
    ) -> NotSent | None:
        now = asyncio.get_running_loop().time()
        if now > send_before:
            return NotSent(NotSentCause.TOO_LATE, "submitted after its deadline")
        if self._is_stopping or self._breaker.state is BreakerState.OPEN:
            return NotSent(NotSentCause.NO_LINK, "stopping" if self._is_stopping else "circuit breaker is open")
        link = self._least_loaded()
        if link is None:
            return NotSent(NotSentCause.NO_LINK, "no link is signed on")
        try:
            frame = self._framing.frame(self._encoded(request))
        except (Iso8583Error, FramingError) as error:
            return NotSent(NotSentCause.NOT_ENCODABLE, str(error))
        exchange = Exchange(
            request.trace,
            messages.answer_mti_of(request),
            is_order=isinstance(request, FinancialRequest),
            generation=self._breaker.generation,
            submitted_at=now,
            send_before=send_before,
            done=done,
            on_end=self._end,
        )
        exchange.frame = frame
        if not self._exchanges.add(exchange):
            return NotSent(NotSentCause.NOT_ENCODABLE, "its answer could not be told from that of a request in flight")
        self._is_idle.clear()
        link.send(exchange)
        return None

    def _encoded(self, request: NetworkRequest) -> bytes:
        if isinstance(request, FinancialRequest):
            return self._financial.encode(request)
        return encode_message(messages.request_message(request, self.config), self.config.wire)

    def _least_loaded(self) -> Link | None:
        # Beginning one further each time shares the load of equals.
        links = self._links
        self._next_link = first = (self._next_link + 1) % len(links)
        found, least = None, (True, 0)
        for number in range(first - len(links), first):
            link = links[number]
            if link.is_up and (found is None or link.load < least):
                found, least = link, link.load
        return found

    def _end(self, exchange: Exchange, result: ExchangeResult) -> None:
        self._exchanges.remove(exchange)
        if not len(self._exchanges):
            self._is_idle.set()
        self._has_room.set()
        now = asyncio.get_running_loop().time()
        self._judge(exchange, result, now)
        outcome = "answered" if isinstance(result, Answered) else result.cause.value
        self._observer.exchange_ended(self.network_id, outcome, now - exchange.submitted_at)
        self._tell(exchange.done, result)

    def _refuse(self, refusal: NotSent, done: Callable[[ExchangeResult], None]) -> None:
        self._observer.exchange_ended(self.network_id, refusal.cause.value, 0.0)
        self._tell(done, refusal)

    def _tell(self, done: Callable[[ExchangeResult], None], result: ExchangeResult) -> None:
        try:
            done(result)
        except Exception as error:  # noqa: BLE001  # one caller's fault must not take the other exchanges with it
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the caller failed to take the result of an exchange", "exception": error}
            )

    def _judge(self, exchange: Exchange, result: ExchangeResult, now: float) -> None:
        changed = self._breaker.ended(exchange.generation, result, now, is_order=exchange.is_order)
        if changed:
            self._on_breaker_changed()

    def _on_breaker_changed(self) -> None:
        self._observer.breaker_state(self.network_id, self._breaker.state)
        self._has_room.set()
        self.on_link_changed()
        if self._breaker.state is BreakerState.OPEN:
            self._spawn(self._probe())

    async def _probe(self) -> None:
        loop = asyncio.get_running_loop()
        while self._breaker.state is BreakerState.OPEN:
            await asyncio.sleep(max(0.0, self._breaker.probe_at - loop.time()))
            link = self._least_loaded()
            if link is None:
                self._is_link_up.clear()
                await self._is_link_up.wait()
                continue
            # Without echoes the trial requests alone are the probe.
            answered = self.config.echo_interval_s == 0 or await link.echo()
            if self._breaker.probed(loop.time(), answered=answered):
                self._on_breaker_changed()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a task of network {self.network_id} ended", "exception": error}
            )
