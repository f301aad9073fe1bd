"""One link of a network: connect, sign on, carry requests, prove it is alive, and begin again when it is not.

Sign-on (0800/001) comes before any request; an echo (0800/301) goes out when nothing has arrived for a while; the
host's own 0800s are answered. A host that signs this link off gets no new requests on it: the link closes when what is
in flight has ended, and connects anew, unless the host signs it on again before.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.adapters.iso8583 import codec
from gateway.adapters.iso8583.codec import Iso8583Error, MatchKey, Message
from gateway.adapters.iso8583.config import Address, NetworkConfig
from gateway.adapters.iso8583.connection import Connection, Exchange
from gateway.adapters.iso8583.observer import LinkObserver, LinkState

SIGN_OFF_TIMEOUT_S: Final = 1.0
"""A courtesy: the link closes whether or not the host confirms."""


class LinkDownError(Exception):
    """The link cannot be used any more; the text says why."""


class LinkOwner(Protocol):
    """The network that a link belongs to."""

    def on_response(self, message: Message) -> None:
        """A response other than 0810 arrived."""

    def on_garbled(self, key: MatchKey) -> None:
        """A message with this key arrived that could not be decoded."""

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
        self._connection: Connection | None = None
        self._is_stopping = False
        self._wake = asyncio.Event()
        self._stan = 0
        self._management: dict[tuple[str, str], asyncio.Future[Message]] = {}

    # --- used by the pool --------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """True while requests may be sent here."""
        return self.state is LinkState.UP and self._connection is not None and not self._connection.is_lost

    @property
    def load(self) -> int:
        """Exchanges on this link, for choosing the least loaded."""
        return self._connection.load if self._connection is not None else 0

    @property
    def is_paused(self) -> bool:
        """True while the peer does not take what was written."""
        return self._connection is not None and self._connection.is_paused

    def send(self, exchange: Exchange) -> None:
        """Send one request; only while :attr:`is_up`."""
        assert self._connection is not None  # noqa: S101  # is_up says so
        self._connection.send(exchange)

    async def echo(self) -> bool:
        """Send one echo and return whether the host confirmed it in time."""
        try:
            return await self._manage(codec.ECHO, self._config.echo_timeout_s) == codec.APPROVED
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
                await self._live()
            except LinkDownError as down:
                reason = str(down)
            except (OSError, TimeoutError) as error:
                reason = f"cannot connect ({type(error).__name__})"
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
                await self._manage(codec.SIGN_OFF, SIGN_OFF_TIMEOUT_S)
            except LinkDownError:
                return
        connection.close("stopped")
        await connection.lost.wait()

    # --- one connection's life ---------------------------------------------------------------------------------------

    async def _live(self) -> None:
        config = self._config
        self._set_state(LinkState.CONNECTING)
        async with asyncio.timeout(config.connect_timeout_s):
            _, self._connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(
                    config.framing,
                    self,
                    write_deadline_s=config.write_deadline_s,
                    answer_timeout_s=config.answer_timeout_s,
                ),
                *self._address,
            )
        if config.sign_on:
            self._set_state(LinkState.SIGNING_ON)
            code = await self._manage(codec.SIGN_ON, config.answer_timeout_s)
            if code != codec.APPROVED:
                raise LinkDownError("sign-on was not answered" if code is None else "sign-on was refused")
        self._set_state(LinkState.UP)
        await self._watch(self._connection)

    async def _watch(self, connection: Connection) -> None:
        config = self._config
        loop = asyncio.get_running_loop()
        missed = 0
        signed_off_at: float | None = None
        while True:
            self._wake.clear()
            if connection.is_lost:
                raise LinkDownError(connection.reason)
            if self._is_stopping:
                await self._sleep(None)
                continue
            if self.state is LinkState.SIGNED_OFF:
                signed_off_at = signed_off_at or loop.time()
                left = signed_off_at + config.answer_timeout_s - loop.time()
                if self.load == 0 or left <= 0:
                    raise LinkDownError("signed off by the host")
                await self._sleep(left)
                continue
            signed_off_at = None
            if config.echo_interval_s == 0:
                await self._sleep(None)
                continue
            idle_left = connection.last_read + config.echo_interval_s - loop.time()
            if idle_left > 0:
                await self._sleep(idle_left)
                missed = 0
                continue
            read_before = connection.last_read
            await self._manage(codec.ECHO, config.echo_timeout_s)
            if connection.last_read > read_before:
                continue
            missed += 1
            self._observer.echo_missed(config.network_id, self.name, missed)
            if missed >= config.echo_missed_max:
                raise LinkDownError("echoes were not answered")

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
        message = codec.network_management(code, stan=self._stan, at=self._now(), acquirer_id=self._config.acquirer_id)
        key = (message[11], message[7])
        answer = asyncio.get_running_loop().create_future()
        self._management[key] = answer
        self._send_management(message)
        try:
            async with asyncio.timeout(timeout_s):
                response: Message = await answer
        except TimeoutError:
            return None
        finally:
            del self._management[key]
        return response[39]

    def _send_management(self, message: Message) -> None:
        if self._connection is not None:
            data = codec.encode_message(message, self._config.wire)
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
        try:
            message = codec.decode_message(data, self._config.wire)
        except Iso8583Error as error:
            self._observer.undecodable(self._config.network_id, self.name, error.field, error.reason)
            if error.match_key is not None:
                self._owner.on_garbled(error.match_key)
            return
        if message.mti == "0810":
            answer = self._management.get((message[11], message[7]))
            if answer is not None and not answer.done():
                answer.set_result(message)
            else:
                self._observer.unexpected(self._config.network_id, self.name, message.mti)
        elif message.mti == "0800":
            self._answer_management(message)
        elif codec.response_mti(message.mti) is None and 4 in message.fields:
            self._owner.on_response(message)
            if self.state is LinkState.SIGNED_OFF:
                self._wake.set()
        else:
            self._observer.unexpected(self._config.network_id, self.name, message.mti)

    def _answer_management(self, request: Message) -> None:
        code = request[70]
        known = code in {codec.SIGN_ON, codec.SIGN_OFF, codec.ECHO}
        self._send_management(codec.response_to(request, codec.APPROVED if known else codec.FUNCTION_NOT_SUPPORTED))
        if code == codec.SIGN_OFF and self.state is LinkState.UP:
            self._set_state(LinkState.SIGNED_OFF, "signed off by the host")
        elif code == codec.SIGN_ON and self.state is LinkState.SIGNED_OFF:
            self._set_state(LinkState.UP)
        self._wake.set()
