"""`mypay doctor` on a machine where nothing is right yet, and what it says of certificates."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from gateway.app.fitness import DatabaseFound
from gateway.app.keys import Ring
from gateway.app.settings import Settings
from gateway.cli import doctor
from gateway.database.roles import Role
from gateway.proving.stack.certificates import common_name, pem
from tests.support.cli import mypay

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, no address, no stack."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(REPOSITORY / "deploy" / "networks"))
    monkeypatch.setenv("MYPAY_ALLOW_NO_PROOF", "1")


def examined(code: int = 1) -> dict[tuple[str, str], dict[str, str]]:
    return {(f["check"], f["subject"]): f for f in mypay("doctor", "--json").expect(code).json}


def test_every_key_that_is_missing_is_named_with_what_makes_it_and_one_command_makes_all() -> None:
    found = examined()
    subjects = [*map(str, Ring), "disclosure", "receipts"]
    assert [(s, found["key", s]["state"]) for s in subjects] == [(s, "wrong") for s in subjects]
    assert all("make one with `mypay " in found["key", s]["detail"] for s in subjects)
    made = mypay("keys", "create", "--json").expect().json
    assert [k["ring"] for k in made] == subjects
    found = examined()
    assert [(s, found["key", s]["state"]) for s in subjects] == [(s, "ok") for s in subjects]
    assert mypay("keys", "create", "--json").expect().json == []


def test_servers_that_are_away_are_named_with_where_they_were_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mypay local up" in examined()["Kafka", ""]["todo"]
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://u:s3cr3t@127.0.0.1:1/payments")
    found = examined()
    assert found["Kafka", "127.0.0.1:1"]["state"] == "wrong"
    assert found["PostgreSQL", "127.0.0.1:1/payments"]["state"] == "wrong"
    assert "s3cr3t" not in json.dumps(list(found.values()))


def test_wrong_settings_are_all_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, told in (("MYPAY_HTTP_PROT", "1", "did you mean"), ("MYPAY_HTTP_PORT", "s3cr3t", "HTTP_PORT")):
        monkeypatch.setenv(name, value)
        found = examined()
        assert told in found["settings", ""]["detail"]
        assert len(found) == 2
        monkeypatch.delenv(name)


def test_networks_and_folders_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(tmp_path))
    monkeypatch.setenv("MYPAY_CLEARING_INBOX", str(tmp_path / "none"))
    found = examined()
    assert found["networks", str(tmp_path)]["state"] == "wrong"
    assert found["folder", "MYPAY_CLEARING_INBOX"]["state"] == "wrong"
    (tmp_path / "none").mkdir()
    assert examined()["folder", "MYPAY_CLEARING_INBOX"]["state"] == "ok"


def certificate(path: Path, days: float) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder(common_name("x"), common_name("x"), key.public_key(), 1)
    valid = builder.not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=days))
    path.write_bytes(pem(valid.sign(key, hashes.SHA256())))


@pytest.mark.parametrize(
    ("days", "state"), [(-1.0, "wrong"), (29.0, "warning"), (31.0, "ok"), (None, "wrong")], ids=str
)
def test_certificates_are_told_before_they_end(
    days: float | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    if days is not None:
        certificate(path, days)
    monkeypatch.setenv("MYPAY_KAFKA_SSL_CAFILE", str(path))
    assert examined()["certificate", "MYPAY_KAFKA_SSL_CAFILE"]["state"] == state


def test_people_read_a_table() -> None:
    ran = mypay("doctor").expect(1)
    assert "what to do" in ran.out
    assert "mypay audit key" in ran.out
    wrong = sum(f["state"] == "wrong" for f in mypay("doctor", "--json").expect(1).json)
    assert f", {wrong} wrong, " in ran.err


async def test_users_without_an_address_here_are_looked_at_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside containers: people's commands have addresses of people's users alone."""
    looked: list[Role] = []

    async def look_as(settings: Settings, role: Role) -> DatabaseFound:
        del settings
        looked.append(role)
        return DatabaseFound(problems=(), server_version=18)

    monkeypatch.setattr(doctor, "look_as", look_as)
    dsn = SecretStr("postgresql://mypay_readonly@127.0.0.1:1/mypay")
    settings = Settings(postgres_dsn_readonly=dsn, postgres_dsn_operator=dsn)
    found = await doctor._postgres(settings)
    assert set(looked) == {Role.OPERATOR, Role.READONLY}
    assert not [f for f in found if f.state is doctor.State.WRONG]
    skipped = {f.subject for f in found if f.state is doctor.State.SKIPPED}
    assert skipped == {r.user for r in Role} - {r.user for r in (*looked, Role.OWNER)}
