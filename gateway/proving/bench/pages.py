"""How long the pages of the operators' console take on a database that has grown: the real process, asked over HTTP."""

import asyncio
import contextlib
import hashlib
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg

from gateway.app.registries import open_registries
from gateway.database.migrate import migrate
from gateway.directory.console_roles import ConsoleRole, ConsoleUser
from gateway.directory.partners import NewPartner
from gateway.proving.seeding import CONSENTS, NotOurDatabaseError, refuse_anothers, seed
from gateway.proving.stack.ports import free_ports
from gateway.sealing.passwords import hash_password
from schemas.consents import ConsentStatus, ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.primitives import ConsentId, CustomerId, FundingToken, Money, PartnerId

P99_MS: Final = 100.0
READY_S: Final = 60.0

_PARTNERS: Final = 50
_SEED: Final = 20_260_101
_USER: Final = "measuring"  # as `refuse_anothers` knows it
_CONSOLE: Final = "from gateway.cli import main; main()"
_NETWORK: Final = """
network_id = "seed-{n}"
addresses = ["127.0.0.1:1"]
dialect = "iso87-ascii"
frame = "binary2"
acquirer_id = "410001"
time_zone = "Asia/Seoul"
currencies = ["KRW"]
[terminals]
prefix = "S{n}"
count = 4
"""


class PagesError(Exception):
    """They cannot be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class PageTimes:
    """How long one page takes, in ms, at the client."""

    name: str
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request.

    Attributes:
        searched: what is looked for; None of a page that is just there.
        holds: what an answer has in it that found something, in its page or in where it leads.
    """

    path: str
    searched: str | None = None
    holds: str = ""


async def measure_pages(
    dsn: str, *, payments: int, with_events: int, rounds: int, tell: Callable[[str], None]
) -> list[PageTimes]:
    """Fill the database as far as it is not, start the console over it, and ask for each page in turns.

    Raises:
        PagesError: the database is not one for measuring, the console does not start, or a page is not what it should
            be.
    """
    try:
        await refuse_anothers(dsn)
    except NotOurDatabaseError as error:
        raise PagesError(f"{error}.") from error
    await migrate(dsn)
    await _fill(dsn, payments, with_events, tell)
    async with _user(dsn) as (name, word):
        with tempfile.TemporaryDirectory(prefix="mypay-pages-") as folder:
            async with (
                _console(dsn, Path(folder)) as url,
                aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
            ):
                csrf = await _sign_in(http, url, name, word)
                tell(f"asking for each of {len(_pages(random.Random(0), payments))} pages {rounds} times")  # noqa: S311
                return await _measured(http, url, csrf, payments, rounds)


@contextlib.asynccontextmanager
async def _user(dsn: str) -> AsyncIterator[tuple[str, str]]:
    """Who may sign in, and with which password, as long as the block lasts."""
    name, word = f"{_USER}-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    async with open_registries(dsn) as registries:
        await registries.console_users.add(ConsoleUser(name, ConsoleRole.APPROVER, hash_password(word)))
    try:
        yield name, word
    finally:
        async with open_registries(dsn) as registries:
            await registries.console_users.set_enabled(name, enabled=False)


async def _fill(dsn: str, payments: int, with_events: int, tell: Callable[[str], None]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        there = await connection.fetchval(
            "SELECT coalesce(max(substr(order_id, 6)::bigint), 0) FROM payment WHERE order_id LIKE 'seed-%'"
        )
    finally:
        await connection.close()
    if there < payments:
        tell(f"{there:,} payments are there; {payments - there:,} are added")
        begun = time.monotonic()
        lacking = payments - there
        await seed(dsn, lacking, first=there + 1, with_events=min(lacking, with_events), with_uses=True)
        tell(f"that took {time.monotonic() - begun:,.0f} s")
    now = datetime.now(UTC).replace(microsecond=0)
    async with open_registries(dsn) as registries:
        names = [PartnerId(f"seed-{n}") for n in range(_PARTNERS)]
        await registries.directory.add_partners([NewPartner(n, n, "telecom") for n in names])
        consents = min(CONSENTS, payments + 1)
        for begin in range(0, consents, 1000):
            some = [(_terms(n, now), ConsentStatus.AUTH) for n in range(begin, min(begin + 1000, consents))]
            await registries.consents.add_consents(some)


def _terms(number: int, now: datetime) -> ConsentTerms:
    return ConsentTerms(
        consent_id=ConsentId(f"seed-{number}"),
        partner_id=PartnerId(f"seed-{number % _PARTNERS}"),
        customer_id=CustomerId(f"seed-customer-{number}"),
        valid_from=now - timedelta(days=400),
        valid_until=now + timedelta(days=400),
        payment=PaymentPurpose(
            funding_token=FundingToken(f"seed-token-{number}"),
            max_per_payment=(Money.of(1_000_000, "KRW"),),
            period_limits=(PeriodLimit(period=Period.MONTH, max_amount=Money.of(100_000_000, "KRW")),),
        ),
    )


def _pages(rng: random.Random, payments: int) -> Mapping[str, _Asked]:
    """Every page, each of others than the last time."""
    n = rng.randint(1, payments)
    payment_id = _uuid(n)
    partner, consent = f"seed-{n % _PARTNERS}", f"seed-{n % CONSENTS}"
    payment_page, consent_page = f"/payments/{partner}/{payment_id}", f"/consents/{partner}/{consent}"
    return {
        "overview": _Asked("/"),
        "live": _Asked("/live"),
        "search form": _Asked("/payments"),
        "search: payment id": _Asked("/payments", payment_id, payment_page),
        # What is seeded has ids that do not follow from its orders: these look, and find no payment.
        "search: order": _Asked("/payments", f"seed-{n}"),
        "search: partner/order": _Asked("/payments", f"{partner}/seed-{n}"),
        "search: RRN": _Asked("/payments", f"s{n:011d}", payment_page),
        "search: consent": _Asked("/payments", consent, consent_page),
        "search: customer": _Asked("/payments", f"seed-customer-{n % CONSENTS}", consent_page),
        "search: token": _Asked("/payments", f"seed-token-{n % CONSENTS}", consent_page),
        "search: nothing": _Asked("/payments", f"nothing-{n}", "Nothing has this id."),
        "payment": _Asked(payment_page, holds=payment_id),
        "consent": _Asked(consent_page, holds=consent),
        "networks": _Asked("/networks"),
        "exceptions": _Asked("/exceptions"),
        "approvals": _Asked("/approvals"),
        "expiry": _Asked("/expiry"),
    }


def _uuid(n: int) -> str:
    text = hashlib.md5(f"seed-{n}".encode(), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


async def _measured(http: aiohttp.ClientSession, url: str, csrf: str, payments: int, rounds: int) -> list[PageTimes]:
    rng = random.Random(_SEED)  # noqa: S311 - which payments are looked at
    took: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, asked in _pages(rng, payments).items():
            begun = time.perf_counter()
            status, answer = await _ask(http, url, csrf, asked)
            spent = (time.perf_counter() - begun) * 1000
            if status not in {200, 303}:
                raise PagesError(f"{name}: {status}")
            if asked.holds not in answer:
                raise PagesError(f"{name}: {asked.holds} is not found")
            # The first round fills what a process keeps.
            if number:
                took.setdefault(name, []).append(spent)
    return [PageTimes(name, _percentile(t, 0.5), _percentile(t, 0.99), max(t)) for name, t in took.items()]


async def _ask(http: aiohttp.ClientSession, url: str, csrf: str, asked: _Asked) -> tuple[int, str]:
    """The status, and the page or where it leads."""
    if asked.searched is None:
        request = http.get(url + asked.path, allow_redirects=False)
    else:
        request = http.post(url + asked.path, data={"csrf": csrf, "q": asked.searched}, allow_redirects=False)
    async with request as response:
        text = await response.text()
        return response.status, response.headers.get("Location", text)


def _percentile(spans: list[float], share: float) -> float:
    return sorted(spans)[min(len(spans) - 1, int(share * len(spans)))]


@contextlib.asynccontextmanager
async def _console(dsn: str, folder: Path) -> AsyncIterator[str]:
    """The process, and where it answers."""
    networks = folder / "networks"
    networks.mkdir()
    for n in range(2):
        (networks / f"seed-{n}.toml").write_text(_NETWORK.format(n=n), encoding="utf-8")
    [port] = free_ports(1)
    kept = {n: v for n, v in os.environ.items() if not n.startswith("MYPAY_")}
    own = {
        "MYPAY_POSTGRES_DSN": dsn,
        "MYPAY_HOME": str(folder),
        "MYPAY_NETWORKS_DIR": str(networks),
        "MYPAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MYPAY_CONSOLE_PORT": str(port),
        "MYPAY_LOG_LEVEL": "error",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CONSOLE, "console", "serve"), env=kept | own, stderr=asyncio.subprocess.PIPE
    )
    reading: asyncio.Task[bytes] | None = None
    try:
        url = await _address(process)
        assert process.stderr is not None  # noqa: S101 - it was asked for
        # Whoever does not read holds the process up once its pipe is full.
        reading = asyncio.create_task(process.stderr.read())
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None  # noqa: S101 - it was asked for
    told = ""
    try:
        async with asyncio.timeout(READY_S):
            while line := (await process.stderr.readline()).decode():
                if line.startswith("The console is at"):
                    return line.split()[-1]
                told = line
    except TimeoutError:
        pass
    raise PagesError(f"the console does not start: {told.strip()}")


async def _sign_in(http: aiohttp.ClientSession, url: str, name: str, word: str) -> str:
    async with http.post(f"{url}/sign-in", data={"name": name, "password": word}, allow_redirects=False) as answer:
        if answer.status != 303:
            raise PagesError(f"signing in: {answer.status}")
    async with http.get(url) as page:
        return (await page.text()).partition('name="csrf" value="')[2].partition('"')[0]
