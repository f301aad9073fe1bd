"""How long things took to be right again, by the gateway's own records: times of its transitions, in its outbox."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.proving.torture.load import fetch
from gateway.proving.torture.striking import Killed

_RESULTS: Final = """
SELECT p.network_id, extract(epoch FROM sent.occurred_at)::float8 AS sent_s,
    extract(epoch FROM done.occurred_at)::float8 AS done_s
FROM payment p
JOIN outbox sent ON sent.event_id = p.payment_id || ':1'
JOIN outbox done ON done.event_id = p.payment_id || ':2'
WHERE p.rrn IS NOT NULL
"""
_DOUBTS: Final = """
SELECT extract(epoch FROM p.changed_at - doubt.occurred_at)::float8 AS seconds
FROM payment p
JOIN outbox doubt ON doubt.event_id = p.payment_id || ':2' AND doubt.event_type LIKE '%.unknown.%'
WHERE p.state IN ('reversed', 'declined')
"""


class Recovery(NamedTuple):
    """Worst times.

    Attributes:
        after_kill_s: from the kill of a worker of execution until the last payment that was SENT at its network then
            had a result or was in doubt; 0 where none was SENT.
        kills: how many kills found a payment SENT.
        in_doubt_s: from the moment that a payment was known to be in doubt until it ended.
        doubts: payments that were in doubt and ended reversed or declined.
    """

    after_kill_s: float
    kills: int
    in_doubt_s: float
    doubts: int


async def recovery_of(dsn: str, killed: Sequence[Killed]) -> Recovery:
    """Read the times of every payment's first result, and compare them with the kills."""
    results = await fetch(dsn, _RESULTS)
    waits: list[float] = []
    for kill in killed:
        last = max(
            (r["done_s"] for r in results if r["network_id"] == kill.network_id and r["sent_s"] <= kill.at_s),
            default=0.0,
        )
        if last > kill.at_s:
            waits.append(last - kill.at_s)
    doubts = [r["seconds"] for r in await fetch(dsn, _DOUBTS)]
    return Recovery(max(waits, default=0.0), len(waits), max(doubts, default=0.0), len(doubts))
