"""Exclusive row locks that are held until their transaction ends; waiters are served in order of arrival."""

import asyncio
from collections import deque
from collections.abc import Hashable

from gateway.base.errors import StoreConflictError

LockId = tuple[str, Hashable]
"""Table and key."""

Owner = int
"""Number of a transaction."""


class Locks:
    """Who holds what. A wait that would close a circle fails at once: the transaction that asks is the victim."""

    def __init__(self) -> None:
        self._holders: dict[LockId, Owner] = {}
        # A dict for its order: locks are given back in the order they were taken.
        self._held: dict[Owner, dict[LockId, None]] = {}
        self._queues: dict[LockId, deque[tuple[Owner, asyncio.Future[None]]]] = {}
        self._waiting_for: dict[Owner, LockId] = {}

    @property
    def waiting(self) -> frozenset[Owner]:
        """Transactions that wait for a lock now."""
        return frozenset(self._waiting_for)

    def try_acquire(self, owner: Owner, lock: LockId) -> bool:
        """Take a lock that is free or held already; False if another transaction holds it."""
        holder = self._holders.setdefault(lock, owner)
        if holder != owner:
            return False
        self._held.setdefault(owner, {})[lock] = None
        return True

    async def acquire(self, owner: Owner, lock: LockId) -> None:
        """Take a lock, waiting for its holder to end.

        Raises:
            StoreConflictError: its holder waits, perhaps through others, for ``owner``.
        """
        if self.try_acquire(owner, lock):
            return
        self._refuse_circle(owner, lock)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(lock, deque()).append((owner, granted))
        self._waiting_for[owner] = lock
        try:
            await granted
        finally:
            self._waiting_for.pop(owner, None)

    def release_all(self, owner: Owner) -> None:
        """Give back everything that a transaction holds, each lock to the first that waits for it."""
        for lock in self._held.pop(owner, {}):
            del self._holders[lock]
            queue = self._queues.get(lock, deque())
            while queue:
                following, granted = queue.popleft()
                if not granted.done():
                    self.try_acquire(following, lock)
                    # It waits no more, though its task has yet to wake: else it would seem to wait for itself.
                    self._waiting_for.pop(following, None)
                    granted.set_result(None)
                    break
            if not queue:
                self._queues.pop(lock, None)

    def _refuse_circle(self, owner: Owner, lock: LockId) -> None:
        wanted: LockId | None = lock
        while wanted is not None:
            holder = self._holders[wanted]
            if holder == owner:
                raise StoreConflictError("deadlock")
            wanted = self._waiting_for.get(holder)
