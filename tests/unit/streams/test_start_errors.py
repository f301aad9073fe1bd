"""What a stage says that cannot start: a sentence and the exit code that every command has for the same cause."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.common import ExitCode
from tests.support.cli import mypay

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing listens at the addresses; every key is there."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("MYPAY_")}
    folders = {
        f"MYPAY_{name}_KEYS_DIR": str(tmp_path / name) for name in ("MASTER", "DEAD_LETTER", "INTERNAL", "SHARING")
    }
    return {
        **kept,
        **folders,
        "MYPAY_HOME": str(tmp_path),
        "MYPAY_NETWORKS_DIR": str(REPOSITORY / "deploy" / "networks"),
        "MYPAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MYPAY_POSTGRES_DSN": "postgresql://u:s3cr3t@127.0.0.1:1/payments",
    }


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def start(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "streams", *arguments]
    return subprocess.run(
        command, env=environment, cwd=environment["MYPAY_HOME"], capture_output=True, text=True, check=False, timeout=60
    )


def test_each_cause_is_a_sentence_and_has_its_exit_code(environment: dict[str, str], taken: int) -> None:
    cases = (
        ({"MYPAY_HTTP_PORT": str(taken)}, ExitCode.USAGE, f"port {taken} of 127.0.0.1 cannot be listened on"),
        ({"MYPAY_HTTP_PORT": "s3cr3t"}, ExitCode.USAGE, "MYPAY_HTTP_PORT: "),
        ({"MYPAY_HTTP_PROT": "1"}, ExitCode.USAGE, "did you mean MYPAY_HTTP_PORT"),
        ({"MYPAY_POSTGRES_DSN": "s3cr3t"}, ExitCode.USAGE, "MYPAY_POSTGRES_DSN cannot be used"),
        ({"MYPAY_POSTGRES_DSN": None}, ExitCode.UNAVAILABLE, "mypay local up"),
        ({"MYPAY_KAFKA_BOOTSTRAP_SERVERS": None}, ExitCode.UNAVAILABLE, "mypay local up"),
    )
    for changed, code, told in cases:
        given = {n: v for n, v in {**environment, **changed}.items() if v is not None}
        ended = start(given, "relay")
        assert told in ended.stderr, ended.stderr
        assert ended.returncode == code, changed
        assert "Traceback" not in ended.stderr
        assert "s3cr3t" not in ended.stderr + ended.stdout


def test_a_command_ends_with_the_same_code(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment["MYPAY_HOME"])
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)
    for name, value in {**environment, "MYPAY_HTTP_PORT": "none"}.items():
        monkeypatch.setenv(name, value)
    mypay("partner", "list").expect(ExitCode.USAGE)
    monkeypatch.delenv("MYPAY_HTTP_PORT")
    monkeypatch.delenv("MYPAY_POSTGRES_DSN")
    mypay("partner", "list").expect(ExitCode.UNAVAILABLE)


def test_a_database_that_is_waited_for_is_named(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "streams", "relay"]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=environment["MYPAY_HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = (json.loads(line) for line in process.stdout)
            told = next(line for line in lines if line["event"] == "waiting_for_postgres")
        finally:
            process.kill()
    assert told["address"] == "127.0.0.1:1/payments"
    assert told["level"] == "warning"
