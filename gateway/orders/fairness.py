"""Who has how much of a turn, where more waits than there is room for.

Max–min fair: nobody gets more than they ask for, and what one leaves is shared by the others, so that whoever sends
little is never behind whoever sends much.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

NOBODY: Final = ""
"""The sender of everything that nobody is known to have signed: together they are one."""

LARGE: Final = 50
"""The cost of a record from which on it waits in any case: it is a bulk, and would be everybody's turn alone."""

_COST_BYTES: Final = 512


def cost_of(size: int) -> int:
    """What a record of so many bytes costs, in orders: an order 1, a bulk about one an item."""
    return max(1, size // _COST_BYTES - 2)


def shares(wanted: Mapping[str, int], room: int) -> dict[str, int]:
    """How much each sender gets of the room; at least 1."""
    result: dict[str, int] = {}
    left = room
    for place, sender in enumerate(sorted(wanted, key=lambda s: (wanted[s], s))):
        result[sender] = max(1, min(wanted[sender], left // (len(wanted) - place)))
        left = max(0, left - result[sender])
    return result


def in_turn(items: Sequence[tuple[str, int]], room: int, waiting: Collection[str] = ()) -> list[bool]:
    """Which of a batch's (sender, cost) are for this turn; the others wait.

    A sender's records keep their order: behind its first one that waits all of them do, and so do all of a sender that
    has others ``waiting`` already. What is :data:`LARGE` waits however much room there is.
    """
    wanted: Counter[str] = Counter()
    for sender, cost in items:
        if sender not in waiting and cost < LARGE:
            wanted[sender] += cost
    left = shares(wanted, room)
    result: list[bool] = []
    for sender, cost in items:
        fits = sender in left and cost < LARGE and cost <= left[sender]
        if fits:
            left[sender] -= cost
        else:
            left.pop(sender, None)
        result.append(fits)
    return result
