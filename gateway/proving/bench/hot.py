"""A hot consent: all orders of a stretch are one customer's, so that all of them wait for one row's lock."""

from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from gateway.proving.traffic.cast import Cast, Role

HOT_ORDERS: Final = 4_000

PREFIX: Final = "one"
"""The orders' ids begin with it."""


@dataclass(frozen=True, slots=True)
class Hot:
    """What was measured.

    Attributes:
        orders: payments sent under the one consent.
        seconds: from the first of these intents to the beginning of the last transaction of them.
        counted: intents in this time.
    """

    orders: int = 0
    counted: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Payments sent a second."""
        return self.counted / self.seconds if self.seconds else 0.0


def one_customer(cast: Cast) -> Cast:
    """The cast with one customer, whose limits are far away."""
    return replace(cast, customers=tuple(cast.of(Role.PLAIN)[:1]))


async def read_hot(dsn: str) -> Hot:
    """How fast the hot consent's payments were sent, as PostgreSQL has it."""
    connection = await asyncpg.connect(dsn)
    try:
        [row] = await connection.fetch(
            "WITH hot AS (SELECT decided_at, state FROM payment WHERE order_id LIKE $1 AND state <> 'rejected'), "
            "ends AS (SELECT min(decided_at) AS first, max(decided_at) AS last FROM hot) "
            "SELECT count(*) AS orders, count(*) FILTER (WHERE decided_at < last) AS counted, "
            "coalesce(extract(epoch FROM max(last) - min(first)), 0)::float8 AS seconds FROM hot, ends",
            f"{PREFIX}%",
        )
    finally:
        await connection.close()
    return Hot(row["orders"], row["counted"], row["seconds"])
