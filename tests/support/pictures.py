"""Takes the guide's pictures of the console anew, from a demo that runs: ``make pictures``. It needs Chromium,
and a font with Korean: without one the Korean page has boxes for letters.

The overview is taken while orders are paid, the rest when all is settled. Look at each before you commit it.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from playwright.sync_api import Page, sync_playwright
from typer import echo

from tests.integration.test_console_browser import CHROMIUM, FLAGS

GUIDE: Final = Path("deploy")
HOME: Final = Path("var/pictures").resolve()
MYPAY: Final = (sys.executable, "-c", "from gateway.cli import main; main()")
WIDE: Final = {"width": 1180, "height": 700}
PHONE: Final = {"width": 390, "height": 760}
BYTES_MAX: Final = 200_000
START_S: Final = 300.0
"""A demo has its console before that, on a machine that does other things."""

CONSOLE: Final = re.compile(r"shows what follows: (\S+), as (\S+); password in (\S+)")
DSN: Final = re.compile(r"^ +PostgreSQL +(\S+)$", re.MULTILINE)
STORY: Final = re.compile(r"One payment's story: (\S+) of (\S+)")


@contextmanager
def demo(log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo that is left running for as long as the block lasts."""
    # What it tells is read here: no line may be broken.
    environment = {**os.environ, "MYPAY_HOME": str(HOME), "COLUMNS": "1000"}
    with log.open("wb") as out:
        running = subprocess.Popen(
            [*MYPAY, "demo", "--keep", "--networks", "2"], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield running
        finally:
            running.terminate()
            running.wait()
            subprocess.run([*MYPAY, "demo", "--stop"], env=environment, check=True)


def told(log: Path, what: re.Pattern[str], running: "subprocess.Popen[bytes]") -> tuple[str, ...]:
    """Wait until the demo says it."""
    deadline = time.monotonic() + START_S
    while (found := what.search(log.read_text())) is None:
        if running.poll() not in (None, 0) or time.monotonic() > deadline:
            sys.exit(f"The demo does not say what it should: {log}")
        time.sleep(0.5)
    return found.groups()


def take(page: Page, name: str, *, most: int) -> None:
    """A picture of the page down to its end, or to so many pixels."""
    height = min(most, page.evaluate("document.documentElement.scrollHeight"))
    width = page.evaluate("document.documentElement.clientWidth")
    path = GUIDE / f"console-{name}.png"
    clip: Any = {"x": 0, "y": 0, "width": width, "height": height}
    page.screenshot(path=path, full_page=True, clip=clip)
    if (size := path.stat().st_size) > BYTES_MAX:
        sys.exit(f"{path} has {size:,} bytes; the guide takes {BYTES_MAX:,}")
    echo(f"{path}: {width} x {height}, {size:,} bytes")


def signed_in(browser: Any, url: str, name: str, password: Path, **context: Any) -> Page:
    """A page of the demo's operator."""
    page: Page = browser.new_context(**context).new_page()
    page.goto(f"{url}/sign-in")
    page.fill("#name", name)
    page.fill("#password", password.read_text())
    page.press("#password", "Enter")
    page.wait_for_url(f"{url}/")
    return page


def is_lively(page: Page) -> bool:
    """True if the overview shows payments that come: a line of several looks, and some that are open."""
    shown = page.locator("#rate + .figure").text_content() or ""
    points = page.locator("#rate ~ svg polyline").get_attribute("points") if page.locator("#rate ~ svg").count() else ""
    looks = len((points or "").split())
    waits = page.locator("#open + .figure").text_content() not in {None, "0"}
    return looks > 3 and waits and shown.replace(".", "").isdigit() and float(shown) > 1


def main() -> None:
    """Take them all."""
    if CHROMIUM is None:
        sys.exit("There is no Chromium here.")
    if (listing := shutil.which("fc-list")) and not subprocess.run(
        [listing, ":lang=ko"], check=True, capture_output=True
    ).stdout.strip():
        sys.exit("No font here has Korean. On Debian and Ubuntu: apt-get install fonts-nanum")
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    log = HOME / "demo.log"
    with demo(log) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        url, name, password = told(log, CONSOLE, running)
        page = signed_in(browser, url, name, Path(password), viewport=WIDE)
        while running.poll() is None and not is_lively(page):
            time.sleep(0.5)
            page.goto(url)
        take(page, "overview", most=900)
        payment, partner = told(log, STORY, running)
        running.wait()
        page.goto(f"{url}/payments/{partner}/{payment}")
        take(page, "payment", most=1000)
        (dsn,) = told(log, DSN, running)
        # Playwright has a loop in this thread.
        with ThreadPoolExecutor(1) as pool:
            whose, consent = pool.submit(lambda: asyncio.run(limited(dsn))).result()
        page.goto(f"{url}/consents/{whose}/{consent}")
        take(page, "consent", most=960)
        page.goto(f"{url}/dead-letters")
        take(page, "dead-letters", most=700)
        phone = signed_in(browser, url, name, Path(password), viewport=PHONE, locale="ko")
        phone.goto(f"{url}/payments/{partner}/{payment}")
        take(phone, "phone", most=1000)
        browser.close()


async def limited(dsn: str) -> tuple[str, str]:
    """Partner and id of the consent of which a limit refused most."""
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(
            "SELECT partner_id, consent_id FROM payment WHERE reason_code = 'SL14' GROUP BY 1, 2"
            " ORDER BY count(*) DESC, 1, 2 LIMIT 1"
        )
    finally:
        await connection.close()
    return row["partner_id"], row["consent_id"]


if __name__ == "__main__":
    main()
