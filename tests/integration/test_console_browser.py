"""The console in a real browser: what its policy lets run, with a keyboard, on a phone, without scripts, and for
those who cannot see it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.app.dead_letters import ShownLetter
from gateway.app.letters_by_cause import ByCause, Cause, LettersOfCause
from gateway.console.web import Console
from gateway.payments.rules.payment import Payment
from tests.support.console import CONSENT, NETWORK_ID, PARTNER, PASSWORD, fill, running, settings_of

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS: Final = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the console is not looked at in a browser"),
    pytest.mark.timeout(1200),
]

CAUSE: Final = Cause("mypay.consents.commands", "consents", f"It cannot be read: {'a.' * 40}must be a string")


class Letters:
    """More of one cause than a page shows, of long names, beside one that was sent again."""

    open = 60

    async def by_cause(self, *, each: int, only: str | None = None) -> ByCause:
        at = datetime(2026, 11, 27, tzinfo=UTC)
        told = ("consents", "", "", CAUSE.reason, at, at, "x" * 300, 300, "sealed")
        letters = tuple(ShownLetter(f"l-{n}", n, f"{CAUSE.topic}/0/{n}", *told, replayed=n > 58) for n in range(60))
        done = LettersOfCause(CAUSE._replace(topic="mypay.orders"), 0, 1, letters[-1:], 0)
        found = (LettersOfCause(CAUSE, 59, 1, letters[:each], 1), done)
        return ByCause(found if only is None else found[:1], 7, 3)


PAGES: Final = {
    "overview": "/",
    "search": "/payments",
    "found": CONSENT,
    "nothing found": "nothing",
    "payment": "",  # of a payment that is there
    "consent": f"/consents/{PARTNER}/{CONSENT}",
    "networks": "/networks",
    "dead letters": "/dead-letters",
    "dead letters of a cause": f"/dead-letters?cause={CAUSE.key}&part=2",
    "exceptions": "/exceptions",
    "approvals": "/approvals",
    "expiry": "/expiry",
    "action": f"/actions/network-pause?network_id={NETWORK_ID}",
    "action with a choice": f"/actions/break-resolve?record={NETWORK_ID}/20261126/1",
    "refused": "/nowhere",
}


@pytest.fixture(scope="module")
async def made(module_database: str) -> list[Payment]:
    return await fill(module_database)


@pytest.fixture(scope="module")
async def console(
    module_database: str, made: list[Payment], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Console]:
    async with running(settings_of(module_database, tmp_path_factory.mktemp("console"))) as console:
        for _ in range(5):
            await console.samples.look()
        fake: Any = Letters()
        console.letters = fake
        yield console


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright  # noqa: PLC0415 - where there is a browser

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


async def signed_in(browser: Any, console: Console, name: str = "appr", **context: Any) -> Any:
    """A page of somebody who is signed in, and what the browser complained of."""
    made = await browser.new_context(**context)
    made.set_default_timeout(60_000)
    page = await made.new_page()
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    await page.goto(f"{console.url}/sign-in")
    await page.fill("#name", name)
    await page.fill("#password", PASSWORD)
    await page.press("#password", "Enter")
    await page.wait_for_url(f"{console.url}/")
    return page


async def show(page: Any, console: Console, name: str, made: list[Payment]) -> None:
    """Go to a page, or look for what is no address."""
    path = PAGES[name] or f"/payments/{PARTNER}/{made[-2].payment_id}"
    if path.startswith("/"):
        await page.goto(console.url + path)
        return
    await page.goto(f"{console.url}/payments")
    await page.fill("#q", path)
    await page.press("#q", "Enter")
    await page.wait_for_function(f"document.getElementById('q').value === '{path}'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_on_any_page(console: Console, browser: Any, made: list[Payment], scheme: str) -> None:
    from axe_playwright_python.async_playwright import Axe  # noqa: PLC0415

    page = await signed_in(browser, console, color_scheme=scheme, locale="ko" if scheme == "dark" else "en")
    axe, found = Axe(), {}
    for name in PAGES:
        await show(page, console, name, made)
        result = await axe.run(page)
        found[name] = [
            (v["id"], n["html"][:120], n["any"][0]["message"] if n["any"] else "")
            for v in result.response["violations"]
            for n in v["nodes"]
        ]
    await page.context.clear_cookies()
    await page.goto(f"{console.url}/sign-in")
    found["sign-in"] = [v["id"] for v in (await axe.run(page)).response["violations"]]
    await page.context.close()
    assert {n: v for n, v in found.items() if v} == {}


# What is looked for sideways is not found: a table's rows are cards there.
SIDEWAYS: Final = """[document.documentElement, ...document.querySelectorAll('.scroll')]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel || e.tagName)"""


async def test_no_page_breaks_its_own_policy_and_nothing_is_wider_than_a_phone(
    console: Console, browser: Any, made: list[Payment]
) -> None:
    page = await signed_in(browser, console, viewport={"width": 360, "height": 740})
    wide = {}
    for name in PAGES:
        await show(page, console, name, made)
        if found := await page.evaluate(SIDEWAYS):
            wide[name] = found
    complaints = [c for c in page.complaints if "404" not in c]
    await page.context.close()
    assert wide == {}
    assert complaints == []


async def test_the_overview_refreshes_by_itself_and_can_be_told_not_to(console: Console, browser: Any) -> None:
    page = await signed_in(browser, console)
    async with page.expect_response(lambda r: r.url.endswith("/live"), timeout=60_000) as coming:
        pass
    assert (await coming.value).status == 200
    await page.get_by_role("link", name="Stop refreshing").click()
    await page.wait_for_url("**/?live=off")
    assert await page.locator("[hx-get]").count() == 0
    assert page.complaints == []
    await page.context.close()


async def test_a_network_is_paused_with_a_keyboard_alone(console: Console, browser: Any) -> None:
    page = await signed_in(browser, console)
    await page.goto(f"{console.url}/networks")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    for _ in range(40):
        if "Pause" in await page.evaluate("document.activeElement.textContent"):
            break
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/actions/network-pause*")
    # The reason is where one begins to type.
    await page.wait_for_function("document.activeElement.id === 'why'")
    await page.keyboard.type("ticket 8")
    await page.keyboard.press("Enter")
    await page.get_by_role("status").wait_for()
    assert "Done" in await page.text_content("h1")
    await page.goto(f"{console.url}/networks")
    assert "ticket 8" in await page.text_content("main")
    await page.context.close()


async def test_everything_works_without_scripts(console: Console, browser: Any) -> None:
    page = await signed_in(browser, console, java_script_enabled=False)
    await page.get_by_role("link", name="Payments", exact=True).click()
    await page.fill("#q", "order-1")
    await page.get_by_role("button", name="Search").click()
    await page.wait_for_url(f"**/payments/{PARTNER}/*")
    assert "order-1" in await page.text_content("main")
    await page.get_by_role("button", name="한국어").click()
    await page.get_by_text("진행 내역").first.wait_for()
    assert "진행 내역" in await page.text_content("main")
    await page.get_by_role("button", name="로그아웃").click()
    await page.wait_for_url("**/sign-in")
    await page.context.close()


async def test_a_form_of_another_site_is_refused_by_the_browser_and_by_us(
    console: Console, browser: Any, tmp_path: Path
) -> None:
    page = await signed_in(browser, console)
    evil = tmp_path / "evil.html"
    form = f'<form method="post" action="{console.url}/sign-out"><button>Win</button></form>'
    await asyncio.to_thread(evil.write_text, form)
    other = await page.context.new_page()
    await other.goto(evil.as_uri())
    await other.get_by_role("button").click()
    await other.wait_for_load_state()
    await page.goto(f"{console.url}/networks")
    assert page.url.endswith("/networks")
    await page.context.close()
