"""What asyncpg takes for an array, told quickly.

asyncpg (pinned) asks of each element of an array whether it is an array itself, by the abstract classes of
``collections.abc``: that takes longer than writing it. Nearly all that is asked and written goes in arrays, some eighty
elements for each payment. What is a list or a tuple is seen at once.
"""

from typing import Final

from asyncpg.protocol import protocol

CONTAINERS: Final = (list, tuple)
"""Whose elements are those of an array. Anything else is refused as one, by the client."""


def name_containers() -> None:
    """Let every connection of this process look for these alone."""
    protocol.IterableABC = CONTAINERS  # type: ignore[attr-defined]
