"""How `mypay archive run` is put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from gateway.app.clock import SystemClock
from gateway.app.postgres import PostgresStore
from gateway.app.settings import Settings
from gateway.base.process import Clock
from gateway.database.unit import Store
from gateway.payments.archive.service import ArchiveFiles, ArchiveService, ArchiveSettings
from gateway.payments.archive.store import ArchiveUnit


def archiving(
    store: Store[ArchiveUnit], files: ArchiveFiles, clock: Clock, settings: ArchiveSettings
) -> ArchiveService:
    """The service over any database and folder: a run's, or a test's."""
    return ArchiveService(store, files, clock, settings)


@asynccontextmanager
async def open_archiving(
    dsn: str, settings: Settings, files: ArchiveFiles, *, after_days: int
) -> AsyncIterator[ArchiveService]:
    """The service on a connection of its own, as the user of ``dsn``.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    bounds = ArchiveSettings(timedelta(days=after_days), settings.archive_file_payments, settings.archive_batch)
    store = PostgresStore(dsn, pool_size=1, name="mypay-archive")
    await store.start()
    try:
        yield archiving(store, files, SystemClock(), bounds)
    finally:
        await store.stop()
