"""Row locks that are held until their transaction ends, in three of PostgreSQL's strengths.

Who asks for a lock that nobody's hinders has it at once, also past those who wait: as in PostgreSQL. Waiters are served
in order of arrival, but for those that an earlier one does not hinder.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from gateway.base.errors import StoreConflictError

LockId = tuple[str, Hashable]
"""Table and key."""

Owner = int
"""Number of a transaction."""


@unique
class Strength(IntEnum):
    """How a row is locked, the weakest first."""

    KEY_SHARE = 1
    NO_KEY_UPDATE = 2
    UPDATE = 3


_HINDERS: Final[Mapping[Strength, frozenset[Strength]]] = {
    Strength.KEY_SHARE: frozenset({Strength.UPDATE}),
    Strength.NO_KEY_UPDATE: frozenset({Strength.NO_KEY_UPDATE, Strength.UPDATE}),
    Strength.UPDATE: frozenset(Strength),
}
"""Strength → those of others that it cannot stand beside (PostgreSQL's table 13.3)."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    owner: Owner
    strength: Strength
    granted: "asyncio.Future[None]"


class Locks:
    """Who holds what. A wait that would close a circle fails at once: the transaction that asks is the victim."""

    def __init__(self) -> None:
        self._holders: dict[LockId, dict[Owner, Strength]] = {}
        # A dict for its order: locks are given back in the order they were taken.
        self._held: dict[Owner, dict[LockId, None]] = {}
        self._queues: dict[LockId, deque[_Waiter]] = {}
        self._waiting_for: dict[Owner, LockId] = {}

    @property
    def waiting(self) -> frozenset[Owner]:
        """Transactions that wait for a lock now."""
        return frozenset(self._waiting_for)

    def try_acquire(self, owner: Owner, lock: LockId, strength: Strength = Strength.NO_KEY_UPDATE) -> bool:
        """Take a lock that no other transaction's hinders; False where one does. What is held never shrinks."""
        if next(self._hindering(owner, lock, strength), None) is not None:
            return False
        holders = self._holders.setdefault(lock, {})
        holders[owner] = max(strength, holders.get(owner, strength))
        self._held.setdefault(owner, {})[lock] = None
        return True

    async def acquire(self, owner: Owner, lock: LockId, strength: Strength = Strength.NO_KEY_UPDATE) -> None:
        """Take a lock, waiting for those whose locks hinder it to end.

        Raises:
            StoreConflictError: one of these waits, perhaps through others, for ``owner``.
        """
        if self.try_acquire(owner, lock, strength):
            return
        waiter = _Waiter(owner, strength, asyncio.get_running_loop().create_future())
        self._queues.setdefault(lock, deque()).append(waiter)
        self._waiting_for[owner] = lock
        try:
            self._refuse_circle(owner)
            await waiter.granted
        finally:
            self._waiting_for.pop(owner, None)
            self._leave(lock, waiter)

    def release_all(self, owner: Owner) -> None:
        """Give back everything that a transaction holds, each lock to those that wait for it."""
        for lock in self._held.pop(owner, {}):
            holders = self._holders[lock]
            del holders[owner]
            if not holders:
                del self._holders[lock]
            self._serve(lock)

    def _serve(self, lock: LockId) -> None:
        for waiter in list(self._queues.get(lock, ())):
            if waiter.granted.done() or next(self._awaited(lock, waiter), None) is not None:
                continue
            self.try_acquire(waiter.owner, lock, waiter.strength)
            # It waits no more, though its task has yet to wake: else it would seem to wait for itself.
            self._waiting_for.pop(waiter.owner, None)
            waiter.granted.set_result(None)

    def _leave(self, lock: LockId, waiter: _Waiter) -> None:
        queue = self._queues[lock]
        queue.remove(waiter)
        if not queue:
            del self._queues[lock]
        elif not waiter.granted.done() or waiter.granted.cancelled():
            # It may have been what hindered those behind it.
            self._serve(lock)

    def _hindering(self, owner: Owner, lock: LockId, strength: Strength) -> Iterator[Owner]:
        """Others whose locks cannot stand beside this one."""
        for holder, held in self._holders.get(lock, {}).items():
            if holder != owner and held in _HINDERS[strength]:
                yield holder

    def _awaited(self, lock: LockId, waiter: _Waiter) -> Iterator[Owner]:
        """Whom a waiter waits for: whose locks hinder it, and who came before it and would."""
        yield from self._hindering(waiter.owner, lock, waiter.strength)
        for other in self._queues[lock]:
            if other is waiter:
                return
            if not other.granted.done() and other.strength in _HINDERS[waiter.strength]:
                yield other.owner

    def _awaited_by(self, owner: Owner) -> Iterator[Owner]:
        if (lock := self._waiting_for.get(owner)) is not None:
            for waiter in self._queues[lock]:
                if waiter.owner == owner and not waiter.granted.done():
                    yield from self._awaited(lock, waiter)

    def _refuse_circle(self, owner: Owner) -> None:
        seen: set[Owner] = set()
        following = [owner]
        while following:
            for awaited in self._awaited_by(following.pop()):
                if awaited == owner:
                    raise StoreConflictError("deadlock")
                if awaited not in seen:
                    seen.add(awaited)
                    following.append(awaited)
