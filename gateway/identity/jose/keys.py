"""The key registry in memory: partners and their keys, read again every few seconds.

A snapshot is replaced whole, so a verifier never sees half a registry. When the registry cannot be read the last good
snapshot stands: known partners keep paying through a database outage, while its age shows how late a disabled key
could still be accepted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.directory.partners import PartnerKey

Registry = tuple[frozenset[str], Sequence[PartnerKey]]
"""The ids of the registered, active partners, and every key whatever its state."""

Loader = Callable[[], Awaitable[Registry]]

REFRESH_SECONDS: Final = 2.0
"""A disabled key stops working in every worker within this time and one query."""

UNKNOWN_KEY_REFRESH_SECONDS: Final = 1.0
"""A flood of unknown key ids costs the registry one query a second at most, besides those of the background."""

FRUITLESS_MAX: Final = 3
"""So many reads in a row for keys that do not exist, and nobody is held up for the next one: a flood must not slow down
those whose keys are known. A key that is used in the second of its registration may then be refused, as long as the
flood lasts."""

FLOOD_OVER_SECONDS: Final = 10.0
"""After so long without an unknown key, orders are held up again."""

_MISSED_MAX: Final = 1000

_STAGE: Final = "key_registry"


class CachedKeySource:
    """Implements :class:`gateway.identity.signing.KeySource` over an asynchronous loader.

    Empty until the first :meth:`refresh` (or :meth:`start`) has succeeded.
    """

    def __init__(
        self,
        loader: Loader,
        observer: Observer,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._loader = loader
        self._observer = observer
        self._monotonic = monotonic
        self._sleep = sleep
        self._partners: frozenset[str] = frozenset()
        self._keys: Mapping[str, PartnerKey] = {}
        self._begun = 0
        self._read = 0
        self._loaded_at: float | None = None
        self._asked_at: float | None = None
        self._missed: set[str] = set()
        self._fruitless = 0
        self._loading = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def partner_exists(self, partner_id: str) -> bool:
        """True for a registered, active partner."""
        return partner_id in self._partners or self._miss(partner_id)

    def key(self, kid: str) -> PartnerKey | None:
        """The key with this id, whatever its state."""
        found = self._keys.get(kid)
        if found is None:
            self._miss(kid)
        return found

    @property
    def age_seconds(self) -> float | None:
        """How long ago the snapshot was read; None before the first."""
        return None if self._loaded_at is None else self._monotonic() - self._loaded_at

    async def refresh(self) -> None:
        """Read the registry again.

        Raises:
            StoreUnavailableError: it could not be read; the last good snapshot stands.
        """
        async with self._loading:
            await self._load()

    async def refresh_if_stale(self) -> bool:
        """Read the registry again: for an order that names a partner or key that is not in the snapshot.

        What was registered before this call is in the snapshot after it. Where such a read was made less than
        :data:`UNKNOWN_KEY_REFRESH_SECONDS` ago this waits until the next one may be, except in a flood of keys that do
        not exist (:data:`FRUITLESS_MAX`).

        Never raises for an unreachable registry. True if the snapshot was read again, by this call or one that it
        waited for: look once more.
        """
        # A read that runs now may have begun before what is asked for was registered: one after it is wanted.
        wanted = self._begun + 1
        async with self._asking:
            if self._read < wanted and not await self._may_ask():
                return False
            if self._read < wanted:
                await self._ask()
            return self._read >= wanted

    async def _may_ask(self) -> bool:
        """Wait until another read may be made; False if nobody is to be held up for it."""
        if self._asked_at is None:
            return True
        since = self._monotonic() - self._asked_at
        if since >= FLOOD_OVER_SECONDS:
            self._fruitless = 0
        if since < UNKNOWN_KEY_REFRESH_SECONDS:
            if self._fruitless >= FRUITLESS_MAX:
                return False
            await self._sleep(UNKNOWN_KEY_REFRESH_SECONDS - since)
        return True

    async def _ask(self) -> None:
        missed, self._missed = self._missed, set()
        self._asked_at = self._monotonic()
        try:
            await self.refresh()
        except StoreUnavailableError:
            return
        found = any(name in self._keys or name in self._partners for name in missed)
        self._fruitless = 0 if found else self._fruitless + 1

    def _miss(self, name: str) -> bool:
        if len(self._missed) < _MISSED_MAX:
            self._missed.add(name)
        return False

    async def start(self, interval_seconds: float = REFRESH_SECONDS) -> None:
        """Read the registry, then keep reading it in the background.

        Raises:
            StoreUnavailableError: the first read failed; nothing was started.
        """
        await self.refresh()
        self._task = asyncio.create_task(self.run(interval_seconds), name="key-registry")

    async def stop(self) -> None:
        """Stop reading; the last snapshot stays."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def run(self, interval_seconds: float = REFRESH_SECONDS) -> None:
        """Read the registry every ``interval_seconds`` until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            with suppress(StoreUnavailableError):  # counted in _load; the age shows it
                await self.refresh()
            if self.age_seconds is not None:
                self._observer.level("key_registry_age_seconds", self.age_seconds)

    async def _load(self) -> None:
        self._begun = number = self._begun + 1
        try:
            partners, keys = await self._loader()
        except StoreUnavailableError:
            self._observer.count(_STAGE, "unavailable")
            raise
        known = self._keys
        # An unchanged key keeps its object, and with it whatever a verifier has worked out from it.
        self._keys = {k.kid: known[k.kid] if known.get(k.kid) == k else k for k in keys}
        self._partners = partners
        self._read = number
        self._loaded_at = self._monotonic()
        self._observer.count(_STAGE, "refreshed")
