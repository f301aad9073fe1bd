"""PostgreSQL takes the connection and says nothing."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.base.errors import StoreUnavailableError
from gateway.database import sessions
from gateway.database.grants import apply_roles
from gateway.database.leading import leading
from gateway.database.migrate import migrate
from gateway.database.pool import ConnectionPool
from gateway.database.sessions import looking_settings, session
from tests.support.silence import error_of, silent_port

SETTINGS = looking_settings("mypay-test", statement_timeout_s=1)


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
    async with silent_port() as port:
        error = await error_of(asking(f"postgresql://somebody@127.0.0.1:{port}/mypay?sslmode=disable"))
    assert isinstance(error, told)
    assert str(error) == "PostgreSQL did not answer within 0.01 s"
