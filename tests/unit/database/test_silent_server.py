"""A server that takes the connection and says nothing: a machine that stands still, or a network that drops all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.base.errors import StoreUnavailableError
from gateway.database import sessions
from gateway.database.grants import apply_roles
from gateway.database.leading import leading
from gateway.database.migrate import migrate
from gateway.database.pool import ConnectionPool
from gateway.database.sessions import looking_settings, session

SETTINGS = looking_settings("mypay-test", statement_timeout_s=1)


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The address of a server that answers nothing for as long as the block lasts."""
    over = asyncio.Event()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://somebody@127.0.0.1:{port}/mypay?sslmode=disable"
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def look(dsn: str) -> None:
    async with session(dsn, SETTINGS):
        pass


async def work(dsn: str) -> None:
    await ConnectionPool(dsn).start()


async def lead(dsn: str) -> None:
    async with leading(dsn, 1, SETTINGS):
        pass


@pytest.mark.parametrize(
    ("asking", "told"),
    [
        (look, StoreUnavailableError),
        (work, StoreUnavailableError),
        (lead, TimeoutError),
        (migrate, TimeoutError),
        (apply_roles, TimeoutError),
    ],
)
async def test_nobody_waits_for_it_longer_than_is_said(
    monkeypatch: pytest.MonkeyPatch, asking: Callable[[str], Awaitable[object]], told: type[Exception]
) -> None:
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_S", 0.01)
    async with silent() as dsn:
        asked = asyncio.ensure_future(asking(dsn))
        # The library's own patience is a minute; what is told within half of one came from us.
        done, _ = await asyncio.wait([asked], timeout=30)
        asked.cancel()
        assert done
        assert isinstance(asked.exception(), told)
