"""Which database a process uses, as whom, and whether it is fit for it."""

from gateway.app.addresses import postgres_address
from gateway.app.errors import NoAddressError, NotConfiguredError
from gateway.app.postgres import PostgresStore
from gateway.app.settings import Settings
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.database.dsn import DsnError, is_local
from gateway.database.errors import DatabaseUnfitError
from gateway.database.fitness import examine, faults
from gateway.database.roles import Role


def database_dsn(settings: Settings, role: Role) -> str:
    """The database as given, or else the running local stack's, for this role's user.

    Raises:
        NotConfiguredError: there is neither, or the one that is given may not be used.
    """
    try:
        dsn = postgres_address(settings, role)
    except DsnError as error:
        raise NotConfiguredError(str(error)) from None
    if dsn is None:
        raise NoAddressError(
            f"MYPAY_POSTGRES_DSN_{role.value.upper()} and MYPAY_POSTGRES_DSN are not set, and no local stack runs: "
            "set one of them, or start a local stack with `mypay local up`"
        )
    return dsn


async def connect(store: PostgresStore) -> None:
    """Start the store.

    Raises:
        NotConfiguredError: the server does not let this user in.
        StoreUnavailableError: it cannot be reached now.
    """
    try:
        await store.start()
    except DatabaseUnfitError as error:
        raise NotConfiguredError(str(error)) from None


async def check_database(store: PostgresStore, settings: Settings, role: Role, dsn: str, observer: Observer) -> None:
    """Make sure that the database is ours, up to date, safe to write to, and lets this process do what it does.

    Raises:
        NotConfiguredError: it is not; the text says what is wrong and what to do.
        StoreUnavailableError: it cannot be asked now, or is a standby that has yet to take over; or this machine's
            clock is far from the server's, as before NTP has set it.
    """
    try:
        async with store.connection() as connection:
            found = await examine(connection, role)
    except DatabaseUnfitError as error:
        raise NotConfiguredError(str(error)) from None
    if found.in_recovery:
        observer.note("database_is_a_standby", level="warning")
        raise StoreUnavailableError("the server is a standby")
    # By a clock that is a month ahead consents end for good, and standing orders are paid that are not due.
    if abs(found.ahead_s) > CLOCK_SKEW_MAX.total_seconds():
        # It serves its metrics while it waits, and so seems to work: nothing else would tell of it.
        observer.level("clock_ahead_seconds", found.ahead_s)
        observer.note("clock_is_wrong", level="error", reason=f"{found.ahead_s:+.0f} s from PostgreSQL's")
        raise StoreUnavailableError("this machine's clock is not the server's")
    trusted = is_local(dsn) or settings.postgres_allow_any_role
    if wrong := faults(found, role, any_role=trusted):
        raise NotConfiguredError(f"the database is not fit for {role.value}: " + "; ".join(wrong))
    if found.unknown_migrations:
        observer.note("database_is_newer", level="warning", migration=found.unknown_migrations[-1])
