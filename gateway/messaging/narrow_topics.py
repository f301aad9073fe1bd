"""How much a topic was found to take at once, where that is less than a batch of ours.

A broker tells a producer no topic's limit: it refuses what is larger, packed, and the producer has to be replaced. How
small a batch packs is not known before either. So it is tried: half of what was refused, and half of that.
"""

from typing import Final

KEPT_S: Final = 3600.0
"""For so long a topic is given no more. Somebody may have let it take more since: then a batch is tried again."""

TOPICS_MAX: Final = 1000
"""Remembered at most; of more, those that were found out last."""


class NarrowTopics:
    """What is remembered of them, in this process."""

    def __init__(self) -> None:
        self._most: dict[str, tuple[int, float]] = {}

    def most(self, topic: str, now: float) -> int | None:
        """Bytes of records, before they are packed, that are given to the topic at once; None: as many as a batch has.

        ``now``: the loop's time.
        """
        if (found := self._most.get(topic)) is None:
            return None
        most, until = found
        if now >= until:
            del self._most[topic]
            return None
        return most

    def refused(self, topic: str, size: int, now: float) -> None:
        """Remember that it did not take records of so many bytes at once, and takes each of them alone."""
        self._most.pop(topic, None)
        self._most[topic] = (size // 2, now + KEPT_S)
        while len(self._most) > TOPICS_MAX:
            del self._most[next(iter(self._most))]
