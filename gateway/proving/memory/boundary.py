"""Where a scheduler can step in: a callback that every port call awaits, and every commit right before and after."""

from collections.abc import Awaitable, Callable

Boundary = Callable[[str], Awaitable[None]]
"""Awaited with the name of the place, ``consents.lock`` or ``store.committed``.

It may wait (a delay), raise a port's error (an outage) or cancel its task (a crash). What it raises at
``store.commit`` rolls the transaction back; at ``store.committed`` the transaction stands and its caller does not know.
"""


async def no_boundary(_name: str) -> None:
    """Do nothing."""
