"""`mypay` as a person uses it: from an empty stack of its own to a settled payment, and through what goes wrong.

The stages and the network run as processes; the commands run inside the test. Tests share one world, left usable.
"""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from gateway.app.settings import Settings
from gateway.messaging.backlog import Backlogs
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.topics import clearing_topic
from tests.support.cli import mypay
from tests.support.cli_world import (
    MERCHANTS,
    PAN,
    TOKENS,
    World,
    add_consent,
    add_token,
    own_stack,
    running,
    terms,
    until,
)

# What is done before the first payment starts a dozen processes, one after the other.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("cli")
    with own_stack(folder), running(folder) as world:
        yield world


# --- the main path ----------------------------------------------------------------------------------------------------


def test_an_order_is_sent_approved_traced_and_counted(world: World) -> None:
    add_consent("c-path").expect()
    [told] = world.order("--wait", "--json", consent_id="c-path").expect().json
    assert told["state"] == "approved"
    assert [e["version"] for e in told["events"]] == [1, 2]
    story = mypay("trace", told["payment_id"], "--json").expect().json
    assert story == mypay("trace", f"acme/{told['order_id']}", "--json").expect().json
    assert [s["what"] for s in story["steps"]] == ["ordered", "sent", "approved", "posted: authorised"]
    assert [s["at"] for s in story["steps"]] == sorted(s["at"] for s in story["steps"])
    assert story["payment"]["trace"]["terminal_id"].startswith("GW")
    [month] = mypay("consent", "usage", "c-path", "--json").expect().json
    assert [month[n] for n in ("max", "used", "reserved")] == [
        {"currency": "KRW", "value": v} for v in ("1000000", "12500", "0")
    ]
    assert story["payment"]["amount"] == {"currency": "KRW", "value": "12500"}
    people = mypay("trace", told["payment_id"]).expect().out
    assert "12,500 KRW" in people
    assert PAN not in people + json.dumps(story)


@pytest.mark.parametrize(
    ("fields", "state", "code"),
    [
        ({"amount": {"currency": "KRW", "value": "10051"}}, "declined", "AM04"),
        ({"amount": {"currency": "KRW", "value": "50001"}}, "rejected", "TKVE"),
        ({"merchant_id": "mart-1"}, "rejected", "SL11"),
        ({"consent_id": "c-none"}, "rejected", "MD01"),
    ],
)
def test_orders_that_are_not_paid_say_why(world: World, fields: dict[str, Any], state: str, code: str) -> None:
    [told] = world.order("--wait", "--json", **fields).expect(1).json
    assert (told["state"], told["reason"]["code"]) == (state, code)
    assert code in mypay("trace", told["payment_id"]).expect().out


def test_an_order_under_a_key_that_nobody_registered_is_told_to_operators_alone(world: World) -> None:
    ran = world.order("--wait", "--timeout", "3", "--json", "--kid", "acme-other").expect(4)
    assert "dead-letter" in ran.err
    [told] = ran.json
    assert told["events"] == []
    until(lambda: any(x["message"].startswith("DS0E: ") for x in open_letters("mypay.orders/")), "it is parked")
    assert mypay("trace", f"acme/{told['order_id']}", "--json").expect(3)


def test_the_same_order_again_is_told_again_and_paid_once(world: World) -> None:
    times = {"issued_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-01T00:10:00Z"}
    [first] = world.order("--wait", "--json", order_id="again", **times).expect(1).json
    [second] = world.order("--wait", "--json", order_id="again", **times).expect(1).json
    assert first["payment_id"] == second["payment_id"]
    assert [e["type"] for e in second["events"]] == ["kr.mypay.payment.reported.v1"]


def test_waiting_has_an_end(world: World) -> None:
    assert "within 0.5 s" in world.order("--wait", "--until", "final", "--timeout", "0.5").expect(4).err


# --- consents ---------------------------------------------------------------------------------------------------------


def test_a_revoked_consent_pays_nothing_more(world: World) -> None:
    add_consent("c-2").expect()
    assert world.order("--wait", consent_id="c-2").code == 0
    mypay("consent", "suspend", "c-2", "--partner", "acme").expect()
    [held] = world.order("--wait", "--json", consent_id="c-2").expect(1).json
    assert held["reason"]["code"] == "TKSP"
    mypay("consent", "resume", "c-2", "--partner", "acme").expect()
    changed = mypay("consent", "revoke", "c-2", "--partner", "acme", "--reason", "asked for", "--json").expect().json
    assert (changed["before"], changed["status"]) == ("AUTH", "CANC")
    [refused] = world.order("--wait", "--json", consent_id="c-2").expect(1).json
    assert refused["reason"]["code"] == "MD01"
    assert "CANC" in mypay("consent", "revoke", "c-2", "--partner", "acme").expect(1).err
    mypay("consent", "revoke", "c-none", "--partner", "acme").expect(3)
    shown = mypay("consent", "show", "c-2", "--json").expect().json
    assert shown["status"] == "CANC"
    assert shown["terms"] == json.loads(terms("c-2")), "as they were sent"
    assert terms_digest(canonical_terms(json.dumps(shown["terms"]).encode())) == shown["terms_digest"]
    assert [(v["terms"], v["terms_digest"]) for v in shown["versions"]] == [(shown["terms"], shown["terms_digest"])]
    listed = mypay("consent", "list", "--status", "CANC", "--json").expect().json
    assert [(c["consent_id"], c["terms_digest"]) for c in listed] == [("c-2", shown["terms_digest"])]
    history = mypay("consent", "history", "c-2", "--json").expect().json
    assert [(h["change"], h["command"], h["actor"], h["status"]) for h in history] == [
        (1, "suspend", "operator", "SUSP"),
        (2, "resume", "operator", "AUTH"),
        (3, "revoke", "operator", "CANC"),
    ]
    assert [h["at"] for h in history] == sorted(h["at"] for h in history)
    assert "suspend" in mypay("consent", "history", "c-2").expect().out
    mypay("consent", "history", "c-none").expect(3)


def test_consents_are_added_all_or_none(world: World) -> None:
    text = terms("c-new") + "\n" + terms("c-1") + "\n"
    assert "acme/c-1" in mypay("consent", "add", "-", given=text).expect(1).err
    mypay("consent", "show", "c-new").expect(3)
    wrong = terms("c-new") + "\n" + terms("c-newer", single_use="yes") + "\n"
    assert "line 2: payment.single_use" in mypay("consent", "add", "-", given=wrong).expect(1).err
    mypay("consent", "show", "c-new").expect(3)


# --- registries -------------------------------------------------------------------------------------------------------


def test_partners_and_keys(world: World, tmp_path: Path) -> None:
    mypay("partner", "add", "beta", "--name", "Beta", "--group", "financial", "--no-topics").expect()
    assert (
        "already registered"
        in mypay(
            *("partner", "add", "beta", "--name", "B", "--group", "financial", "--no-topics"),
            *("--generate-key", "Ed25519", "--key-out", tmp_path / "b.pem"),
        )
        .expect(1)
        .err
    )
    assert not (tmp_path / "b.pem").exists()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    ends = ("--valid-until", "2099-12-31")
    added = mypay("partner", "key", "add", "beta", "--jwk", "-", *ends, "--json", given=json.dumps(jwk)).expect().json
    secret = json.dumps({**jwk, "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"})
    ran = mypay("partner", "key", "add", "beta", "--jwk", "-", given=secret).expect(2)
    assert "nWGx" not in ran.err
    assert "in use" in mypay("partner", "key", "add", "beta", "--jwk", "-", given=json.dumps(jwk)).expect(1).err
    other = {**jwk, "x": "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"}
    mypay("partner", "key", "add", "nobody", "--jwk", "-", "--kid", "x", given=json.dumps(other)).expect(3)
    mypay("partner", "key", "disable", "beta", added["kid"]).expect()
    mypay("partner", "key", "disable", "acme", added["kid"]).expect(3)
    [key] = mypay("partner", "key", "list", "beta", "--json").expect().json
    assert key["disabled_at"]
    assert key["valid_until"].startswith("2099-12-31T00:00:00")
    mypay("partner", "disable", "beta").expect()
    mypay("partner", "disable", "nobody").expect(3)
    _rotate_keys(tmp_path)
    listed = {p["partner_id"]: p["active"] for p in mypay("partner", "list", "--json").expect().json}
    assert listed == {"acme": True, "beta": False}


def _rotate_keys(folder: Path) -> None:
    """Of partner beta, whose only key is disabled."""

    def rotate(number: int) -> Any:
        out = folder / f"{number}.pem"
        rotated = mypay("keys", "rotate", "beta", "--generate-key", "ES256", "--key-out", out, "--json").expect().json
        assert out.stat().st_mode & 0o777 == 0o600
        return rotated

    first, second = rotate(1), rotate(2)
    assert (first["still_valid"], second["still_valid"]) == ([], [first["kid"]])
    told = mypay("keys", "rotate", "beta", "--generate-key", "ES256", "--key-out", folder / "3.pem").expect().err
    assert f"mypay keys disable beta {first['kid']}" in told
    mypay("keys", "disable", "beta", first["kid"]).expect()
    mypay("keys", "disable", "acme", second["kid"]).expect(3)
    mypay("keys", "rotate", "beta").expect(2)
    disabled = {k["kid"]: bool(k["disabled_at"]) for k in mypay("partner", "key", "list", "beta", "--json").json}
    assert (disabled[first["kid"]], disabled[second["kid"]]) == (True, False)


def test_merchants_are_imported_strictly_or_skipping(world: World) -> None:
    wrong = MERCHANTS.replace("cafe-1", "shop-1").replace("5411", "x")
    assert mypay("merchant", "import", "-", "--strict", "--json", given=wrong).expect(1).json["imported"] == 0
    told = mypay("merchant", "import", "-", "--json", given=wrong).expect(1).json
    assert (told["imported"], [e["line"] for e in told["errors"]]) == (1, [3])
    listed = mypay("merchant", "list", "--limit", "2", "--after", "cafe-1", "--json").expect().json
    assert [m["merchant_id"] for m in listed] == ["mart-1", "shop-1"]


def test_a_card_number_is_shown_nowhere(world: World) -> None:
    bad, worse = add_token(cvv="123").expect(1), add_token(pan=PAN + "x").expect(1)
    shown = mypay("token", "show", TOKENS[0]).expect().out + mypay("token", "list", "--json").expect().out
    assert PAN not in bad.err + worse.err + shown
    # Times have such digits by chance, and keys are named by theirs.
    assert PAN[-4:] not in re.sub(r"[0-9]{8}T[0-9]{12}Z|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+", "", shown)
    assert world.sql(f"SELECT count(*) FROM funding_token WHERE funding_token::text LIKE '%{PAN}%'") == 0


def test_a_token_is_made_shown_allowed_and_disallowed(world: World) -> None:
    made = add_token("lee", "--json").expect().json
    token = made["token"]
    assert (made["customer_id"], made["partners"]) == ("lee", ["acme"])
    mypay("partner", "add", "other", "--name", "Other", "--group", "telecom").expect()
    assert mypay("token", "allow", token, "--partner", "other", "--json").expect().json["partners"] == ["acme", "other"]
    mypay("token", "allow", token, "--partner", "nobody").expect(3)
    mypay("token", "allow", "nothing", "--partner", "acme").expect(3)
    assert mypay("token", "disallow", token, "--partner", "acme", "--json").expect().json["consents"] == []
    mypay("token", "disallow", token, "--partner", "acme").expect(3)
    told = mypay("token", "show", token, "--json").expect().json
    assert (told["partners"], told["customer_id"]) == (["other"], "lee")
    assert [(p["partner_id"], p["withdrawn_at"] is None) for p in told["permissions"]] == [
        ("acme", False),
        ("other", True),
    ]
    assert "withdrawn" in mypay("token", "show", token).expect().out
    assert [t["token"] for t in mypay("token", "list", "--customer", "lee", "--json").expect().json] == [token]


def test_an_operator_adds_no_consent_over_a_token_of_another_customer_or_for_another_partner(world: World) -> None:
    foreign = add_token("lee").expect().out.strip()
    for token in (foreign, "nothing"):
        refused = add_consent("c-stolen", funding_token=token).expect(1)
        assert f"{token} of kim for acme" in refused.err
    mypay("consent", "show", "c-stolen").expect(3)


def test_a_token_from_before_there_were_owners_is_refused_until_it_has_one(world: World) -> None:
    old = "tok-old"
    keys = MasterKeys.load(Settings().master_keys_dir)
    sealed = keys.seal(Purpose.FUNDING_TOKEN, f"{PAN}=3012".encode(), old)
    world.sql(
        f"INSERT INTO funding_token (token, key_id, nonce, ciphertext) VALUES ('{old}', '{sealed.key_id}', "
        f"'\\x{sealed.nonce.hex()}', '\\x{sealed.ciphertext.hex()}') RETURNING 1"
    )
    add_consent("c-old", funding_token=old).expect(1)
    mypay("token", "allow", old, "--partner", "acme").expect(1)
    assert [t["token"] for t in mypay("token", "list", "--unowned", "--json").expect().json] == [old]
    assign = ("token", "assign", old, "--customer", "kim", "--partner", "acme", "--json")
    assert mypay(*assign).expect().json["customer_id"] == "kim"
    assert "keeps it" in mypay("token", "assign", old, "--customer", "lee", "--partner", "acme").expect(1).err
    mypay("token", "assign", "nothing", "--customer", "lee", "--partner", "acme").expect(3)
    add_consent("c-old", funding_token=old).expect()
    [paid] = world.order("--wait", "--json", consent_id="c-old").expect().json
    assert paid["state"] == "approved"
    mypay("token", "disallow", old, "--partner", "acme").expect()
    [refused] = world.order("--wait", "--json", consent_id="c-old").expect(1).json
    assert (refused["state"], refused["reason"]["code"]) == ("rejected", "DS0H")


def test_a_card_that_does_not_open_rejects_its_own_orders_alone(world: World) -> None:
    damaged = add_token().expect().out.strip()
    add_consent("c-damaged", funding_token=damaged).expect()
    changed = "UPDATE funding_token SET ciphertext = set_byte(ciphertext, 3, get_byte(ciphertext, 3) # 1)"
    world.sql(f"{changed} WHERE token = '{damaged}' RETURNING 1")
    [refused] = world.order("--wait", "--json", consent_id="c-damaged").expect(1).json
    assert (refused["state"], refused["reason"]["code"]) == ("rejected", "MS03")
    [paid] = world.order("--wait", "--json").expect().json
    assert paid["state"] == "approved"
    world.sql(f"{changed} WHERE token = '{damaged}' RETURNING 1")
    [paid] = world.order("--wait", "--json", consent_id="c-damaged").expect().json
    assert paid["state"] == "approved"


def test_cards_are_sealed_anew_under_the_next_master_key_and_the_old_one_is_retired(world: World) -> None:
    [old] = [k["key_id"] for k in mypay("keys", "master", "list", "--json").expect().json if k["seals"]]
    assert "it seals" in mypay("keys", "master", "retire", old).expect(1).err
    new = mypay("keys", "master", "create", "--json").expect().json["key_id"]
    assert "still sealed under" in mypay("keys", "master", "retire", old).expect(1).err
    told = mypay("keys", "master", "reseal", "--batch", "1", "--json").expect()
    assert (told.json["unopened"], told.json["left"]) == ({}, 0)
    assert f"{told.json['resealed']} of {told.json['resealed']}" in told.err
    uses = {k["key_id"]: k for k in mypay("keys", "master", "list", "--json").expect().json}
    assert (uses[old]["tokens"], uses[old]["seals"], uses[new]["seals"]) == (0, False, True)
    assert uses[new]["tokens"] == told.json["resealed"] > 0
    mypay("keys", "master", "retire", old).expect()
    mypay("keys", "master", "retire", old).expect(3)
    assert [k["key_id"] for k in mypay("keys", "master", "list", "--json").expect().json] == [new]
    # The process that executes began before the key was made, and goes on.
    [paid] = world.order("--wait", "--json").expect().json
    assert paid["state"] == "approved"
    assert mypay("keys", "master", "reseal", "--json").expect().json["resealed"] == 0


# --- dead letters -----------------------------------------------------------------------------------------------------


def produce(world: World, *records: tuple[bytes, bytes]) -> None:
    write(world, "mypay.orders", *((key, value, [("ce_id", b"mine")]) for key, value in records))


def write(world: World, topic: str, *records: tuple[bytes | None, bytes, list[tuple[str, bytes]]]) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=world.kafka)
        await producer.start()
        try:
            for key, value, headers in records:
                await producer.send_and_wait(topic, value, key=key, headers=headers)
        finally:
            await producer.stop()

    asyncio.run(send())


def open_letters(text: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = mypay("dead-letter", "list", "--json").expect().json
    return [x for x in listed if text in x["reference"]]


def unsigned() -> list[dict[str, Any]]:
    return [x for x in open_letters("mypay.orders/") if x["message"] == "DS0B: header signature is missing"]


def test_dead_letters_are_shown_masked_and_sent_again_once(world: World) -> None:
    # What a terminal would obey is nothing that people write: it is sealed as a secret is.
    produce(world, (b"plain", b"not an order"), (b"secret", f'{{"pan": "{PAN}"}}'.encode()), (b"e", b"\x1b[2Jx"))
    until(lambda: len(unsigned()) == 3, "all are parked")
    plain, escaped, sealed = sorted(unsigned(), key=lambda x: (x["note"], x["bytes"]))
    assert (plain["stage"], plain["note"], sealed["note"]) == ("initiation", "", "sealed")
    shown = mypay("dead-letter", "show", plain["reference"]).expect().out
    assert "not an order" in shown
    assert "\x1b" not in mypay("dead-letter", "show", escaped["reference"]).expect().out
    everything = shown + mypay("dead-letter", "show", sealed["reference"], "--json").expect().out
    everything += mypay("dead-letter", "list").expect().out
    assert PAN not in everything

    ends = world.sql("SELECT count(*) FROM refusal")
    told = mypay("dead-letter", "replay", sealed["reference"], "--json").expect().json
    assert told == {"replayed": [sealed["reference"]], "refused": []}
    # It fails again: the original comes back as a dead letter of its new place, still whole and sealed.
    until(lambda: {x["note"] for x in unsigned()} == {"", "sealed"}, "the replayed one is parked anew")
    again = {x["reference"] for x in unsigned()}
    assert sealed["reference"] not in again
    everyone = mypay("dead-letter", "list", "--all", "--json").expect().json
    assert {x["note"] for x in everyone if x["reference"] == sealed["reference"]} == {"sealed, sent again"}
    assert world.sql("SELECT count(*) FROM refusal") == ends
    mypay("dead-letter", "show", "mypay.orders/0/999999").expect(3)
    mypay("dead-letter", "replay").expect(2)
    assert (
        len(mypay("dead-letter", "replay", "--all", "--stage", "sharing", "--yes", "--json").expect().json["replayed"])
        == 0
    )


def test_what_others_write_to_the_dead_letter_topic_shows_sends_and_hides_nothing(world: World) -> None:
    produce(world, (b"honest", b"not an order either"))
    [honest] = until(lambda: [x for x in open_letters("mypay.orders") if x["bytes"] == 19], "it is parked")
    topic, partition, _ = honest["reference"].split("/")
    place = [("kafka_dlt-original-topic", topic.encode()), ("kafka_dlt-original-partition", partition.encode())]
    told = [("kafka_dlt-original-offset", b"9"), ("kafka_dlt-original-timestamp", b"9"), ("mypay-stage", b"initiation")]
    why = [("kafka_dlt-exception-fqcn", b"X"), ("kafka_dlt-exception-message", b"x")]
    write(world, "mypay.dead-letter", (b"k", b"an order of mine", [*place, *told, *why]))
    write(world, "mypay.dead-letter", (None, b"", [("mypay-replayed", honest["reference"].encode())]))
    listed = mypay("dead-letter", "list", "--json").expect()
    assert "2 records on the topic were not written by the gateway" in listed.err
    assert honest["reference"] in {x["reference"] for x in listed.json}
    forged = mypay("dead-letter", "list", "--forged", "--json").expect().json
    assert {x["note"] for x in forged} == {"not written by the gateway"}
    assert len(forged) == 2
    for one in forged:
        assert "not sent anywhere" in mypay("dead-letter", "replay", one["reference"]).expect(1).err
    replayed = mypay("dead-letter", "replay", "--all", "--yes", "--json").expect().json
    assert replayed["refused"] == []
    assert not {x["reference"] for x in forged} & set(replayed["replayed"])


# --- clearing: stops the network, so it comes last --------------------------------------------------------------------


def is_imported(world: World) -> bool:
    """Whether settlement has taken every record that was published for it."""

    async def waiting() -> object:
        backlogs = Backlogs(KafkaSettings(world.kafka), RecordingObserver())
        try:
            return await backlogs.of([(clearing_topic("bcard"), "mypay-settlement")])
        finally:
            await backlogs.stop()

    return asyncio.run(waiting()) == {}


def test_a_clearing_file_settles_what_it_holds(world: World) -> None:
    add_consent("c-clear").expect()
    [told] = world.order("--wait", "--json", consent_id="c-clear").expect().json
    os.killpg(world.network.pid, signal.SIGTERM)
    world.network.wait(timeout=60)
    [path] = (world.folder / "clearing").glob("*.csv")

    torn = world.folder / "torn.csv"
    torn.write_bytes(path.read_bytes().rpartition(b"T,")[0])
    report = mypay("clearing", "import", torn, world.key, "--json").expect(1).json
    assert report["files"][0]["published"] == 0
    assert "trailer is missing" in report["files"][0]["problems"][0]
    assert "no header" in report["failed"][0]["why"]

    spoilt = world.folder / "spoilt.csv"
    spoilt.write_bytes(path.read_bytes().replace(b"\nT,", b"\nD,?,garbage\nT,"))
    report = mypay("clearing", "import", spoilt, "--json").expect(1).json
    assert (report["files"][0]["bad_lines"], report["files"][0]["problems"]) == (1, ["1 lines are no records"])
    assert report["files"][0]["outcome"] == "partial"
    [parked] = open_letters("file:spoilt.csv")
    assert "correct the file" in mypay("dead-letter", "replay", parked["reference"]).expect(1).err

    def settled() -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = mypay("trace", told["payment_id"], "--json").expect().json["steps"]
        return [s for s in steps if s["what"] == "settled"]

    until(settled, "the payment is settled")
    # The whole file again, as it is: nothing changes.
    mypay("clearing", "import", path).expect()
    until(lambda: is_imported(world), "settlement has taken all of it")
    steps = mypay("trace", told["payment_id"], "--json").expect().json["steps"]
    assert [s["what"] for s in steps][-3:] == ["settled", "posted: settled", "cleared"]
    assert world.sql("SELECT count(*) FROM clearing_record WHERE break_kind IS NOT NULL") == 0


# --- lists for operators ----------------------------------------------------------------------------------------------


def test_what_is_open_is_listed_by_state_and_age(world: World) -> None:
    payment = world.sql("SELECT payment_id FROM payment WHERE state = 'settled' ORDER BY decided_at LIMIT 1")

    def listed() -> list[dict[str, Any]]:
        # What was imported before may be on its way still, and settles again what it finds unknown.
        world.sql("UPDATE payment SET state = 'unknown' WHERE payment_id = $1 RETURNING true", payment)
        found: list[dict[str, Any]] = mypay("payment", "list", "--state", "unknown", "--json").expect().json
        return found

    try:
        [told] = until(listed, "the payment is listed")
        assert (told["payment_id"], told["state"], told["partner_id"]) == (str(payment), "unknown", "acme")
        assert told["age_seconds"] >= 0
        assert told["amount"]["currency"] == "KRW"
        assert str(payment) in mypay("payment", "list").expect().out
        for options in (("--older", "3d"), ("--state", "sent")):
            assert mypay("payment", "list", *options, "--json").expect().json == [], options
        for options in (("--network", "nowhere"), ("--partner", "nobody")):
            assert options[1] in mypay("payment", "list", *options).expect(3).err
        mypay("payment", "list", "--older", "soon").expect(2)
        standing = mypay("top", "--json").expect().json
        assert [(o["network_id"], o["state"], o["payments"]) for o in standing["open_payments"]] == [
            ("bcard", "unknown", 1)
        ]
    finally:
        world.sql("UPDATE payment SET state = 'settled' WHERE payment_id = $1 RETURNING true", payment)


def test_how_things_stand_is_shown_once(world: World) -> None:
    told = mypay("top", "--json").expect().json
    assert told["payments_written"] >= 0
    assert {r["network_id"] for r in told["networks"]} == {"bcard"}
    people = mypay("top", "--once").expect().out
    assert "bcard" in people
    assert "Outbox" in people


def test_the_outbox_tells_what_waits_and_what_was_put_aside(world: World) -> None:
    told = mypay("outbox", "--json").expect().json
    assert (told["parked"], told["parked_events"], told["at_least"]) == (0, [], False)
    world.sql(
        "INSERT INTO outbox_parked (tx, id, topic, reason) SELECT tx, id, topic, 'too large' FROM outbox"
        " ORDER BY tx, id LIMIT 1 RETURNING true"
    )
    try:
        told = mypay("outbox", "--json").expect().json
        assert told["parked"] == 1
        [event] = told["parked_events"]
        assert event["reason"] == "too large"
        assert event["event_id"] in mypay("outbox").expect().out
    finally:
        world.sql("DELETE FROM outbox_parked RETURNING true")


def test_breaks_standing_orders_and_bulks_are_listed(world: World) -> None:
    assert isinstance(mypay("clearing", "breaks", "--json").expect().json, list)
    mypay("clearing", "breaks").expect()
    assert mypay("standing", "list", "--json").expect().json == []
    assert mypay("standing", "list", "--status", "active", "--partner", "acme").expect().out
    mypay("bulk", "show", "none").expect(3)
    times = {"issued_at": "2026-01-01T00:00:00+09:00", "expires_at": "2026-01-01T00:05:00+09:00"}
    bulk = {
        "partner_id": "acme",
        "bulk_id": "bulk-old",
        "acceptance": "all_or_nothing",
        "number_of_transactions": 1,
        "control_sum": {"currency": "KRW", "value": "1000"},
        **times,
        "items": [
            {
                "order_id": "bulk-old-1",
                "consent_id": "c-1",
                "merchant_id": "M-1",
                "amount": {"currency": "KRW", "value": "1000"},
            }
        ],
    }
    mypay("order", "bulk", "-", "--key", world.key, "--wait", given=json.dumps(bulk)).expect(1)
    [shown] = mypay("bulk", "show", "bulk-old", "--partner", "acme", "--json").expect().json
    assert shown["status"] == "refused"
    assert shown["control_sum"] == {"currency": "KRW", "value": "1000"}
    assert "bulk-old" in mypay("bulk", "show", "bulk-old").expect().out
