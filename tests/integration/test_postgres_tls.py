"""A database that is reached over a network: it shows who it is, or nothing is told to it.

The packaged PostgreSQL is built without TLS, so a door in front of it speaks TLS, as PostgreSQL itself asks for it: an
SSLRequest is answered ``S``, and what follows is encrypted. Nobody gets past it in the clear.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.app.postgres import PostgresStore
from gateway.base.errors import StoreUnavailableError
from gateway.database.dsn import DsnError, check_dsn
from gateway.proving.stack import secure
from gateway.proving.stack.ports import free_ports

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
"""Both are this machine; the certificate names the first alone."""

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Door:
    """Passes on to a PostgreSQL what comes encrypted."""

    def __init__(self, server: str, authority: Path) -> None:
        parts = urlsplit(server)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._database = parts.path
        self.cafile = authority / "ca.crt"
        (self.port,) = free_ports(1)
        self.let_in = 0
        self.turned_away = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority / "broker.pem")

    async def open(self) -> asyncio.Server:
        return await asyncio.start_server(self._come, [HERE, ELSEWHERE], self.port)

    def dsn(self, host: str, mode: str, cafile: Path | None = None) -> str:
        root = f"&sslrootcert={cafile}" if cafile else ""
        return f"postgresql://postgres@{host}:{self.port}{self._database}?sslmode={mode}{root}"

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(8) != SSL_REQUEST:
                self.turned_away += 1
                writer.close()
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.let_in += 1
            inner = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(_pass_on(reader, inner[1]), _pass_on(inner[0], writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def door(database: str, tmp_path: Path) -> AsyncIterator[Door]:
    secure.make(tmp_path)
    door = Door(database, tmp_path / "tls")
    async with await door.open():
        yield door


async def ask(address: str) -> int:
    store = PostgresStore(address, command_timeout_s=5)
    await store.start()
    try:
        async with store.connection() as connection:
            return int(await connection.fetchval("SELECT 1"))
    finally:
        await store.stop()


async def test_a_server_that_shows_who_it_is(door: Door) -> None:
    assert await ask(door.dsn(HERE, "verify-full", door.cafile)) == 1
    # The authority alone: the name is not asked for.
    assert await ask(door.dsn(ELSEWHERE, "verify-ca", door.cafile)) == 1
    assert door.let_in >= 2
    assert door.turned_away == 0


async def test_another_name_than_the_certificates_is_refused(door: Door) -> None:
    with pytest.raises(StoreUnavailableError, match="SSLCertVerificationError"):
        await ask(door.dsn(ELSEWHERE, "verify-full", door.cafile))
    assert door.let_in == 0


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_another_authority_is_refused(door: Door, mode: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    secure.make(tmp_path / "other")
    with pytest.raises(StoreUnavailableError, match="SSLCertVerificationError"):
        await ask(door.dsn(HERE, mode, tmp_path / "other" / "tls" / "ca.crt"))


async def test_nothing_is_said_in_the_clear(door: Door) -> None:
    with pytest.raises(StoreUnavailableError):
        await ask(door.dsn(HERE, "disable"))
    assert (door.let_in, door.turned_away > 0) == (0, True)


async def test_anybodys_certificate_is_good_enough_for_require_and_so_we_do_not_take_it(door: Door) -> None:
    assert await ask(door.dsn(HERE, "require")) == 1
    with pytest.raises(DsnError, match="another machine"):
        check_dsn(door.dsn("db.example", "require"))
    check_dsn(door.dsn("db.example", "verify-full", door.cafile))
