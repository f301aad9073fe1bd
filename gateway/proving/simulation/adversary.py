"""The adversary at one worker's boundaries: at every call of a port it may delay, fail, freeze or kill."""

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.proving.simulation.faults import Fault

if TYPE_CHECKING:
    from gateway.proving.simulation.workers import Worker
    from gateway.proving.simulation.world import World

Chances = tuple[float, list[tuple[float, Fault]]]
"""Of one place: their sum, and each fault with the upper end of its share."""

STEPS_MAX: Final = 200_000
"""A world needs a thousand."""

_ANYWHERE: Final = (Fault.CRASH, Fault.DELAY, Fault.FREEZE)

_SPECIAL: Final = {
    "store.begin": (Fault.STORE_UNAVAILABLE,),
    "store.reading": (Fault.STORE_UNAVAILABLE,),
    "store.committed": (Fault.COMMIT_UNKNOWN,),
    "relay.acquire": (Fault.STORE_UNAVAILABLE,),
    "relay.advanced": (Fault.COMMIT_UNKNOWN,),
    "publisher.publish": (Fault.PUBLISH_FAILED,),
    "publisher.written": (Fault.PUBLISH_PARTIAL,),
    "publisher.confirmed": (Fault.PUBLISH_UNCONFIRMED,),
    "dead_letters.park": (Fault.PUBLISH_FAILED,),
    "dead_letters.parked": (Fault.PUBLISH_UNCONFIRMED,),
    "consumer.take": (),
    "consumer.commit": (Fault.COMMIT_LOST,),
    "consumer.committed": (Fault.REDELIVERED,),
    "keys.refresh": (),
}
"""Faults that are possible at a place beside those possible anywhere. Other places are inside a transaction."""

_IN_TRANSACTION: Final = (Fault.STORE_UNAVAILABLE, Fault.STORE_CONFLICT)


def _possible(name: str) -> tuple[Fault, ...]:
    return _SPECIAL.get(name, (Fault.RELAY_DEPOSED,) if name.startswith("relay.") else _IN_TRANSACTION)


class Adversary:
    """Implements :data:`gateway.proving.memory.Boundary` for one worker."""

    def __init__(self, world: "World", worker: "Worker") -> None:
        self._world = world
        self._worker = worker
        self._draw = world.rng.random
        self._chances = world.chances

    async def __call__(self, name: str) -> None:
        """Let the caller past a place, or not."""
        world, worker = self._world, self._worker
        if worker.dead:
            raise asyncio.CancelledError
        world.steps += 1
        if world.steps > STEPS_MAX:
            world.violated("everything ends", f"{worker.name} turns in circles at {name}")
            raise asyncio.CancelledError
        if world.trace is not None:
            world.trace.append(f"{world.loop.time():9.4f}   {worker.name} {name}")
        if world.outage or worker.frozen_until > world.loop.time():
            await self._suffer(name)
        if not world.faults.on:
            return
        chances = self._chances.get(name) or self._look_up(name)
        drawn = self._draw()
        if drawn < chances[0]:
            fault = next(f for upper, f in chances[1] if drawn < upper)
            world.faults.note(world.loop.time(), fault, f"{worker.name} {name}")
            await self._cause(fault, name)

    def _look_up(self, name: str) -> Chances:
        total, ends = 0.0, []
        for fault in (*_ANYWHERE, *_possible(name)):
            total += self._world.faults.rates[fault]
            ends.append((total, fault))
        self._chances[name] = (total, ends)
        return self._chances[name]

    async def _suffer(self, name: str) -> None:
        """Bear what lasts: a frozen worker does nothing, a store or Kafka that is down refuses."""
        world, worker = self._world, self._worker
        while (rest := worker.frozen_until - world.loop.time()) > 0:  # noqa: ASYNC110 - it may be frozen anew
            await asyncio.sleep(rest)
        if worker.dead:
            raise asyncio.CancelledError
        if world.outage == Fault.KAFKA_DOWN and name.startswith(("publisher.", "dead_letters.")):
            raise PublisherUnavailableError("down")
        if world.outage == Fault.STORE_DOWN and _possible(name)[:1] in _STORE:
            raise StoreUnavailableError("down")

    async def _cause(self, fault: Fault, name: str) -> None:
        world, worker = self._world, self._worker
        match fault:
            case Fault.CRASH:
                world.crash(worker)
                raise asyncio.CancelledError
            case Fault.DELAY:
                await asyncio.sleep(world.rng.expovariate(1.0) * world.rng.choice((0.001, 0.02, 0.3, 1.5)))
                if worker.dead:
                    raise asyncio.CancelledError
            case Fault.FREEZE:
                world.freeze(worker, world.rng.uniform(0.5, 30.0))
                await self._suffer(name)
            case Fault.RELAY_DEPOSED:
                world.depose_relay()
            case Fault.COMMIT_LOST:
                worker.rewind()
            case Fault.REDELIVERED:
                world.redeliver(worker)
            case _:
                raise _ERRORS[fault](fault.value)


_ERRORS: Final[dict[Fault, type[Exception]]] = {
    Fault.STORE_UNAVAILABLE: StoreUnavailableError,
    Fault.COMMIT_UNKNOWN: StoreUnavailableError,
    Fault.STORE_CONFLICT: StoreConflictError,
    Fault.PUBLISH_FAILED: PublisherUnavailableError,
    Fault.PUBLISH_PARTIAL: PublisherUnavailableError,
    Fault.PUBLISH_UNCONFIRMED: PublisherUnavailableError,
}

_STORE: Final = ((Fault.STORE_UNAVAILABLE,), (Fault.RELAY_DEPOSED,), (Fault.COMMIT_UNKNOWN,))
