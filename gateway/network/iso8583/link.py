"""One link of a network: connect, sign on, carry requests, prove it is alive, and begin again when it is not.

Sign-on (0800/001) comes before any request; an echo (0800/301) goes out when nothing has arrived for a while. What the
host asks itself is answered or refused by the tables of :mod:`gateway.network.iso8583.messages`. A host that signs
this link off gets no new requests on it until it signs it on again, or ``sign_off_wait_s`` have passed, whether or not
the connection lasts.

Bytes leave and arrive whole in ``send``, ``_send_control`` and ``on_frame`` alone: the place of a message
authentication code (DE64, DE128).
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.base.causes import cause_of
from gateway.network.exchange import Echoed
from gateway.network.iso8583 import messages
from gateway.network.iso8583.answers import AnswerReader
from gateway.network.iso8583.codec import Iso8583Error, Message, decode_arriving, encode_message, encode_refusal
from gateway.network.iso8583.config import Address, NetworkConfig
from gateway.network.iso8583.connection import Connection, Exchange
from gateway.network.iso8583.dialect import ANSWERS
from gateway.network.iso8583.observer import LinkObserver, LinkState
from gateway.network.iso8583.tls import TlsError, client_context, tls_failure
from gateway.network.matching import MatchBy

SIGN_OFF_TIMEOUT_S: Final = 1.0
"""A courtesy: the link closes whether or not the host confirms."""


class LinkDownError(Exception):
    """The link cannot be used any more; the text says why."""


class LinkOwner(Protocol):
    """The network that a link belongs to."""

    def on_answer(self, answer: messages.Answer) -> None:
        """An answer to a request arrived."""

    def on_garbled(self, mti: str, echoed: Echoed) -> None:
        """An answer with these numbers arrived that could not be decoded."""

    def on_link_changed(self) -> None:
        """``is_up`` of a link may have changed."""


class Link:
    """One link. :meth:`run` is its whole life.

    Attributes:
        name: ``host:port#number``.
        state: where it stands.
    """

    def __init__(
        self,
        config: NetworkConfig,
        address: Address,
        number: int,
        *,
        owner: LinkOwner,
        observer: LinkObserver,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"{address}#{number}"
        self.state = LinkState.DOWN
        self._config = config
        self._address = address
        self._owner = owner
        self._observer = observer
        self._now = now
        self._jitter = jitter
        self._answers = AnswerReader(config.wire)
        self._connection: Connection | None = None
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._stan = 0
        self._resume_at: float | None = None
        self._management: dict[str, asyncio.Future[Message]] = {}

    # --- used by the pool --------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """True while requests may be sent here."""
        return self.state is LinkState.UP and self._connection is not None and not self._connection.is_lost

    @property
    def load(self) -> tuple[bool, int]:
        """Whether the peer does not take what was written, and the exchanges here: for choosing the least loaded."""
        connection = self._connection
        return (connection.is_paused, connection.load) if connection is not None else (False, 0)

    def send(self, exchange: Exchange) -> None:
        """Send one request; only while :attr:`is_up`."""
        assert self._connection is not None  # noqa: S101  # is_up says so
        self._connection.send(exchange)

    async def echo(self) -> bool:
        """Send one echo and return whether the host confirmed it in time."""
        try:
            return await self._manage(messages.ECHO, self._config.echo_timeout_s) == messages.APPROVED
        except LinkDownError:
            return False

    async def run(self) -> None:
        """Keep the link up until cancelled or signed off."""
        attempt = 0
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            began = loop.time()
            reason = "closed"
            try:
                await self._left_in_peace()
                await self._live()
            except (LinkDownError, TlsError) as down:
                reason = str(down)
            except TimeoutError:
                reason = "the host did not answer in time"
            except OSError as error:
                reason = f"cannot connect: {cause_of(error)}"
            finally:
                self._leave(reason)
            # A link that held for long starts over gently; one that keeps falling backs off.
            attempt = 0 if loop.time() - began > self._config.backoff_max_s else attempt + 1
            ceiling = min(self._config.backoff_max_s, self._config.backoff_min_s * 2 ** min(attempt, 16))
            await asyncio.sleep(ceiling * self._jitter())

    async def sign_off(self) -> None:
        """Tell the host that this link closes (0800/002), then close it for good."""
        self._is_stopping = True
        connection = self._connection
        if connection is None or connection.is_lost:
            return
        if self.state is LinkState.UP and self._config.sign_on:
            self._set_state(LinkState.SIGNED_OFF, "stopped")
            try:
                await self._manage(messages.SIGN_OFF, SIGN_OFF_TIMEOUT_S)
            except LinkDownError:
                return
        connection.close("stopped")
        await connection.lost.wait()

    # --- one connection's life ---------------------------------------------------------------------------------------

    async def _live(self) -> None:
        config = self._config
        self._set_state(LinkState.CONNECTING)
        connection = await self._connect()
        if config.sign_on:
            self._set_state(LinkState.SIGNING_ON)
            await self._sign_on()
        self._set_state(LinkState.UP)
        await self._watch(connection)

    async def _connect(self) -> Connection:
        config, loop = self._config, asyncio.get_running_loop()
        connection = Connection(
            config.framing,
            self,
            write_deadline_s=config.write_deadline_s,
            answer_timeout_s=config.answer_timeout_s,
        )
        if config.tls is None:
            async with asyncio.timeout(config.connect_timeout_s):
                await loop.create_connection(lambda: connection, *self._address)
            self._connection = connection
            return connection
        context = await asyncio.to_thread(client_context, config.tls)
        async with asyncio.timeout(config.connect_timeout_s):
            plain, _ = await loop.create_connection(asyncio.Protocol, *self._address)
        # As for the connection itself: what the kernel has not taken holds up what comes after it.
        plain.set_write_buffer_limits(high=0)
        try:
            transport = await loop.start_tls(
                plain,
                connection,
                context,
                server_hostname=config.tls.server_name or self._address.host,
                ssl_handshake_timeout=config.connect_timeout_s,
            )
        except OSError as error:
            plain.abort()
            raise LinkDownError(tls_failure(error)) from None
        except asyncio.CancelledError:
            plain.abort()
            raise
        if transport is None:
            raise LinkDownError(tls_failure(ConnectionResetError()))
        self._connection = connection
        connection.connection_made(transport)
        return connection

    async def _sign_on(self) -> None:
        code = await self._manage(messages.SIGN_ON, self._config.answer_timeout_s)
        if code != messages.APPROVED:
            raise LinkDownError("sign-on was not answered" if code is None else "sign-on was refused")

    async def _left_in_peace(self) -> None:
        """Wait for as long as a host that signed off and closed is to be left alone."""
        resume_at, self._resume_at = self._resume_at, None
        if resume_at is not None:
            self._wake.clear()
            await self._sleep(max(0.0, resume_at - asyncio.get_running_loop().time()))

    async def _watch(self, connection: Connection) -> None:
        config = self._config
        loop = asyncio.get_running_loop()
        missed = 0
        while True:
            self._wake.clear()
            if connection.is_lost:
                raise LinkDownError(connection.reason)
            if self._is_stopping:
                await self._sleep(None)
            elif self._resume_at is not None:
                await self._wait_for_sign_on(self._resume_at)
            elif config.echo_interval_s == 0:
                await self._sleep(None)
            elif (idle_left := connection.last_read + config.echo_interval_s - loop.time()) > 0:
                await self._sleep(idle_left)
                missed = 0
            elif not await self._proves_alive(connection):
                missed += 1
                self._observer.echo_missed(config.network_id, self.name, missed)
                if missed >= config.echo_missed_max:
                    raise LinkDownError("echoes were not answered")

    async def _proves_alive(self, connection: Connection) -> bool:
        read_before = connection.last_read
        await self._manage(messages.ECHO, self._config.echo_timeout_s)
        return connection.last_read > read_before

    async def _wait_for_sign_on(self, resume_at: float) -> None:
        left = resume_at - asyncio.get_running_loop().time()
        if left > 0:
            await self._sleep(left)
            return
        self._resume_at = None
        if self._config.sign_on:
            await self._sign_on()
        self._set_state(LinkState.UP)

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _manage(self, code: str, timeout_s: float) -> str | None:
        """Send one 0800 and return DE39 of its 0810, or None where none came in time."""
        connection = self._connection
        if connection is None or connection.is_lost:
            raise LinkDownError(connection.reason if connection else "not connected")
        self._stan = self._stan % 999_999 + 1
        acquirer_id = self._config.acquirer_id
        message = messages.network_management(code, stan=self._stan, at=self._now(), acquirer_id=acquirer_id)
        answer = asyncio.get_running_loop().create_future()
        self._management[message[11]] = answer
        self._send_control(encode_message(message, self._config.wire))
        try:
            async with asyncio.timeout(timeout_s):
                response: Message = await answer
        except TimeoutError:
            return None
        finally:
            del self._management[message[11]]
        return response[39] if response.get(70) in {None, code} else None

    def _send_control(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.send_control(self._config.framing.frame(data))

    def _leave(self, reason: str) -> None:
        # Down first: no request may be given to a connection that is being dropped.
        self._set_state(LinkState.DOWN, reason)
        if self._connection is not None:
            self._connection.abort(reason)
            self._connection = None
        self._fail_management(reason)

    def _fail_management(self, reason: str) -> None:
        for answer in self._management.values():
            if not answer.done():
                answer.set_exception(LinkDownError(reason))

    def _set_state(self, state: LinkState, reason: str = "") -> None:
        if state is not self.state:
            self.state = state
            self._observer.link_state(self._config.network_id, self.name, state, reason)
            self._owner.on_link_changed()

    # --- ConnectionOwner ---------------------------------------------------------------------------------------------

    def on_bytes(self, *, sent: int = 0, received: int = 0) -> None:
        """See ConnectionOwner."""
        self._observer.bytes_moved(self._config.network_id, self.name, sent=sent, received=received)

    def on_lost(self, connection: Connection) -> None:
        """See ConnectionOwner."""
        if connection is not self._connection:
            return  # the link has left it already
        self._wake.set()
        self._fail_management(connection.reason)

    def on_frame(self, data: bytes) -> None:
        """See ConnectionOwner."""
        answer = self._answers.read(data)
        if answer is not None:
            self._owner.on_answer(answer)
            return
        config = self._config
        try:
            message = decode_arriving(data, config.wire, by_time=config.matching is MatchBy.STRICT)
        except Iso8583Error as error:
            self._observer.undecodable(config.network_id, self.name, error.field, error.reason)
            if error.echoed is not None and error.mti in ANSWERS:
                self._owner.on_garbled(error.mti, error.echoed)
            return
        if 0 in message.others:
            self._observer.undecodable(config.network_id, self.name, "message", "its end cannot be read")
        if message.mti == messages.NETWORK_MANAGEMENT_ANSWER:
            self._on_management_answer(message)
        elif message.mti in ANSWERS:
            self._owner.on_answer(messages.answer_of(message))
        else:
            self._answer_host(message)

    def _on_management_answer(self, message: Message) -> None:
        answer = self._management.get(message[11])
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self._observer.unexpected(self._config.network_id, self.name, message.mti)

    def _answer_host(self, request: Message) -> None:
        code = messages.answer_to_host(request)
        management = request.get(70) if request.mti[1] == "8" else None
        if management not in messages.HOST_MANAGEMENT:
            self._observer.host_asked(self._config.network_id, self.name, request.mti, code)
        try:
            self._send_control(encode_refusal(messages.response_to(request, code), self._config.wire))
        except Iso8583Error as error:
            self._observer.undecodable(self._config.network_id, self.name, error.field, error.reason)
            return
        if management == messages.SIGN_OFF and self.state is LinkState.UP:
            self._resume_at = asyncio.get_running_loop().time() + self._config.sign_off_wait_s
            self._set_state(LinkState.SIGNED_OFF, "signed off by the host")
        elif management == messages.SIGN_ON and self._resume_at is not None:
            self._resume_at = None
            self._set_state(LinkState.UP)
        self._wake.set()
