"""The network host: TCP links in front, one batch at a time to the ledger, answers only after the commit.

The event loop reads, decodes, encodes and writes; everything that touches the ledger runs in one worker thread. While a
batch commits the next one gathers, so the commit's cost is shared by whatever arrived meanwhile.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, NamedTuple, TypeVar

import structlog

from gateway.network.iso8583.framing import FrameFormat
from gateway.network.iso8583.layout import Layout
from gateway.proving.counterparts import clearing, messages
from gateway.proving.counterparts.config import ClearingFaults, Faults, OnUnsigned, Silence, SimulatorConfig
from gateway.proving.counterparts.faults import UNLISTED, Plan, draw, garble, is_faultless, with_noise
from gateway.proving.counterparts.ledger import Ledger
from gateway.proving.counterparts.link import Link
from gateway.proving.counterparts.mixed_wire import MixedWire
from gateway.proving.counterparts.records import Cycle, Request
from gateway.proving.counterparts.rules import Rules, Ruling
from gateway.proving.counterparts.wire import MTI, Wire, WireError

_log: Final = structlog.get_logger("simulator")

# Links stop being read above this many undecided requests: three seconds of work at full load.
_BACKLOG_MAX: Final = 20_000

T = TypeVar("T")


class ClearingNotConfiguredError(RuntimeError):
    """The network has no clearing directory, so no cycle can be closed."""


class _Waiting(NamedTuple):
    link: Link
    fields: dict[int, str]
    request: Request
    plan: Plan | None


class Host:
    """One network host: :meth:`start`, :meth:`serve` until :meth:`begin_stop`, then :meth:`close`."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Open the ledger.

        Raises:
            LedgerError, sqlite3.Error: it cannot be used.
        """
        self.config = config
        self.links: set[Link] = set()
        layout = config.wire_layout
        self._wire = Wire(config.dialect) if layout == Layout(config.dialect) else MixedWire(layout)
        self._mandatory = layout.mandatory()
        self._frame = FrameFormat(config.header, counts_itself=config.header_counts_itself)
        key = config.pan_hash_key
        self._pan_hash_key = key.get_secret_value().encode() if key else None
        rules = Rules(config.declines, config.policy, config.seed)
        self._ledger = Ledger(config.ledger.path, rules, config.ledger.synchronous)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        # Apart, so that turning one kind of noise on does not change the other's draws.
        self._fault_stream = Random(config.seed)  # noqa: S311  # reproducible on purpose
        self._latency_stream = Random(config.seed + 1)  # noqa: S311  # likewise
        self._delays = config.latency.base_ms > 0 or config.latency.jitter_ms > 0
        self._waiting: list[_Waiting] = []
        self._arrival = asyncio.Event()
        self._uncommitted: Counter[str] = Counter()
        self._cycle_lock = asyncio.Lock()
        self._silence_end: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._stopping = False
        self.faults = config.faults
        self._faultless = is_faultless(config.faults)

    @property
    def port(self) -> int:
        """The TCP port that is bound; only after :meth:`start`."""
        if self._server is None:
            raise RuntimeError("the host has not started")
        return int(self._server.sockets[0].getsockname()[1])

    def counters(self) -> dict[str, int]:
        """Return every count since the ledger was created, those not yet committed included."""
        return dict(sorted((self._ledger.counters + self._uncommitted).items()))

    def set_faults(self, faults: Faults) -> None:
        """Replace what goes wrong from now on; a silence with a duration ends by itself."""
        self.faults = faults
        self._faultless = is_faultless(faults)
        if self._silence_end is not None:
            self._silence_end.cancel()
            self._silence_end = None
        if faults.silence is not Silence.OFF and faults.silence_seconds is not None:
            loop = asyncio.get_running_loop()
            self._silence_end = loop.call_later(faults.silence_seconds, self._end_silence)

    def _end_silence(self) -> None:
        self.set_faults(self.faults.model_copy(update={"silence": Silence.OFF, "silence_seconds": None}))
        _log.info("silence_ended")

    async def start(self) -> None:
        """Finish clearing files that a crash left open, then listen.

        Raises:
            OSError: the address cannot be bound, or a clearing file cannot be written.
        """
        self.set_faults(self.config.faults)
        if self.config.clearing.directory is not None:
            for cycle in await self._in_worker(self._ledger.unwritten_cycles):
                await self._write_clearing(cycle)
        loop = asyncio.get_running_loop()
        context = self.config.tls.context() if self.config.tls is not None else None
        self._server = await loop.create_server(
            lambda: Link(self, self._frame), self.config.host, self.config.port, backlog=512, ssl=context
        )

    async def serve(self) -> None:
        """Book and answer until :meth:`begin_stop`; requests of a batch that the ledger refused stay unanswered."""
        window_s = self.config.ledger.commit_window_ms / 1000
        batch_max = self.config.ledger.batch_max
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                self._arrival.clear()
                await self._arrival.wait()
            if len(self._waiting) < batch_max and window_s:
                await asyncio.sleep(window_s)
            if self._waiting:
                await self._book_batch(batch_max)

    def begin_stop(self) -> None:
        """Listen and read no more; :meth:`serve` ends when what has arrived is booked and answered."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        if self._silence_end is not None:
            self._silence_end.cancel()
        for link in self.links:
            link.pause_reading()
        self._arrival.set()

    async def close(self) -> None:
        """Close the links, the clearing cycle if so configured, and the ledger."""
        for link in tuple(self.links):
            link.close()
        try:
            if self._uncommitted:
                await self._commit([])
            if self.config.clearing.close_on_stop and self.config.clearing.directory is not None:
                await self.close_cycle()
        finally:
            await self._in_worker(self._ledger.close)
            self._worker.shutdown()

    async def close_cycle(self, faults: ClearingFaults | None = None) -> clearing.ClearingSummary:
        """Close the clearing cycle and write its file.

        Args:
            faults: instead of the configured ones, for this file alone.

        Raises:
            ClearingNotConfiguredError: there is no directory.
            OSError, sqlite3.Error: not written; the cycle stays closed, and the next start writes its file.
        """
        async with self._cycle_lock:
            if self.config.clearing.directory is None:
                raise ClearingNotConfiguredError
            wrong = self.config.clearing.faults if faults is None else faults
            now = datetime.now(UTC)
            cycle = await self._in_worker(lambda: self._ledger.close_cycle(now, wrong))
            return await self._write_clearing(cycle)

    async def _write_clearing(self, cycle: Cycle) -> clearing.ClearingSummary:
        directory = self.config.clearing.directory
        if directory is None:
            raise ClearingNotConfiguredError
        summary = await asyncio.to_thread(
            clearing.write_file,
            self._ledger.path,
            cycle,
            self.config.network_id,
            directory,
            seal_key=self.config.clearing.seal_key,
        )
        await self._in_worker(lambda: self._ledger.mark_written(cycle.cycle_id, summary.path.name))
        _log.info("cycle_closed", cycle_id=cycle.cycle_id, records=summary.record_count, sum_minor=summary.sum_minor)
        return summary

    async def send_echoes(self, interval_s: float) -> None:
        """Send the host's own echo on every signed-on link, again and again, until cancelled."""
        stan = 0
        while True:
            await asyncio.sleep(interval_s)
            stan = stan % 999_999 + 1
            body = self._wire.encode(messages.echo_request(stan, f"{datetime.now(UTC):%m%d%H%M%S}"))
            for link in self.links:
                if link.signed_on:
                    link.send(body)

    def opened(self, link: Link) -> None:
        """Take a new link."""
        if self._stopping:
            link.close()
            return
        self.links.add(link)
        self._uncommitted["links_opened"] += 1

    def closed(self, link: Link) -> None:
        """Forget a link; answers that it was owed are lost, as on any network."""
        self.links.discard(link)

    def frame_boundary_lost(self) -> None:
        """Count a link that had to be closed because its stream could not be cut into frames."""
        self._uncommitted["framing_errors"] += 1

    def received(self, link: Link, body: bytes) -> None:
        """Take one message. A body that cannot be read is counted and left; the link stays."""
        try:
            fields = self._wire.decode(body)
        except WireError:
            self._uncommitted["bad_messages"] += 1
            return
        mti = fields[MTI]
        message_class = messages.MONEY_CLASSES.get(mti)
        if message_class is None:
            self._manage(link, fields)
        elif not messages.is_answerable(fields):
            self._uncommitted["bad_messages"] += 1
        elif not link.signed_on:
            self._unsigned(link, fields)
        else:
            request = messages.request_of(message_class, fields, self._pan_hash_key, self.config.processing_codes)
            if not self._mandatory.get(mti, frozenset()) <= fields.keys():
                request = messages.FORMAT_ERROR
            if isinstance(request, str):
                self._uncommitted["refused_at_the_door"] += 1
                link.send(self._wire.encode(messages.answer(fields, request)))
            else:
                self._enqueue(link, fields, request)

    def _unsigned(self, link: Link, fields: dict[int, str]) -> None:
        self._uncommitted["unsigned_traffic"] += 1
        if self.config.policy.on_unsigned is OnUnsigned.CLOSE:
            link.close()
        else:
            link.send(self._wire.encode(messages.answer(fields, messages.SYSTEM_UNAVAILABLE)))

    def _enqueue(self, link: Link, fields: dict[int, str], request: Request) -> None:
        plan = None if self._faultless else draw(self.faults, self._fault_stream, request.message_class)
        if plan is not None:
            self._uncommitted.update(f"fault_{name}" for name in plan.names)
            if not plan.applies:
                if plan.closes:
                    link.close()
                return
        self._waiting.append(_Waiting(link, fields, request, plan))
        self._arrival.set()
        if len(self._waiting) >= _BACKLOG_MAX:
            for each in self.links:
                each.pause_reading()

    def _manage(self, link: Link, fields: dict[int, str]) -> None:
        mti, code = fields[MTI], fields.get(70)
        if mti == "0810":
            self._uncommitted["echoes_answered"] += 1
            return
        if mti != "0800" or code is None or not fields.keys() >= {7, 11}:
            self._uncommitted["unsupported_messages" if mti != "0800" else "bad_messages"] += 1
            return
        if self.faults.ignore_management:
            self._uncommitted["fault_ignore_management"] += 1
            return
        answer = messages.management_answer(fields, self._manage_code(link, code))
        if self.config.policy.own_time:
            answer[7] = _own_time()
        link.send(self._wire.encode(answer))

    def _manage_code(self, link: Link, code: str) -> str:
        match code:
            case messages.SIGN_ON if self.faults.refuse_sign_on:
                self._uncommitted["fault_refuse_sign_on"] += 1
                return messages.SYSTEM_UNAVAILABLE
            case messages.SIGN_ON:
                link.signed_on = True
                self._uncommitted["sign_ons"] += 1
            case messages.SIGN_OFF:
                link.signed_on = False
                self._uncommitted["sign_offs"] += 1
            case messages.ECHO | messages.KEY_CHANGE:
                self._uncommitted["echoes"] += 1
            case _:
                return messages.INVALID_TRANSACTION
        return "00"

    async def _book_batch(self, batch_max: int) -> None:
        batch, self._waiting = self._waiting[:batch_max], self._waiting[batch_max:]
        if len(self._waiting) < _BACKLOG_MAX // 2 and not self._stopping:
            for link in self.links:
                link.resume_reading()
        try:
            rulings = await self._commit([waiting.request for waiting in batch])
        except sqlite3.Error as error:
            # Not booked, so not answered: the other side must treat these as unknown, and will.
            self._uncommitted["ledger_failures"] += 1
            _log.error("batch_not_booked", requests=len(batch), error=type(error).__name__)
            return
        self._answer_batch(batch, rulings)

    async def _commit(self, requests: list[Request]) -> list[Ruling]:
        counted, self._uncommitted = self._uncommitted, Counter()
        now_us = time.time_ns() // 1000
        try:
            return await self._in_worker(lambda: self._ledger.process(requests, counted, now_us))
        except sqlite3.Error:
            self._uncommitted += counted
            raise

    async def _in_worker(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _answer_batch(self, batch: list[_Waiting], rulings: list[Ruling]) -> None:
        together: dict[Link, list[bytes]] = {}
        for (link, fields, _, plan), ruling in zip(batch, rulings, strict=True):
            if plan is not None:
                self._answer_faultily(link, fields, ruling, plan)
                continue
            body = self._wire.encode(self._told(fields, ruling))
            if self._delays:
                self._send_later(link, body, self._latency_s())
            else:
                together.setdefault(link, []).append(body)
        for link, bodies in together.items():
            link.send_all(bodies)

    def _told(self, fields: dict[int, str], ruling: Ruling) -> dict[int, str]:
        answer = messages.answer(fields, ruling.response_code, ruling.approval_code)
        if self.config.policy.own_time:
            answer[7] = _own_time()
        if self.config.policy.omits_terminal:
            answer.pop(41, None)
        return answer

    def _answer_faultily(self, link: Link, fields: dict[int, str], ruling: Ruling, plan: Plan) -> None:
        if plan.closes:
            link.close()
        if not plan.answers:
            return
        answer = self._told(fields, ruling)
        if plan.unlisted:
            answer[39] = self._fault_stream.choice(UNLISTED)
        if plan.wrong_amount:
            answer[4] = f"{(int(answer[4]) + 1) % 10**12:012d}"
        if plan.wrong_rrn:
            answer[37] = ("X" if answer[37][0] != "X" else "Y") + answer[37][1:]
        body = with_noise(answer, self._wire.encode) if plan.noisy else self._wire.encode(answer)
        if plan.garbled:
            body = garble(body, self._fault_stream)
        if plan.other_link:
            link = next((other for other in self.links if other is not link and other.signed_on), link)
        delay_s = self._latency_s() + plan.late_ms / 1000
        self._send_later(link, body, delay_s)
        if plan.duplicate_answer:
            self._send_later(link, body, delay_s)

    def _latency_s(self) -> float:
        latency = self.config.latency
        spread = self._latency_stream.uniform(-latency.jitter_ms, latency.jitter_ms) if latency.jitter_ms else 0.0
        return max(0.0, latency.base_ms + spread) / 1000

    @staticmethod
    def _send_later(link: Link, body: bytes, delay_s: float) -> None:
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, link.send, body)
        else:
            link.send(body)


def _own_time() -> str:
    """The host's clock on its wall: nine hours ahead, as hosts do that take DE7 for their own local time."""
    return f"{datetime.now(UTC) + timedelta(hours=9):%m%d%H%M%S}"
