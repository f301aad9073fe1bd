"""How long things took to be right again, by the gateway's own records: times of its transitions, in its outbox."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from gateway.proving.torture.load import fetch
from gateway.proving.torture.striking import Killed

_STEPS: Final = """
SELECT o.event_id, split_part(o.event_type, '.', 4) AS state, extract(epoch FROM o.occurred_at)::float8 AS at_s,
    split_part(p.sent_by, '/', 2) AS pid
FROM payment p JOIN outbox o ON o.key = p.payment_id::text
WHERE p.rrn IS NOT NULL AND o.event_type LIKE 'kr.mypay.payment.%' AND o.event_type NOT LIKE '%.reported.%'
ORDER BY o.tx, o.id
"""


class Recovery(NamedTuple):
    """Worst times, in seconds; 0 where there was nothing to recover.

    Attributes:
        taken_over_s: from the kill of a worker until the last payment that it had SENT was known to be in doubt.
        ended_s: until the last of these had ended: approved, declined or reversed.
        kills: how many kills found payments SENT; left: how many payments these were.
        in_doubt_s: from the moment that any payment was known to be in doubt until it ended.
        doubts: how many payments were in doubt.
    """

    taken_over_s: float
    ended_s: float
    kills: int
    left: int
    in_doubt_s: float
    doubts: int


class _Life(NamedTuple):
    """Times of one payment: SENT, out of SENT, and out of doubt; ``doubted``: it was in doubt in between."""

    pid: str
    sent_s: float
    left_sent_s: float
    ended_s: float
    doubted: bool


async def recovery_of(dsn: str, killed: Sequence[Killed]) -> Recovery:
    """Read the times of every payment's steps, and compare them with the kills. About 10 µs a step."""
    lives = list(_lives(await fetch(dsn, _STEPS)))
    by_pid: dict[str, list[_Life]] = defaultdict(list)
    for life in lives:
        by_pid[life.pid].append(life)
    taken_over: list[float] = []
    ended: list[float] = []
    left = 0
    for kill in killed:
        behind = [x for x in by_pid[str(kill.pid)] if x.left_sent_s > kill.at_s]
        if behind:
            left += len(behind)
            taken_over.append(max(x.left_sent_s for x in behind) - kill.at_s)
            ended.append(max(x.ended_s for x in behind) - kill.at_s)
    doubts = [x.ended_s - x.left_sent_s for x in lives if x.doubted]
    return Recovery(
        taken_over_s=max(taken_over, default=0.0),
        ended_s=max(ended, default=0.0),
        kills=len(taken_over),
        left=left,
        in_doubt_s=max(doubts, default=0.0),
        doubts=len(doubts),
    )


def _lives(steps: Iterable[Any]) -> Iterable[_Life]:
    of: dict[str, list[Any]] = defaultdict(list)
    for step in steps:
        of[step["event_id"].rpartition(":")[0]].append(step)
    for taken in of.values():
        sent = next((n for n, s in enumerate(taken) if s["state"] == "sent"), None)
        after = [] if sent is None else taken[sent + 1 :]
        if sent is None or not after:
            continue
        end = next((s for s in after if s["state"] != "unknown"), after[-1])
        yield _Life(
            taken[sent]["pid"], taken[sent]["at_s"], after[0]["at_s"], end["at_s"], after[0]["state"] == "unknown"
        )
