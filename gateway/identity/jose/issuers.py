"""The trust table in memory: providers, their keys and the assurance policy, read again in the background.

Everything is looked at again every :data:`TICK_SECONDS`: the folder, key-set files, and the operators' revocations; a
provider's URL as often as its file says. What cannot be read leaves the last good state standing, and its age is told:
customers keep paying through a provider's outage. A key set that *can* be read is the truth, also where it is empty: a
key that is not in it any more stops working at once. Keys that overlap in it are all valid: rotation costs nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp

from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.identity.assurance import AssurancePolicy, Issuer
from gateway.identity.jose.jwks import KeySet, KeySetError, fetch, read_file
from gateway.identity.jose.trust_files import IssuerFile, TrustFileError, TrustFiles, policy_digest, read_trust_files
from gateway.identity.store import IssuerKey

TICK_SECONDS: Final = 1.0
"""A revoked key stops working in every worker within this time and one read of the source."""

UNKNOWN_KID_SECONDS: Final = 1.0
"""A flood of unknown kids costs a provider one request a second at most."""

UNKNOWN_KID_WAIT_SECONDS: Final = 0.5
"""How long orders are held up for a key set that answers slowly; the fetch itself goes on."""

FRUITLESS_MAX: Final = 3
"""So many reads in a row for kids that no key set has, and nobody is held up for the next one: whoever may send orders
can make up a kid a second, and with a provider that answers slowly all orders would wait for half of the time. A key
that is used as soon as its provider publishes it may then be refused, until that read has ended."""

FLOOD_OVER_SECONDS: Final = 10.0
"""After so long without an unknown kid, orders are held up again."""

_STAGE: Final = "trust_table"

Revocations = Callable[[], Awaitable[frozenset[tuple[str, str]]]]
"""Loads the (issuer, kid) pairs that operators have revoked."""


AppliedPolicy = Callable[[], Awaitable[str | None]]
"""Loads the digest of the trust policy that counts (:func:`gateway.identity.jose.trust_files.policy_digest`)."""


async def _none_revoked() -> frozenset[tuple[str, str]]:
    return frozenset()


class PolicyNotAppliedError(Exception):
    """The files say another trust policy than the one that counts."""

    def __init__(self, found: str, applied: str | None) -> None:
        """Take both digests."""
        counts = f"not the one that counts ({applied[:12]})" if applied else "not said to count, and no other is either"
        super().__init__(f"the trust policy here ({found[:12]}) is {counts}")


class _Source:
    """One provider's key set and how it is read; reads never overlap, callers share the one that runs."""

    def __init__(
        self, file: IssuerFile, observer: Observer, monotonic: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self.file = file
        self.entry = file.entry
        self.keys: KeySet | None = None
        self.followed_at = monotonic()
        self.loaded_at: float | None = None
        self.attempted_at: float | None = None
        self.problem: str | None = None
        self.reads = 0
        self._fruitless = 0
        self._missed_at: float | None = None
        self._is_for_unknown = False
        self._observer = observer
        self._monotonic = monotonic
        self._changed = changed
        self._running: asyncio.Task[None] | None = None

    def follow(self, file: IssuerFile) -> None:
        """Take on a changed file. From another place the keys must be read anew; until then the old ones stand."""
        if (file.jwks_url, file.jwks_file) != (self.file.jwks_url, self.file.jwks_file):
            self.attempted_at = None
            self.keys = self.keys and KeySet(self.keys.keys)
        self.file, self.entry = file, file.entry

    def read_again(self, session: aiohttp.ClientSession, older_than_seconds: float) -> asyncio.Task[None] | None:
        """Join the read that runs, or begin one; None if one began within ``older_than_seconds``.

        The task never raises.
        """
        if self._running is None or self._running.done():
            if self.attempted_at is not None and self._monotonic() - self.attempted_at < older_than_seconds:
                return None
            self.attempted_at, self._is_for_unknown = self._monotonic(), False
            self._running = asyncio.create_task(self._read(session), name="key-set")
        return self._running

    def read_for_unknown(self, session: aiohttp.ClientSession) -> asyncio.Task[None] | None:
        """As :meth:`read_again`, for a kid that the key set does not have."""
        now = self._monotonic()
        if self._missed_at is not None and now - self._missed_at >= FLOOD_OVER_SECONDS:
            self._fruitless = 0
        self._missed_at = now
        task = self.read_again(session, UNKNOWN_KID_SECONDS)
        if task is not None:
            self._is_for_unknown = True
        return task

    @property
    def patience_seconds(self) -> float:
        """How much longer orders may be held up for the read that runs.

        Not at all for a provider that fails, nor in a flood of kids that it does not have.
        """
        if self.problem is not None or self.attempted_at is None or self._fruitless >= FRUITLESS_MAX:
            return 0.0
        return max(0.0, UNKNOWN_KID_WAIT_SECONDS - (self._monotonic() - self.attempted_at))

    async def stop(self) -> None:
        """End a read that runs."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def _read(self, session: aiohttp.ClientSession) -> None:
        file = self.file
        try:
            if file.jwks_file is not None:
                found = await asyncio.to_thread(read_file, file.jwks_file, file.issuer)
            else:
                found = await fetch(session, file.jwks_url or "", file.issuer, self.keys)
        except KeySetError as error:
            if self.problem != str(error):
                self._observer.note("key_set_unreadable", level="warning", issuer=file.issuer, reason=str(error))
            self.problem = str(error)
            self._observer.count(_STAGE, "unreadable")
            return
        if found.left_out and (self.keys is None or found.left_out != self.keys.left_out):
            self._observer.note("key_set_has_unusable_keys", level="warning", issuer=file.issuer, count=found.left_out)
        self.problem = None
        is_new = self.keys is None or not found.keys.keys() <= self.keys.keys.keys()
        self._fruitless = 0 if is_new else self._fruitless + self._is_for_unknown
        self.keys = found
        self.reads += 1
        self.loaded_at = self._monotonic()
        self._changed()
        self._observer.count(_STAGE, "refreshed")


class CachedTrustTable:
    """Implements :class:`gateway.identity.store.TrustTable` over a folder of files.

    Args:
        folder: as :func:`gateway.identity.jose.trust_files.read_trust_files` reads it.
        observer: told of refreshes, failures and ages.
        revocations: what operators have revoked, besides the files' ``revoked_kids``.
        applied: which policy counts: files that say another are not taken up, but for the keys that they revoke. None:
            whatever the files say counts.
    """

    def __init__(
        self,
        folder: Path,
        observer: Observer,
        *,
        revocations: Revocations = _none_revoked,
        applied: AppliedPolicy | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._observer = observer
        self._load_revocations = revocations
        self._load_applied = applied
        self._applied: str | None = None
        self._differs = False
        self._monotonic = monotonic
        self._policy = AssurancePolicy(())
        self._sources: dict[str, _Source] = {}
        self._keys: Mapping[tuple[str, str], IssuerKey] = {}
        self._revoked: frozenset[tuple[str, str]] = frozenset()
        self._missed: set[str] = set()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    # --- what verifiers and judges ask ---

    @property
    def policy(self) -> AssurancePolicy:
        return self._policy

    def issuer(self, issuer: str) -> Issuer | None:
        source = self._sources.get(issuer)
        return None if source is None else source.entry

    def issuers(self) -> list[Issuer]:
        """Every provider, by name."""
        return [self._sources[name].entry for name in sorted(self._sources)]

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        found = self._keys.get((issuer, kid))
        if found is None and issuer in self._sources:
            self._missed.add(issuer)
        return found

    def keys_of(self, issuer: str) -> list[IssuerKey]:
        """A provider's keys, by kid."""
        return sorted((k for k in self._keys.values() if k.issuer == issuer), key=lambda k: k.kid)

    def age_seconds(self, issuer: str) -> float | None:
        """How long ago the provider's key set was read; None if it never was."""
        source = self._sources.get(issuer)
        return None if source is None or source.loaded_at is None else self._monotonic() - source.loaded_at

    def problem(self, issuer: str) -> str | None:
        """Why the last read of the provider's key set failed; None if it did not."""
        source = self._sources.get(issuer)
        return None if source is None else source.problem

    async def refresh_unknown(self) -> bool:
        missed, self._missed = self._missed, set()
        sources = [s for name in missed if (s := self._sources.get(name)) is not None]
        before = [s.reads for s in sources]
        session = self._open_session()
        reading = {s: t for s in sources if (t := s.read_for_unknown(session)) is not None}
        patience = max((s.patience_seconds for s in reading), default=0.0)
        if patience > 0:
            await asyncio.wait([t for s, t in reading.items() if s.patience_seconds > 0], timeout=patience)
        return any(s.reads > n for s, n in zip(sources, before, strict=True))

    # --- life ---

    async def start(self) -> None:
        """Read everything once, then keep reading in the background.

        A provider that cannot be reached is counted and tried again; its assertions are refused until it answers.

        Raises:
            TrustFileError: the folder is wrong; nothing was started.
            StoreUnavailableError: the revocations could not be read; nothing was started.
        """
        await self.load()
        self._task = asyncio.create_task(self._run(), name="trust-table")

    async def load(self) -> None:
        """Read everything once; raises as :meth:`start`."""
        files = await asyncio.to_thread(read_trust_files, self._folder)
        if self._load_applied is not None:
            self._applied = await self._load_applied()
            if policy_digest(files) != self._applied:
                raise PolicyNotAppliedError(policy_digest(files), self._applied)
        self._follow(files)
        self._revoked = await self._load_revocations()
        await self._finish(self._begin_reads())

    async def stop(self) -> None:
        """Stop reading and close connections; the last state stays."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for source in self._sources.values():
            await source.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def refresh(self) -> None:
        """Look at everything that is due; never raises for a source that cannot be read: what is known stands."""
        await self._finish(await self._tick())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            # What is revoked must not wait for a slow provider: its read is not awaited.
            await self._tick()

    async def _tick(self) -> list[asyncio.Task[None]]:
        try:
            self._revoked = await self._load_revocations()
            if self._load_applied is not None:
                self._applied = await self._load_applied()
            files = await asyncio.to_thread(read_trust_files, self._folder)
            if self._load_applied is None or policy_digest(files) == self._applied:
                self._follow(files)
                self._tell_difference(differs=False)
            else:
                self._follow_revocations(files)
                self._tell_difference(differs=True)
        except TrustFileError as error:
            self._observer.count(_STAGE, "file_refused")
            self._observer.note("trust_file_refused", level="error", reason=str(error))
        except StoreUnavailableError:
            self._observer.count(_STAGE, "revocations_unavailable")
        self._rebuild()
        # One that was never read is as old as the wish to read it: else nobody would hear of it.
        since = [s.followed_at if s.loaded_at is None else s.loaded_at for s in self._sources.values()]
        if since:
            self._observer.level("trust_table_age_seconds", self._monotonic() - min(since))
        return self._begin_reads()

    def _begin_reads(self) -> list[asyncio.Task[None]]:
        session = self._open_session()
        due = [(s, TICK_SECONDS / 2 if s.file.jwks_file else s.file.refresh_seconds) for s in self._sources.values()]
        return [task for source, seconds in due if (task := source.read_again(session, seconds)) is not None]

    async def _finish(self, reads: list[asyncio.Task[None]]) -> None:
        if reads:
            await asyncio.wait(reads)
        self._rebuild()

    def _follow(self, files: TrustFiles) -> None:
        self._policy = files.policy
        for name, file in files.issuers.items():
            known = self._sources.get(name)
            if known is None:
                self._sources[name] = _Source(file, self._observer, self._monotonic, self._rebuild)
            elif known.file != file:
                known.follow(file)
        for name in self._sources.keys() - files.issuers.keys():
            del self._sources[name]

    def _follow_revocations(self, files: TrustFiles) -> None:
        """Of a policy that does not count: only what takes trust away."""
        for name, file in files.issuers.items():
            known = self._sources.get(name)
            if known is not None and not file.revoked_kids <= known.file.revoked_kids:
                both = known.file.revoked_kids | file.revoked_kids
                known.follow(known.file.model_copy(update={"revoked_kids": both}))

    def _tell_difference(self, *, differs: bool) -> None:
        self._observer.level("trust_policy_differs", float(differs))
        if differs and not self._differs:
            self._observer.count(_STAGE, "policy_not_applied")
            self._observer.note("trust_policy_not_applied", level="error")
        self._differs = differs

    def _rebuild(self) -> None:
        known, keys = self._keys, {}
        for name, source in self._sources.items():
            for kid, key in source.keys.keys.items() if source.keys else ():
                revoked = key.revoked or kid in source.file.revoked_kids or (name, kid) in self._revoked
                fresh = IssuerKey(name, kid, key.algorithm, key.jwk, key.valid_from, key.valid_until, revoked=revoked)
                # An unchanged key keeps its object, and with it whatever a verifier has worked out from it.
                keys[name, kid] = known[name, kid] if known.get((name, kid)) == fresh else fresh
        self._keys = keys

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session
