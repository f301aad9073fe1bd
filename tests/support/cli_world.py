"""A world for commands: an empty stack of its own, what an operator prepares, and every process of it running.

The commands run inside the test, the stages and the network as processes.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from gateway.proving import stack as local
from tests.support.cli import NETWORK, Ran, mypay
from tests.support.stack import HOME, free_slot

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 120.0
PAN = "4929123456789015"
"""Passes the Luhn check; belongs to nobody."""

MERCHANTS = """merchant_id,acceptor_id,name_location,mcc,networks
cafe-1,CAFE1,CAFE SEOUL KR,5812,bcard
mart-1,MART1,MART SEOUL KR,5411,bcard
"""
TOKENS: list[str] = []
"""Tokens made by :func:`prepare`; nobody chooses one."""


@dataclass(frozen=True)
class World:
    folder: Path
    kafka: str
    postgres: str
    network: "subprocess.Popen[bytes]"

    @property
    def key(self) -> Path:
        return self.folder / "acme.pem"

    def order(self, *arguments: str, **fields: Any) -> Ran:
        order = {
            "partner_id": "acme",
            "consent_id": "c-1",
            "merchant_id": "cafe-1",
            "amount": {"currency": "KRW", "value": "12500"},
            **fields,
        }
        return mypay("order", "send", "-", "--key", self.key, "--fill", *arguments, given=json.dumps(order))

    def sql(self, query: str, *values: Any) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(self.postgres)
            try:
                return await connection.fetchval(query, *values)
            finally:
                await connection.close()

        return asyncio.run(ask())


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition, not for a time."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.1)
    return found


@contextmanager
def own_stack(folder: Path) -> Iterator[None]:
    """An empty stack, given to every command as a person would: by its name."""
    kept = dict(os.environ)
    with free_slot("cli") as name:
        local.reset(name, home=HOME)
        local.up(name, home=HOME)
        for variable in [v for v in os.environ if v.startswith("MYPAY_")]:
            del os.environ[variable]
        os.environ |= {
            "MYPAY_HOME": str(HOME),
            "MYPAY_STACK": name,
            "MYPAY_MASTER_KEYS_DIR": str(folder / "keys" / "master"),
            "MYPAY_DEAD_LETTER_KEYS_DIR": str(folder / "keys" / "dead-letter"),
            "MYPAY_INTERNAL_KEYS_DIR": str(folder / "keys" / "internal"),
            "MYPAY_SHARING_KEYS_DIR": str(folder / "keys" / "sharing"),
            "MYPAY_DISCLOSURE_KEYS_DIR": str(folder / "keys" / "disclosure"),
            "MYPAY_RECEIPT_KEY_FILE": str(folder / "keys" / "receipt.pem"),
            "MYPAY_NETWORKS_DIR": str(folder / "networks"),
            "MYPAY_ALLOW_NO_PROOF": "1",
            "MYPAY_LOG_LEVEL": "warning",
            # What a busy machine delays is not what is tested here.
            "MYPAY_EXECUTION_INTENT_TO_WIRE_S": "30",
        }
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= kept
            local.reset(name, home=HOME)


@contextmanager
def running(folder: Path) -> Iterator[World]:
    """The network and every stage, after what an operator does before the first payment."""
    ready = folder / "ready.json"
    log = (folder / "processes.log").open("wb")

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", "from gateway.cli import main; main()", *arguments]
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)

    network = start(
        *("simulate", "network", "--network-id", "bcard", "--port", "0", "--ready-file", str(ready)),
        *("--ledger", str(folder / "ledger.sqlite"), "--clearing-dir", str(folder / "clearing"), "--close-on-stop"),
        *("--decline", "051=51"),
    )
    processes = [network]
    try:
        until(ready.exists, "the network listens")
        (folder / "networks").mkdir()
        (folder / "networks" / "bcard.toml").write_text(NETWORK.format(port=json.loads(ready.read_text())["port"]))
        prepare(folder)
        stack = local.status(os.environ["MYPAY_STACK"], home=HOME)
        made = World(folder, stack.kafka.address, stack.postgres.address, network)
        stages = start("run", "all")
        processes.append(stages)
        until(
            lambda: made.sql("SELECT bool_or(is_open) FROM network_status") or stages.poll() is not None,
            "the network is reported open",
        )
        assert stages.poll() is None, (folder / "processes.log").read_text()
        yield made
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(timeout=60)
        log.close()


def run_stage(stage: str) -> Ran:
    """Not inside the test: a stage ends its process by itself."""
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "run", stage]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def run_stages(*stages: str) -> list[Ran]:
    """Side by side, in the order given: nearly all that each does is to start, and to say what is missing."""
    with ThreadPoolExecutor(len(stages)) as pool:
        return list(pool.map(run_stage, stages))


def prepare(folder: Path) -> None:
    """What an operator does before the first payment."""
    assert "mypay migrate" in mypay("partner", "list").expect(2).err
    applied = mypay("migrate", "--json").expect().json["applied"]
    assert applied[0] == "0001_core.sql"
    assert mypay("migrate", "--json").expect().json["applied"] == []
    assert "mypay keys create" in add_token().expect(2).err
    _make_keys()
    _settle_trust()
    _register(folder)


def _make_keys() -> None:
    mypay("keys", "master", "create").expect()
    assert [k["seals"] for k in mypay("keys", "master", "list", "--json").expect().json] == [True]
    missing = {
        "initiation": "keys create dead-letter",
        "consents": "keys create dead-letter",
        "schedule": "keys create internal",
        "disclosure": "audit key",
    }
    for refused, command in zip(run_stages(*missing), missing.values(), strict=True):
        assert f"`mypay {command}`" in refused.expect(2).err
    made = [k["ring"] for k in mypay("keys", "create", "--json").expect().json]
    assert made == ["dead-letter", "internal", "sharing", "disclosure", "receipts"]
    assert mypay("keys", "create", "--json").expect().json == []
    mypay("keys", "create", "internal").expect()
    mypay("audit", "key").expect()


def _settle_trust() -> None:
    wrong = {(f["check"], f["subject"]) for f in mypay("doctor", "--json").expect(1).json if f["state"] == "wrong"}
    assert {("topic", "mypay.orders"), ("topics", ""), ("trust policy", policy_here())} <= wrong
    assert {check for check, _ in wrong} == {"topic", "topics", "trust policy"}
    assert mypay("auth", "policy", "show", "--json").expect().json["same"] is False
    assert "mypay auth policy apply" in run_stage("initiation").expect(2).err
    assert "no customer's proof" in mypay("auth", "policy", "apply").expect().err
    assert mypay("auth", "policy", "apply", "--json").expect().json["changed"] is False
    assert mypay("auth", "policy", "show", "--json").expect().json["same"] is True
    os.environ["MYPAY_ISSUER_DIR"] = "deploy/issuers"
    for refused in run_stages("initiation", "relay"):
        assert "MYPAY_ISSUER_DIR is no setting: did you mean MYPAY_ISSUERS_DIR" in refused.expect(2).err
    assert "did you mean MYPAY_ISSUERS_DIR" in mypay("partner", "list").expect(2).err
    del os.environ["MYPAY_ISSUER_DIR"]
    del os.environ["MYPAY_ALLOW_NO_PROOF"]
    for refused in run_stages("initiation", "consents"):
        assert "MYPAY_ALLOW_NO_PROOF=1" in refused.expect(2).err
    os.environ["MYPAY_ALLOW_NO_PROOF"] = "1"
    listed = [(k["ring"], k["newest"]) for k in mypay("keys", "list", "--json").expect().json]
    assert listed == [
        ("cards", True),
        ("dead-letter", True),
        ("internal", False),
        ("internal", True),
        ("sharing", True),
    ]


def _register(folder: Path) -> None:
    assert "partner is not registered" in add_token().expect(3).err
    key = folder / "acme.pem"
    registered = mypay(
        *("partner", "add", "acme", "--name", "Acme", "--group", "telecom", "--json"),
        *("--generate-key", "ES256", "--key-out", key),
    ).expect()
    assert registered.json["events_topic"] == "mypay.events.acme"
    TOKENS.append(add_token().expect().out.strip())
    assert key.stat().st_mode & 0o777 == 0o600
    mypay("topics", "check").expect(1)
    created = {t["name"]: t["state"] for t in mypay("topics", "apply", "--json").expect().json}
    assert created["mypay.events.acme"] == "ok"
    assert created["mypay.orders"] == created["mypay.dispatch.bcard"] == "created"
    mypay("topics", "check").expect()
    told = mypay("doctor", "--json").expect().json
    assert {f["state"] for f in told} <= {"ok", "not looked at"}, told
    assert {f["subject"] for f in told if f["check"] == "database user"} >= {"mypay_relay", "mypay_execution"}
    assert mypay("merchant", "import", "-", "--json", given=MERCHANTS).expect().json == {"imported": 2, "errors": []}
    add_consent("c-1").expect()


def policy_here() -> str:
    here: str = mypay("auth", "policy", "show", "--json").expect().json["here"]
    return here[:12]


def add_token(customer: str = "kim", *options: str, **card: str) -> Ran:
    given = json.dumps({"pan": PAN, "expiry": "3012", **card})
    return mypay("token", "add", "--customer", customer, "--partner", "acme", "--card-file", "-", *options, given=given)


def terms(consent: str, **payment: Any) -> str:
    purpose = {
        "funding_token": TOKENS[0],
        "max_per_payment": [{"currency": "KRW", "value": "50000"}],
        "period_limits": [{"period": "month", "max_amount": {"currency": "KRW", "value": "1000000"}}],
        "payees": {"allow_categories": ["5812"]},
        **payment,
    }
    fields = {"consent_id": consent, "partner_id": "acme", "customer_id": "kim", "payment": purpose}
    return json.dumps({**fields, "valid_from": "2020-01-01T00:00:00+09:00", "valid_until": "2099-01-01T00:00:00+09:00"})


def add_consent(consent: str, **payment: Any) -> Ran:
    return mypay("consent", "add", "-", given=terms(consent, **payment))
