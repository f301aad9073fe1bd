"""The pull API over real TLS with certificates on both sides, and a real PostgreSQL, as its own role."""

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app.portability_api import pull_service
from gateway.app.postgres import PostgresStore
from gateway.app.registries import open_registries
from gateway.app.runtime import Runtime
from gateway.database import grants
from gateway.database.dsn import with_user
from gateway.database.migrate import migrate
from gateway.database.roles import Role
from gateway.observability.recording import RecordingObserver
from gateway.payments.rules.lifecycle import PaymentState
from gateway.portability.api.answering import PullSettings
from gateway.portability.api.web import PullServer, page_marks, server_context
from gateway.portability.rules.rows import card_id
from gateway.proving.memory import MemoryClock
from gateway.proving.stack.certificates import Authority, CertificateFiles
from schemas.consents import ConsentStatus
from tests.support.builders import NOW, later, payment
from tests.support.domain_samples import merchant, terms
from tests.support.portability import GATEWAY, ORG, PURPOSE
from tests.support.tokens import put_token

OTHER = "B2BBBB0000"
"""The consent names it, too."""
STRANGER = "C3CCCC0000"
"""A recipient that no consent names."""
APPROVALS = f"/v1/card/cards/{card_id('token-1', ORG)}/approval-domestic"
TRANSACTIONS = "/v1/efin/paid/transactions"
PAYMENTS = 25


@dataclass
class Api:
    """A running API with its recipients."""

    dsn: str
    port: int
    authority: Authority
    folder: Path
    certificates: dict[str, CertificateFiles]
    observer: RecordingObserver
    received: list[bytes] = field(default_factory=list)

    def context(self, files: CertificateFiles | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context

    async def ask(
        self, path: str, by: str = ORG, /, *, context: ssl.SSLContext | None = None, method: str = "GET", **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """One call on a connection of its own."""
        headers = HEADERS | more.pop("headers", {})
        told = {"org_code": GATEWAY} | more
        sent: dict[str, Any] = {"json": told} if method == "POST" else {"params": told}
        tls = context or self.context(self.certificates[by])
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.request(method, f"https://127.0.0.1:{self.port}{path}", headers=headers, **sent) as answer,
        ):
            body = await answer.read()
            self.received.append(body)
            if "x-api-tran-id" in headers:
                assert answer.headers["x-api-tran-id"] == headers["x-api-tran-id"]
            return answer.status, json.loads(body)

    async def code(self, path: str, *args: Any, **more: Any) -> str:
        return str((await self.ask(path, *args, **more))[1]["rsp_code"])

    async def sql(self, statement: str, *values: object) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()


HEADERS = {
    "x-api-tran-id": "A1AAAA0000M00000000000001",
    "x-api-type": "user-search",
    "x-user-ci": base64.b64encode(b"customer-1").decode(),
    "x-mypay-consent": "partner-1/consent-1",
}
SPAN: dict[str, Any] = {"from_date": "20250501", "to_date": "20250531"}


def fingerprint(files: CertificateFiles) -> str:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


@asynccontextmanager
async def serving(dsn: str, folder: Path, observer: RecordingObserver) -> AsyncIterator[int]:
    store = PostgresStore(with_user(dsn, Role.PORTABILITY_API.user))
    await store.start()
    runtime = Runtime(store=store, observer=observer, clock=MemoryClock(NOW), worker="api")
    key = folder / "api.key"
    service = pull_service(runtime, page_marks(key), PullSettings(GATEWAY, per_second=1000, burst=1000))
    context = server_context(folder / "api.pem", key, folder / "ca.pem")
    server = PullServer(service, context, host="127.0.0.1", port=0, timeout_s=10, observer=observer)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()
        await store.stop()


async def put_data(dsn: str, certificates: dict[str, CertificateFiles]) -> None:
    await put_token(dsn, "token-1", "customer-1", "partner-1")
    await put_token(dsn, "token-2", "customer-2", "partner-1")
    async with open_registries(dsn) as registries:
        await registries.directory.upsert_merchants([merchant()])
        own = terms(portability=PURPOSE)
        theirs = terms(consent_id="consent-2", customer_id="customer-2", portability=PURPOSE)
        await registries.consents.add_consents([(own, ConsentStatus.AUTH), (theirs, ConsentStatus.AUTH)])
        for org_code, files in certificates.items():
            assert await registries.recipients.add(org_code, org_code, certificate_sha256=fingerprint(files))
    store = PostgresStore(dsn)
    await store.start()
    paid = [
        payment(n, state=PaymentState.APPROVED, approval_code=f"A{n:05}", decided_at=later(n // 3), changed_at=later(n))
        for n in range(PAYMENTS)
    ]
    others = [payment(99, consent_id="consent-2", state=PaymentState.APPROVED, approval_code="FOREIGN")]
    async with store.transaction() as uow:
        await uow.payments.insert([*paid, *others])
    await store.stop()


@pytest.fixture
async def api(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    await grants.apply_roles(database)
    await migrate(database)
    authority, observer = Authority(), RecordingObserver()
    authority.issue(tmp_path, "api", names=["127.0.0.1"])
    certificates = {org: authority.issue(tmp_path, org) for org in (ORG, OTHER, STRANGER)}
    await put_data(database, certificates)
    async with serving(database, tmp_path, observer) as port:
        yield Api(database, port, authority, tmp_path, certificates, observer)


async def pages(api: Api, path: str, name: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        status, body = await api.ask(path, **SPAN, limit="10", **cursor, **more)
        assert (status, body["rsp_code"]) == (200, "00000"), body
        assert body[f"{name}_cnt"] == len(body[f"{name}_list"]) <= 10
        found.extend(body[f"{name}_list"])
        if "next_page" not in body:
            return found
        cursor = {"next_page": body["next_page"]}


async def test_a_recipient_pages_through_all_and_every_answer_is_logged_as_a_use(api: Api) -> None:
    approvals = await pages(api, APPROVALS, "approved")
    assert sorted(a["approved_num"] for a in approvals) == [f"A{n:05}" for n in range(PAYMENTS)]
    times = [a["approved_dtime"] for a in approvals]
    assert times == sorted(times, reverse=True)
    transactions = await pages(api, TRANSACTIONS, "trans", method="POST")
    assert len({t["trans_num"] for t in transactions}) == PAYMENTS
    assert {t["trans_category"] for t in transactions} == {"5411"}
    assert await pages(api, TRANSACTIONS, "trans") == transactions
    _, cards = await api.ask("/v1/card/cards")
    assert cards["card_list"] == [{"card_id": card_id("token-1", ORG)}]
    _, consents = await api.ask("/v1/consents")
    assert consents["consent_list"][0]["consent_id"] == "consent-1"
    told = await api.sql("SELECT body FROM outbox WHERE event_type = 'kr.mypay.portability.pulled.v1' ORDER BY tx, id")
    assert len(told) == 3 * 3 + 2
    use = json.loads(told[0]["body"])
    assert (use["rcv_org_code"], use["records"], use["consent_version"]) == (ORG, 10, 1)
    [row] = await api.sql("SELECT org_code, accessed_at FROM portability_access")
    assert tuple(row) == (ORG, NOW)
    everything = b"".join(api.received)
    # Neither the card's token nor whom it belongs to leaves, nor anything that is null.
    for canary in (b"token-1", b"customer-1", b"customer-2", b"FOREIGN", b"null"):
        assert canary not in everything
    assert api.observer.counts["portability_api", "record", ""] == 3 * PAYMENTS + 2
    assert not api.observer.notes


async def test_only_what_has_changed_is_told_again(api: Api) -> None:
    # Of the last second: payments 22 to 24 changed after it.
    status, some = await api.ask(TRANSACTIONS, **SPAN, search_timestamp="20250517120427")
    assert (status, some["rsp_code"], some["trans_cnt"]) == (200, "00000", 3)
    _, none = await api.ask(TRANSACTIONS, **SPAN, search_timestamp="20250517130000")
    assert (none["rsp_code"], none["trans_cnt"], "trans_list" in none) == ("00001", 0, False)
    assert (await api.ask("/v1/apis"))[1]["api_cnt"] == 5
    assert await api.code("/v1/apis", search_timestamp="20990101000000") == "00001"


async def test_nobody_comes_in_without_tls_1_3_and_a_recipient_s_certificate(api: Api, tmp_path: Path) -> None:
    older = api.context(api.certificates[ORG])
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    foreign = Authority("another").issue(tmp_path / "foreign", ORG)
    for context in (older, api.context(None), api.context(foreign)):
        # A server of TLS 1.3 refuses a certificate after its client has begun to speak.
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await api.ask("/v1/apis", context=context)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{api.port}/v1/apis")
    unknown = api.authority.issue(tmp_path, "unknown")
    assert await api.ask("/v1/apis", context=api.context(unknown)) == (
        401,
        {"rsp_code": "40103", "rsp_msg": "certificate not permitted"},
    )
    assert await api.code("/v1/apis") == "00000"
    async with open_registries(api.dsn) as registries:
        assert await registries.recipients.set_active(ORG, active=False)
        assert await registries.recipients.set_certificate(OTHER, None)
    assert await api.code(APPROVALS, **SPAN) == "40103"
    assert await api.code("/v1/apis", OTHER) == "40103"


async def test_another_s_consent_looks_as_none_at_all(api: Api) -> None:
    none = await api.ask(TRANSACTIONS, **SPAN, headers={"x-mypay-consent": "partner-1/consent-9"})
    assert none == (404, {"rsp_code": "40403", "rsp_msg": "no such customer"})
    assert await api.ask(TRANSACTIONS, STRANGER, **SPAN) == none
    assert await api.ask(TRANSACTIONS, **SPAN, headers={"x-mypay-consent": "partner-1/consent-2"}) == none
    assert await api.ask("/v1/consents", STRANGER) == none
    theirs = base64.b64encode(b"customer-2").decode()
    assert await api.ask(TRANSACTIONS, **SPAN, headers={"x-user-ci": theirs}) == none
    # A card's id is each recipient's own.
    assert await api.code(APPROVALS, OTHER, **SPAN) == "40402"
    assert not await api.sql("SELECT 1 FROM outbox")


async def test_a_page_is_good_for_one_recipient_and_one_question(api: Api) -> None:
    _, first = await api.ask(TRANSACTIONS, **SPAN, limit="10")
    cursor = first["next_page"]
    assert await api.code(TRANSACTIONS, **SPAN, limit="5", next_page=cursor) == "00000"
    refused = (400, {"rsp_code": "40001", "rsp_msg": "invalid parameter: next_page"})
    assert await api.ask(TRANSACTIONS, OTHER, **SPAN, next_page=cursor) == refused
    assert await api.ask(TRANSACTIONS, **SPAN | {"to_date": "20250530"}, next_page=cursor) == refused
    assert await api.ask(APPROVALS, **SPAN, next_page=cursor) == refused
    changed = ("0" if cursor[0] != "0" else "1") + cursor[1:]
    assert await api.ask(TRANSACTIONS, **SPAN, next_page=changed) == refused


async def test_what_is_revoked_between_two_pages_gives_no_further_one(api: Api) -> None:
    _, first = await api.ask(TRANSACTIONS, **SPAN, limit="10")
    connection = await asyncpg.connect(api.dsn)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE consent SET status = 'CANC' WHERE consent_id = 'consent-1'")
            # Asked while the revocation is about to commit: it waits for it, and finds it done.
            asked = asyncio.ensure_future(api.ask(TRANSACTIONS, **SPAN, limit="10", next_page=first["next_page"]))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            while not await api.sql(waiting):
                assert not asked.done()
        assert await asked == (401, {"rsp_code": "40106", "rsp_msg": "transmission request ended"})
    finally:
        await connection.close()
    assert await api.code("/v1/consents") == "40106"
    assert len(await api.sql("SELECT 1 FROM outbox")) == 1


async def test_what_is_no_call_is_told_so_and_nothing_else(api: Api) -> None:
    for path, more, code in (
        ("/v2/apis", {}, "40003"),
        ("/v1/elsewhere", {}, "40401"),
        ("/", {}, "40401"),
        ("/v1/consents", {"method": "POST"}, "40501"),
        ("/v1/consents", {"method": "DELETE"}, "40501"),
        ("/v1/consents", {"headers": {"x-api-type": "curious"}}, "40002"),
        (TRANSACTIONS, SPAN | {"limit": "501"}, "40004"),
        (TRANSACTIONS, SPAN | {"from_date": "20200516"}, "40304"),
        (TRANSACTIONS, SPAN | {"org_code": "OTHER00000"}, "40303"),
        (TRANSACTIONS, SPAN | {"method": "POST", "strange": "x" * 9000}, "40001"),
    ):
        status, body = await api.ask(path, **more)
        assert (body["rsp_code"], status) == (code, int(code[:3]))
        assert body.keys() == {"rsp_code", "rsp_msg"}
    assert not await api.sql("SELECT 1 FROM outbox")
