"""The console on a real PostgreSQL: which role is answered what, and what every answer carries."""

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.console.rules.access import GUARDED, ROUTES, Kind
from gateway.console.web import Console
from gateway.payments.rules.payment import Payment
from gateway.proving.stack.ports import free_ports
from schemas.primitives import payment_id_of
from tests.support.console import (
    CONSENT,
    NETWORK_ID,
    NOTICE,
    PARTNER,
    browsing,
    settings_of,
)
from tests.support.console_on_postgres import clean, console, made, rows

__all__ = ["clean", "console", "made"]

pytestmark = pytest.mark.usefixtures("clean")


SUBJECTS = {
    Kind.NETWORK_PAUSE: {"network_id": NETWORK_ID},
    Kind.NETWORK_RESUME: {"network_id": NETWORK_ID},
    Kind.CONSENT_SUSPEND: {"partner_id": PARTNER, "consent_id": CONSENT},
    Kind.CONSENT_REVOKE: {"partner_id": PARTNER, "consent_id": "consent-2"},
    Kind.CONSENT_RESUME: {"partner_id": PARTNER, "consent_id": "consent-susp"},
    Kind.DEAD_LETTER_REPLAY: {"reference": "mypay.orders/0/1"},
    Kind.PAYMENT_INQUIRE: {"partner_id": PARTNER, "payment_id": str(payment_id_of(PARTNER, "order-25"))},
    Kind.ERASURE_REMIND: {"notice_id": NOTICE},
    Kind.BREAK_RESOLVE: {"record": f"{NETWORK_ID}/20261126/1"},
    Kind.PROPOSAL_APPROVE: {"proposal_id": "00000000-0000-0000-0000-000000000000"},
    Kind.PROPOSAL_REJECT: {"proposal_id": "00000000-0000-0000-0000-000000000000"},
}


PATHS = {
    "static": "/static/console.css",
    "payment": "",  # of a payment that is there
    "consent": f"/consents/{PARTNER}/{CONSENT}",
    "action_form": f"/actions/network-pause?network_id={NETWORK_ID}",
    "action": "/actions/network-pause",
}


def path_of(name: str, path: str, made: list[Payment]) -> str:
    if name == "payment":
        return f"/payments/{PARTNER}/{made[0].payment_id}"
    return PATHS.get(name, path)


# Route → what nobody, a viewer, an operator and an approver are answered. 303: to the form, or on; 503: Kafka is away.
MAY = {
    "healthz": (200, 200, 200, 200),
    "static": (200, 200, 200, 200),
    "sign_in_form": (200, 303, 303, 303),
    "sign_in": (403, 403, 403, 403),  # with nobody's name
    "oidc_start": (303, 303, 303, 303),
    "oidc_callback": (303, 303, 303, 303),
    "language": (303, 303, 303, 303),
    "overview": (303, 200, 200, 200),
    "live": (303, 200, 200, 200),
    "payments": (303, 200, 200, 200),
    "search": (303, 200, 200, 200),
    "payment": (303, 200, 200, 200),
    "consent": (303, 200, 200, 200),
    "networks": (303, 200, 200, 200),
    "exceptions": (303, 200, 200, 200),
    "dead_letters": (303, 403, 503, 503),
    "expiry": (303, 200, 200, 200),
    "approvals": (303, 403, 200, 200),
    "action_form": (303, 403, 200, 200),
    "action": (303, 403, 400, 400),  # without a reason
    "sign_out": (303, 303, 303, 303),  # last: it ends the session
}


@pytest.mark.parametrize("who", [None, "view", "oper", "appr"])
async def test_every_route_answers_each_role_as_the_table_says(
    console: Console, made: list[Payment], who: str | None
) -> None:
    assert set(MAY) == {r.name for r in ROUTES}
    routes = {r.name: r for r in ROUTES}
    column = [None, "view", "oper", "appr"].index(who)
    async with browsing(console, who) as browser:
        csrf = await browser.csrf() if who else ""
        told = {}
        for name in MAY:
            route, path = routes[name], path_of(name, routes[name].path, made)
            if route.method == "GET":
                told[name] = (await browser.get(path))[0]
            else:
                told[name] = (await browser.post(path, {"csrf": csrf, "network_id": NETWORK_ID}))[0]
    assert told == {name: codes[column] for name, codes in MAY.items()}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("who", ["view", "oper", "appr"])
async def test_a_guarded_action_asks_for_its_role(console: Console, kind: Kind, who: str) -> None:
    needs = GUARDED[kind].needs
    is_let = {"view": 0, "oper": 1, "appr": 2}[who] >= {"viewer": 0, "operator": 1, "approver": 2}[needs]
    async with browsing(console, who) as browser:
        asked = "&".join(f"{n}={v}" for n, v in SUBJECTS[kind].items())
        # There is no such proposal: nobody decides what they cannot see.
        found = 404 if "proposal_id" in SUBJECTS[kind] else 200
        assert (await browser.get(f"/actions/{kind}?{asked}"))[0] == (found if is_let else 403)
        if not is_let:
            assert (await browser.act(kind, **SUBJECTS[kind]))[0] == 403


async def test_every_answer_carries_a_policy_that_lets_nothing_else_run(console: Console, made: list[Payment]) -> None:
    async with browsing(console, "appr") as browser:
        for path in ("/", "/sign-in", "/static/htmx.js", "/nowhere", "/payments?q=nothing", "/healthz", "/live"):
            _, text, headers = await browser.get(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Server"] == "mypay"
            if not path.startswith("/static"):
                assert headers["Cache-Control"] == "no-store"
                assert re.findall(r"\sstyle=|<style|\son\w+=", text) == []


@pytest.mark.parametrize(
    ("csrf", "headers"),
    [
        ("", {}),
        ("0" * 64, {}),
        ("own", {"Origin": "https://evil.example"}),
        ("own", {"Sec-Fetch-Site": "cross-site"}),
        ("own", {"Sec-Fetch-Site": "same-site"}),
        ("own", {"Origin": "null"}),
    ],
)
async def test_a_form_of_another_page_does_nothing(
    console: Console, module_database: str, csrf: str, headers: dict[str, str]
) -> None:
    async with browsing(console, "oper") as browser:
        given = {"network_id": NETWORK_ID, "why": "x", "csrf": await browser.csrf() if csrf == "own" else csrf}
        status, text, _ = await browser.post("/actions/network-pause", given, headers=headers)
        assert status == 403
        assert "expired" in text
    assert await rows(module_database, "SELECT FROM network_pause") == []


async def test_another_sessions_form_does_nothing(console: Console, module_database: str) -> None:
    async with browsing(console, "oper") as one, browsing(console, "oper") as two:
        given = {"network_id": NETWORK_ID, "why": "x", "csrf": await one.csrf()}
        assert (await two.post("/actions/network-pause", given))[0] == 403
        assert (await one.post("/actions/network-pause", given))[0] == 200


async def test_the_process_says_where_it_is_and_ends_when_it_is_told_to(module_database: str, tmp_path: Path) -> None:
    settings_of(module_database, tmp_path)
    kept = {n: v for n, v in os.environ.items() if not n.startswith("MYPAY_")}
    [metrics] = free_ports(1)
    own = {
        "MYPAY_POSTGRES_DSN": module_database,
        "MYPAY_NETWORKS_DIR": str(tmp_path / "networks"),
        "MYPAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MYPAY_CONSOLE_PORT": "0",
        "MYPAY_HTTP_PORT": str(metrics),
        "MYPAY_HOME": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from gateway.cli import main; main()", "console", "serve"),
        env=kept | own,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while not (line := (await process.stderr.readline()).decode()).startswith("The console is at"):
                assert line, "it ended"
        url = line.split()[-1]

        async def get(address: str) -> tuple[int, str]:
            async with http.get(address, allow_redirects=False) as response:
                return response.status, await response.text()

        async with aiohttp.ClientSession() as http:
            assert await get(f"{url}/healthz") == (200, "ok\n")
            assert [(await get(url + path))[0] for path in ("/", "/sign-in", "/nowhere")] == [303, 200, 404]
            # It is ready without Kafka, and its metrics and health have a port of their own.
            assert (await get(f"http://127.0.0.1:{metrics}/readyz"))[0] == 200
            page = (await get(f"http://127.0.0.1:{metrics}/metrics"))[1]
        for told in (
            'mypay_build_info{python="',
            'mypay_console_requests_total{outcome="answered"} 2.0',
            'mypay_console_requests_total{outcome="refused"} 1.0',
            'mypay_console_requests_total{outcome="failed"} 0.0',
            'mypay_console_sign_ins_total{outcome="let_in"} 0.0',
            "mypay_console_request_seconds_count 3.0",
            'mypay_db_pool_connections{state="idle"}',
        ):
            assert told in page, told
    finally:
        process.terminate()
    assert await process.wait() == 0
