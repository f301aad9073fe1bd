"""The console's connections: who is signed in, what is shown, and what is done, each as a user of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from gateway.app.clock import SystemClock
from gateway.app.database import database_dsn
from gateway.app.registries import open_consent_changes, open_registries
from gateway.app.settings import Settings
from gateway.consents.changing import change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.database.pool import ConnectionPool
from gateway.database.roles import Role
from gateway.database.sessions import looking_settings
from gateway.directory.signing_in import PostgresSignIns
from gateway.views.view import STATEMENT_TIMEOUT_S, View
from schemas.primitives import ConsentId, NetworkId, PartnerId

V = TypeVar("V", bound=View)

POOL_SIZE: Final = 4
"""Look-ups at a time; what is beyond waits."""


@dataclass(slots=True)
class ConsoleDatabase:
    """The database as the console uses it. Get one from :func:`console_database`.

    Attributes:
        operator_dsn: for what operators do.
        looking: connections for what is shown.
    """

    operator_dsn: str = field(repr=False)
    looking: ConnectionPool
    _signing_in: ConnectionPool

    @asynccontextmanager
    async def view(self, kind: type[V]) -> AsyncIterator[V]:
        """A view for as long as the block lasts.

        Raises:
            StoreUnavailableError: the server cannot be reached.
        """
        async with self.looking.connection() as connection:
            yield kind(connection)

    @asynccontextmanager
    async def sign_ins(self) -> AsyncIterator[PostgresSignIns]:
        """Who is signed in, in one transaction."""
        async with self._signing_in.transacting() as connection:
            yield PostgresSignIns(connection)

    async def pause_network(self, network_id: str, *, operator: str, why: str) -> bool:
        """As :meth:`gateway.directory.registry.PostgresRegistry.pause_network`."""
        async with open_registries(self.operator_dsn) as registries:
            return await registries.directory.pause_network(NetworkId(network_id), operator=operator, why=why)

    async def change_consent(self, partner_id: str, consent_id: str, command: ConsentCommand, *, reason: str) -> str:
        """Suspend or revoke a consent; return its status.

        Raises:
            ConsentUnknownError, ConsentCommandRefusedError: nothing was changed.
        """
        key = (PartnerId(partner_id), ConsentId(consent_id))
        async with open_consent_changes(self.operator_dsn) as store:
            changed = await change_consent_status(store, SystemClock(), key, command, reason=reason)
        return changed.status.value


@asynccontextmanager
async def console_database(settings: Settings) -> AsyncIterator[ConsoleDatabase]:
    """Connect for as long as the block lasts.

    Raises:
        NotConfiguredError: an address is missing.
        StoreUnavailableError: the server cannot be reached now.
        DatabaseUnfitError: it does not let a user in.
    """
    looking = ConnectionPool(
        database_dsn(settings, Role.READONLY),
        pool_size=POOL_SIZE,
        settings=looking_settings("mypay-console", statement_timeout_s=STATEMENT_TIMEOUT_S),
    )
    signing_in = ConnectionPool(database_dsn(settings, Role.CONSOLE), pool_size=2, name="mypay-console")
    operator_dsn = database_dsn(settings, Role.OPERATOR)
    await looking.start()
    try:
        await signing_in.start()
        try:
            yield ConsoleDatabase(operator_dsn, looking, signing_in)
        finally:
            await signing_in.stop()
    finally:
        await looking.stop()
