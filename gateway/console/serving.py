"""The console's process: from settings to a port that answers."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from gateway.app.backlogs import BacklogView
from gateway.app.clock import SystemClock
from gateway.app.console import ConsoleDatabase, console_database
from gateway.app.dead_letters import operators_kafka
from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.base.process import Clock, Observer
from gateway.console import actions, expiry, letter_pages, pages, sign_in_pages
from gateway.console.letters import Letters
from gateway.console.oidc import OidcClient
from gateway.console.rules.access import ROUTES
from gateway.console.rules.peers import Proxies, proxies_of
from gateway.console.sampling import Samples
from gateway.console.signing_in import SigningIn
from gateway.console.web import Console, Handler, application, environment
from gateway.network.iso8583.config import load_networks

LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})
SHUTDOWN_S: Final = 3.0


def handlers() -> dict[str, Handler]:
    """What answers each route, by its name."""
    found: dict[str, Handler] = {}
    for route in ROUTES:
        module = next(m for m in (pages, letter_pages, expiry, sign_in_pages, actions) if hasattr(m, route.name))
        found[route.name] = getattr(module, route.name)
    return found


def check_address(settings: Settings) -> None:
    """Passwords and sessions cross no network in clear.

    Raises:
        NotConfiguredError: they would.
    """
    url = settings.console_url or ""
    # An address that browsers call this machine by is only theirs who are on it: forms from elsewhere are refused.
    own = url.startswith("https://") or urlsplit(url).hostname in LOCAL
    if settings.console_host not in LOCAL and not own:
        raise NotConfiguredError(
            "MYPAY_CONSOLE_HOST lets others than this machine reach the console: MYPAY_CONSOLE_URL must be the "
            "https:// address under which something in front of it speaks TLS"
        )
    # Codes, secrets and the keys that tokens are verified with come from there, wherever the console itself listens.
    issuer = urlsplit(settings.console_oidc_issuer or "")
    if issuer.scheme == "http" and issuer.hostname not in LOCAL:
        raise NotConfiguredError("MYPAY_CONSOLE_OIDC_ISSUER must begin with https://, unless it is on this machine")


def make_console(
    settings: Settings, database: ConsoleDatabase, clock: Clock, observer: Observer, http: aiohttp.ClientSession
) -> Console:
    """Put the console together."""
    host = f"[{settings.console_host}]" if ":" in settings.console_host else settings.console_host
    url = settings.console_url or f"http://{host}:{settings.console_port}"
    networks = load_networks(settings.networks_dir)
    return Console(
        settings=settings,
        database=database,
        signing_in=SigningIn(
            database,
            clock,
            idle=timedelta(seconds=settings.console_idle_s),
            longest=timedelta(seconds=settings.console_session_s),
        ),
        samples=Samples(database, clock, _backlogs(settings, observer, networks)),
        letters=Letters(settings, clock),
        networks=networks,
        proxies=_proxies(settings),
        clock=clock,
        observer=observer,
        url=url,
        templates=environment(),
        oidc=OidcClient(settings, f"{url}/oidc/callback", http) if settings.console_oidc_issuer else None,
    )


def _backlogs(settings: Settings, observer: Observer, networks: Collection[str]) -> BacklogView | None:
    try:
        kafka = operators_kafka(settings, client_id="mypay-console-backlogs")
    except NotConfiguredError:
        return None
    return BacklogView(kafka, observer, sorted(networks))


def _proxies(settings: Settings) -> Proxies:
    try:
        return proxies_of(settings.console_proxy_addresses or "")
    except ValueError as error:
        raise NotConfiguredError(f"MYPAY_CONSOLE_PROXY_ADDRESSES: {error}") from None


@asynccontextmanager
async def serving(settings: Settings, observer: Observer) -> AsyncIterator[Console]:
    """The console, answering, for as long as the block lasts; its ``url`` tells where.

    Raises:
        NotConfiguredError: an address is missing, or may not be used.
        StoreUnavailableError: the database cannot be reached now.
        OSError: the port is taken.
    """
    check_address(settings)
    async with console_database(settings) as database, aiohttp.ClientSession() as http:
        console = make_console(settings, database, SystemClock(), observer, http)
        runner = web.AppRunner(
            application(console, handlers()), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.console_host, settings.console_port).start()
            if settings.console_url is None:
                console.url = console.url.rpartition(":")[0] + f":{runner.addresses[0][1]}"
                if console.oidc is not None:
                    console.oidc.redirect_uri = f"{console.url}/oidc/callback"
            looking = [
                asyncio.create_task(console.samples.keep_looking(), name="samples"),
                asyncio.create_task(console.samples.keep_looking_at_kafka(), name="backlogs"),
                asyncio.create_task(console.letters.keep_counting(), name="letters"),
            ]
            try:
                yield console
            finally:
                for task in looking:
                    task.cancel()
                await asyncio.wait(looking)
        finally:
            await runner.cleanup()
