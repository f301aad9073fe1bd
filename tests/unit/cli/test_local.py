"""What the commands on the local stack print."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.local import app
from gateway.proving import stack as local
from gateway.proving.stack import ServerState, ServerStatus, StackAddresses, StackStatus

DSN = "postgresql://gateway:hunter2-canary@db.internal/gateway"


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["up"], ["up", "--json"]])
def test_the_password_of_a_server_of_ones_own_is_never_printed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # `up` makes keys where none are: in a place of this test's own, for another may run at the same moment.
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MYPAY_HOME", raising=False)
    kafka = ServerStatus(ServerState.GIVEN, None, "127.0.0.1:9092", "", None, None)
    postgres = ServerStatus(ServerState.GIVEN, None, DSN, "", None, None)
    monkeypatch.setattr(local, "status", lambda *_, **__: StackStatus("default", Path("/x"), kafka, postgres))
    monkeypatch.setattr(local, "up", lambda *_, **__: StackAddresses("127.0.0.1:9092", DSN))
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == (4 if arguments[0] == "status" else 0), "nothing listens there"
    assert "db.internal" in ran.output
    assert "127.0.0.1:9092" in ran.output
    assert "hunter2" not in ran.output


def given(address: str) -> ServerStatus:
    return ServerStatus(ServerState.GIVEN, None, address, "", None, None)


def status_of(kafka: str, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    stack = StackStatus("default", Path("/x"), given(kafka), given(postgres))
    monkeypatch.setattr(local, "status", lambda *_, **__: stack)
    return CliRunner().invoke(app, ["status", "--json"])


def test_status_tells_whether_something_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as at_path:
        port = server.getsockname()[1]
        at_path.bind(f"{tmp_path}/.s.PGSQL.5433")
        at_path.listen()
        brokers = f"127.0.0.1:1,127.0.0.1:{port}"
        here = f"postgresql://u@/gateway?host={tmp_path}&port=5433"
        cases = (
            (brokers, here, (True, True), 0),
            (brokers, f"postgresql://u:p@127.0.0.1:{port}/gateway", (True, True), 0),
            ("127.0.0.1:1", here, (False, True), 4),
            (brokers, "postgresql://u@127.0.0.1:1/gateway", (True, False), 4),
            (brokers, f"postgresql://u@/gateway?host={tmp_path}", (True, False), 4),
            ("nonsense", "postgresql://u@h:port/gateway", (False, False), 4),
        )
        for kafka, postgres, listening, code in cases:
            ran = status_of(kafka, postgres, monkeypatch)
            told = json.loads(ran.stdout)
            assert (told["kafka"]["listening"], told["postgres"]["listening"]) == listening, (kafka, postgres)
            assert ran.exit_code == code


@pytest.mark.parametrize(("given", "stack"), [([], "other"), (["--name", "named"], "named")])
@pytest.mark.parametrize("command", [["up"], ["down"], ["status"], ["reset", "--yes"]], ids=lambda c: c[0])
def test_the_stack_is_the_one_that_every_other_command_uses_unless_another_is_named(
    command: list[str], given: list[str], stack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With MYPAY_STACK=other it stopped, and deleted, the stack named default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MYPAY_HOME", raising=False)
    (tmp_path / ".env").write_text("MYPAY_STACK=other\nMYPAY_HOME=elsewhere\n")
    meant: set[tuple[str, str]] = set()
    server = ServerStatus(ServerState.GIVEN, None, "127.0.0.1:1", "", None, None)

    def told(answer: object) -> Callable[..., object]:
        def noted(name: str, *, home: Path, **_: object) -> object:
            meant.add((name, str(home)))
            return answer

        return noted

    monkeypatch.setattr(local, "status", told(StackStatus(stack, tmp_path, server, server)))
    monkeypatch.setattr(local, "up", told(StackAddresses("127.0.0.1:1", "postgresql://u@127.0.0.1:1/gateway")))
    monkeypatch.setattr(local, "down", told(None))
    monkeypatch.setattr(local, "reset", told(None))
    CliRunner().invoke(app, [*command, *given])
    assert meant == {(stack, "elsewhere")}
