"""Who changed what by hand, and what needs two people, on a real PostgreSQL."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import structs

from gateway.app import proposals, sending_again
from gateway.app.environment import read_settings
from gateway.app.errors import OperationRefusedError
from gateway.app.operating import Actor
from gateway.app.operation import Doing, Payload
from gateway.app.operations import OPERATIONS, REPLAY_PROPOSED_MAX
from gateway.app.registries import open_registries
from gateway.directory.approval import Decision
from gateway.identity.jose.jwk import generate_key
from gateway.messaging.records import Outgoing
from schemas.codec import decode, encode
from schemas.consents import ConsentStatus, ConsentTerms
from tests.support.cli import NETWORK, mypay
from tests.support.domain_samples import purpose, terms
from tests.support.marketing import campaign
from tests.unit.app.test_dead_letters import RECORD, Topic, topic

__all__ = ["topic"]

PARTNER = ("shop-pay", "--name", "Shop Pay", "--group", "telecom", "--no-topics")


@pytest.fixture
def database(migrated_database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", migrated_database)
    monkeypatch.setenv("MYPAY_OPERATOR", "kim")
    (tmp_path / "public.json").write_text(json.dumps(generate_key("Ed25519")[1] | {"kid": "shop-1"}))
    return migrated_database


def log() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mypay("operators", "log", "--json").expect().json
    return found


def kids() -> list[str]:
    return [k["kid"] for k in mypay("partner", "key", "list", "shop-pay", "--json").expect().json]


@pytest.mark.usefixtures("database")
def test_every_change_is_recorded_with_who_why_and_how_it_ended(tmp_path: Path) -> None:
    mypay("partner", "add", *PARTNER, "--why", "contract 12").expect()
    mypay("partner", "add", *PARTNER, "--operator", "lee").expect(1)
    mypay("partner", "key", "add", "shop-pay", "--jwk", tmp_path / "public.json").expect()
    mypay("keys", "disable", "shop-pay", "shop-1", "--why", "stolen").expect()
    told = [(a["operator"], a["command"], a["subject"], a["why"], a["outcome"]) for a in reversed(log())]
    assert told == [
        ("kim", "partner add", "shop-pay", "contract 12", "done"),
        ("lee", "partner add", "shop-pay", "", "failed"),
        ("kim", "partner key add", "shop-pay", "", "done"),
        ("kim", "partner key disable", "shop-pay shop-1", "stolen", "done"),
    ]
    assert [a["command"] for a in mypay("operators", "log", "--operator", "lee", "--json").json] == ["partner add"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["people", "json"])
def test_an_action_that_nobody_reads_any_more_is_done_to_its_end_and_recorded_so(more: tuple[str, ...]) -> None:
    """As where it is piped into ``head``: it was cut where it spoke, and recorded as unknown although it was done."""
    read, write = os.pipe()
    os.close(read)
    command = [Path(sys.executable).with_name("mypay"), "partner", "add", *PARTNER, *more]
    ran = subprocess.run(command, stdout=write, stderr=write, check=False, timeout=60)
    os.close(write)
    [action] = log()
    assert (ran.returncode, action["command"], action["outcome"]) == (0, "partner add", "done")


def heed() -> None:
    """Whoever runs tests in several processes lets them, and so what they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_who_stops_a_command_in_the_middle_is_told_where_it_stands(database: str) -> None:
    """It ended without a word."""
    command = [Path(sys.executable).with_name("mypay"), "partner", "add", *PARTNER]
    connection = await asyncpg.connect(database)
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'partner'::regclass)"
    try:
        async with connection.transaction(), asyncio.timeout(60):
            await connection.execute("LOCK TABLE partner")
            ran = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, preexec_fn=heed)
            while not await connection.fetchval(waiting):
                pass
            ran.send_signal(signal.SIGINT)
            _, told = await ran.communicate()
    finally:
        await connection.close()
    assert b"Stopped in the middle" in told
    [action] = await asyncio.to_thread(log)
    assert (ran.returncode, action["outcome"]) == (130, "unknown")
    await asyncio.to_thread(lambda: mypay("partner", "add", *PARTNER).expect())


@pytest.mark.usefixtures("database")
def test_the_key_id_that_the_partner_gave_is_kept(tmp_path: Path) -> None:
    mypay("partner", "add", *PARTNER).expect()
    assert mypay("keys", "rotate", "shop-pay", "--jwk", tmp_path / "public.json", "--json").json["kid"] == "shop-1"
    assert kids() == ["shop-1"]


@pytest.mark.usefixtures("database")
def test_what_one_proposes_another_approves(tmp_path: Path) -> None:
    mypay("partner", "add", *PARTNER).expect()
    proposed = mypay("partner", "key", "add", "shop-pay", "--jwk", tmp_path / "public.json", "--propose", "--json")
    proposal = proposed.expect().json["proposal_id"]
    assert kids() == []
    assert [p["proposal_id"] for p in mypay("operators", "proposals", "--json").json] == [proposal]
    assert "another operator" in mypay("operators", "approve", proposal).expect(1).err
    assert kids() == []
    mypay("operators", "approve", proposal, "--operator", "lee").expect()
    assert kids() == ["shop-1"]
    assert "decided before" in mypay("operators", "approve", proposal, "--operator", "park").expect(1).err
    assert mypay("operators", "proposals", "--json").json == []
    assert [a["outcome"] for a in log()][-2] == "proposed"


@pytest.mark.usefixtures("database")
def test_where_two_people_are_required_nobody_grants_alone_but_anybody_takes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    mypay("partner", "add", *PARTNER, "--jwk", tmp_path / "public.json").expect()
    assert kids() == []
    proposal = mypay("operators", "proposals", "--json").json[0]["proposal_id"]
    mypay("operators", "approve", proposal, "--operator", "lee").expect()
    assert kids() == ["shop-1"]
    mypay("keys", "disable", "shop-pay", "shop-1").expect()
    again = mypay("keys", "rotate", "shop-pay", "--jwk", tmp_path / "public.json", "--json").json["proposal_id"]
    # What was proposed cannot be done any more: the decision is not kept either, and the proposal stays open.
    assert "was disabled" in mypay("operators", "approve", again, "--operator", "lee").expect(1).err
    mypay("operators", "reject", again).expect()


@pytest.mark.usefixtures("database")
def test_a_token_that_one_operator_proposes_pays_only_when_another_approves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_MASTER_KEYS_DIR", str(tmp_path / "master"))
    mypay("keys", "master", "create").expect()
    mypay("partner", "add", *PARTNER).expect()
    card = json.dumps({"pan": "4929123456789015"})
    whose = ("--customer", "cust-1", "--partner", "shop-pay", "--card-file", "-", "--propose", "--json")
    added = mypay("token", "add", *whose, given=card).expect().json
    assert mypay("token", "show", added["token"], "--json").json["partners"] == []
    mypay("operators", "approve", added["proposal_id"]).expect(1)
    mypay("operators", "approve", added["proposal_id"], "--operator", "lee").expect()
    assert mypay("token", "show", added["token"], "--json").json["partners"] == ["shop-pay"]


@pytest.mark.usefixtures("database")
def test_consents_that_one_operator_adds_count_only_when_another_approves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPAY_MASTER_KEYS_DIR", str(tmp_path / "master"))
    mypay("keys", "master", "create").expect()
    mypay("partner", "add", *PARTNER).expect()
    card = json.dumps({"pan": "4929123456789015"})
    whose = ("--customer", "cust-1", "--partner", "shop-pay", "--card-file", "-", "--json")
    token = mypay("token", "add", *whose, given=card).expect().json["token"]
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")

    def add(*names: str) -> Any:
        agreed = [
            encode(
                terms(
                    partner_id="shop-pay",
                    consent_id=name,
                    customer_id="cust-1",
                    valid_until=datetime.now(UTC) + timedelta(days=9),
                    payment=purpose(funding_token=token),
                )
            )
            for name in names
        ]
        return mypay("consent", "add", "-", "--json", given=b"\n".join(agreed))

    def status(name: str) -> str:
        return str(mypay("consent", "show", name, "--json").expect().json["status"])

    proposal = add("c-1", "c-2").expect().json["proposal_id"]
    assert (status("c-1"), status("c-2")) == ("SUSP", "SUSP")
    mypay("operators", "approve", proposal).expect(1)
    assert status("c-1") == "SUSP"
    mypay("operators", "approve", proposal, "--operator", "lee").expect()
    assert (status("c-1"), status("c-2")) == ("AUTH", "AUTH")
    # Whoever ended one meanwhile has the last word, and none of them counts.
    other = add("c-3", "c-4").expect().json["proposal_id"]
    mypay("consent", "revoke", "c-4", "--partner", "shop-pay").expect()
    assert "was changed since" in mypay("operators", "approve", other, "--operator", "lee").expect(1).err
    assert (status("c-3"), status("c-4")) == ("SUSP", "CANC")
    assert "part the file" in add(*(f"d-{n}" for n in range(101))).expect(2).err


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A bank")])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins + timedelta(days=9))
    (folder / "bank.pem").write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return folder / "bank.pem"


def test_what_data_is_handed_over_by_needs_two_people_too(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = "A1AAAA0000"

    async def register() -> None:
        async with open_registries(database) as registries:
            await registries.recipients.add(org, "A bank")

    async def granted() -> tuple[list[str], str | None, list[str]]:
        connection = await asyncpg.connect(database)
        keys = [r[0] for r in await connection.fetch("SELECT kid FROM recipient_key")]
        shown = await connection.fetchval("SELECT certificate_sha256 FROM recipient")
        campaigns = [r[0] for r in await connection.fetch("SELECT campaign_id FROM campaign WHERE active")]
        await connection.close()
        return keys, shown, campaigns

    asyncio.run(register())
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    mypay("recipient", "key", "generate", "--out", tmp_path / "own.json", "--public", tmp_path / "bank.json").expect()
    mypay("recipient", "key", "add", org, "--jwk", tmp_path / "bank.json", "--kid", "bank-1").expect()
    mypay("recipient", "certificate", org, "--file", certificate(tmp_path)).expect()
    (tmp_path / "spring.json").write_text(campaign().model_dump_json(exclude_none=True))
    mypay("campaign", "apply", tmp_path / "spring.json").expect()
    assert asyncio.run(granted()) == ([], None, [])
    proposals = mypay("operators", "proposals", "--json").expect().json
    assert sorted(p["kind"] for p in proposals) == ["campaign.apply", "recipient.certificate", "recipient.key.add"]
    for proposal in proposals:
        mypay("operators", "approve", proposal["proposal_id"]).expect(1)
        mypay("operators", "approve", proposal["proposal_id"], "--operator", "lee").expect()
    keys, shown, campaigns = asyncio.run(granted())
    assert (keys, shown is not None, campaigns) == (["bank-1"], True, ["spring"])
    # Taking away waits for nobody.
    mypay("recipient", "certificate", org, "--withdraw").expect()
    mypay("recipient", "key", "disable", org, "bank-1").expect()
    mypay("campaign", "stop", "spring").expect()
    assert asyncio.run(granted()) == (["bank-1"], None, [])


@pytest.mark.usefixtures("database")
def test_whoever_is_registered_without_topics_needs_no_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster whose topics others make, or that is away."""
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    made = ("--out", tmp_path / "key.json", "--public", tmp_path / "recipient.json")
    mypay("recipient", "key", "generate", *made).expect()
    recipient = ("A1AAAA0000", "--name", "Bank One", "--jwk", tmp_path / "recipient.json")
    mypay("partner", "add", *PARTNER).expect()
    mypay("affiliate", "add", "points", "--name", "Points", "--group", "telecom", "--no-topics").expect()
    mypay("recipient", "add", *recipient, "--no-topics").expect()
    assert [a["affiliate_id"] for a in mypay("affiliate", "list", "--json").expect().json] == ["points"]
    assert [len(r["kids"]) for r in mypay("recipient", "list", "--json").expect().json] == [1]


def test_an_affiliates_stolen_key_is_disabled_by_one_person(database: str, tmp_path: Path) -> None:
    async def register() -> None:
        async with open_registries(database) as registries:
            await registries.affiliates.add("points", "Points", "telecom")

    asyncio.run(register())
    mypay("affiliate", "key", "add", "points", "--jwk", tmp_path / "public.json").expect()
    since = mypay("affiliate", "key", "disable", "points", "shop-1", "--json").expect().json["disabled_at"]
    assert mypay("affiliate", "key", "disable", "points", "shop-1", "--json").expect().json["disabled_at"] == since
    assert "has no key" in mypay("affiliate", "key", "disable", "points", "other").expect(3).err


def test_an_erasure_that_its_affiliate_can_sign_no_more_is_noted_by_an_operator(database: str) -> None:
    notice = "00000000-0000-0000-0000-000000000007"

    async def hold() -> None:
        async with open_registries(database) as registries:
            await registries.affiliates.add("points", "Points", "telecom")
            await registries.affiliates.set_active("points", active=False)
        connection = await asyncpg.connect(database)
        await connection.execute(
            "INSERT INTO share_holder (partner_id, consent_id, customer_id, affiliate_id, round, reference, key_ids,"
            " since, notice_id, cause, noticed_at, erase_by) VALUES ('shop-pay', 'C-1', 'cust-1', 'points', 1, 'r',"
            " '{k}', now(), $1, 'ended', now(), now())",
            notice,
        )
        await connection.close()

    asyncio.run(hold())
    told = mypay("sharing", "erased", notice, "--why", "letter of 3 May", "--json").expect().json
    assert told["affiliate_id"] == "points"
    assert mypay("sharing", "erased", notice, "--json").expect().json == told
    mypay("sharing", "erased", notice.replace("7", "8")).expect(3)
    [held] = mypay("sharing", "list", "--json").expect().json
    assert (held["notice_id"], held["confirmed_at"]) == (notice, told["confirmed_at"])


def test_events_are_kept_for_sharing_until_an_operator_says_that_it_runs_no_more(database: str) -> None:
    async def readers(statement: str = "SELECT") -> list[str]:
        connection = await asyncpg.connect(database)
        await connection.execute(statement)
        found = [r[0] for r in await connection.fetch("SELECT reader FROM outbox_reader ORDER BY reader")]
        await connection.close()
        return found

    assert asyncio.run(readers()) == ["disclosure", "relay"]
    assert "No events were kept" in mypay("sharing", "retire").expect().err
    assert asyncio.run(readers("UPDATE sharing_place SET followed = true")) == ["disclosure", "relay", "sharing"]
    assert "any more" in mypay("sharing", "retire").expect().err
    assert asyncio.run(readers()) == ["disclosure", "relay"]


def test_the_record_cannot_be_changed_nor_an_own_proposal_approved_past_the_program(
    database: str, tmp_path: Path
) -> None:
    mypay("partner", "add", *PARTNER).expect()
    key = ("--jwk", tmp_path / "public.json", "--propose", "--json")
    proposal = mypay("partner", "key", "add", "shop-pay", *key).expect().json["proposal_id"]

    async def refused() -> list[str]:
        connection = await asyncpg.connect(database)
        told = []
        try:
            for statement in (
                "UPDATE operator_action SET operator = 'lee'",
                "DELETE FROM operator_action",
                "DELETE FROM operator_proposal",
                "TRUNCATE operator_action",
                "UPDATE operator_proposal SET operator = 'lee'",
                f"INSERT INTO operator_decision (proposal_id, decision, operator, why) VALUES ('{proposal}', 'approved', 'kim', '')",  # noqa: E501
                f"INSERT INTO operator_decision (proposal_id, decision, operator, why) VALUES ('{proposal}', 'approved', 'Kim', '')",  # noqa: E501
            ):
                try:
                    await connection.execute(statement)
                except asyncpg.PostgresError as error:
                    told.append(type(error).__name__)
        finally:
            await connection.close()
        return told

    assert asyncio.run(refused()) == ["RaiseError"] * 5 + ["CheckViolationError"] * 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--why", "x"), "--operator"),
        (("--operator", "kim"), "--why"),
        (("--operator", "a b", "--why", "x"), "1 to 64"),
        (("--operator", "kim", "--why", "card 4929123456789015"), "card number"),
        (("--operator", "kim", "--why", "x" * 201), "at most"),
    ],
)
def test_away_from_this_machine_who_and_why_are_required(
    arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MYPAY_OPERATOR", raising=False)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://mypay@db.invalid/mypay?sslmode=verify-full")
    assert told in mypay("partner", "disable", "shop-pay", *arguments).expect(2).err


@pytest.mark.usefixtures("database")
def test_a_partners_own_command_is_no_operators() -> None:
    ran = mypay("consent", "revoke", "C-1", "--partner", "shop-pay", "--key", "k.pem", "--operator", "kim")
    assert "operators' commands" in ran.expect(2).err


@pytest.fixture
def suspended(database: str) -> str:
    """A consent that is suspended."""
    mypay("partner", "add", *PARTNER).expect()
    until = {"valid_from": "2020-01-01T00:00:00+09:00", "valid_until": "2099-01-01T00:00:00+09:00"}
    payment = {
        "funding_token": "tok-1",
        "max_per_payment": [{"currency": "KRW", "value": "50000"}],
        "period_limits": [{"period": "month", "max_amount": {"currency": "KRW", "value": "1000000"}}],
        "payees": {"allow_categories": ["5812"]},
    }
    fields = {"consent_id": "C-1", "partner_id": "shop-pay", "customer_id": "cust-1", "payment": payment, **until}
    terms = decode(ConsentTerms, json.dumps(fields).encode())

    async def store() -> None:
        # A token that may be used: nothing is resumed without one.
        connection = await asyncpg.connect(database)
        await connection.execute(
            "INSERT INTO funding_token (token, customer_id, key_id, nonce, ciphertext)"
            " VALUES ('tok-1', 'cust-1', 'k', '123456789012', '1234567890123456789012345678901234567890')"
        )
        await connection.execute(
            "INSERT INTO funding_token_partner (token, partner_id, allowed_at) VALUES ('tok-1', 'shop-pay', now())"
        )
        await connection.close()
        async with open_registries(database) as registries:
            await registries.consents.add_consents([(terms, ConsentStatus.AUTH)])

    asyncio.run(store())
    mypay("consent", "suspend", "C-1", "--partner", "shop-pay").expect()
    return database


def status_of_consent() -> str:
    return str(mypay("consent", "show", "C-1", "--json").expect().json["status"])


RESUME = ("consent", "resume", "C-1", "--partner", "shop-pay")


@pytest.mark.usefixtures("suspended")
def test_a_consent_is_resumed_by_two_people_and_only_as_it_was_when_that_was_proposed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proposed = mypay(*RESUME, "--propose", "--json").expect().json["proposal_id"]
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    second = mypay(*RESUME, "--reason", "asked for", "--json").expect().json["proposal_id"]
    assert status_of_consent() == "SUSP"
    mypay("operators", "approve", proposed).expect(1)
    mypay("operators", "approve", proposed, "--operator", "lee").expect()
    assert status_of_consent() == "AUTH"
    # One person suspends; what was proposed before that does not undo it.
    mypay("consent", "suspend", "C-1", "--partner", "shop-pay").expect()
    assert "propose again" in mypay("operators", "approve", second, "--operator", "lee").expect(1).err
    assert status_of_consent() == "SUSP"
    mypay("consent", "resume", "C-2", "--partner", "shop-pay").expect(3)
    mypay(*RESUME, "--propose", "--key", "k.pem").expect(2)


def test_a_consent_is_not_resumed_where_the_decision_is_not_kept(
    suspended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed = mypay(*RESUME, "--propose", "--json").expect().json["proposal_id"]
    resume = OPERATIONS["consent.resume"]

    async def cut_off(doing: Doing, payload: Payload) -> str:
        await resume.do(doing, payload)
        raise OperationRefusedError("cut off")

    monkeypatch.setattr(proposals, "OPERATIONS", {"consent.resume": replace(resume, do=cut_off)})
    mypay("operators", "approve", proposed, "--operator", "lee").expect(1)
    assert status_of_consent() == "SUSP"
    monkeypatch.undo()
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", suspended)
    mypay("operators", "approve", proposed, "--operator", "lee").expect()
    assert status_of_consent() == "AUTH"


async def _register(database: str) -> None:
    async with open_registries(database) as registries:
        await registries.affiliates.add("points", "Points", "telecom")
        await registries.recipients.add("A1AAAA0000", "A bank")


@pytest.mark.parametrize(
    ("room", "whom", "table"),
    [
        ("partner", "shop-pay", "partner"),
        ("affiliate", "points", "affiliate"),
        ("recipient", "A1AAAA0000", "recipient"),
    ],
)
def test_whoever_was_disabled_by_one_is_enabled_by_two_and_only_as_it_was_when_that_was_proposed(
    database: str, monkeypatch: pytest.MonkeyPatch, room: str, whom: str, table: str
) -> None:
    async def is_active() -> bool:
        connection = await asyncpg.connect(database)
        found = await connection.fetchval(f"SELECT active FROM {table}")
        await connection.close()
        return bool(found)

    mypay("partner", "add", *PARTNER).expect()
    asyncio.run(_register(database))
    mypay(room, "disable", whom).expect()
    mypay(room, "enable", whom).expect()
    assert asyncio.run(is_active())
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    mypay(room, "disable", whom).expect()
    mypay(room, "enable", whom).expect()
    mypay(room, "enable", whom).expect()
    assert not asyncio.run(is_active())
    second, first = [p["proposal_id"] for p in mypay("operators", "proposals", "--json").expect().json]
    mypay("operators", "approve", first).expect(1)
    mypay("operators", "approve", first, "--operator", "lee").expect()
    assert asyncio.run(is_active())
    mypay(room, "disable", whom).expect()
    assert "disabled anew since" in mypay("operators", "approve", second, "--operator", "lee").expect(1).err
    assert not asyncio.run(is_active())
    monkeypatch.delenv("MYPAY_OPERATOR_TWO_PEOPLE")
    mypay(room, "enable", "B2BBBB0000" if room == "recipient" else "nobody").expect(3)


@pytest.mark.usefixtures("database")
def test_nobody_lets_somebody_into_the_console_alone_where_two_people_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def users() -> dict[str, tuple[str, bool]]:
        listed = mypay("console", "user", "list", "--json").expect().json
        return {u["name"]: (u["role"], u["disabled_at"] is None) for u in listed}

    def newest() -> str:
        return str(mypay("operators", "proposals", "--json").expect().json[0]["proposal_id"])

    def approved(proposal: str, code: int = 0) -> str:
        mypay("operators", "approve", proposal).expect(1)
        return mypay("operators", "approve", proposal, "--operator", "lee").expect(code).err

    word = "a long enough password\n"
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    mypay("console", "user", "add", "park", "--role", "viewer", given=word).expect()
    assert users() == {"park": ("viewer", False)}
    approved(newest())
    assert users() == {"park": ("viewer", True)}
    # A higher role is given by two, a lower one by one.
    mypay("console", "user", "role", "Park", "--role", "approver").expect()
    assert users() == {"park": ("viewer", True)}
    approved(newest())
    assert users() == {"park": ("approver", True)}
    mypay("console", "user", "role", "park", "--role", "operator").expect()
    assert users() == {"park": ("operator", True)}
    mypay("console", "user", "role", "nobody", "--role", "viewer").expect(3)
    # Another's password would let in whoever chose it; one's own is one's own matter.
    mypay("console", "user", "password", "park", "--operator", "Park", given=word).expect()
    assert users() == {"park": ("operator", True)}
    mypay("console", "user", "password", "park", given=word).expect()
    assert users() == {"park": ("operator", False)}
    old = newest()
    mypay("console", "user", "disable", "park").expect()
    assert "propose again" in approved(old, 1)
    mypay("console", "user", "enable", "park").expect()
    assert users() == {"park": ("operator", False)}
    again = newest()
    approved(again)
    assert users() == {"park": ("operator", True)}
    mypay("console", "user", "enable", "park").expect(1)
    mypay("console", "user", "enable", "nobody").expect(3)
    everything = mypay("operators", "proposals", "--all", "--json").expect().out
    assert "argon2" not in everything


@pytest.mark.usefixtures("database")
def test_a_trust_policy_counts_when_two_people_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def same() -> bool:
        return bool(mypay("auth", "policy", "show", "--json").expect().json["same"])

    monkeypatch.setenv("MYPAY_ALLOW_NO_PROOF", "1")
    proposed = [mypay("auth", "policy", "apply", "--propose", "--json").expect().json["proposal_id"] for _ in range(2)]
    assert not same()
    mypay("operators", "approve", proposed[0]).expect(1)
    mypay("operators", "approve", proposed[0], "--operator", "lee").expect()
    assert same()
    assert "propose again" in mypay("operators", "approve", proposed[1], "--operator", "lee").expect(1).err
    assert mypay("auth", "policy", "apply", "--propose", "--json").expect().json["changed"] is False


@pytest.mark.usefixtures("database")
def test_dead_letters_are_sent_again_by_two_people_where_two_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def letters(_: object, reference: str) -> list[Any]:
        return [SimpleNamespace(reference=reference)]

    async def references(*_: object) -> list[str]:
        return there

    there = ["mypay.orders/0/1", "mypay.orders/0/2"]

    async def never(*_: object) -> None:
        raise AssertionError("nothing is sent before another operator approves")

    monkeypatch.setattr("gateway.cli.dead_letter._letters", letters)
    monkeypatch.setattr("gateway.cli.dead_letter.open_references", references)
    monkeypatch.setattr("gateway.cli.dead_letter.kafka", lambda _: None)
    monkeypatch.setattr("gateway.cli.dead_letter.send_again", never)
    mypay("dead-letter", "replay", "mypay.orders/0/1", "--propose").expect()
    monkeypatch.setenv("MYPAY_OPERATOR_TWO_PEOPLE", "1")
    mypay("dead-letter", "replay", "--all", "--yes").expect()
    told = [(p["kind"], p["subject"], p["payload"]) for p in mypay("operators", "proposals", "--json").json]
    assert told == [
        ("dead-letter.replay", "2 letters", {"references": ["mypay.orders/0/1", "mypay.orders/0/2"]}),
        ("dead-letter.replay", "mypay.orders/0/1", {"references": ["mypay.orders/0/1"]}),
    ]
    # Whoever is to approve it looks through them: a proposal is of so many at most.
    there += [f"mypay.orders/0/{n}" for n in range(3, REPLAY_PROPOSED_MAX + 8)]
    told_of = mypay("dead-letter", "replay", "--all", "--yes").expect()
    assert "7 more are not in it" in told_of.err
    newest = mypay("operators", "proposals", "--json").json[0]
    assert (newest["subject"], len(newest["payload"]["references"])) == ("500 letters", 500)


LETTERS = 6
"""Dead letters of a proposal: three steps of two, in each of which originals are published, and their notes."""


@pytest.fixture
def parked(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Topic:
    monkeypatch.setattr(sending_again, "operators_kafka", lambda *_, **__: None)
    monkeypatch.setattr(sending_again, "STEP_LETTERS", 2)
    topic.park(*(structs.replace(RECORD, offset=n) for n in range(LETTERS)))
    return topic


def proposed_letters(database: str) -> str:
    references = [f"mypay.orders/3/{n}" for n in range(LETTERS)]
    kind, payload = "dead-letter.replay", {"references": references}
    return str(asyncio.run(proposals.propose(database, Actor("kim", "ticket 1"), kind, "6 letters", payload)))


def originals_of(topic: Topic) -> list[str]:
    return [o.topic for o in topic.published if o.topic == "mypay.orders"]


def at_publication(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[], Awaitable[None]]
) -> None:
    publish, numbers = topic.publish, count()

    async def watched(outgoing: Sequence[Outgoing]) -> None:
        if next(numbers) == number:
            await do()
        await publish(outgoing)

    monkeypatch.setattr(topic, "publish", watched)


_SENDING = (
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mypay-registries'"
    " AND state = 'idle in transaction'"
)


@pytest.mark.parametrize("at", range(LETTERS))
def test_a_decision_that_is_cut_off_while_letters_are_sent_is_open_and_sends_the_rest_when_it_is_made_again(
    database: str, parked: Topic, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """As where sending lasts longer than a transaction may stand still: its session is gone."""

    async def end_the_session() -> None:
        connection = await asyncpg.connect(database)
        # It waits until that session is gone.
        assert await connection.fetchval(f"SELECT array_agg(pg_terminate_backend(pid, 60000)) {_SENDING}") == [True]
        await connection.close()

    proposal = proposed_letters(database)
    with monkeypatch.context() as patched:
        at_publication(parked, patched, at, end_the_session)
        told = mypay("operators", "approve", proposal, "--operator", "lee").expect(4)
    sent = min(2 * (at // 2 + 1), LETTERS)
    assert len(originals_of(parked)) == sent
    assert (f"Sent again: {sent}. Perhaps sent: 0. " in told.err) == (sent < LETTERS)
    assert [p["proposal_id"] for p in mypay("operators", "proposals", "--json").json] == [proposal]
    told = mypay("operators", "approve", proposal, "--operator", "lee").expect()
    assert f"{LETTERS - sent} sent again, {sent} were before" in told.err
    # None was sent twice.
    assert len(originals_of(parked)) == LETTERS
    assert mypay("operators", "proposals", "--json").json == []
    assert [a["outcome"] for a in log() if a["command"] == "operators approve"] == ["done", "unknown"]


def test_while_letters_are_sent_nobody_else_approves_and_no_transaction_has_written(
    database: str, parked: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has written would hold up whoever reads the outbox: events, shares and the disclosure log."""
    proposal, seen = proposed_letters(database), list[object]()

    async def look() -> None:
        connection = await asyncpg.connect(database)
        seen.append(await connection.fetchval(f"SELECT array_agg(backend_xid IS NOT NULL) {_SENDING}"))
        await connection.close()
        with pytest.raises(OperationRefusedError, match="another operator is approving it"):
            await proposals.decide(settings, database, UUID(proposal), Decision.APPROVED, Actor("park", ""))

    settings = read_settings()
    at_publication(parked, monkeypatch, LETTERS - 1, look)
    assert "6 sent again" in mypay("operators", "approve", proposal, "--operator", "lee").expect().err
    assert seen == [[False]]


@pytest.mark.parametrize("at", range(LETTERS))
def test_who_rejects_stops_what_is_being_sent_before_its_next_step(
    database: str, parked: Topic, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    proposal, settings = proposed_letters(database), read_settings()

    async def reject() -> None:
        await proposals.decide(settings, database, UUID(proposal), Decision.REJECTED, Actor("kim", "a mistake"))

    at_publication(parked, monkeypatch, at, reject)
    told = mypay("operators", "approve", proposal, "--operator", "lee").expect(1)
    sent = 2 * (at // 2 + 1)
    assert len(originals_of(parked)) == sent
    if sent < LETTERS:
        assert f"decided before. Sent again: {sent}. Perhaps sent: 0. Not sent: {LETTERS - sent}. " in told.err
        assert "next attempt" not in told.err
    else:
        assert f"another operator was faster. By then: {sent} sent again." in told.err
    assert mypay("operators", "proposals", "--json").json == []
    decided = mypay("operators", "proposals", "--all", "--json").json
    assert [(p["proposal_id"], p["decision"], p["decided_by"]) for p in decided] == [(proposal, "rejected", "kim")]


def test_the_database_says_whose_login_wrote_and_when(database: str) -> None:
    async def stamped() -> list[tuple[bool, bool]]:
        connection = await asyncpg.connect(database)
        told, at = [], datetime(2020, 1, 1, tzinfo=UTC)
        key = "'00000000-0000-0000-0000-000000000001'"
        for table, time, columns, values in (
            (
                "operator_action",
                "at",
                "action_id, phase, operator, command, subject, why",
                f"{key},'begun','k','','',''",
            ),
            (
                "operator_proposal",
                "proposed_at",
                "proposal_id, kind, subject, payload, operator, why, expires_at",
                f"{key},'x','','{{}}','kim','','2099-01-01'",
            ),
            ("operator_decision", "decided_at", "proposal_id, decision, operator, why", f"{key},'rejected','kim',''"),
            (
                "break_resolution",
                "resolved_at",
                "network_id, cycle_id, record_no, version, break_kind, resolution, why, resolved_by",
                "'bcard','c',1,1,'orphan','disputed','','kim'",
            ),
        ):
            row = await connection.fetchrow(
                f"INSERT INTO {table} ({columns}, login, {time}) VALUES ({values}, 'somebody', $1)"
                f" RETURNING login = session_user AS own, {time} AS at",
                at,
            )
            assert row is not None
            told.append((row["own"], row["at"] > at))
        await connection.close()
        return told

    assert asyncio.run(stamped()) == [(True, True)] * 4


def test_a_network_is_paused_and_resumed_by_command(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "bcard.toml").write_text(NETWORK.format(port=8583))
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(tmp_path / "networks"))

    def standing() -> list[tuple[str, str]]:
        return [(n["standing"], n["why"]) for n in mypay("network", "list", "--json").expect().json]

    assert standing() == [("no worker", None)]
    mypay("network", "pause", "acard").expect(3)
    mypay("network", "pause", "bcard", "--why", "maintenance").expect()
    assert standing() == [("paused", "maintenance")]
    mypay("network", "pause", "bcard").expect(1)
    proposed = mypay("network", "resume", "bcard", "--propose", "--json").expect().json["proposal_id"]
    assert standing() == [("paused", "maintenance")]
    mypay("operators", "approve", proposed).expect(1)
    mypay("operators", "approve", proposed, "--operator", "lee").expect()
    assert standing() == [("no worker", None)]
    mypay("network", "resume", "bcard").expect(1)
    assert [a["outcome"] for a in log()][::-1] == ["failed", "done", "failed", "proposed", "failed", "done", "failed"]
    # What was proposed of one pause does not lift the next.
    mypay("network", "resume", "bcard", "--propose").expect(1)
    mypay("network", "pause", "bcard", "--why", "maintenance").expect()
    old = mypay("network", "resume", "bcard", "--propose", "--json").expect().json["proposal_id"]
    mypay("network", "resume", "bcard").expect()
    mypay("network", "pause", "bcard", "--why", "fraud").expect()
    assert "paused anew since" in mypay("operators", "approve", old, "--operator", "lee").expect(1).err
    assert standing() == [("paused", "fraud")]
