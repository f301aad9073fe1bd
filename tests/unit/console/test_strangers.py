"""What nobody expects at the console's doors: each of it is answered, and none of it as a fault of the console's."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import pytest
from aiohttp import web

from gateway.app.console import ConsoleDatabase
from gateway.base.errors import StoreIntegrityError
from gateway.base.process import SilentObserver
from gateway.console.letters import Letters
from gateway.console.oidc import Attempt, OidcClient, OidcError
from gateway.console.rules.access import GUARDED, ROUTES, Kind
from gateway.console.sampling import Samples
from gateway.console.serving import handlers
from gateway.console.signing_in import SignedIn, SigningIn
from gateway.console.web import Console, application, environment
from gateway.directory.console_roles import ConsoleRole, ConsoleSession, Failures
from tests.support.console import settings_of

NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
TOKEN: Final = "the-session-of-an-approver"
ATTEMPT: Final = Attempt("state", "nonce", "verifier")

STRANGE: Final = (
    *(b"", b"%", b"%00", b"%ff%fe", b"%ed%b2%80", b"\xff\xfe", b"\xed\xb2\x80", "김".encode(), b"\x01", b"\t", b'";"'),
    *(b"a=b;c=d", b"..", b"%2e%2e%2f", b"{{7*7}}", b"<script>", b"%0d%0aX: y", b"9" * 40, b"x" * 3000, b"NaN"),
    *(b"a.b.c", b"state.\xff.x", b"\xc3.\xa4.\xff", b"*"),
)
"""Values of anything: of no encoding, of surrogates, controls, delimiters, numbers that are none."""


class Still:
    def now(self) -> datetime:
        return NOW


def checked(arguments: Sequence[Any]) -> None:
    """Refuse what PostgreSQL refuses: text that is no UTF-8, and NUL."""
    for argument in arguments:
        for text in argument if isinstance(argument, list | tuple) else [argument]:
            if isinstance(text, str) and (not text.isascii() or "\0" in text):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise StoreIntegrityError("DataError") from None
                if "\0" in text:
                    raise StoreIntegrityError("CharacterNotInRepertoireError")


class Nothing:
    """A database's connection that knows of nothing, and takes what PostgreSQL takes."""

    async def fetch(self, _: str, *arguments: Any, **__: Any) -> list[Any]:
        checked(arguments)
        return []

    async def fetchrow(self, sql: str, *arguments: Any, **__: Any) -> None:
        await self.fetch(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any, **__: Any) -> None:
        await self.fetch(sql, *arguments)


class Rows:
    """Who is signed in, without a database."""

    operator_dsn = ""

    @asynccontextmanager
    async def sign_ins(self) -> AsyncIterator["Rows"]:
        yield self

    @asynccontextmanager
    async def view(self, kind: Any) -> AsyncIterator[Any]:
        yield kind(Nothing())

    async def session(self, hashed: bytes, **_: Any) -> ConsoleSession | None:
        known = hash_of(TOKEN)
        return ConsoleSession("boss", ConsoleRole.APPROVER, True, NOW, NOW) if hashed == known else None

    async def spelling(self, name: str) -> None:
        checked([name])

    async def user(self, name: str) -> None:
        checked([name])

    async def lock_name(self, name: str) -> None:
        checked([name])

    async def failures(self, *_: Any, **__: Any) -> Failures:
        return Failures(of_name=0, of_peer=0, told_name=False, told_peer=False)

    async def note(self, name: str, *_: Any) -> None:
        checked([name])


def hash_of(token: str) -> bytes:
    return sha256(token.encode()).digest()


class Provider(OidcClient):
    """An identity provider that is away."""

    async def _discover(self) -> dict[str, Any]:
        return {"issuer": "https://idp.example", "token_endpoint": "", "authorization_endpoint": "https://idp.example"}

    async def _json(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise OidcError("the provider does not answer")


class Told(SilentObserver):
    def __init__(self) -> None:
        self.faults: list[tuple[str, object]] = []

    def note(self, event: str, **fields: Any) -> None:
        if event == "console_failed":
            self.faults.append((str(fields.get("route")), fields.get("reason")))


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, Told]]:
    database, clock, told = cast("ConsoleDatabase", Rows()), Still(), Told()
    settings = settings_of("postgresql://nobody@127.0.0.1:1/none", tmp_path)
    console = Console(
        settings=settings,
        database=database,
        signing_in=SigningIn(database, clock, idle=timedelta(hours=1), longest=timedelta(hours=1)),
        samples=Samples(database, clock, None),
        letters=Letters(settings, clock),
        networks={},
        proxies=(),
        clock=clock,
        observer=told,
        url="http://127.0.0.1:1",
        templates=environment(),
        oidc=Provider(settings, "http://127.0.0.1:1/oidc/callback", cast("Any", None)),
    )
    # What passwords are is not asked here: it takes a while.
    monkeypatch.setattr("gateway.console.signing_in.is_password", lambda *_: False)
    runner = web.AppRunner(application(console, handlers()), access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], told
    await runner.cleanup()


async def status_of(port: int, request: bytes) -> int:
    """Of the answer; 0: there is none. Asked as bytes, for no client would send such a thing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        line = await reader.readline()
    finally:
        writer.close()
    return int(line.split()[1]) if line else 0


def request(
    method: bytes,
    path: bytes,
    body: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    signed_in: bool = True,
) -> bytes:
    given = [(b"Host", b"127.0.0.1"), (b"Connection", b"close"), *headers]
    if signed_in and not any(n == b"Cookie" for n, _ in headers):
        given.append((b"Cookie", b"mypay_console=" + TOKEN.encode() + b"; mypay_oidc=" + ATTEMPT.cookie().encode()))
    if body and not any(n == b"Content-Type" for n, _ in headers):
        given.append((b"Content-Type", b"application/x-www-form-urlencoded"))
    if body:
        given.append((b"Content-Length", b"%d" % len(body)))
    return (
        method + b" " + path + b" HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in given) + b"\r\n" + body
    )


CSRF: Final = SignedIn(TOKEN, cast("Any", None)).csrf.encode()


def paths() -> list[bytes]:
    """Every address, a strange value in place of each of its parts."""
    found = []
    for route in ROUTES:
        parts = route.path.split("/")
        places = [n for n, part in enumerate(parts) if part.startswith("{")]
        for place, value in itertools.product(places, STRANGE):
            filled = [b"x" if p.startswith("{") else p.encode() for p in parts]
            filled[place] = value
            found.append(b"/".join(filled))
    return found


def forms() -> list[tuple[bytes, tuple[str, ...]]]:
    """Addresses that take a form, with what it has."""
    kinds = (Kind.CONSENT_REVOKE, Kind.BREAK_RESOLVE, Kind.PROPOSAL_APPROVE)
    return [
        *((b"/sign-in", ("name", "password")), (b"/language", ("language", "back")), (b"/payments", ("q",))),
        *((f"/actions/{kind}".encode(), (*GUARDED[kind].fields, "why", "choice")) for kind in kinds),
    ]


def requests() -> list[bytes]:
    found = [request(b"GET", path) for path in paths()]
    pages = (b"/sign-in", b"/payments", b"/oidc/callback")
    for value in STRANGE:
        found += [request(b"GET", page + b"?" + value) for page in pages]
        for name in (b"state", b"code", b"iss", b"error"):
            known = b"" if name == b"state" else b"&state=state"
            found.append(request(b"GET", b"/oidc/callback?" + name + b"=" + value + known))
        for cookie_name in (b"mypay_console", b"mypay_oidc", b"mypay_language", b"x", b""):
            cookie = [(b"Cookie", cookie_name + b"=" + value)]
            found += [
                request(b"GET", page, headers=cookie) for page in (b"/sign-in", b"/oidc/callback", b"/", b"/nowhere")
            ]
            found.append(request(b"POST", b"/sign-out", b"csrf=x", headers=cookie))
        for header in (
            b"Accept-Language",
            b"X-Forwarded-For",
            b"Origin",
            b"Sec-Fetch-Site",
            b"Expect",
            b"Content-Type",
        ):
            found.append(request(b"GET", b"/sign-in", headers=[(header, value)]))
            found.append(request(b"POST", b"/sign-in", b"name=kim&password=x", headers=[(header, value)]))
        found.append(request(b"POST", b"/payments", b"csrf=" + value + b"&q=x"))
        for kind in (b"application/x-www-form-urlencoded; charset=", b"multipart/form-data; boundary="):
            found.append(request(b"POST", b"/sign-in", b"name=kim", headers=[(b"Content-Type", kind + value)]))
            body = b"--b\r\nContent-Disposition: form-data; name=" + value + b"\r\n\r\n" + value + b"\r\n--b--\r\n"
            kinds = [(b"Content-Type", b"multipart/form-data; boundary=b")]
            found.append(request(b"POST", b"/sign-in", body, headers=kinds))
        for path, names in forms():
            for field in names:
                given = dict.fromkeys(names, b"x") | {field: value}
                body = b"&".join([b"csrf=" + CSRF, *(n.encode() + b"=" + v for n, v in given.items())])
                found.append(request(b"POST", path, body))
    chance = random.Random(7)
    for _ in range(60):
        junk = bytes(b for b in chance.randbytes(chance.randrange(1, 60)) if b not in b"\r\n")
        found.append(request(b"GET", b"/sign-in", headers=[(b"Cookie", junk)]))
        found.append(request(b"GET", b"/payments/partner-1/" + junk.replace(b" ", b"_")))
        found.append(request(b"POST", b"/sign-in", b"name=" + junk))
    return found


async def test_whatever_comes_is_answered_and_is_no_fault_of_the_consoles(port: tuple[int, Told]) -> None:
    number, told = port
    everything = requests()
    statuses = [await status_of(number, r) for r in everything]
    odd = [(status, bytes(r)) for status, r in zip(statuses, everything, strict=True) if status in (0, 500)]
    assert (odd[:5], told.faults[:5]) == ([], [])
    # They did reach their doors.
    assert {200, 303, 400, 403, 404} <= set(statuses)
