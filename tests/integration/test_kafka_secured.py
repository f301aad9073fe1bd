"""An order is paid through a Kafka that asks everybody who they are: every stage, the operator and the partner.

Commands run inside the test, stages and network as processes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from tests.support.cli import NETWORK, mypay
from tests.support.secured import Secured, secured_stack

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 120.0
PAN = "4929123456789015"  # passes the Luhn check; belongs to nobody

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def secured() -> Iterator[Secured]:
    with secured_stack("secured") as made:
        yield made


MERCHANTS = """merchant_id,acceptor_id,name_location,mcc,networks
cafe-1,CAFE1,CAFE SEOUL KR,5812,bcard
"""
LIMITS = {"max_per_payment": [{"currency": "KRW", "value": "50000"}]}
TERMS = {
    "consent_id": "c-1",
    "partner_id": "acme",
    "customer_id": "kim",
    "valid_from": "2020-01-01T00:00:00+09:00",
    "valid_until": "2099-01-01T00:00:00+09:00",
}


@contextmanager
def process(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-c", "from gateway.cli import main; main()", *arguments]
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        started = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)
        try:
            yield started
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGTERM)
            started.wait(timeout=60)


def until(condition: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.1)


def events_by_librdkafka(secured: Secured, payment_id: str) -> list[str]:
    """As a partner's own program reads: its user, its group."""
    consumer = Consumer(
        {
            "bootstrap.servers": secured.address,
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "mypay-partner-acme",
            "sasl.password": secured.password("mypay-partner-acme"),
            "ssl.ca.location": str(secured.security.cafile),
            "group.id": "mypay-partner-acme:reports",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["mypay.events.acme"])
    states: list[str] = []
    try:
        ends = time.monotonic() + DEADLINE_S
        while "settled" not in states and time.monotonic() < ends:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                event = json.loads(message.value())
                if event.get("payment_id") == payment_id:
                    states.append(event["state"])
    finally:
        consumer.close()
    return states


def test_an_order_is_paid_with_every_stage_its_own_user(secured: Secured, tmp_path: Path) -> None:
    ready, networks, inbox = tmp_path / "ready.json", tmp_path / "networks", tmp_path / "clearing"
    networks.mkdir()
    (inbox / "bcard").mkdir(parents=True)
    os.environ |= {
        "MYPAY_MASTER_KEYS_DIR": str(tmp_path / "keys" / "master"),
        "MYPAY_DEAD_LETTER_KEYS_DIR": str(tmp_path / "keys" / "dead-letter"),
        "MYPAY_INTERNAL_KEYS_DIR": str(tmp_path / "keys" / "internal"),
        "MYPAY_ALLOW_NO_PROOF": "1",
        "MYPAY_NETWORKS_DIR": str(networks),
        "MYPAY_CLEARING_INBOX": str(inbox),
        "MYPAY_CLEARING_STATE_DIR": str(tmp_path / "cleared"),
        "MYPAY_EXECUTION_INTENT_TO_WIRE_S": "30",
    }
    simulator = (
        *("simulate", "network", "--network-id", "bcard", "--port", "0", "--ready-file", str(ready)),
        *("--ledger", str(tmp_path / "ledger.sqlite"), "--clearing-dir", str(inbox / "bcard"), "--cycle-seconds", "3"),
    )
    with process(tmp_path, *simulator):
        until(ready.exists, "the network listens")
        port = json.loads(ready.read_text())["port"]
        (networks / "bcard.toml").write_text(NETWORK.format(port=port))
        prepare(secured, tmp_path)
        with process(tmp_path, "run", "all") as running:
            order = {
                "partner_id": "acme",
                "consent_id": "c-1",
                "merchant_id": "cafe-1",
                "amount": {"currency": "KRW", "value": "12500"},
            }
            key = tmp_path / "acme.pem"
            sent = mypay("order", "send", "-", "--key", key, "--fill", "--json", given=json.dumps(order)).expect()
            assert events_by_librdkafka(secured, sent.json[0]["payment_id"]) == ["sent", "approved", "settled"]
            assert running.poll() is None
    assert mypay("dead-letter", "list", "--json").expect().json == []


def prepare(secured: Secured, folder: Path) -> None:
    """What an operator does on a secured cluster before the first payment."""
    shown = mypay("local", "status", "--name", secured.name).expect().out
    shown += mypay("local", "status", "--name", secured.name, "--json").expect().out
    assert str(secured.security.cafile) in shown
    assert secured.password("mypay-admin") not in shown
    mypay("migrate").expect()
    mypay("keys", "create").expect()
    mypay("auth", "policy", "apply").expect()
    mypay("topics", "acl").expect(1)
    mypay("topics", "acl", "--apply").expect()
    mypay("topics", "apply").expect()
    key = folder / "acme.pem"
    added = ("partner", "add", "acme", "--name", "Acme", "--group", "telecom", "--generate-key", "ES256", "--json")
    told = mypay(*added, "--key-out", key).expect()
    assert told.json["kafka_users"] == ["mypay-partner-acme"]
    assert (secured.security.credentials / "mypay-partner-acme.password").stat().st_mode & 0o777 == 0o600
    mypay("topics", "acl").expect()
    mypay("merchant", "import", "-", given=MERCHANTS).expect()
    card = json.dumps({"pan": PAN, "expiry": "3012"})
    owned = ("token", "add", "--customer", "kim", "--partner", "acme", "--card-file", "-")
    payment = {"funding_token": mypay(*owned, given=card).expect().out.strip(), **LIMITS}
    mypay("consent", "add", "-", given=json.dumps({**TERMS, "payment": payment})).expect()
    # Nobody sends in the name of a partner whose password it has not.
    stranger = {"partner_id": "other", "consent_id": "c-1", "merchant_id": "cafe-1"}
    amount = {"amount": {"currency": "KRW", "value": "1"}}
    refused = mypay("order", "send", "-", "--key", key, "--fill", given=json.dumps(stranger | amount)).expect(2)
    assert "mypay-partner-other.password" in refused.err.replace("\n", "")
