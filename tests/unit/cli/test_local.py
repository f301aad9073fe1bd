"""What the commands on the local stack print."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.local import app
from gateway.proving import stack as local
from gateway.proving.stack import ServerState, ServerStatus, StackAddresses, StackStatus

DSN = "postgresql://gateway:hunter2-canary@db.internal/gateway"


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["up"], ["up", "--json"]])
def test_the_password_of_a_server_of_ones_own_is_never_printed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ServerStatus(ServerState.GIVEN, None, "127.0.0.1:9092", "", None, None)
    postgres = ServerStatus(ServerState.GIVEN, None, DSN, "", None, None)
    monkeypatch.setattr(local, "status", lambda *_, **__: StackStatus("default", Path("/x"), kafka, postgres))
    monkeypatch.setattr(local, "up", lambda *_, **__: StackAddresses("127.0.0.1:9092", DSN))
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0
    assert "db.internal" in ran.output
    assert "127.0.0.1:9092" in ran.output
    assert "hunter2" not in ran.output
