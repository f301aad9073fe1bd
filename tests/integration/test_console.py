"""The console on a real PostgreSQL: who sees what, what is done and recorded, and who is let in."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from gateway.app import operations
from gateway.app.dead_letters import NewestLetters, ShownLetter
from gateway.app.errors import NotConfiguredError
from gateway.app.operating import Actor
from gateway.app.operations import OPERATIONS, propose
from gateway.base.errors import PublisherUnavailableError
from gateway.base.process import SilentObserver
from gateway.console import letters
from gateway.console.rules.access import GUARDED, ROUTES, Kind
from gateway.console.serving import check_address
from gateway.console.signing_in import FAILURES_OF_NAME_MAX
from gateway.console.web import Console
from gateway.directory.console_roles import ConsoleRole
from gateway.identity.jose.jwk import generate_key, import_public
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.primitives import payment_id_of
from tests.support.cli import mypay
from tests.support.console import (
    ARCHIVED,
    CONSENT,
    CUSTOMER,
    NETWORK_ID,
    PARTNER,
    PASSWORD,
    PEOPLE,
    browsing,
    fill,
    running,
    settings_of,
)

pytestmark = pytest.mark.usefixtures("clean")

SUBJECTS = {
    Kind.NETWORK_PAUSE: {"network_id": NETWORK_ID},
    Kind.NETWORK_RESUME: {"network_id": NETWORK_ID},
    Kind.CONSENT_SUSPEND: {"partner_id": PARTNER, "consent_id": CONSENT},
    Kind.CONSENT_REVOKE: {"partner_id": PARTNER, "consent_id": "consent-2"},
    Kind.CONSENT_RESUME: {"partner_id": PARTNER, "consent_id": "consent-susp"},
    Kind.DEAD_LETTER_REPLAY: {"reference": "mypay.orders/0/1"},
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


@pytest.fixture(scope="module")
async def made(module_database: str) -> list[Payment]:
    return await fill(module_database)


@pytest.fixture(scope="module")
async def console(
    module_database: str, made: list[Payment], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    async with running(settings_of(module_database, folder, console_oidc_issuer=None)) as console:
        yield console


@pytest.fixture
async def clean(console: Console, module_database: str) -> AsyncIterator[None]:
    """What a test changed is as it was for the next one."""
    yield
    connection = await asyncpg.connect(module_database)
    try:
        await connection.execute(
            "DELETE FROM network_pause; DELETE FROM console_session;"
            "ALTER TABLE console_sign_in DISABLE TRIGGER USER; DELETE FROM console_sign_in;"
            "ALTER TABLE console_sign_in ENABLE TRIGGER USER; UPDATE console_user SET disabled_at = NULL"
        )
    finally:
        await connection.close()


async def rows(dsn: str, sql: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


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


# --- signing in -------------------------------------------------------------------------------------------------------


async def test_who_is_refused_is_not_told_whether_there_is_such_a_name(console: Console) -> None:
    async with browsing(console) as browser:
        wrong = await browser.post("/sign-in", {"name": "view", "password": "wrong password 1"})
        nobody = await browser.post("/sign-in", {"name": "nobody", "password": "wrong password 1"})
        assert (wrong[0], nobody[0]) == (403, 403)
        plain = [re.sub(r"<time.*?</time>", "", t[1]) for t in (wrong, nobody)]
        assert plain[0] == plain[1]


async def test_the_cookie_is_out_of_scripts_reach_and_the_table_holds_only_its_hash(
    console: Console, module_database: str
) -> None:
    async with browsing(console) as browser:
        _, _, headers = await browser.post("/sign-in", {"name": "View", "password": PASSWORD})
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        token = cookie.partition("=")[2].partition(";")[0]
        assert len(token) >= 43
        (session,) = await rows(module_database, "SELECT * FROM console_session")
        assert token not in repr(session)
        assert session["name"] == "view"
        assert (await browser.get("/"))[0] == 200
        assert (await browser.post("/sign-out", {"csrf": await browser.csrf()}))[0] == 303
    # The cookie of before is worth nothing.
    async with browsing(console) as browser:
        assert (await browser.get("/", headers={"Cookie": f"mypay_console={token}"}))[0] == 303


async def test_a_part_of_a_page_sends_the_page_to_the_form(console: Console) -> None:
    async with browsing(console) as browser:
        status, _, headers = await browser.get("/live", headers={"HX-Request": "true"})
        assert (status, headers["HX-Redirect"]) == (401, "/sign-in")


async def test_too_many_attempts_are_not_even_looked_at(console: Console, module_database: str) -> None:
    async with browsing(console) as browser:
        for _ in range(FAILURES_OF_NAME_MAX):
            assert await browser.sign_in("view", "wrong password 1") == 403
        assert await browser.sign_in("VIEW", PASSWORD) == 429
        # Others are let in.
        assert await browser.sign_in("oper") == 303
    outcomes = await rows(module_database, "SELECT outcome, count(*) AS n FROM console_sign_in GROUP BY 1 ORDER BY 1")
    assert [(r["outcome"], r["n"]) for r in outcomes] == [("let_in", 1), ("refused", 10), ("too_many", 1)]
    # Where they came from is told apart, and not kept.
    (peer,) = await rows(module_database, "SELECT DISTINCT peer FROM console_sign_in")
    assert "127.0.0.1" not in peer["peer"]


async def test_attempts_at_the_same_moment_and_mistyped_names_are_bounded(
    console: Console, module_database: str
) -> None:
    async with browsing(console) as browser:
        wrong = [browser.sign_in("view", f"wrong password {n}") for n in range(40)]
        assert set(await asyncio.gather(*wrong)) == {403, 429}
        assert await browser.sign_in("correct horse in the wrong field", "x") == 403
    found = await rows(module_database, "SELECT name, outcome, count(*) AS n FROM console_sign_in GROUP BY 1, 2")
    kept = {(r["name"], r["outcome"]): r["n"] for r in found}
    assert kept.pop(("view", "refused")) == FAILURES_OF_NAME_MAX
    assert kept.pop(("view", "too_many")) == 1
    ((name, outcome),) = kept
    assert (name[0], len(name), outcome) == ("?", 33, "refused")


async def test_a_page_that_refreshes_itself_keeps_nobody_signed_in(console: Console, module_database: str) -> None:
    async with browsing(console, "oper") as browser:
        await rows(module_database, "UPDATE console_session SET seen_at = now() - interval '20 minutes'")
        before = await rows(module_database, "SELECT seen_at FROM console_session")
        assert (await browser.get("/live"))[0] == 200
        assert await rows(module_database, "SELECT seen_at FROM console_session") == before
        assert (await browser.get("/networks"))[0] == 200
        assert await rows(module_database, "SELECT seen_at FROM console_session") > before


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE console_session SET seen_at = now() - interval '31 minutes'",
        "UPDATE console_session SET began_at = now() - interval '13 hours'",
        "UPDATE console_user SET disabled_at = now() WHERE name = 'oper'",
    ],
)
async def test_a_session_ends_with_rest_with_the_shift_and_with_its_user(
    console: Console, module_database: str, end: str
) -> None:
    async with browsing(console, "oper") as browser:
        assert (await browser.get("/"))[0] == 200
        await rows(module_database, end)
        assert (await browser.get("/"))[0] == 303


async def test_a_role_is_the_one_that_the_user_has_now(console: Console, module_database: str) -> None:
    async with browsing(console, "appr") as browser:
        await rows(module_database, "UPDATE console_user SET role = 'viewer' WHERE name = 'appr'")
        try:
            assert (await browser.get("/dead-letters"))[0] == 403
        finally:
            await rows(module_database, "UPDATE console_user SET role = 'approver' WHERE name = 'appr'")


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example", "/\\evil.example", "evil", "/\nx"])
async def test_choosing_a_language_leads_to_no_other_site(console: Console, back: str) -> None:
    async with browsing(console) as browser:
        _, _, headers = await browser.post("/language", {"language": "ko", "back": back})
        assert headers["Location"] == "/"
        assert '<html lang="ko">' in (await browser.get("/sign-in"))[1]


def test_passwords_cross_no_network_in_clear(tmp_path: Path) -> None:
    given = {"console_host": "0.0.0.0"}
    with pytest.raises(NotConfiguredError, match="MYPAY_CONSOLE_URL"):
        check_address(settings_of("postgresql://x", tmp_path, **given))
    with pytest.raises(NotConfiguredError, match="MYPAY_CONSOLE_URL"):
        check_address(settings_of("postgresql://x", tmp_path, **given, console_url="http://console.example"))
    for url in ("https://console.example", "http://localhost:8088"):
        check_address(settings_of("postgresql://x", tmp_path, **given, console_url=url))


# --- what is seen -----------------------------------------------------------------------------------------------------


async def test_whoever_only_looks_does_not_see_whose_a_consent_is(console: Console) -> None:
    for who, sees in (("view", False), ("oper", True)):
        async with browsing(console, who) as browser:
            text = (await browser.get(f"/consents/{PARTNER}/{CONSENT}"))[1]
            assert (CUSTOMER in text) is sees
            # Nor can they ask for it.
            found = (await browser.get(f"/payments?q={CUSTOMER}"))[1]
            assert (f"/consents/{PARTNER}/{CONSENT}" in found) is sees


async def test_a_payment_is_found_by_each_of_its_ids(console: Console, made: list[Payment]) -> None:
    payment = next(p for p in made if p.state is PaymentState.UNKNOWN)
    assert payment.trace is not None
    own = f"/payments/{PARTNER}/{payment.payment_id}"
    async with browsing(console, "view") as browser:
        ids = (payment.payment_id, payment.order_id, f"{PARTNER}/{payment.order_id}", payment.trace.rrn)
        for asked in ids:
            status, _, headers = await browser.get(f"/payments?q={asked}")
            assert (asked, status, headers.get("Location")) == (asked, 303, own)
        for asked in ("nothing", "partner-9/order-1", "00000000-0000-0000-0000-000000000000", "%00x", "x" * 500):
            assert "Nothing has this id" in (await browser.get(f"/payments?q={asked}"))[1]
        text = (await browser.get(own))[1]
        assert all(t in text for t in ("unknown", payment.trace.rrn, "ordered", "the order reached Kafka"))


async def test_an_archived_payment_is_found_and_says_where_its_story_is(console: Console) -> None:
    payment_id = payment_id_of(PARTNER, ARCHIVED)
    async with browsing(console, "view") as browser:
        for asked in (ARCHIVED, f"{PARTNER}/{ARCHIVED}", payment_id):
            status, _, headers = await browser.get(f"/payments?q={asked}")
            assert (status, headers.get("Location")) == (303, f"/payments/{PARTNER}/{payment_id}")
        status, text, _ = await browser.get(f"/payments/{PARTNER}/{payment_id}")
        assert (status, "in the archive" in text, ARCHIVED in text) == (200, True, True)


async def test_the_overview_says_what_needs_somebody(console: Console) -> None:
    async with browsing(console, "view") as browser:
        text = (await browser.get("/"))[1]
        # Two unknown, one sent, one being reversed, all older than a minute; three breaks; one key within a month.
        for count, title in ((4, "Payments that are unknown"), (3, "Breaks in clearing"), (1, "Keys that end")):
            assert re.search(rf"<b>{count}</b> <span>{title}", text), title
        assert "key-1" in (await browser.get("/expiry"))[1]
        exceptions = (await browser.get("/exceptions"))[1]
        assert all(kind in exceptions for kind in ("missing here", "amount differs", "duplicate"))


async def test_what_is_asked_for_is_shown_as_text(console: Console) -> None:
    async with browsing(console, "view") as browser:
        text = (await browser.get("/payments?q=%3Cscript%3Ealert(1)%3C/script%3E"))[1]
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text


async def test_a_page_that_fails_is_logged_without_the_ids_in_its_address(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[str, dict[str, Any]]] = []

    class Noting(SilentObserver):
        def note(self, event: str, **fields: Any) -> None:
            noted.append((event, fields))

    def broken(*_: object) -> None:
        raise RuntimeError("with a row in it")

    async with browsing(console, "view") as browser:
        monkeypatch.setattr(console, "observer", Noting())
        monkeypatch.setattr(type(console.database), "view", broken)
        assert (await browser.get(f"/consents/{PARTNER}/{CONSENT}"))[0] == 500
    assert noted == [("console_failed", {"level": "error", "route": "consent", "reason": "RuntimeError"})]


async def test_what_is_not_there_is_said_so(console: Console) -> None:
    async with browsing(console, "appr") as browser:
        for path in (
            "/consents/partner-1/%00",
            "/payments/%00/00000000-0000-0000-0000-000000000000",
            "/consents/partner-1/none",
            "/payments/partner-1/none",
            "/nowhere",
            "/actions/none",
            "/static/x",
        ):
            assert (await browser.get(path))[0] == 404


async def test_dead_letters_are_shown_with_what_may_be_done(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 11, 27, tzinfo=UTC)
    told = ("initiation", "DecodeError: amount", at, '{"order":"<o-1>"}')
    found = (
        ShownLetter("l-2", 2, "mypay.orders/0/2", *told, replayed=False),
        ShownLetter("l-1", 1, "mypay.orders/0/1", *told, replayed=True),
    )

    async def read(*_: object, **__: object) -> NewestLetters:
        return NewestLetters(found, 3)

    monkeypatch.setattr(letters, "read_newest", read)
    monkeypatch.setattr(console, "letters", letters.Letters(console.settings, console.clock))
    async with browsing(console, "oper") as browser:
        status, text, _ = await browser.get("/dead-letters")
    assert (status, text.count("DecodeError: amount"), text.count("&lt;o-1&gt;")) == (200, 2, 2)
    assert re.findall(r"dead-letter-replay\?reference=([^\"]+)", text) == ["mypay.orders/0/2"]
    assert "did not write: 3" in text


# --- guarded actions --------------------------------------------------------------------------------------------------


async def recorded(dsn: str) -> list[tuple[str, ...]]:
    found = await rows(
        dsn,
        "SELECT b.operator, b.command, b.subject, b.why, e.phase FROM operator_action b JOIN operator_action e"
        " USING (action_id) WHERE b.phase = 'begun' AND e.phase <> 'begun' ORDER BY b.at",
    )
    return [tuple(r) for r in found]


async def test_a_network_is_paused_by_one_and_resumed_by_two(console: Console, module_database: str) -> None:
    async with browsing(console, "appr") as appr, browsing(console, "boss") as boss:
        before = len(await recorded(module_database))
        assert (await appr.act("network-pause", network_id=NETWORK_ID))[0] == 200
        assert "paused already" in (await appr.act("network-pause", network_id=NETWORK_ID))[1]
        assert (await appr.act("network-pause", network_id="other"))[0] == 409
        assert "ticket 7" in (await appr.get("/networks"))[1]
        assert "Proposed" in (await appr.act("network-resume", network_id=NETWORK_ID))[1]
        assert len(await rows(module_database, "SELECT FROM network_pause")) == 1
        (proposal,) = await rows(
            module_database,
            "SELECT proposal_id FROM operator_proposal p WHERE kind = 'network.resume'"
            " AND NOT EXISTS (SELECT FROM operator_decision d WHERE d.proposal_id = p.proposal_id)",
        )
        own = str(proposal["proposal_id"])
        assert "cannot approve it" in (await appr.act("proposal-approve", proposal_id=own))[1]
        assert len(await rows(module_database, "SELECT FROM network_pause")) == 1
        status, text = await boss.act("proposal-approve", proposal_id=own)
        assert (status, "takes payments again" in text) == (200, True)
        assert await rows(module_database, "SELECT FROM network_pause") == []
        assert "decided before" in (await boss.act("proposal-reject", proposal_id=own))[1]
    assert (await recorded(module_database))[before:] == [
        ("appr", "network pause", NETWORK_ID, "ticket 7", "done"),
        ("appr", "network pause", NETWORK_ID, "ticket 7", "failed"),
        ("appr", "network pause", "other", "ticket 7", "failed"),
        ("appr", "network resume", NETWORK_ID, "ticket 7", "proposed"),
        ("appr", "operators approve", own, "ticket 7", "failed"),
        ("boss", "operators approve", own, "ticket 7", "done"),
        ("boss", "operators reject", own, "ticket 7", "failed"),
    ]


@pytest.mark.parametrize("why", ["", "   ", "x" * 201, "card 4929123456789015", "a\x07b"])
async def test_without_a_reason_that_can_be_kept_nothing_is_done(
    console: Console, module_database: str, why: str
) -> None:
    async with browsing(console, "oper") as browser:
        before = len(await recorded(module_database))
        status, text = await browser.act("network-pause", network_id=NETWORK_ID, why=why)
        assert (status, "reason" in text) == (400, True)
        assert await rows(module_database, "SELECT FROM network_pause") == []
        assert len(await recorded(module_database)) == before


async def proposed(dsn: str, kind: str, subject: str, payload: dict[str, Any]) -> str:
    return str(await propose(dsn, Actor("kim", "ticket 7"), kind, subject, payload))


async def test_whoever_decides_sees_what_would_be_written(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jwk = generate_key("Ed25519")[1]
    thumbprint = import_public(jwk, "Ed25519").thumbprint()
    payload = {"kid": "k-<7>", "partner_id": PARTNER, "algorithm": "Ed25519", "jwk": jwk, "valid_until": None}
    own = await proposed(module_database, "partner.key.add", PARTNER, payload)
    digest = "ab" * 32
    await proposed(module_database, "recipient.certificate", "org-1", {"org_code": "o1", "certificate_sha256": digest})
    async with browsing(console, "boss") as boss:
        approvals = (await boss.get("/approvals"))[1]
        forms = [(await boss.get(f"/actions/proposal-{a}?proposal_id={own}"))[1] for a in ("approve", "reject")]
        given = {"csrf": await boss.csrf(), "proposal_id": own, "why": ""}
        status, without_reason, _ = await boss.post("/actions/proposal-approve", given)
        assert status == 400
        for text in (approvals, *forms, without_reason):
            assert all(t in text for t in (thumbprint, "k-&lt;7&gt;", "Ed25519", "kim", "partner.key.add"))
            assert jwk["x"] not in text
        assert digest in approvals
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)
    told = (await asyncio.to_thread(mypay, "operators", "proposals")).expect().out
    assert thumbprint in re.sub(r"[\s│]", "", told)


@pytest.mark.parametrize(
    "error",
    [KafkaUnavailableError("away"), TopicMissingError("away"), PublisherUnavailableError("away")],
    ids=lambda e: type(e).__name__,
)
async def test_what_kafka_cannot_take_now_is_decided_later(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(operations, "replay_references", away)
    own = await proposed(module_database, "dead-letter.replay", "x", {"references": ["mypay.orders/0/1"]})
    async with browsing(console, "boss") as boss:
        status, text = await boss.act("proposal-approve", proposal_id=own)
        assert (status, "Kafka does not answer" in text) == (503, True)
        assert own in (await boss.get("/approvals"))[1]
    assert (await recorded(module_database))[-1] == ("boss", "operators approve", own, "ticket 7", "failed")


async def test_a_card_number_that_is_typed_as_an_id_is_not_recorded(console: Console, module_database: str) -> None:
    async with browsing(console, "oper") as oper:
        before = len(await recorded(module_database))
        status, text = await oper.act("network-pause", network_id="4929123456789015")
        assert (status, "card number" in text, "4929123456789015" in text) == (400, True, False)
        assert len(await recorded(module_database)) == before


async def test_a_consent_is_suspended_by_one_resumed_by_two_and_revoked_by_one(
    console: Console, module_database: str
) -> None:
    async def status_of(consent: str) -> str:
        found = await rows(module_database, "SELECT status FROM consent WHERE consent_id = $1", consent)
        return str(found[0]["status"])

    whose = {"partner_id": PARTNER, "consent_id": CONSENT}
    async with browsing(console, "oper") as oper, browsing(console, "boss") as boss:
        assert "SUSP" in (await oper.act("consent-suspend", **whose))[1]
        assert await status_of(CONSENT) == "SUSP"
        assert (await oper.act("consent-suspend", partner_id=PARTNER, consent_id="none"))[0] == 409
        await oper.act("consent-resume", **whose)
        assert await status_of(CONSENT) == "SUSP"
        (proposal,) = await rows(
            module_database, "SELECT proposal_id FROM operator_proposal WHERE kind = 'consent.resume'"
        )
        approved = await boss.act("proposal-approve", proposal_id=str(proposal["proposal_id"]))
        assert (approved[0], await status_of(CONSENT)) == (200, "AUTH")
        await oper.act("consent-revoke", partner_id=PARTNER, consent_id="consent-2")
        assert await status_of("consent-2") == "CANC"
        assert "<td>revoke</td><td>operator</td>" in (await oper.get(f"/consents/{PARTNER}/consent-2"))[1]
    assert ("oper", "consent revoke", f"{PARTNER} consent-2", "ticket 7", "done") in await recorded(module_database)


async def test_both_doors_have_one_rule(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the console proposes the command line approves, and neither lets anybody approve their own."""
    async with browsing(console, "appr") as appr:
        await appr.act("network-pause", network_id=NETWORK_ID)
        await appr.act("network-resume", network_id=NETWORK_ID)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)
    (proposal,) = await rows(
        module_database,
        "SELECT proposal_id FROM operator_proposal p WHERE kind = 'network.resume'"
        " AND NOT EXISTS (SELECT FROM operator_decision d WHERE d.proposal_id = p.proposal_id)",
    )
    own = str(proposal["proposal_id"])
    told = await asyncio.to_thread(mypay, "operators", "approve", own, "--operator", "APPR")
    assert "cannot approve it" in told.expect(1).err
    (await asyncio.to_thread(mypay, "operators", "approve", own, "--operator", "kim")).expect()
    assert await rows(module_database, "SELECT FROM network_pause") == []
    assert set(OPERATIONS) > {g.operation for g in GUARDED.values() if g.operation}


async def test_people_are_added_and_disabled_by_command(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)

    async def cli(*arguments: object, given: str = "") -> Any:
        return await asyncio.to_thread(mypay, "console", "user", *arguments, given=given)

    (await cli("add", "new.one", "--role", "operator", given="a long enough password\n")).expect()
    assert (
        "already" in (await cli("add", "New.One", "--role", "viewer", given="a long enough password\n")).expect(1).err
    )
    (await cli("add", "short", "--role", "viewer", given="short\n")).expect(2)
    async with browsing(console) as browser:
        assert await browser.sign_in("new.one", "a long enough password") == 303
        (await cli("role", "new.one", "--role", "viewer")).expect()
        assert (await browser.get("/"))[0] == 303
        (await cli("password", "new.one", given="another long password\n")).expect()
        assert await browser.sign_in("new.one", "a long enough password") == 403
        assert await browser.sign_in("new.one", "another long password") == 303
        (await cli("disable", "new.one")).expect()
        assert (await browser.get("/"))[0] == 303
        assert await browser.sign_in("new.one", "another long password") == 403
    listed = {u["name"]: (u["role"], u["disabled_at"] is None) for u in (await cli("list", "--json")).expect().json}
    assert listed["new.one"] == ("viewer", False)
    assert set(PEOPLE) < set(listed)
    (await cli("enable", "nobody")).expect(3)


@pytest.mark.parametrize("command", [("sessions", "end", "OPER"), ("user", "disable", "Oper")])
async def test_somebodys_sessions_are_ended_by_command_however_they_began(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)
    async with browsing(console, "oper"), browsing(console, "view"):
        for name in ("oper", "OPER"):
            await console.signing_in.let_in(name, ConsoleRole.OPERATOR, None, is_local=False)
        assert len(await rows(module_database, "SELECT FROM console_session")) == 4
        (await asyncio.to_thread(mypay, "console", *command)).expect()
        assert [r["name"] for r in await rows(module_database, "SELECT name FROM console_session")] == ["view"]


async def test_the_process_says_where_it_is_and_ends_when_it_is_told_to(module_database: str, tmp_path: Path) -> None:
    settings_of(module_database, tmp_path)
    kept = {n: v for n, v in os.environ.items() if not n.startswith("MYPAY_")}
    own = {
        "MYPAY_POSTGRES_DSN": module_database,
        "MYPAY_NETWORKS_DIR": str(tmp_path / "networks"),
        "MYPAY_CONSOLE_PORT": "0",
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
        async with aiohttp.ClientSession() as http, http.get(f"{line.split()[-1]}/healthz") as response:
            assert await response.text() == "ok\n"
    finally:
        process.terminate()
    assert await process.wait() == 0
