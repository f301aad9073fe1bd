"""`--valid-until` of the commands that register a key: what is registered, and what is refused before anything is."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import affiliate, partner
from gateway.identity.jose.jwk import generate_key
from tests.support.cli import mypay

COMMANDS = (
    ("partner", "key", "add", "shop-pay"),
    ("keys", "rotate", "shop-pay"),
    ("affiliate", "key", "add", "acme-bank"),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Kind and end of each registration that a command asks for."""
    found: list[tuple[str, Any]] = []

    def carry_out(_: object, kind: str, __: str, payload: dict[str, Any], *, propose: bool) -> tuple[str, None]:
        assert not propose
        found.append((kind, payload["valid_until"]))
        return "done", None

    for module in (partner, affiliate):
        monkeypatch.setattr(module, "carry_out", carry_out)
    monkeypatch.setattr("gateway.cli.keys.read_keys", lambda _: [])
    # Nobody keeps a record here, and nothing listens at this address.
    monkeypatch.setattr("gateway.cli.operating._recorded", lambda *given: given[-1]())
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")
    return found


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "public.json"
    path.write_text(json.dumps(generate_key("Ed25519")[1]))
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "end"),
    [
        ((), None),
        (("--valid-until", "2099-12-31"), "2099-12-31T00:00:00+00:00"),
        (("--valid-until", "2099-12-31T15:30:00Z"), "2099-12-31T15:30:00+00:00"),
    ],
)
def test_a_key_is_registered_with_its_end(
    asked: list[tuple[str, Any]], key: Path, command: tuple[str, ...], given: tuple[str, ...], end: str | None
) -> None:
    mypay(*command, "--jwk", key, *given).expect()
    kind = "affiliate.key.add" if command[0] == "affiliate" else "partner.key.add"
    assert asked == [(kind, end)]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("end", ["2020-01-01", "2099-02-30", "tomorrow", "2099-12-31T15:30:00+09:00"])
def test_an_end_that_is_past_or_none_is_refused(
    asked: list[tuple[str, Any]], key: Path, command: tuple[str, ...], end: str
) -> None:
    assert "valid-until" in mypay(*command, "--jwk", key, "--valid-until", end).expect(2).err
    assert asked == []


def test_no_private_key_is_left_behind_by_an_end_that_is_refused(asked: list[tuple[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "private.pem"
    made = ("--generate-key", "Ed25519", "--key-out", out)
    mypay("partner", "key", "add", "shop-pay", *made, "--valid-until", "2020-01-01").expect(2)
    assert not out.exists()
    assert asked == []


def test_the_end_of_no_key_is_refused(asked: list[tuple[str, Any]]) -> None:
    ran = mypay("partner", "add", "shop-pay", "--name", "S", "--group", "financial", "--valid-until", "2099-12-31")
    assert "--jwk" in ran.expect(2).err
    assert asked == []
