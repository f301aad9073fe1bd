"""Why an HTTP server could not be asked is told in words: over real sockets, by each way in which a server is away."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.base.unasked import why_unasked
from gateway.console import oidc
from gateway.console.oidc import OidcClient, OidcError
from gateway.identity.jose.jwks import KeySetError, fetch
from gateway.proving.stack.certificates import Authority
from tests.support.console import settings_of


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def _speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 No TLS here\r\n\r\n")
    await reader.read()
    writer.close()


async def _breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    writer.close()


async def _says_junk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"4111111111111111\r\n\r\n")
    writer.close()


async def _is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


Handling = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handling, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def told(url: str) -> str:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url) as response:
                await response.read()
        except (aiohttp.ClientError, OSError) as error:
            return why_unasked(error)
    raise AssertionError("it answered")


async def test_each_way_to_be_away_has_words(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path, "provider", names=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with serving(_closes) as port:
        assert await told(f"http://127.0.0.1:{port}/") == "it closed the connection before it had answered"
    assert await told(f"http://127.0.0.1:{port}/") == "Connection refused"
    async with serving(_breaks_off) as port:
        assert await told(f"http://127.0.0.1:{port}/") == "it closed the connection before it had answered"
    async with serving(_speaks_plainly) as port:
        assert await told(f"https://127.0.0.1:{port}/") == "it does not speak TLS, or none that is spoken here"
    async with serving(_says_junk) as port:
        junk = await told(f"http://127.0.0.1:{port}/")
    assert (junk.startswith("it did not answer as HTTP asks"), "4111" in junk) == (True, False)
    async with serving(_breaks_off, context) as port:
        assert (await told(f"https://127.0.0.1:{port}/")).startswith("its certificate is not accepted: ")
    assert await told("http://") == "its address is none"


async def test_whoever_signs_people_in_and_says_nothing_is_told_with_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "TIMEOUT_S", 0.05)
    async with serving(_is_silent) as port, aiohttp.ClientSession() as http:
        settings = settings_of("postgresql://x", tmp_path).model_copy(
            update={"console_oidc_issuer": f"http://127.0.0.1:{port}"}
        )
        client = OidcClient(settings, "http://127.0.0.1/oidc/callback", http)
        with pytest.raises(OidcError, match=r"did not answer within 0\.05 s$"):
            await client.begin()


async def test_keys_and_sign_in_tell_the_same_words(tmp_path: Path) -> None:
    async with serving(_closes) as port:
        pass
    async with aiohttp.ClientSession() as http:
        address = f"http://127.0.0.1:{port}"
        settings = settings_of("postgresql://x", tmp_path).model_copy(update={"console_oidc_issuer": address})
        with pytest.raises(OidcError, match=r"the provider cannot be asked: Connection refused$"):
            await OidcClient(settings, f"{address}/oidc/callback", http).begin()
        with pytest.raises(KeySetError, match=r"it cannot be fetched: Connection refused$"):
            await fetch(http, address, "issuer", None)
