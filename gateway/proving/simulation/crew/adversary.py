"""The adversary at one worker's boundaries: at every call of a port it may delay, fail, freeze or kill."""

import asyncio
from contextvars import ContextVar
from random import Random
from typing import Final, Protocol

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.proving.simulation.faults import Chances, Fault, Faults
from gateway.proving.simulation.outcome import Findings

STEPS_MAX: Final = 200_000
"""A world needs a thousand."""

SPARED_S: Final = 60.0
"""After an error that nobody expects a worker sees none for so long: its records must all come to their ends."""

_ANYWHERE: Final = (Fault.CRASH, Fault.DELAY, Fault.FREEZE)

_SPECIAL: Final = {
    "store.begin": (Fault.STORE_UNAVAILABLE, Fault.DEFECT),
    "store.reading": (Fault.STORE_UNAVAILABLE, Fault.DEFECT),
    "store.committed": (Fault.COMMIT_UNKNOWN,),
    "relay.acquire": (Fault.STORE_UNAVAILABLE,),
    "relay.advanced": (Fault.COMMIT_UNKNOWN,),
    "disclosure.acquire": (Fault.STORE_UNAVAILABLE,),
    "disclosure.head": (Fault.STORE_UNAVAILABLE,),
    "disclosure.read": (Fault.STORE_UNAVAILABLE,),
    "disclosure.write": (Fault.STORE_UNAVAILABLE,),
    "disclosure.written": (Fault.COMMIT_UNKNOWN,),
    "publisher.publish": (Fault.PUBLISH_FAILED, Fault.DEFECT),
    "publisher.written": (Fault.PUBLISH_PARTIAL,),
    "publisher.confirmed": (Fault.PUBLISH_UNCONFIRMED,),
    "dead_letters.park": (Fault.PUBLISH_FAILED,),
    "dead_letters.parked": (Fault.PUBLISH_UNCONFIRMED,),
    "consumer.take": (),
    "consumer.commit": (Fault.COMMIT_LOST,),
    "consumer.committed": (Fault.REDELIVERED,),
    "keys.refresh": (),
    **dict.fromkeys(
        (
            "portability.hold",
            "portability.lock_export",
            "snapshots.fetch",
            "sharing.add_shares",
            "marketing.lock_campaigns",
            "marketing.add_offers",
            "marketing.add_uses",
        ),
        (Fault.STORE_UNAVAILABLE, Fault.STORE_CONFLICT, Fault.MEANWHILE),
    ),
}
"""Faults that are possible at a place beside those possible anywhere. Other places are inside a transaction."""

_IN_TRANSACTION: Final = (Fault.STORE_UNAVAILABLE, Fault.STORE_CONFLICT)


class DefectError(Exception):
    """What a bug would raise: no stage waits it out."""


class Victim(Protocol):
    """A worker, as far as the adversary may do something to it.

    Attributes:
        frozen_until: virtual second until which it does nothing.
    """

    name: str
    dead: bool
    frozen_until: float

    def crash(self) -> None:
        """End it at once."""

    def freeze(self, seconds: float) -> None:
        """Stop it for a while."""

    def rewind(self) -> None:
        """Let it take again from what is committed."""

    def redeliver(self) -> None:
        """Set its groups back behind what they had committed."""

    def depose_relay(self) -> None:
        """End the session of the relay that leads."""

    def meanwhile(self) -> None:
        """Change what permits that customers' data are used, while it is at it."""


_in_hand: ContextVar[bool] = ContextVar("records_in_hand", default=False)


def records_in_hand(*, are: bool) -> None:
    """Tell whether the running task has records that it took and did not commit: there unexpected errors may come."""
    _in_hand.set(are)


class Adversary:
    """Implements :data:`gateway.proving.memory.Boundary` for one worker."""

    def __init__(
        self, worker: Victim, *, loop: asyncio.AbstractEventLoop, rng: Random, faults: Faults, findings: Findings
    ) -> None:
        self._worker = worker
        self._loop = loop
        self._rng = rng
        self._faults = faults
        self._findings = findings
        self._spared_until = 0.0

    async def __call__(self, name: str) -> None:
        """Let the caller past a place, or not."""
        faults, worker = self._faults, self._worker
        if worker.dead:
            raise asyncio.CancelledError
        faults.steps += 1
        if faults.steps > STEPS_MAX:
            self._findings.violated("everything ends", f"{worker.name} turns in circles at {name}")
            raise asyncio.CancelledError
        if self._findings.trace is not None:
            self._findings.trace.append(f"{self._loop.time():9.4f}   {worker.name} {name}")
        if faults.outage or worker.frozen_until > self._loop.time():
            await self._suffer(name)
        if not faults.on:
            return
        chances = faults.chances.get(name) or self._look_up(name)
        drawn = self._rng.random()
        if drawn < chances[0]:
            fault = next(f for upper, f in chances[1] if drawn < upper)
            if fault is Fault.DEFECT and not self._may_fail():
                return
            faults.note(self._loop.time(), fault, f"{worker.name} {name}")
            await self._cause(fault, name)

    def _may_fail(self) -> bool:
        if not _in_hand.get() or self._loop.time() < self._spared_until:
            return False
        self._spared_until = self._loop.time() + SPARED_S
        return True

    def _look_up(self, name: str) -> Chances:
        total, shares = 0.0, []
        for fault in (*_ANYWHERE, *_possible(name)):
            total += self._faults.rates[fault]
            shares.append((total, fault))
        self._faults.chances[name] = (total, shares)
        return self._faults.chances[name]

    async def _suffer(self, name: str) -> None:
        """Bear what lasts: a frozen worker does nothing, a store or Kafka that is down refuses."""
        worker = self._worker
        while (rest := worker.frozen_until - self._loop.time()) > 0:  # noqa: ASYNC110 - it may be frozen anew
            await asyncio.sleep(rest)
        if worker.dead:
            raise asyncio.CancelledError
        outage = self._faults.outage
        if outage == Fault.KAFKA_DOWN and name.startswith(("publisher.", "dead_letters.")):
            raise PublisherUnavailableError("down")
        if outage == Fault.STORE_DOWN and _possible(name)[:1] in _STORE:
            raise StoreUnavailableError("down")

    async def _cause(self, fault: Fault, name: str) -> None:
        worker, rng = self._worker, self._rng
        match fault:
            case Fault.CRASH:
                worker.crash()
                raise asyncio.CancelledError
            case Fault.DELAY:
                await asyncio.sleep(rng.expovariate(1.0) * rng.choice((0.001, 0.02, 0.3, 1.5)))
                if worker.dead:
                    raise asyncio.CancelledError
            case Fault.FREEZE:
                worker.freeze(rng.uniform(0.5, 30.0))
                await self._suffer(name)
            case Fault.RELAY_DEPOSED:
                worker.depose_relay()
            case Fault.MEANWHILE:
                worker.meanwhile()
                await asyncio.sleep(rng.uniform(0.1, 2.0))
                if worker.dead:
                    raise asyncio.CancelledError
            case Fault.COMMIT_LOST:
                worker.rewind()
            case Fault.REDELIVERED:
                worker.redeliver()
            case _:
                raise _ERRORS[fault](fault.value)


def _possible(name: str) -> tuple[Fault, ...]:
    return _SPECIAL.get(name, (Fault.RELAY_DEPOSED,) if name.startswith("relay.") else _IN_TRANSACTION)


_ERRORS: Final[dict[Fault, type[Exception]]] = {
    Fault.STORE_UNAVAILABLE: StoreUnavailableError,
    Fault.COMMIT_UNKNOWN: StoreUnavailableError,
    Fault.STORE_CONFLICT: StoreConflictError,
    Fault.PUBLISH_FAILED: PublisherUnavailableError,
    Fault.PUBLISH_PARTIAL: PublisherUnavailableError,
    Fault.PUBLISH_UNCONFIRMED: PublisherUnavailableError,
    Fault.DEFECT: DefectError,
}

_STORE: Final = ((Fault.STORE_UNAVAILABLE,), (Fault.RELAY_DEPOSED,), (Fault.COMMIT_UNKNOWN,))
