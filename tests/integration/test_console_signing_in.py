"""Signing in to the console: who is let in, for how long, and who is refused."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.app.errors import NotConfiguredError
from gateway.console.serving import check_address
from gateway.console.signing_in import FAILURES_OF_NAME_MAX, SigningIn
from gateway.console.web import Console
from gateway.directory.console_roles import ConsoleRole
from tests.support.cli import mypay
from tests.support.console import (
    PASSWORD,
    PEOPLE,
    browsing,
    settings_of,
)
from tests.support.console_on_postgres import clean, console, made, rows

__all__ = ["clean", "console", "made"]

pytestmark = pytest.mark.usefixtures("clean")


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


async def test_attempts_at_several_processes_are_counted_together(console: Console, module_database: str) -> None:
    one = console.signing_in
    processes = [SigningIn(console.database, console.clock, one.idle, one.longest) for _ in range(3)]
    wrong = [p.with_password(name, "wrong password", None) for p in processes * 6 for name in ("view", "VIEW")]
    outcomes = [str(o) for o in await asyncio.gather(*wrong)]
    assert outcomes.count("refused") == FAILURES_OF_NAME_MAX
    assert outcomes.count("too_many") == len(wrong) - FAILURES_OF_NAME_MAX
    found = await rows(module_database, "SELECT count(*) AS n FROM console_sign_in WHERE outcome = 'refused'")
    assert found[0]["n"] == FAILURES_OF_NAME_MAX


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
            await console.signing_in.let_in(name, ConsoleRole.OPERATOR, None, identity="https://idp s1")
        assert len(await rows(module_database, "SELECT FROM console_session")) == 4
        (await asyncio.to_thread(mypay, "console", *command)).expect()
        assert [r["name"] for r in await rows(module_database, "SELECT name FROM console_session")] == ["view"]
