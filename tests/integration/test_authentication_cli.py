"""``mypay auth`` on a real PostgreSQL."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.auth import app
from gateway.cli.common import CliError, ExitCode
from gateway.proving.counterparts.idp.run import trust_file
from tests.support.assertion_samples import provider

IDP = provider()
POLICY = '[[rules]]\noperation = "payment"\nlevel = 1\nmax_age_seconds = 60\n[methods]\nhwk = 3\n'


@pytest.fixture
def database(migrated_database: str) -> str:
    return migrated_database


@pytest.fixture
def folder(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "keys.json").write_text(json.dumps(IDP.jwks()))
    named = trust_file(IDP, "https://unused").replace('jwks_url = "https://unused"', 'jwks_file = "keys.json"')
    (tmp_path / "financial.toml").write_text(named)
    (tmp_path / "policy.toml").write_text(POLICY)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", database)
    monkeypatch.setenv("MYPAY_ISSUERS_DIR", str(tmp_path))
    return tmp_path


def mypay_auth(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def told(*arguments: str) -> Any:
    result = mypay_auth(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> ExitCode:
    error = mypay_auth(*arguments).exception
    assert isinstance(error, CliError)
    return error.code


@pytest.mark.usefixtures("folder")
def test_an_identity_is_linked_listed_and_unlinked() -> None:
    assert told("links", "add", IDP.issuer, "s-1", "c-1")["customer_id"] == "c-1"
    assert refused("links", "add", IDP.issuer, "s-1", "c-2") is ExitCode.FAILED
    assert refused("links", "add", "https://typo", "s-2", "c-1") is ExitCode.NOT_FOUND
    assert [(i["subject"], i["unlinked_at"]) for i in told("links", "list", "--customer", "c-1")] == [("s-1", None)]
    assert told("links", "remove", IDP.issuer, "s-1")["customer_id"] == "c-1"
    assert refused("links", "remove", IDP.issuer, "s-1") is ExitCode.NOT_FOUND
    assert told("links", "list") == []
    assert [bool(i["unlinked_at"]) for i in told("links", "list", "--ended")] == [True]
    assert "s-1" in mypay_auth("links", "list", "--ended").stdout


def test_issuers_show_their_keys_and_what_operators_revoked(folder: Path) -> None:
    assert [(k["kid"], k["state"]) for k in told("issuers")[0]["keys"]] == [(IDP.kid, "valid")]
    assert told("revoke-key", IDP.issuer, IDP.kid)["revoked_now"] is True
    assert told("revoke-key", IDP.issuer, IDP.kid)["revoked_now"] is False
    assert [k["state"] for k in told("issuers")[0]["keys"]] == ["revoked"]
    (folder / "keys.json").unlink()
    assert "keys.json" in told("issuers")[0]["problem"]
    assert "financial" in mypay_auth("issuers").stdout


def test_issuers_are_shown_without_a_database(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nowhere")
    assert folder.exists()
    assert [k["kid"] for k in told("issuers")[0]["keys"]] == [IDP.kid]
    assert "are not marked" in mypay_auth("issuers").stderr
