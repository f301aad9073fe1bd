"""What is done at the console: guarded actions, what is recorded of them, and what two people decide."""

import asyncio
import re
from typing import Any

import pytest

from gateway.app import operations
from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.operations import OPERATIONS
from gateway.app.proposals import propose
from gateway.app.sending_again import CutOffError, StoppedError
from gateway.base.errors import PublisherUnavailableError
from gateway.console.rules.access import GUARDED
from gateway.console.web import Console
from gateway.identity.jose.jwk import generate_key, import_public
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from tests.support.cli import mypay
from tests.support.console import (
    CONSENT,
    NETWORK_ID,
    NOTICE,
    PARTNER,
    browsing,
)
from tests.support.console_on_postgres import clean, console, made, recorded, rows

__all__ = ["clean", "console", "made"]

pytestmark = pytest.mark.usefixtures("clean")


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
    async def away(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(operations, "replay_references", away)
    own = await proposed(module_database, "dead-letter.replay", "x", {"references": ["mypay.orders/0/1"]})
    async with browsing(console, "boss") as boss:
        status, text = await boss.act("proposal-approve", proposal_id=own)
        assert (status, "Kafka does not answer" in text) == (503, True)
        assert own in (await boss.get("/approvals"))[1]
        (open_,) = await rows(
            module_database,
            "SELECT count(*) AS n FROM operator_proposal LEFT JOIN operator_decision d USING (proposal_id)"
            " WHERE d.decision IS NULL",
        )
        assert f"<b>{open_['n']}</b> <span>Waiting for a second person" in (await boss.get("/live"))[1]
    # That there is no topic is an answer.
    ended = "failed" if isinstance(error, TopicMissingError) else "unknown"
    assert (await recorded(module_database))[-1] == ("boss", "operators approve", own, "ticket 7", ended)


async def test_what_was_sent_of_dead_letters_is_told_where_sending_was_cut_off(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object, **__: object) -> None:
        raise CutOffError(
            PublisherUnavailableError("Kafka did not answer"), ["mypay.orders/0/1"], ["mypay.orders/0/2"], 3
        )

    async def stopped(*_: object, **__: object) -> None:
        raise StoppedError(OperationRefusedError("it has been decided before"), ["mypay.orders/0/1"], [], 4)

    monkeypatch.setattr(operations, "replay_references", cut_off)
    own = await proposed(module_database, "dead-letter.replay", "x", {"references": ["mypay.orders/0/1"]})
    async with browsing(console, "boss") as boss:
        status, text = await boss.act("proposal-approve", proposal_id=own)
        assert (status, "Not all of it was sent: try again for the rest." in text) == (503, True)
        assert "answer. Sent again: 1. Perhaps sent: 1. Not sent: 3. " in text
        assert own in (await boss.get("/approvals"))[1]
        monkeypatch.setattr(operations, "replay_references", stopped)
        status, text = await boss.act("proposal-approve", proposal_id=own)
        assert (status, "This was stopped: not all of it was sent." in text) == (409, True)
        assert "decided before. Sent again: 1. Perhaps sent: 0. Not sent: 4. " in text
        # Nobody is told to do what would be refused.
        assert "try again" not in text.lower()
        assert "next attempt" not in text
        await boss.act("proposal-reject", proposal_id=own)


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
        page = (await oper.get(f"/consents/{PARTNER}/consent-2"))[1]
        assert re.search(r"<td[^>]*>revoke</td><td[^>]*>operator</td>", page)
    assert ("oper", "consent revoke", f"{PARTNER} consent-2", "ticket 7", "done") in await recorded(module_database)


async def test_a_network_is_asked_at_once_by_either_door(
    console: Console, module_database: str, made: list[Payment], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = [p for p in made if p.state is PaymentState.UNKNOWN]
    settled = next(p for p in made if p.state is PaymentState.SETTLED)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)

    async def due() -> set[Any]:
        found = await rows(module_database, "SELECT payment_id FROM inquiry WHERE next_attempt_at <= now()")
        return {r["payment_id"] for r in found}

    async with browsing(console, "oper") as oper:
        assert "payment-inquire" in (await oper.get(f"/payments/{PARTNER}/{one.payment_id}"))[1]
        assert "payment-inquire" not in (await oper.get(f"/payments/{PARTNER}/{settled.payment_id}"))[1]
        before = len(await recorded(module_database))
        assert await due() == set()
        named = {"partner_id": PARTNER, "payment_id": str(one.payment_id)}
        assert "asked about it at once" in (await oper.act("payment-inquire", **named))[1]
        assert await due() == {one.payment_id}
        # It is due already; of what has ended there is nothing to ask.
        for payment_id in (one.payment_id, settled.payment_id, "no-id"):
            status, text = await oper.act("payment-inquire", **{**named, "payment_id": str(payment_id)})
            assert (status, "This was refused" in text) == (409, True)
    told = await asyncio.to_thread(mypay, "payment", "inquire", f"{PARTNER}/{other.order_id}", "--operator", "kim")
    assert "at once" in told.expect().err
    assert await due() == {one.payment_id, other.payment_id}
    told = await asyncio.to_thread(mypay, "payment", "inquire", str(other.payment_id), "--operator", "kim")
    assert "waits for a later time" in told.expect(1).err
    (await asyncio.to_thread(mypay, "payment", "inquire", f"{PARTNER}/nothing")).expect(3)
    done = (await recorded(module_database))[before:]
    assert done[0] == ("oper", "payment inquire", f"{PARTNER} {one.payment_id}", "ticket 7", "done")
    assert [d[-1] for d in done] == ["done", *["failed"] * 3, "done", "failed", "failed"]


async def test_an_affiliate_is_reminded_by_either_door(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)
    asked = "SELECT remind_at IS NOT NULL AS asked, reminders FROM share_holder"
    async with browsing(console, "oper") as oper, browsing(console, "view") as view:
        assert f"erasure-remind?notice_id={NOTICE}" in (await oper.get("/exceptions"))[1]
        assert "erasure-remind" not in (await view.get("/exceptions"))[1]
        assert "reminded" in (await oper.act("erasure-remind", notice_id=NOTICE))[1]
        assert [tuple(r) for r in await rows(module_database, asked)] == [(True, 0)]
        assert "is on its way" in (await oper.get("/exceptions"))[1]
        for nothing in ("00000000-0000-4000-8000-000000000008", "no-id"):
            assert (await oper.act("erasure-remind", notice_id=nothing))[0] == 409
    assert ("oper", "sharing remind", NOTICE, "ticket 7", "done") in await recorded(module_database)
    (await asyncio.to_thread(mypay, "sharing", "remind", NOTICE, "--operator", "kim")).expect()
    await rows(module_database, "UPDATE share_holder SET confirmed_at = now(), remind_at = NULL")
    told = await asyncio.to_thread(mypay, "sharing", "remind", NOTICE, "--operator", "kim")
    assert "not confirmed" in told.expect(1).err
    await rows(module_database, "UPDATE share_holder SET confirmed_at = NULL")


async def test_a_break_is_resolved_by_two_and_a_correction_is_another_one(
    console: Console, module_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", module_database)
    record = f"{NETWORK_ID}/20261126/1"

    async def listed(*more: str) -> list[Any]:
        return list((await asyncio.to_thread(mypay, "clearing", "breaks", "--json", *more)).expect().json)

    async with browsing(console, "oper") as oper, browsing(console, "boss") as boss:
        assert "Choose what was done" in (await oper.act("break-resolve", record=record))[1]
        assert "Choose what was done" in (await oper.act("break-resolve", record=record, choice="eaten"))[1]
        for nothing in (f"{NETWORK_ID}/20261126/99", "nothing"):
            assert (await oper.act("break-resolve", record=nothing, choice="disputed"))[0] == 409
        assert "Proposed" in (await oper.act("break-resolve", record=record, choice="disputed"))[1]
        assert len(await listed()) == 3
        (proposal,) = await rows(
            module_database, "SELECT proposal_id FROM operator_proposal WHERE kind = 'break.resolve'"
        )
        own = str(proposal["proposal_id"])
        shown = (await boss.get("/approvals"))[1]
        assert all(t in shown for t in ("Resolve break", "disputed", "missing_here", record, "ticket 7"))
        # Whoever resolves it at the command line meanwhile is first, and the proposal finds nothing any more.
        (await asyncio.to_thread(mypay, "clearing", "resolve", record, "--as", "written_off")).expect(2)
        assert (await boss.act("proposal-approve", proposal_id=own))[0] == 200
        assert [b["record_no"] for b in await listed()] == [2, 3]
        assert record not in (await oper.get("/exceptions"))[1]
        [resolved] = await listed("--resolved")
        assert (resolved["resolution"], resolved["why"], resolved["resolved_by"]) == ("disputed", "ticket 7", "boss")
        assert (await oper.act("break-resolve", record=record, choice="disputed"))[0] == 409
        # The gauge tells the same.
        told = await rows(module_database, "SELECT sum(value) AS n FROM operating_state WHERE gauge = 'breaks_open'")
        assert told[0]["n"] == 2
        # What its network corrects between proposal and approval is another break: nobody has looked at that one.
        await oper.act("break-resolve", record=f"{NETWORK_ID}/20261126/3", choice="disputed")
        (late,) = await rows(
            module_database,
            "SELECT proposal_id FROM operator_proposal p WHERE kind = 'break.resolve'"
            " AND NOT EXISTS (SELECT FROM operator_decision d WHERE d.proposal_id = p.proposal_id)",
        )
        await rows(module_database, "UPDATE clearing_record SET version = 2 WHERE record_no = 3")
        status, text = await boss.act("proposal-approve", proposal_id=str(late["proposal_id"]))
        assert (status, "stands otherwise" in text) == (409, True)
        assert [b["record_no"] for b in await listed()] == [2, 3]
    await rows(module_database, "UPDATE clearing_record SET version = 2 WHERE record_no = 1")
    assert [b["record_no"] for b in await listed()] == [1, 2, 3]
    done = ("clearing", "resolve", record, "--as", "written_off", "--why", "the shop bears it", "--operator", "kim")
    assert "written off" in (await asyncio.to_thread(mypay, *done)).expect().err
    assert "no break that is open" in (await asyncio.to_thread(mypay, *done)).expect(3).err
    assert [r["resolution"] for r in await listed("--resolved")] == ["written_off", "disputed"]


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
