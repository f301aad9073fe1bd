"""How far the relay has come, where it tells what has committed before its place in the order is certain.

Events stand in the order of transaction numbers, and a transaction that still runs may put events before those of one
that has committed. To wait for it would make every event as late as the longest transaction. So the relay tells what
has committed, and remembers which events it told ahead of the cursor; the cursor follows as transactions end.

One payment's events keep their order: the later one is written under the lock that the earlier one's transaction held
until it committed, so it has the later place, and nobody sees it without the earlier one.

A relay that dies has forgotten what it told ahead, and its successor tells that again.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

Place = tuple[int, int]
"""Transaction number and number of an event: the outbox's order."""

AHEAD_MAX: Final = 500
"""Events told ahead of the cursor, about: what a tenth of a second brings under load. Each is passed over at every
look, so while a transaction takes longer than that, the relay waits for it."""


class Look(NamedTuple):
    """What a look at the outbox found.

    Attributes:
        places: of what has committed, past the cursor and not told ahead, in their order.
        bound: no event can come to stand before this transaction number any more.
        is_whole: False where a limit left some out behind the last one.
    """

    places: Sequence[Place]
    bound: int
    is_whole: bool


class Progress:
    """Of one relay.

    Attributes:
        cursor: everything up to here was told.
    """

    def __init__(self, cursor: Place) -> None:
        self.cursor = cursor
        self._ahead: set[Place] = set()
        self._look = Look((), 0, is_whole=False)

    @property
    def ahead(self) -> Sequence[int]:
        """Numbers of the events past the cursor that were told."""
        return [number for _, number in self._ahead]

    @property
    def has_room(self) -> bool:
        """Whether more may be told ahead; else only what is certain."""
        return len(self._ahead) < AHEAD_MAX

    def looked(self, look: Look) -> None:
        """Remember what was found last."""
        self._look = look

    def told(self, last: Place) -> bool:
        """All that was found up to ``last`` has been told; True if the cursor has moved."""
        places, bound, is_whole = self._look
        self._ahead.update(place for place in places if place <= last)
        if not places or places[-1] > last:
            is_whole = False
        return self._follow(bound, None if is_whole else last)

    def passed(self, bound: int) -> bool:
        """A look found nothing but what has been told ahead; True if the cursor has moved.

        Args:
            bound: of that very look. A later one's would pass what has committed in between, and was not seen.
        """
        return self._follow(bound, None)

    def _follow(self, bound: int, last: Place | None) -> bool:
        certain = [p for p in self._ahead if p[0] < bound and (last is None or p <= last)]
        if not certain:
            return False
        self.cursor = max(certain)
        self._ahead = {p for p in self._ahead if p > self.cursor}
        return True
