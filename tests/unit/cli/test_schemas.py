"""`mypay schemas`: drift is named, and what breaks others is refused."""

import json
import subprocess
from pathlib import Path

import pytest

from schemas.publish import render
from tests.support.cli import mypay


@pytest.fixture
def published(tmp_path: Path) -> Path:
    mypay("schemas", "generate", "--directory", tmp_path / "published").expect()
    return tmp_path / "published"


def narrow(path: Path) -> None:
    """As if an earlier version had let order ids be longer."""
    schema = json.loads(path.read_text())
    schema["properties"]["order_id"]["maxLength"] = 64
    path.write_text(json.dumps(schema))


def test_what_is_generated_is_what_is_checked(published: Path) -> None:
    assert {p.name for p in published.iterdir()} == render().keys()
    assert mypay("schemas", "check", "--directory", published, "--json").expect().json == {"drift": [], "breaking": {}}
    again = mypay("schemas", "generate", "--directory", published, "--json").expect().json
    assert again == {"written": [], "removed": [], "breaking": {}}


def test_drift_is_named(published: Path) -> None:
    (published / "asyncapi.yaml").write_text("other")
    (published / "order-refused.v1.json").unlink()
    (published / "stray.txt").write_text("x")
    ran = mypay("schemas", "check", "--directory", published).expect(1)
    assert all(n in ran.err for n in ("asyncapi.yaml", "order-refused.v1.json", "stray.txt", "schemas generate"))
    fixed = mypay("schemas", "generate", "--directory", published, "--json").expect().json
    assert (fixed["written"], fixed["removed"]) == (["asyncapi.yaml", "order-refused.v1.json"], ["stray.txt"])
    mypay("schemas", "check", "--directory", published).expect()


def test_a_breaking_change_is_not_written_unless_asked_for(published: Path) -> None:
    path = published / "payment-order.v1.json"
    narrow(path)
    before = path.read_text()
    ran = mypay("schemas", "generate", "--directory", published).expect(1)
    assert "payment-order.v1.json: order_id: maxLength was 64, is 35" in ran.err
    assert path.read_text() == before
    mypay("schemas", "generate", "--directory", published, "--allow-breaking").expect()
    assert path.read_text() == render()[path.name]


def test_a_removed_message_breaks(published: Path) -> None:
    (published / "gone.v1.json").write_text("{}")
    assert (
        "gone.v1.json: the message was removed" in mypay("schemas", "generate", "--directory", published).expect(1).err
    )


def test_the_code_is_held_against_what_was_committed(published: Path) -> None:
    path = published / "payment-order.v1.json"
    narrow(path)

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=published, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "--no-verify", "-m", "Publish")
    path.write_text(render()[path.name])
    ran = mypay("schemas", "check", "--directory", published, "--json").expect(1)
    assert ran.json == {"drift": [], "breaking": {path.name: ["order_id: maxLength was 64, is 35"]}}
    git("commit", "-q", "--no-verify", "-am", "Break")
    mypay("schemas", "check", "--directory", published).expect()
    mypay("schemas", "check", "--directory", published, "--against", "HEAD~1").expect(1)
