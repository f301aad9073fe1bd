"""A database with something of everything that the console shows, and the console over it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.base.process import SilentObserver
from gateway.consents.rules.limits import windows_at
from gateway.console.serving import serving
from gateway.console.web import Console
from gateway.database.migrate import migrate
from gateway.directory.console_roles import ConsoleRole, ConsoleUser
from gateway.directory.partners import NewPartner, PartnerKey
from gateway.identity.jose.jwk import generate_key
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from gateway.sealing.passwords import hash_password
from schemas.consents import ConsentStatus, ConsentTerms, Period, PeriodLimit
from schemas.primitives import PartnerId, payment_id_of
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import payment
from tests.support.cli import NETWORK
from tests.support.domain_samples import krw, purpose, terms
from tests.support.tokens import put_token

PASSWORD = "correct horse battery staple"
PARTNER, CONSENT, CUSTOMER = "partner-1", "consent-1", "customer-1"
NETWORK_ID = "bcard"
NOTICE = "00000000-0000-4000-8000-000000000007"
"""Of an erasure that is overdue."""
ARCHIVED = "order-9001"
"""Order of a payment that is in the archive."""
PEOPLE: Mapping[str, ConsoleRole] = {
    "view": ConsoleRole.VIEWER,
    "oper": ConsoleRole.OPERATOR,
    "appr": ConsoleRole.APPROVER,
    "boss": ConsoleRole.APPROVER,
}
STATES = (
    *(PaymentState.SETTLED,) * 12,
    *(PaymentState.APPROVED,) * 6,
    *(PaymentState.DECLINED,) * 3,
    PaymentState.REJECTED,
    PaymentState.REVERSED,
    PaymentState.REVERSING,
    PaymentState.UNKNOWN,
    PaymentState.UNKNOWN,
    PaymentState.SENT,
)


def payments_of(now: datetime) -> list[Payment]:
    found = []
    for number, state in enumerate(STATES, 1):
        at = now - timedelta(minutes=5, seconds=number)
        reason = Reason(code=ReasonCode.AC03, text="the card was refused") if state is PaymentState.DECLINED else None
        extra: dict[str, Any] = {"network_id": NETWORK_ID} if state is not PaymentState.REJECTED else {}
        times = {
            "ordered_at": at,
            "decided_at": at + timedelta(milliseconds=40),
            "changed_at": at + timedelta(seconds=1),
        }
        found.append(payment(number, state=state, amount_minor=1000 * number + 900, reason=reason, **times, **extra))
    return found


def terms_of(consent_id: str, now: datetime) -> ConsentTerms:
    """Terms that run, with a limit that is used by some and one that is nearly used up."""
    limits = (
        PeriodLimit(period=Period.MONTH, max_amount=krw(1_000_000)),
        PeriodLimit(period=Period.DAY, max_count=20),
    )
    return terms(
        consent_id=consent_id,
        valid_from=now - timedelta(days=40),
        valid_until=now + timedelta(days=400),
        payment=purpose(period_limits=limits),
    )


async def fill(dsn: str, passwords: Mapping[str, str] | None = None) -> list[Payment]:
    """Migrate, and write something of everything; returns the payments."""
    await migrate(dsn)
    now = datetime.now(UTC)
    hashed = await asyncio.to_thread(hash_password, PASSWORD)
    jwk = generate_key("Ed25519")[1]
    async with open_registries(dsn) as registries:
        await registries.directory.add_partners([NewPartner(PartnerId(PARTNER), "Partner One", "telecom")])
        key = PartnerKey("key-1", PartnerId(PARTNER), "Ed25519", jwk, now, now + timedelta(days=9), None)
        await registries.directory.add_keys([key])
        for status, name in (
            (ConsentStatus.AUTH, CONSENT),
            (ConsentStatus.SUSP, "consent-susp"),
            (ConsentStatus.AUTH, "consent-2"),
        ):
            await registries.consents.add_consents([(terms_of(name, now), status)])
        for name, role in PEOPLE.items():
            await registries.console_users.add(ConsoleUser(name, role, hashed))
        await registries.affiliates.add("affiliate-1", "Affiliate One", "telecom")
    # Who resumes a consent gives the use of its token again.
    await put_token(dsn, "token-1", CUSTOMER, PARTNER)
    made = payments_of(now)
    store = PostgresStore(dsn)
    await store.start()
    try:
        async with store.transaction() as uow:
            await uow.payments.insert(made)
            await uow.outbox.append([event_of(p) for p in made])
            await uow.directory.report_network(NETWORK_ID, worker="execution@host/1", is_open=True, now=now)
    finally:
        await store.stop()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO clearing_record (network_id, cycle_id, record_no, kind, rrn, stan, terminal_id, acceptor_id,"
            " amount_minor, currency, break_kind, break_detail, imported_at)"
            " VALUES ($1, $2, $3, 'sale', $4, $5, 'GW000001', 'shop', $6, 'KRW', $7, $8, $9)",
            [
                (
                    NETWORK_ID,
                    "20261126",
                    n,
                    f"9{n:011d}",
                    n,
                    5000 * n,
                    kind,
                    "no payment has this RRN",
                    now - timedelta(days=n),
                )
                for n, kind in enumerate(("missing_here", "amount_differs", "duplicate"), 1)
            ],
        )
        # It is asked about in an hour again.
        await connection.execute(
            "INSERT INTO inquiry (partner_id, payment_id, network_id, terminal_id, stan, transmitted_at, attempts,"
            " next_attempt_at, queued_at) SELECT partner_id, payment_id, network_id, terminal_id, 700001,"
            " transmitted_at, 9, now() + interval '1 hour', decided_at FROM payment WHERE state = 'unknown'"
        )
        await connection.execute(
            "INSERT INTO share_holder (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids,"
            " since, notice_id, cause, noticed_at, erase_by) VALUES ($1, $2, $3, 'affiliate-1', 1, 'r', '{}', $4, $5,"
            " 'ended', $4, $4)",
            *(PARTNER, "consent-2", CUSTOMER, now - timedelta(days=3), NOTICE),
        )
        await connection.execute(
            "WITH f AS (INSERT INTO archive_file (status, payments, sha256, written_at)"
            " VALUES ('written', 1, sha256(''), now()) RETURNING file_id)"
            " INSERT INTO archived_payment (partner_id, payment_id, order_id, consent_id, consent_version, merchant_id,"
            " operation, amount_minor, currency, order_digest, state, version, ordered_at, decided_at, changed_at,"
            " file_id) SELECT $1::text, $2::uuid, $3::text, $4::text, 1, 'merchant-1', 'purchase', 5000, 'KRW',"
            " sha256(''), 'rejected', 1, $5::timestamptz, $5, $5, file_id FROM f",
            *(PARTNER, payment_id_of(PARTNER, ARCHIVED), ARCHIVED, CONSENT, now - timedelta(days=800)),
        )
        await connection.executemany(
            "INSERT INTO consent_usage (partner_id, consent_id, limit_key, starts_at, reserved_minor, reserved_count)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (PARTNER, CONSENT, w.key.limit_key, w.key.starts_at, (w.max_minor or 0) * 4 // 10, 19)
                for w in windows_at(terms_of(CONSENT, now), now)
            ],
        )
    finally:
        await connection.close()
    return made


def event_of(p: Payment) -> OutboxEvent:
    """What its partner is told of a payment as it stands."""
    body = f'{{"version":{p.version},"status":"{p.state.value}"}}'.encode()
    return OutboxEvent(
        topic=f"mypay.events.{p.partner_id}",
        key=str(p.payment_id),
        event_id=f"{p.payment_id}/{p.version}",
        event_type=f"kr.mypay.payment.{p.state.value}.v1",
        occurred_at=p.changed_at,
        body=body,
    )


def settings_of(dsn: str, folder: Path, **more: Any) -> Settings:
    """Settings of a console over this database, with a network of its own and nothing of the machine's."""
    networks = folder / "networks"
    networks.mkdir(exist_ok=True)
    (networks / f"{NETWORK_ID}.toml").write_text(NETWORK.format(port=8583))
    given = {
        "postgres_dsn": dsn,
        "networks_dir": networks,
        "home": folder,
        "dead_letter_keys_dir": folder / "dead-letter",
        "console_port": 0,
        "kafka_bootstrap_servers": "127.0.0.1:1",
    }
    return Settings(_env_file=None, **{**given, **more})  # type: ignore[call-arg]


@dataclass
class Browser:
    """Somebody's browser as far as HTTP goes: cookies, and the forms' hidden field."""

    console: Console
    http: aiohttp.ClientSession = field(repr=False)

    async def get(self, path: str, **more: Any) -> tuple[int, str, Mapping[str, str]]:
        async with self.http.get(self.console.url + path, allow_redirects=False, **more) as response:
            return response.status, await response.text(), response.headers

    async def post(self, path: str, data: Mapping[str, str], **more: Any) -> tuple[int, str, Mapping[str, str]]:
        async with self.http.post(self.console.url + path, data=data, allow_redirects=False, **more) as response:
            return response.status, await response.text(), response.headers

    async def search(self, asked: object) -> tuple[int, str, Mapping[str, str]]:
        return await self.post("/payments", {"csrf": await self.csrf(), "q": str(asked)})

    async def sign_in(self, name: str, password: str = PASSWORD) -> int:
        return (await self.post("/sign-in", {"name": name, "password": password}))[0]

    async def csrf(self) -> str:
        text = (await self.get("/"))[1]
        return text.partition('name="csrf" value="')[2].partition('"')[0]

    async def act(self, kind: str, **fields: str) -> tuple[int, str]:
        given = {"csrf": await self.csrf(), "why": "ticket 7", **fields}
        status, text, _ = await self.post(f"/actions/{kind}", given)
        return status, text


@asynccontextmanager
async def browsing(console: Console, name: str | None = None) -> AsyncIterator[Browser]:
    """A browser, signed in as somebody or as nobody."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        browser = Browser(console, http)
        if name is not None:
            assert await browser.sign_in(name) == 303
        yield browser


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Console]:
    async with serving(settings, SilentObserver()) as console:
        yield console
