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

from gateway.ports import Observer, PartnerKey, StoreUnavailableError

Registry = tuple[frozenset[str], Sequence[PartnerKey]]
"""The ids of the registered, active partners, and every key whatever its state."""

Loader = Callable[[], Awaitable[Registry]]

REFRESH_SECONDS: Final = 2.0
"""A disabled key stops working in every worker within this time and one query."""

UNKNOWN_KEY_REFRESH_SECONDS: Final = 1.0
"""A flood of unknown key ids costs the registry one query a second at most."""

_STAGE: Final = "key_registry"


class CachedKeySource:
    """Implements :class:`gateway.ports.KeySource` over an asynchronous loader.

    Empty until the first :meth:`refresh` (or :meth:`start`) has succeeded.
    """

    def __init__(self, loader: Loader, observer: Observer, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._loader = loader
        self._observer = observer
        self._monotonic = monotonic
        self._partners: frozenset[str] = frozenset()
        self._keys: Mapping[str, PartnerKey] = {}
        self._snapshots = 0
        self._loaded_at: float | None = None
        self._attempted_at: float | None = None
        self._loading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def partner_exists(self, partner_id: str) -> bool:
        """True for a registered, active partner."""
        return partner_id in self._partners

    def key(self, kid: str) -> PartnerKey | None:
        """The key with this id, whatever its state."""
        return self._keys.get(kid)

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

    async def refresh_if_stale(self, older_than_seconds: float = UNKNOWN_KEY_REFRESH_SECONDS) -> bool:
        """Read the registry again unless that was tried within ``older_than_seconds``: for an unknown partner or key.

        Never raises for an unreachable registry. True if the snapshot was read again, by this call or one that it
        waited for: look once more.
        """
        seen = self._snapshots
        async with self._loading:
            if self._snapshots > seen:
                return True
            if self._attempted_at is not None and self._monotonic() - self._attempted_at < older_than_seconds:
                return False
            try:
                await self._load()
            except StoreUnavailableError:
                return False
            return True

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
        self._attempted_at = self._monotonic()
        try:
            partners, keys = await self._loader()
        except StoreUnavailableError:
            self._observer.count(_STAGE, "unavailable")
            raise
        known = self._keys
        # An unchanged key keeps its object, and with it whatever a verifier has worked out from it.
        self._keys = {k.kid: known[k.kid] if known.get(k.kid) == k else k for k in keys}
        self._partners = partners
        self._snapshots += 1
        self._loaded_at = self._monotonic()
        self._observer.count(_STAGE, "refreshed")
