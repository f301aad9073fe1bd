"""The pull API's process: recipients' calls → answers from PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLError
from uuid import uuid4

from gateway.app.clock import SystemClock
from gateway.app.errors import NotConfiguredError
from gateway.app.postgres import PostgresStore
from gateway.app.process import Process
from gateway.app.runtime import Runtime, look_at_ends
from gateway.app.settings import Settings
from gateway.base.causes import cause_of
from gateway.base.process import SilentObserver
from gateway.consents.ended_watch import EndedConsentWatch, EndedPullWatch
from gateway.database.dsn import with_user
from gateway.database.roles import Role
from gateway.portability.api.answering import PullService, PullSettings
from gateway.portability.api.web import PullServer, page_marks, server_context
from gateway.sealing.marks import RecordMarks


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStage:
    """Answers recipients."""

    runtime: Runtime
    server: PullServer
    watch: EndedConsentWatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until told to stop; calls in hand are answered."""
        await self.server.start()
        looking = asyncio.create_task(look_at_ends(self.runtime, self.watch), name="ended-consents")
        try:
            self.runtime.observer.note("api_listens", http_port=self.server.port)
            await stopping.wait()
        finally:
            looking.cancel()
            await self.server.stop()
            await asyncio.wait([looking])


def pull_service(
    runtime: Runtime, marks: RecordMarks, settings: PullSettings, watch: EndedConsentWatch | None = None
) -> PullService:
    """Put the service together."""
    return PullService(
        store=runtime.store,
        marks=marks,
        observer=runtime.observer,
        clock=runtime.clock,
        monotonic=time.monotonic,
        new_id=lambda: uuid4().hex,
        settings=settings,
        watch=watch,
    )


def pull_watch(runtime: Runtime) -> EndedConsentWatch:
    """What compares answers with the ends of consents."""
    return EndedPullWatch(store=runtime.store, observer=runtime.observer, clock=runtime.clock, settle_s=0.0)


# --- a process ---


def is_configured(settings: Settings) -> bool:
    """True where the API's certificates are given: it can run."""
    return None not in _files(settings).values()


def _files(settings: Settings) -> dict[str, object]:
    return {
        "MYPAY_PORTABILITY_API_CERTIFICATE_FILE": settings.portability_api_certificate_file,
        "MYPAY_PORTABILITY_API_KEY_FILE": settings.portability_api_key_file,
        "MYPAY_PORTABILITY_API_CLIENTS_FILE": settings.portability_api_clients_file,
    }


@asynccontextmanager
async def portability_api_process(process: Process) -> AsyncIterator[PullStage]:
    """The API over PostgreSQL.

    Raises:
        NotConfiguredError: a certificate or key is not given, or cannot be used.
    """
    settings = process.settings
    certificate, key = settings.portability_api_certificate_file, settings.portability_api_key_file
    clients = settings.portability_api_clients_file
    if certificate is None or key is None or clients is None:
        missing = ", ".join(name for name, file in _files(settings).items() if file is None)
        raise NotConfiguredError(
            f"the portability API needs a certificate, its key and its clients' authority: {missing}"
        )
    try:
        context, marks = server_context(certificate, key, clients), page_marks(key)
    except (OSError, SSLError, ValueError, TypeError) as error:
        raise NotConfiguredError(
            f"the portability API's certificate, key or clients' authority cannot be used ({cause_of(error)}): "
            + ", ".join(_files(settings))
        ) from None
    bounds = PullSettings(
        org_code=settings.org_code,
        per_second=settings.portability_api_per_second,
        burst=settings.portability_api_burst,
    )
    watch = pull_watch(process)
    server = PullServer(
        pull_service(process, marks, bounds, watch),
        context,
        host=settings.portability_api_host,
        port=settings.portability_api_port,
        timeout_s=settings.portability_api_timeout_s,
        observer=process.observer,
    )
    yield PullStage(runtime=process, server=server, watch=watch)


# --- a trial ---


@asynccontextmanager
async def serving(dsn: str, *, certificate: Path, key: Path, clients: Path, bounds: PullSettings) -> AsyncIterator[int]:
    """The API in this process, as its own role, on a free port of this machine, which is yielded: for trials."""
    store = PostgresStore(with_user(dsn, Role.PORTABILITY_API.user))
    observer = SilentObserver()
    runtime = Runtime(store=store, observer=observer, clock=SystemClock(), worker="portability_api")
    server = PullServer(
        pull_service(runtime, page_marks(key), bounds),
        server_context(certificate, key, clients),
        host="127.0.0.1",
        port=0,
        timeout_s=10,
        observer=observer,
    )
    await store.start()
    try:
        await server.start()
        yield server.port
    finally:
        await server.stop()
        await store.stop()
