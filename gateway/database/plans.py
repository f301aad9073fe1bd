"""How long a session keeps the plans of its statements.

The server plans a statement once for all values, by the size that its tables have then, and keeps the plan until the
table is analyzed, which it does once a minute, and where a table has grown by a tenth. A stage that began over empty
tables so read all of a partner's payments for each payment that it looked for: at 1,000 a second PostgreSQL took four
times the processor time within a minute. To plan all statements of a stage anew takes the server some milliseconds.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

PLANS_LAST_S: Final = 5.0
"""Plans that are older are made anew before they are used again."""


class Plans:
    """When sessions began their plans, by the numbers of the server's processes."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[int, float] = {}

    def begin(self, connection: "Connection[Any]") -> None:
        """Know a new session, until it ends."""
        pid = connection.get_server_pid()
        self._begun[pid] = self._clock()
        connection.add_termination_listener(lambda _: self._forget(pid))

    async def renew(self, connection: "Connection[Any] | PoolConnectionProxy[Any]") -> None:
        """Have the server drop a session's plans if they are old: each statement is planned anew with its next use."""
        pid, now = connection.get_server_pid(), self._clock()
        begun = self._begun.get(pid)
        if begun is not None and now - begun < PLANS_LAST_S:
            return
        await connection.execute("DISCARD PLANS")
        self._begun[pid] = now

    def _forget(self, pid: int) -> None:
        self._begun.pop(pid, None)
