"""The API over HTTP: TLS 1.3, with a certificate of the recipient's that an authority of ours has signed.

What is said of a fault is its code: no trace, no value of what came. Nothing of a call is logged.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic_core import to_json

from gateway.base.expecting import answer_expect
from gateway.base.process import Observer
from gateway.portability.api.answering import STAGE, Answer, PullService, fault
from gateway.portability.api.connections import ConnectionBounds, Connections
from gateway.portability.api.rules.calls import BODY_BYTES_MAX, Call, tran_id_of
from gateway.portability.api.rules.codes import RspCode
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MASTER_KEY_BYTES, MasterKeys, Purpose

_LINE_BYTES_MAX: Final = 4096
_HANDSHAKE_S: Final = 10.0
_KEEPALIVE_S: Final = 30.0
_CONNECTIONS_WAITING: Final = 128


def server_context(certificate: Path, key: Path, clients: Path) -> ssl.SSLContext:
    """TLS 1.3 alone, and only with a certificate that an authority in ``clients`` (PEM) has signed.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients)
    # A session that is taken up again would not show a certificate that was renewed meanwhile.
    context.num_tickets = 0
    return context


def page_marks(key: Path) -> HmacMarks:
    """What marks ``next_page``: derived from the server's private key, so that all who serve under it know each other.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    private = load_pem_private_key(key.read_bytes(), None)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    derived = HKDF(SHA256(), MASTER_KEY_BYTES, None, b"mypay.next-page").derive(der)
    return HmacMarks(MasterKeys({"page": derived}), Purpose.NEXT_PAGE)


class PullServer:
    """Serves the API. ``start`` before use; ``port`` is the real one where 0 was asked for.

    Args:
        now_s: seconds since the epoch.
    """

    def __init__(
        self,
        service: PullService,
        context: ssl.SSLContext,
        *,
        host: str,
        port: int,
        timeout_s: float,
        observer: Observer,
        bounds: ConnectionBounds | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._now_s = now_s
        self._bounds = bounds or ConnectionBounds()
        self._connections: Connections | None = None
        self._context = context
        self._host = host
        self._timeout_s = timeout_s
        self._observer = observer
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._stopping = False
        self.port = port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{_:.*}", self._handle, expect_handler=answer_expect)
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=_KEEPALIVE_S,
            max_line_size=_LINE_BYTES_MAX,
            max_field_size=_LINE_BYTES_MAX,
            # What is too large is not read to its end.
            lingering_time=0.0,
        )
        await runner.setup()
        self._runner = runner
        if runner.server is None:
            raise AssertionError("a runner that is set up has a server")
        self._connections = Connections(
            runner.server,
            self._bounds,
            whose=lambda transport: _shown(transport.get_extra_info("ssl_object")),
            cut=lambda reason: self._observer.count(STAGE, "cut", reason=reason),
        )
        self._server = await asyncio.get_running_loop().create_server(
            self._connections,
            self._host,
            self.port,
            ssl=self._context,
            ssl_handshake_timeout=_HANDSHAKE_S,
            backlog=_CONNECTIONS_WAITING,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no more connections, and end the calls in hand; calls that come on open ones meanwhile are told so."""
        self._stopping = True
        server, self._server = self._server, None
        if server is not None:
            server.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.shutdown()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        if self._connections is None:
            raise AssertionError("a server that was started has connections")
        transport = request.transport
        self._connections.head_is_read(transport)
        try:
            return await self._answered(request)
        finally:
            self._connections.is_answered(transport)

    async def _answered(self, request: web.Request) -> web.Response:
        try:
            call = Call(
                method=request.method,
                # As it was written: "%2F" is part of no id here.
                path=request.url.raw_path,
                query=list(request.query.items()),
                headers=[(name.lower(), value) for name, value in request.headers.items()],
            )
        except ValueError:
            return _response(fault(RspCode.PARAMETER, "the call cannot be read"))
        return _response(await self._answer(request, call))

    async def _answer(self, request: web.Request, call: Call) -> Answer:
        code, member = RspCode.MAINTENANCE, ""
        if self._now_s() >= _certified_until(request):
            # Looked at when the connection began, which may be long ago.
            code = RspCode.CERTIFICATE
        elif not self._stopping:
            try:
                async with asyncio.timeout(self._timeout_s):
                    read = replace(call, body=await request.read())
                    return await self._service.answer(_fingerprint(request), read)
            except TimeoutError:
                code = RspCode.TIMEOUT
            except web.HTTPRequestEntityTooLarge:
                code, member = RspCode.PARAMETER, "the body is too large"
            except (ValueError, web.HTTPException):
                code, member = RspCode.PARAMETER, "the call cannot be read"
            except Exception as error:  # noqa: BLE001 - told by its kind, here and to nobody else
                self._observer.note("call_failed", level="error", reason=type(error).__name__)
                self._observer.count(STAGE, "incident", reason="call_failed")
                code = RspCode.UNKNOWN
        self._observer.count(STAGE, "refused", reason=code.value)
        return fault(code, member, tran_id=tran_id_of(call))


def _certified_until(request: web.Request) -> float:
    """When the certificate that the other side has shown ends, in seconds since the epoch."""
    session: ssl.SSLObject = request.get_extra_info("ssl_object")
    return ssl.cert_time_to_seconds(str((session.getpeercert() or {})["notAfter"]))


def _fingerprint(request: web.Request) -> str:
    return _shown(request.get_extra_info("ssl_object"))


def _shown(session: ssl.SSLObject) -> str:
    """SHA-256 of the certificate that the other side has shown."""
    return hashlib.sha256(session.getpeercert(binary_form=True) or b"").hexdigest()


def _response(answer: Answer) -> web.Response:
    # A server of its own says what it is made of.
    headers = {"Content-Type": "application/json; charset=UTF-8", "Cache-Control": "no-store", "Server": "mypay"}
    if answer.tran_id is not None:
        headers["x-api-tran-id"] = answer.tran_id
    if answer.retry_after:
        headers["Retry-After"] = str(answer.retry_after)
    return web.Response(status=answer.code.status, body=to_json(answer.body), headers=headers)
