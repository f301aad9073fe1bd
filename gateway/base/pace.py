"""How often a loop does its work: at once after a rest, and in a steady stream no more than so often.

A batch costs much the same for one item as for ten. So where items come one after another the next batch is given time
to fill, counted from when the last one began; an item that comes alone waits for nobody.
"""

import asyncio


class Pace:
    """Of one loop.

    Args:
        interval_s: from the beginning of a batch to that of the next, at least.
        rest_s_max: after a batch that was told to have ended the loop rests for as long as that one took, but no longer
            than this: on a busy machine batches become larger, and fewer.
        rests: for so many times as long.
    """

    def __init__(self, interval_s: float, *, rest_s_max: float = 0.0, rests: float = 1.0) -> None:
        self._interval_s = interval_s
        self._rest_s_max = rest_s_max
        self._rests = rests
        self._began = self._due = float("-inf")

    @property
    def due(self) -> float:
        """When the next batch may begin, of ``loop.time()``; it may have passed."""
        return self._due

    def begin(self) -> None:
        """A batch begins now."""
        self._began = asyncio.get_running_loop().time()
        self._due = self._began + self._interval_s

    def end(self) -> None:
        """It has ended."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now + min(self._rest_s_max, self._rests * (now - self._began)))

    async def wait(self) -> None:
        """Return when the next batch may begin: where that has passed, as soon as others have had their turn."""
        await asyncio.sleep(max(0.0, self._due - asyncio.get_running_loop().time()))
