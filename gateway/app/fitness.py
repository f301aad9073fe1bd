"""What `mypay doctor` asks of the database: as every process's own user, what that process would find at its start."""

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.app.addresses import postgres_address
from gateway.app.settings import Settings
from gateway.base.errors import StoreUnavailableError
from gateway.database.dsn import DsnError, is_local
from gateway.database.errors import DatabaseUnfitError, letting_in
from gateway.database.fitness import examine, faults
from gateway.database.roles import Role
from gateway.database.sessions import looking_settings, session

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class DatabaseFound:
    """What one role finds.

    Attributes:
        problems: each in words that say what to do; none where all is well.
        server_version: PostgreSQL's major version; None where it told none.
        ahead_s: how far this machine's clock is ahead of the server's, at most wrong by the time of the question.
        newer: it was migrated by a later version of the program.
    """

    problems: tuple[str, ...]
    server_version: int | None = None
    ahead_s: float = 0.0
    newer: bool = False


async def look_as(settings: Settings, role: Role) -> DatabaseFound:
    """Log in as a role's user, and look at the database as its process does at its start.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    try:
        dsn = postgres_address(settings, role)
    except DsnError as error:
        return DatabaseFound((str(error),))
    if dsn is None:
        raise StoreUnavailableError("no address is set, and no local stack runs")
    looking = looking_settings("mypay-doctor", statement_timeout_s=_TIMEOUT_S)
    try:
        async with letting_in(f"user {role.user}"), session(dsn, looking) as connection:
            # Of the user, as its process would find it: what this session was set to alone is no fault of its.
            await connection.execute("RESET default_transaction_read_only")
            found = await examine(connection, role)
            asked = datetime.now(UTC)
            told: datetime = await connection.fetchval("SELECT clock_timestamp()")
    except DatabaseUnfitError as error:
        return DatabaseFound((str(error),))
    problems = tuple(faults(found, role, any_role=is_local(dsn) or settings.postgres_allow_any_role))
    ahead = (asked - told).total_seconds()
    return DatabaseFound(problems, found.server_version // 10000, ahead, bool(found.unknown_migrations))
