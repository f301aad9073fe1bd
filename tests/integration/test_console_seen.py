"""What the console shows: what needs somebody, payments by each of their ids, dead letters."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from gateway.app.dead_letters import ShownLetter
from gateway.app.errors import NotConfiguredError
from gateway.app.letter_words import NEVER_MENDED
from gateway.app.letters_by_cause import ByCause, Cause, LettersOfCause
from gateway.app.postgres import PostgresStore
from gateway.base.process import SilentObserver
from gateway.console import letters
from gateway.console.web import Console
from gateway.messaging.reader import KafkaUnavailableError
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.primitives import payment_id_of
from tests.support.console import (
    ARCHIVED,
    CONSENT,
    CUSTOMER,
    PARTNER,
    browsing,
    event_of,
)
from tests.support.console_on_postgres import clean, console, made

__all__ = ["clean", "console", "made"]

pytestmark = pytest.mark.usefixtures("clean")


async def test_whoever_only_looks_does_not_see_whose_a_consent_is(console: Console) -> None:
    for who, sees in (("view", False), ("oper", True)):
        async with browsing(console, who) as browser:
            text = (await browser.get(f"/consents/{PARTNER}/{CONSENT}"))[1]
            assert (CUSTOMER in text) is sees
            # Nor can they ask for it.
            found = (await browser.search(CUSTOMER))[1]
            assert (f"/consents/{PARTNER}/{CONSENT}" in found) is sees


async def test_a_payment_is_found_by_each_of_its_ids(console: Console, made: list[Payment]) -> None:
    payment = next(p for p in made if p.state is PaymentState.UNKNOWN)
    assert payment.trace is not None
    own = f"/payments/{PARTNER}/{payment.payment_id}"
    async with browsing(console, "view") as browser:
        ids = (payment.payment_id, payment.order_id, f"{PARTNER}/{payment.order_id}", payment.trace.rrn)
        for asked in ids:
            status, _, headers = await browser.search(asked)
            assert (asked, status, headers.get("Location")) == (asked, 303, own)
        for asked in ("nothing", "partner-9/order-1", "00000000-0000-0000-0000-000000000000", "\0x", "x" * 500):
            assert "Nothing has this id" in (await browser.search(asked))[1]
        text = (await browser.get(own))[1]
        assert all(t in text for t in ("unknown", payment.trace.rrn, "ordered", "the order reached Kafka"))


async def test_an_archived_payment_is_found_and_says_where_its_story_is(console: Console) -> None:
    payment_id = payment_id_of(PARTNER, ARCHIVED)
    async with browsing(console, "view") as browser:
        for asked in (ARCHIVED, f"{PARTNER}/{ARCHIVED}", payment_id):
            status, _, headers = await browser.search(asked)
            assert (status, headers.get("Location")) == (303, f"/payments/{PARTNER}/{payment_id}")
        status, text, _ = await browser.get(f"/payments/{PARTNER}/{payment_id}")
        assert (status, "in the archive" in text, ARCHIVED in text) == (200, True, True)


async def test_the_overview_says_what_needs_somebody(console: Console) -> None:
    async with browsing(console, "view") as browser:
        text = (await browser.get("/"))[1]
        # Two unknown, one sent, one being reversed, all older than a minute; three breaks; one key within a month.
        for count, title in ((4, "Payments open for too long"), (3, "Breaks in clearing"), (1, "Keys that end")):
            assert re.search(rf"<b>{count}</b> <span>{title}", text), title
        assert "key-1" in (await browser.get("/expiry"))[1]
        exceptions = (await browser.get("/exceptions"))[1]
        assert all(kind in exceptions for kind in ("missing here", "amount differs", "duplicate"))


def standing(text: str) -> dict[str, int]:
    """State → payments, as the overview's last bar has them."""
    found = re.findall(r"</span> (\w+)</span> <b>([\d,]+)</b> <small>", text)
    return {state: int(n.replace(",", "")) for state, n in found}


# What is open → whether those who may look at dead letters are told of it, and whether of nothing that needs them.
@pytest.mark.parametrize("is_open", [None, 0, 3])
async def test_the_overview_tells_of_dead_letters_that_are_open(
    console: Console, monkeypatch: pytest.MonkeyPatch, is_open: int | None
) -> None:
    """It said that nothing needs anybody, whatever lay there."""
    monkeypatch.setattr(console, "letters", letters.Letters(console.settings, console.clock, open=is_open))
    unknown, counted = "Whether dead letters are open is not known", "Dead letters that are open"
    for who, may in (("oper", True), ("view", False)):
        async with browsing(console, who) as browser:
            text = (await browser.get("/live"))[1]
            assert (unknown in text) == (may and is_open is None)
            assert (f"<b>3</b> <span>{counted}" in text) == (may and is_open == 3)
            assert not (may and not is_open) or counted not in text
            assert "Nothing needs you." not in text or not (may and is_open != 0)


async def test_the_overview_tells_where_each_of_the_latest_payments_stands_once(
    console: Console, module_database: str, made: list[Payment]
) -> None:
    """It counted events: a payment that was approved and then settled was among both."""
    approved = next(p for p in made if p.state is PaymentState.APPROVED)
    settled = structs.replace(approved, state=PaymentState.SETTLED, version=approved.version + 1)
    async with browsing(console, "view") as browser:
        before = standing((await browser.get("/live"))[1])
        assert before["approved"] >= 1
        store = PostgresStore(module_database)
        await store.start()
        async with store.transaction() as uow:
            await uow.outbox.append([event_of(settled)])
        await store.stop()
        moved = {"approved": before["approved"] - 1, "settled": before["settled"] + 1}
        assert standing((await browser.get("/live"))[1]) == {**before, **moved}


async def test_what_is_looked_for_is_in_no_address(console: Console, made: list[Payment]) -> None:
    async with browsing(console, "oper") as browser:
        # An address that somebody makes looks for nothing.
        text = (await browser.get(f"/payments?q={CUSTOMER}"))[1]
        assert f'value="{CUSTOMER}"' not in text
        assert "/consents/" not in text
        for asked in (CUSTOMER, "token-1"):
            status, text, headers = await browser.search(asked)
            assert (status, "Location" in headers, f"/consents/{PARTNER}/{CONSENT}" in text) == (200, False, True)
            # Nor in one that the page leads to.
            assert not any(asked in address for address in re.findall(r'(?:href|action|src)="([^"]*)"', text))
        # Nor does a form of another page.
        assert (await browser.post("/payments", {"q": CUSTOMER}))[0] == 403


async def test_what_is_asked_for_is_shown_as_text(console: Console) -> None:
    async with browsing(console, "view") as browser:
        text = (await browser.search("<script>alert(1)</script>"))[1]
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


AT = datetime(2026, 11, 27, tzinfo=UTC)


def shown_letter(number: int, *, replayed: bool = False) -> ShownLetter:
    told = ("initiation", "DecodeError", "amount", "It cannot be read: amount", AT, AT, '{"order":"<o-1>"}', 15, "")
    return ShownLetter(f"l-{number}", number, f"mypay.orders/0/{number}", *told, replayed=replayed, advice=NEVER_MENDED)


def letters_of(reason: str, is_open: int, replayed: int, *, each: int) -> LettersOfCause:
    """Of one cause: the open ones first, as many as asked for."""
    letters = [shown_letter(n) for n in range(is_open)] + [shown_letter(n, replayed=True) for n in range(replayed)]
    return LettersOfCause(Cause("mypay.orders", "initiation", reason), is_open, replayed, tuple(letters[:each]), 1)


def found_letters(monkeypatch: pytest.MonkeyPatch, console: Console, *causes: tuple[str, int, int]) -> None:
    async def read(*_: object, each: int, only: str | None = None) -> ByCause:
        found = [letters_of(*cause, each=each) for cause in causes]
        return ByCause(tuple(c for c in found if only in {None, c.cause.key}), 7, 3)

    monkeypatch.setattr(letters, "read_by_cause", read)
    monkeypatch.setattr(console, "letters", letters.Letters(console.settings, console.clock))


async def test_dead_letters_are_shown_by_cause_with_what_may_be_done(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ninety letters of one cause were a page of fourteen thousand pixels."""
    found_letters(monkeypatch, console, ("amount: <x>", 60, 2), ("key", 1, 4), ("gone", 0, 9))
    async with browsing(console, "oper") as browser:
        status, text, _ = await browser.get("/dead-letters")
    assert (status, text.count("amount: &lt;x&gt;"), text.count("&lt;o-1&gt;")) == (200, 2, 3 + 1)
    assert re.findall(r"dead-letter-replay\?reference=([^\"]+)", text) == [
        *(f"mypay.orders/0/{n}" for n in (0, 1, 2)),
        "mypay.orders/0/0",
    ]
    # What was sent again is one line, behind all that was not.
    assert text.index("Sent again</h2>") < text.index(">gone<")
    assert re.findall(r"All of this cause \((\d+)\)", text) == ["62", "5"]
    # What to do is told of each cause that somebody still has to do with.
    assert text.count(NEVER_MENDED) == 2
    assert "did not write: 3" in text
    assert "Older ones: 7" in text


async def test_all_of_one_cause_are_shown_a_part_at_a_time(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    found_letters(monkeypatch, console, ("amount", 60, 2), ("key", 1, 4))
    address = f"/dead-letters?cause={Cause('mypay.orders', 'initiation', 'amount').key}"
    numbers = list[str]()
    async with browsing(console, "oper") as browser:
        for part, (is_first, is_last) in {"1": (True, False), "2": (False, False), "3": (False, True)}.items():
            text = (await browser.get(f"{address}&part={part}"))[1]
            assert ("Younger ones" in text, "Older ones" in text) == (not is_first, not is_last)
            numbers += re.findall(r'<summary><span class="id">mypay.orders/0/(\d+)', text)
        # Whatever somebody writes there, it is a page.
        for part in ("0", "-1", "x", "4", "²", "9" * 5000):
            assert (await browser.get(f"{address}&part={part}"))[0] == 200
        for cause in ("0" * 16, "<", "", "A" * 16):
            assert (await browser.get(f"/dead-letters?cause={cause}"))[0] == 404
    assert numbers == [*map(str, range(60)), "0", "1"]


@pytest.mark.parametrize("error", [NotConfiguredError("no keys"), KafkaUnavailableError("away")], ids=repr)
async def test_dead_letters_that_cannot_be_read_are_said_so(
    console: Console, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def read(*_: object, **__: object) -> ByCause:
        raise error

    monkeypatch.setattr(letters, "read_by_cause", read)
    monkeypatch.setattr(console, "letters", letters.Letters(console.settings, console.clock))
    async with browsing(console, "oper") as browser:
        assert (await browser.get("/dead-letters"))[0] == 503
