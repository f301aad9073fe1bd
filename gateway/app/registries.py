"""What people and provisioning write through: every room's registry on one connection, and changes of consents."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from asyncpg import Connection

from gateway.app.postgres import PostgresStore, PostgresUnitOfWork
from gateway.app.public_keys import PostgresPublicKeys
from gateway.base.errors import StoreConflictError, StoreUnavailableError, StoreUnfinishedError
from gateway.consents.postgres import TermsCache
from gateway.consents.registry import PostgresConsentRegistry
from gateway.consents.store import ConsentChangeUnit
from gateway.database.belonging import PostgresBelonging
from gateway.database.errors import translated
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.database.statements import OnConnection
from gateway.database.unit import Store
from gateway.directory.operators import PostgresOperators
from gateway.directory.registry import PostgresRegistry
from gateway.directory.signing_in import PostgresConsoleUsers
from gateway.directory.tokens import PostgresTokens
from gateway.identity.registry import PostgresIdentities
from gateway.marketing.registry import PostgresCampaignRegistry
from gateway.payments.unknown.store import FollowUpUnit
from gateway.portability.registry import PostgresRecipientRegistry
from gateway.settlement.registry import PostgresBreaks
from gateway.sharing.registry import PostgresAffiliateRegistry
from gateway.sharing.store import SharingStoreUnit
from schemas.primitives import ConsentId, FundingToken, PartnerId

_Taken = TypeVar("_Taken")

PAUSED_WITHIN_S: Final = 2.0
"""So long after a network was paused nothing new is sent: what was decided before has left by then, or never does."""


class _OnConnection:
    """Implements :class:`gateway.database.unit.Store` on one connection: part of its transaction where one is open."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresUnitOfWork]:
        async with translated(), self._connection.transaction():
            yield PostgresUnitOfWork(self._connection, TermsCache())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PostgresUnitOfWork]:
        async with translated():
            yield PostgresUnitOfWork(self._connection, TermsCache())


class Registries(OnConnection):
    """The registries. Each of their calls is a transaction of its own unless one is open (:meth:`transaction`)."""

    def __init__(self, connection: "Connection[Any]") -> None:
        super().__init__(connection)
        self.directory = PostgresRegistry(connection)
        self.public_keys = PostgresPublicKeys(connection)
        self.tokens = PostgresTokens(connection)
        self.operators = PostgresOperators(connection)
        self.identities = PostgresIdentities(connection)
        self.consents = PostgresConsentRegistry(connection)
        self.campaigns = PostgresCampaignRegistry(connection)
        self.recipients = PostgresRecipientRegistry(connection)
        self.affiliates = PostgresAffiliateRegistry(connection)
        self.console_users = PostgresConsoleUsers(connection)
        self.breaks = PostgresBreaks(connection)
        self.belonging = PostgresBelonging(connection)
        stores = _OnConnection(connection)
        self.consent_changes: Store[ConsentChangeUnit] = stores
        self.follow_ups: Store[FollowUpUnit] = stores
        self.shares: Store[SharingStoreUnit] = stores


@asynccontextmanager
async def open_registries(dsn: str) -> AsyncIterator[Registries]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with session(dsn, session_settings("mypay-registries", idle_in_transaction_s=PEOPLE_S)) as connection:
        yield Registries(connection)


@asynccontextmanager
async def _once_written(dsn: str) -> AsyncIterator[Registries]:
    """Connect to wait for what had begun before a change was written, which stands whatever fails here.

    Raises:
        StoreUnfinishedError: the server cannot be reached, or it was not over in time.
    """
    try:
        async with open_registries(dsn) as registries:
            yield registries
    except (StoreUnavailableError, StoreConflictError) as error:
        raise StoreUnfinishedError(str(error)) from None


async def withdraw_token(
    dsn: str, token: FundingToken, partner_id: PartnerId, *, now: datetime
) -> list[ConsentId] | None:
    """Let a partner use a token no longer; return the consents that name it, or None where it was not permitted.

    Once this returns, no payment of this partner with this token can begin any more, and one that had begun leaves
    soon or not at all (:attr:`gateway.payments.execution.ExecutionSettings.intent_to_wire_s`): whoever had read the
    permission before it was withdrawn held the lock of such a consent, and each of these locks was waited for.

    Raises:
        StoreUnavailableError: the server cannot be reached. The token may be withdrawn.
        StoreUnfinishedError: it is withdrawn, and a lock was not free in time.
    """
    # What is withdrawn must be visible before the locks are waited for, and through a pooler a session is one
    # transaction: so each step has its own.
    async with open_registries(dsn) as registries:
        if not await registries.tokens.withdraw(token, partner_id, now=now):
            return None
    async with _once_written(dsn) as registries:
        return await registries.consents.lock_under(token, partner_id)


async def disable_affiliate(dsn: str, affiliate_id: str) -> bool:
    """Give an affiliate nothing more; False if there is no such affiliate.

    Once this returns, nothing more is shared with it, and no offer is made that is its own: whoever had read that it
    was active held the lock of a campaign, and each of these locks was waited for.

    Raises:
        StoreUnavailableError: the server cannot be reached. It may be disabled.
        StoreUnfinishedError: it is disabled, and a lock was not free in time.
    """
    # Each step has a transaction of its own, as above: a campaign that was activated during the first one is found by
    # the second, and one that is activated later makes its offers when it can be seen that the affiliate is disabled.
    async with open_registries(dsn) as registries:
        if not await registries.affiliates.set_active(affiliate_id, active=False):
            return False
    async with _once_written(dsn) as registries:
        await registries.affiliates.await_offers()
    return True


async def take_from_recipient(dsn: str, write: Callable[[PostgresRecipientRegistry], Awaitable[_Taken]]) -> _Taken:
    """Take something from a recipient: its place, its certificate or a key; return what ``write`` returns.

    Once this returns, nothing is decided that was begun by who had read it before: a page of the API, a request or an
    export is decided in a transaction that has locked its consent, and each that was under way is over.

    Raises:
        StoreUnavailableError: the server cannot be reached. It may be taken.
        StoreUnfinishedError: it is taken, and what was under way was not over in time.
    """
    async with open_registries(dsn) as registries:
        taken = await write(registries.recipients)
    if taken:
        async with _once_written(dsn) as registries:
            await registries.recipients.await_others()
    return taken


@asynccontextmanager
async def open_consent_changes(dsn: str) -> AsyncIterator[Store[ConsentChangeUnit]]:
    """Where people change consents (:mod:`gateway.consents.changing`), for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
        DatabaseUnfitError: it does not let this user in.
    """
    store = PostgresStore(dsn, pool_size=1, name="mypay-cli")
    await store.start()
    try:
        yield store
    finally:
        await store.stop()
