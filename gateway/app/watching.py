"""What a process looks at around itself: for ``/readyz``, ``/healthz`` and the gauges that tell the same."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.app.runtime import Runtime
from gateway.app.settings import Settings
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.database.pool import ConnectionPool
from gateway.messaging.membership import LagTeller, Patient
from gateway.messaging.probe import KafkaProbe
from gateway.observability.health import Check, Health, run_checks
from gateway.observability.observer import StageObserver
from schemas.principals import Role
from schemas.topics import TOPICS

ANSWER_S: Final = 2.0
"""Orchestrators ask every few seconds; an answer that takes longer is no answer."""

LOOK_S: Final = 5.0
DISK_FREE_BYTES: Final = 64 * 1024 * 1024
"""Less room than this on a disk that a process writes to, and it is not ready."""

KEYS_OLD_S: Final = 60.0
"""Partners' keys are read every few seconds; a table of them that is older may lack one that was disabled."""

DEPENDENCIES: Final = ("postgres", "kafka")


def topics_of(stage: str, networks: Collection[str]) -> list[str]:
    """The topics that a stage reads or writes, but those of partners, recipients and affiliates."""
    role = Role(stage)
    found: set[str] = set()
    for topic in TOPICS:
        if role not in topic.readers and role not in topic.writers:
            continue
        if "{" not in topic.name:
            found.add(topic.name)
        elif "{network}" in topic.name:
            found |= {topic.name.format(network=network) for network in networks}
    return sorted(found)


async def postgres_answers(store: ConnectionPool) -> str | None:
    """A readiness check: the database answers, and takes what is written."""
    try:
        async with asyncio.timeout(ANSWER_S), store.connection() as connection:
            await connection.fetchval("SELECT 1")
    except (StoreUnavailableError, TimeoutError):
        return "no answer"
    return store.refuses_writes


async def kafka_answers(probe: KafkaProbe) -> str | None:
    """A readiness check: Kafka lets us in, and what is asked for is there."""
    return await probe.problem(timeout_s=ANSWER_S)


def disk_check(folders: Mapping[str, Path], free: Callable[[Path], int]) -> Check:
    """A readiness check: there is room where the process writes."""

    async def check() -> str | None:
        full = [
            f"{name}: {room // 2**20} MiB free" for name, f in folders.items() if (room := free(f)) < DISK_FREE_BYTES
        ]
        return "; ".join(full) or None

    return check


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, or of the nearest above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def folders_of(settings: Settings, stage: str) -> dict[str, Path]:
    """Where a stage writes on this machine."""
    found = {"home": settings.home}
    if stage == "settlement" and settings.clearing_inbox is not None:
        found["clearing_inbox"] = settings.clearing_inbox
    return found


def keys_check(age: Callable[[], float | None]) -> Check:
    """A readiness check: what is known of partners' keys is fresh.

    Args:
        age: of that, in seconds; None before it was read.
    """

    async def check() -> str | None:
        old = age()
        if old is None:
            return "not read yet"
        return f"{old:.0f} s old" if old > KEYS_OLD_S else None

    return check


def watch_keys(runtime: Runtime, name: str, age: Callable[[], float | None]) -> None:
    """Tell how old a registry of keys is, also while a reading hangs, and that the process is not ready on old ones."""
    runtime.health.readiness[name] = keys_check(age)

    async def look() -> None:
        runtime.observer.level("key_registry_age_seconds", age())

    runtime.health.looks.append(look)


def watch_disks(settings: Settings, stage: str, health: Health, observer: StageObserver) -> None:
    """Tell how much room there is, and that the process is not ready where there is none."""
    folders = folders_of(settings, stage)
    health.readiness["disk"] = disk_check(folders, free_bytes)
    for name, folder in folders.items():
        observer.read_at_scrape("disk_free_bytes", partial(free_bytes, folder), folder=name)


class Expiry:
    """When the first certificate of a file ends, in seconds since 1970.

    Args:
        again: read it again when the file is another, as whoever shows the certificate does. Else what was read first
            stands: a new file alone changes nothing for a process that read its certificate when it began.
    """

    def __init__(self, file: Path, *, again: bool) -> None:
        self._file = file
        self._again = again
        self._read: tuple[int, float] | None = None

    def __call__(self) -> float | None:
        """Implements :data:`gateway.observability.series.Reading`: None where there is none that can be read."""
        if self._read is not None and not self._again:
            return self._read[1]
        try:
            changed = self._file.stat().st_mtime_ns
            if self._read is None or self._read[0] != changed:
                found = x509.load_pem_x509_certificates(self._file.read_bytes())
                self._read = changed, found[0].not_valid_after_utc.timestamp()
        except (OSError, ValueError):
            return None
        return self._read[1]


_READ_AGAIN: Final = frozenset({"network"})
"""Certificates that are read at every connection; the others when the process begins."""


def watch_certificates(files: Mapping[str, Path | None], observer: StageObserver) -> None:
    """Tell when each certificate of the process's own ends."""
    for name, file in files.items():
        if file is not None:
            expiry = Expiry(file, again=name in _READ_AGAIN)
            # At once: it is the one that the process begins with.
            expiry()
            observer.read_at_scrape("certificate_expires_timestamp_seconds", expiry, certificate=name)


def watch_pool(store: ConnectionPool, observer: StageObserver) -> None:
    """Tell how the connections to the database are used."""
    for state in ("used", "idle"):
        observer.read_at_scrape("db_pool_connections", partial(store.connections, state), state=state)
    observer.read_at_scrape("db_pool_max_connections", partial(store.connections, "max"))
    observer.read_at_scrape("db_pool_waiting", partial(store.connections, "waiting"))


async def servers_answer(health: Health) -> int:
    """For a watchdog: 1 while nothing that the process stands on is away, so that standing still is its own fault."""
    words = await run_checks({n: c for n, c in health.readiness.items() if n in DEPENDENCIES})
    return int(all(word == "ok" for word in words.values()))


async def look_around(health: Health, observer: Observer) -> None:
    """Tell which dependencies answer, and let everything else that is looked at look; until cancelled."""
    while True:
        words = await run_checks({n: c for n, c in health.readiness.items() if n in DEPENDENCIES})
        for name, word in words.items():
            observer.level("dependency_up", float(word == "ok"), dependency=name)
        for look in list(health.looks):
            await _look(look, observer)
        await asyncio.sleep(LOOK_S)


async def _look(look: Callable[[], Awaitable[None]], observer: Observer) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await look()
    except TimeoutError:
        pass  # what it tells gets old, and goes
    except Exception as error:  # noqa: BLE001 - one look's bug must not blind the others
        observer.note("look_failed", level="warning", error=type(error).__name__)


def watch_group(
    runtime: Runtime,
    group: str,
    *,
    problem: Callable[[], str | None],
    lag: Callable[[], Awaitable[int]],
    taken_ms: Callable[[], int | None],
) -> None:
    """Tell how far a consumer group is behind, and that the process is not ready while it is no member."""
    runtime.health.readiness[f"group {group}"] = Patient(problem, time.monotonic).check
    watch = LagTeller(runtime.observer, runtime.clock, group=group, lag=lag, taken_ms=taken_ms)
    runtime.health.looks.append(watch.look)
