"""Being a member of a consumer group: for how long one may be silent, where the brokers have a say.

Brokers refuse a session below their ``group.min.session.timeout.ms``, and aiokafka 0.14 gives its group up then (read).
Here it asks again, for what brokers allow unless they are told otherwise: a cluster that was not prepared for short
sessions finds dead workers later, and keeps none from starting.

This reaches into aiokafka, whose version is pinned; a test on a real broker tells if an upgrade breaks it.
"""

from typing import Any, Final

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import InvalidSessionTimeoutError

ALLOWED_SESSION_MS: Final = 6_000
"""Kafka's own default of ``group.min.session.timeout.ms``."""


class YieldingCoordinator(GroupCoordinator):  # type: ignore[misc]
    """aiokafka's member of a group, that takes a longer session where a shorter one is refused."""

    _session_timeout_ms: int

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        try:
            joined: bool = await super()._do_rejoin_group(subscription)
        except InvalidSessionTimeoutError:
            if self._session_timeout_ms >= ALLOWED_SESSION_MS:
                raise
            self._session_timeout_ms = ALLOWED_SESSION_MS
            # Not joined: its own loop tries again.
            return False
        return joined
