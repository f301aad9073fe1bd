"""The disclosure log's sequencer: outbox → chain."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.app.errors import NotConfiguredError
from gateway.app.process import Process
from gateway.app.runtime import Runtime, always_due, work_until
from gateway.app.settings import Settings
from gateway.disclosure.postgres import PostgresDisclosureLog
from gateway.disclosure.sequencer import SequencerService, SequencerSettings
from gateway.disclosure.signing import RootSigner, RootVerifier, create_key, newest_key, public_keys
from gateway.disclosure.store import DisclosureLog
from gateway.identity.jose.jwk import KeyFormatError
from gateway.sealing.files import SecretFileError
from schemas.disclosure import RootStatement

STAGE: Final = "disclosure"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisclosureConnections:
    """What the sequencer reaches others through.

    Attributes:
        sign: makes the statement of a root.
        random: so many random bytes.
    """

    log: DisclosureLog
    sign: Callable[[RootStatement], str]
    random: Callable[[int], bytes] = os.urandom


@dataclass(frozen=True, slots=True, kw_only=True)
class DisclosureStage:
    """Writes the disclosure log."""

    runtime: Runtime
    service: SequencerService

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until told to stop. A batch in hand may be cut: it is written whole, or again by the next sequencer."""
        # Always due: a sequencer that does not come round is a stall, also when nothing is told.
        watchdog = self.runtime.watch(STAGE, always_due)
        await work_until(stopping, {STAGE: self.service.run(watchdog.progress)})


def disclosure(
    runtime: Runtime, connections: DisclosureConnections, settings: SequencerSettings | None = None
) -> DisclosureStage:
    """Put the sequencer together."""
    return DisclosureStage(
        runtime=runtime,
        service=SequencerService(
            log=connections.log,
            sign=connections.sign,
            random=connections.random,
            observer=runtime.observer,
            clock=runtime.clock,
            settings=settings or SequencerSettings(),
        ),
    )


# --- a process ---


def root_signer(settings: Settings) -> RootSigner:
    """What signs roots.

    Raises:
        NotConfiguredError: there is no key, or it cannot be used.
    """
    folder = settings.disclosure_keys_dir
    try:
        signer = newest_key(folder)
    except (SecretFileError, KeyFormatError) as error:
        raise NotConfiguredError(f"MYPAY_DISCLOSURE_KEYS_DIR: {error}") from None
    if signer is None:
        raise NotConfiguredError(
            f"there is no key to sign roots of the disclosure log with in {folder} (MYPAY_DISCLOSURE_KEYS_DIR): "
            "make one with `mypay audit key`"
        )
    return signer


def root_verifier(folder: Path) -> RootVerifier:
    """What reads roots.

    Raises:
        NotConfiguredError: a key cannot be read.
    """
    try:
        return RootVerifier(public_keys(folder))
    except (SecretFileError, KeyFormatError, ValueError) as error:
        raise NotConfiguredError(f"{folder}: {error}") from None


def create_missing_root_key(settings: Settings, now: datetime, *, within: Path | None = None) -> str | None:
    """Make a key that signs roots where there is none; return its id.

    A folder that is not ``within`` the one given is left alone.
    """
    folder = settings.disclosure_keys_dir
    if within is not None and not folder.resolve().is_relative_to(within.resolve()):
        return None
    return None if sorted(folder.glob("*.pem")) else create_key(folder, now)


@asynccontextmanager
async def disclosure_process(process: Process) -> AsyncIterator[DisclosureStage]:
    """The sequencer over PostgreSQL."""
    settings = process.settings
    connections = DisclosureConnections(log=PostgresDisclosureLog(process.dsn), sign=root_signer(settings).sign)
    bounds = SequencerSettings(
        batch=settings.disclosure_batch_max,
        idle_s=settings.disclosure_idle_s,
        period=timedelta(seconds=settings.disclosure_period_s),
    )
    yield disclosure(process, connections, bounds)
