"""What is wrong with a file that a command is given is told first: before anything is recorded, or a server asked."""

from pathlib import Path

import pytest

from tests.support.cli import mypay

COMMANDS = [
    ("consent", "add", "FILE"),
    ("merchant", "import", "--any-network", "FILE"),
    ("campaign", "apply", "FILE"),
    ("token", "add", "--customer", "cust-1", "--partner", "shop-pay", "--card-file", "FILE"),
    ("partner", "add", "shop-pay", "--name", "Shop", "--group", "telecom", "--jwk", "FILE"),
    ("partner", "key", "add", "shop-pay", "--jwk", "FILE"),
    ("keys", "rotate", "shop-pay", "--jwk", "FILE"),
    ("affiliate", "key", "add", "acme-bank", "--jwk", "FILE"),
    ("recipient", "add", "A1AAAA0000", "--name", "A bank", "--jwk", "FILE"),
    ("recipient", "key", "add", "A1AAAA0000", "--jwk", "FILE"),
    ("recipient", "certificate", "A1AAAA0000", "--file", "FILE"),
]


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there: what is recorded, or looked up, would end with that."""
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://127.0.0.1:1/nothing")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_a_fault_of_the_file_is_told_while_the_database_is_away(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text("no such thing")
    ended = mypay(*(str(file) if part == "FILE" else part for part in command))
    assert ended.code in {1, 2}
    assert "database" not in ended.err
    assert ended.err


def test_without_a_fault_it_is_the_database_that_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text('{"pan": "9490000000000008", "expiry": "9912"}')
    asked = ("token", "add", "--customer", "cust-1", "--partner", "shop-pay", "--card-file", file)
    assert "The database is not available" in mypay(*asked).expect(4).err
