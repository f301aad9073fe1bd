"""The console over a database of its own, for the tests of one file: fixtures, and what they left in it."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.console.web import Console
from gateway.payments.rules.payment import Payment
from tests.support.console import (
    fill,
    running,
    settings_of,
)


@pytest.fixture(scope="module")
async def made(module_database: str) -> list[Payment]:
    return await fill(module_database)


@pytest.fixture(scope="module")
async def console(
    module_database: str, made: list[Payment], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    async with running(settings_of(module_database, folder, console_oidc_issuer=None)) as console:
        yield console


@pytest.fixture
async def clean(console: Console, module_database: str) -> AsyncIterator[None]:
    """What a test changed is as it was for the next one."""
    yield
    connection = await asyncpg.connect(module_database)
    try:
        await connection.execute(
            "DELETE FROM network_pause; DELETE FROM console_session;"
            "ALTER TABLE console_sign_in DISABLE TRIGGER USER; DELETE FROM console_sign_in;"
            "ALTER TABLE console_sign_in ENABLE TRIGGER USER; UPDATE console_user SET disabled_at = NULL"
        )
    finally:
        await connection.close()


async def rows(dsn: str, sql: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def recorded(dsn: str) -> list[tuple[str, ...]]:
    found = await rows(
        dsn,
        "SELECT b.operator, b.command, b.subject, b.why, e.phase FROM operator_action b JOIN operator_action e"
        " USING (action_id) WHERE b.phase = 'begun' AND e.phase <> 'begun' ORDER BY b.at",
    )
    return [tuple(r) for r in found]
