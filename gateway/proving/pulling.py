"""The portability API of a run: a recipient asks for one customer's data, and has what an export of it would hold."""

import base64
import hashlib
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app.portability_api import serving
from gateway.app.registries import open_registries
from gateway.base.calendar import day_of
from gateway.portability.api.answering import PullSettings
from gateway.proving.books import Checked
from gateway.proving.stack.certificates import Authority, CertificateFiles
from gateway.proving.traffic.receivers import RECIPIENT, SENDER
from gateway.views.recipients import RecipientsView
from schemas.consents import ConsentStatus, ConsentTerms, PortabilityPurpose, PortabilityScope
from schemas.primitives import ConsentId, CustomerId, PartnerId

_LIMIT: Final = 5
"""Small, so that there are pages."""

_BUSIEST: Final = """
SELECT c.partner_id, c.customer_id FROM consent c JOIN payment p USING (partner_id, consent_id)
WHERE p.state IN ('approved', 'settled') GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT 1
"""

_Row = Mapping[str, object]

_HEADERS: Final = {"x-api-tran-id": f"{RECIPIENT}M00000000000001", "x-api-type": "user-search"}


async def check_pull(dsn: str, folder: Path) -> tuple[Checked, list[str]]:
    """Ask for everything of one customer of a run at rest, over TLS 1.3 with certificates on both sides.

    Args:
        dsn: as a superuser: the customer's consent is put there, and ended.
        folder: for keys and certificates of this run.
    """
    authority = Authority("My-Payment demo")
    own = authority.issue(folder, "portability-api", names=["127.0.0.1"])
    shown = authority.issue(folder, "recipient")
    terms = await _permit(dsn, shown)
    exported = await _exported(dsn, terms)
    wrong: list[str] = []
    bounds = PullSettings(SENDER, per_second=1000, burst=1000)
    served = serving(dsn, certificate=own.certificate, key=own.key, clients=own.ca, bounds=bounds)
    async with served as port, _client(shown, terms) as client:
        asking = _Asking(client, f"https://127.0.0.1:{port}/v1")
        pulled = await asking.everything()
        wrong += [f"{name}: the API and an export differ" for name in _unlike(exported, pulled)]
        await _end(dsn, terms)
        code = (await asking.ask("/efin/paid/transactions", **asking.span))["rsp_code"]
        if code != "40106":
            wrong.append(f"after its consent's end a call is told {code}")
    records = sum(map(len, pulled.values()))
    asked = f"{records} records of one customer in {asking.calls} calls over TLS 1.3"
    line = f"Portability API: {asked}, as in an export, and none after the consent's end"
    title = "A recipient is told through the API what an export holds, and nothing after the consent's end"
    return Checked("pull", title, records, tuple(wrong), len(wrong)), [line]


def _unlike(one: Mapping[str, Sequence[_Row]], other: Mapping[str, Sequence[_Row]]) -> list[str]:
    """Names of the lists that do not hold the same records."""
    names = sorted(one.keys() | other.keys())
    return [n for n in names if Counter(map(_spelt, one.get(n, []))) != Counter(map(_spelt, other.get(n, [])))]


def _spelt(row: Mapping[str, object]) -> str:
    return json.dumps(row, sort_keys=True)


async def _permit(dsn: str, shown: CertificateFiles) -> ConsentTerms:
    """The customer with most payments lets one recipient have everything."""
    connection = await asyncpg.connect(dsn)
    try:
        partner_id, customer_id = await connection.fetchrow(_BUSIEST)  # type: ignore[misc]
    finally:
        await connection.close()
    now = datetime.now(UTC)
    last = day_of(now) + timedelta(days=100)
    purpose = PortabilityPurpose(
        recipients=(RECIPIENT,),
        scopes=tuple(PortabilityScope),
        end_date=last,
        purpose="household accounts",
        period=last,
        is_consent_merchant_name_regno=True,
        is_consent_trans_category=True,
    )
    terms = ConsentTerms(
        consent_id=ConsentId("C-PULL"),
        partner_id=PartnerId(partner_id),
        customer_id=CustomerId(customer_id),
        valid_from=now - timedelta(hours=1),
        valid_until=now + timedelta(days=200),
        portability=purpose,
    )
    certificate = x509.load_pem_x509_certificate(shown.certificate.read_bytes())
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    async with open_registries(dsn) as registries:
        await registries.consents.add_consents([(terms, ConsentStatus.AUTH)])
        await registries.recipients.set_certificate(RECIPIENT, digest)
    return terms


async def _exported(dsn: str, terms: ConsentTerms) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    async with RecipientsView.opened(dsn) as view:
        async for piece in view.pieces(terms, RECIPIENT):
            for name, rows in piece.rows.items():
                found.setdefault(name, []).extend(rows)
    return found


async def _end(dsn: str, terms: ConsentTerms) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "UPDATE consent SET status = 'CANC' WHERE (partner_id, consent_id) = ($1, $2)",
            terms.partner_id,
            terms.consent_id,
        )
    finally:
        await connection.close()


@asynccontextmanager
async def _client(shown: CertificateFiles, terms: ConsentTerms) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cafile=str(shown.ca))
    context.load_cert_chain(shown.certificate, shown.key)
    headers = _HEADERS | {
        "x-user-ci": base64.b64encode(terms.customer_id.encode()).decode(),
        "x-mypay-consent": f"{terms.partner_id}/{terms.consent_id}",
    }
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        yield client


class _Asking:
    """A recipient that asks for all that there is."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url
        self.calls = 0
        today = day_of(datetime.now(UTC))
        self.span = {"from_date": f"{today - timedelta(days=700):%Y%m%d}", "to_date": f"{today:%Y%m%d}"}

    async def ask(self, path: str, **parameters: str) -> dict[str, Any]:
        """One call."""
        self.calls += 1
        async with self._client.get(self._url + path, params={"org_code": SENDER} | parameters) as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def everything(self) -> dict[str, list[dict[str, object]]]:
        """Every list, with all its pages."""
        found: dict[str, list[dict[str, object]]] = {
            "consent_list": (await self.ask("/consents")).get("consent_list", []),
            "card_list": (await self.ask("/card/cards")).get("card_list", []),
            "trans_list": await self._pages("/efin/paid/transactions", "trans_list"),
        }
        for card in found["card_list"]:
            rows = await self._pages(f"/card/cards/{card['card_id']}/approval-domestic", "approved_list")
            found.setdefault("approved_list", []).extend(rows)
        return {name: rows for name, rows in found.items() if rows}

    async def _pages(self, path: str, name: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        cursor: dict[str, str] = {}
        while True:
            told = await self.ask(path, limit=str(_LIMIT), **self.span, **cursor)
            rows += told.get(name, [])
            if "next_page" not in told:
                return rows
            cursor = {"next_page": told["next_page"]}
