"""The command as a whole: exit codes, errors as sentences, a quick start."""

import importlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from gateway import cli
from gateway.base.errors import StoreUnavailableError
from gateway.cli import common
from gateway.cli.common import CliError, ExitCode, explain
from gateway.network.exchange import TraceNumbers
from schemas.codec import DecodeError
from tests.support.cli import mypay


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address is given, and no local stack runs."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("MYPAY_")]:
        monkeypatch.delenv(name)


def test_help_tells_every_noun_and_every_exit_code() -> None:
    told = mypay("--help").expect().out
    assert all(noun.replace("_", "-") in told for noun in cli._NOUNS)
    assert all(meaning[:40] in told for meaning in common.EXIT_CODES.values())
    assert set(common.EXIT_CODES) == set(ExitCode)


@pytest.mark.parametrize("noun", sorted(cli._NOUNS))
def test_every_noun_can_be_loaded(noun: str) -> None:
    ran = mypay(noun.replace("_", "-"), "--help").expect()
    assert "Usage" in ran.out
    assert "completion" not in ran.out


def test_the_start_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gateway.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'aiokafka', 'asyncpg', 'pydantic', 'faust', 'uvloop', 'joserfc', 'prometheus_client', 'structlog'}\n"
        "sys.exit(str(sorted(heavy & sys.modules.keys()) or 0) if heavy & sys.modules.keys() else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", sorted(common._KNOWN))
def test_every_known_error_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), attribute), Exception)


def test_wrong_arguments_are_a_usage_error() -> None:
    for arguments in (["--nonsense"], ["nonsense"], ["partner", "nonsense"], ["trace"], ["partner", "add", "a/b"]):
        assert mypay(*arguments).code == ExitCode.USAGE
    assert "Did you mean 'partner'" in mypay("partne").err


@pytest.mark.parametrize(
    "arguments", [["partner", "list"], ["topics", "check"], ["dead-letter", "list"], ["migrate"]], ids=" ".join
)
def test_without_a_stack_the_way_out_is_told(arguments: list[str]) -> None:
    ran = mypay(*arguments).expect(ExitCode.UNAVAILABLE)
    assert "mypay local up" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("MYPAY_POSTGRES_DSN", "postgresql://u:s3cr3t@127.0.0.1:1/x", ExitCode.UNAVAILABLE),
        ("MYPAY_POSTGRES_DSN", "s3cr3t", ExitCode.USAGE),
        ("MYPAY_HTTP_PORT", "s3cr3t", ExitCode.USAGE),
    ],
)
def test_wrong_settings_are_named_and_not_shown(
    variable: str, value: str, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    ran = mypay("partner", "list").expect(code)
    assert variable in ran.err
    assert "s3cr3t" not in ran.err + ran.out


def test_kafka_that_does_not_answer_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert "Kafka does not answer" in mypay("dead-letter", "list").expect(ExitCode.UNAVAILABLE).err


def test_an_unforeseen_error_shows_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("4111111111111111")

    monkeypatch.setattr("gateway.cli.migrate.load_settings", broken)
    ran = mypay("migrate").expect(ExitCode.FAILED)
    assert "RuntimeError" in ran.err
    assert "MYPAY_DEBUG" in ran.err
    assert "4111" not in ran.err
    monkeypatch.setenv("MYPAY_DEBUG", "1")
    with pytest.raises(RuntimeError):
        mypay("migrate")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CliError("As it is", ExitCode.NOT_FOUND), ExitCode.NOT_FOUND, "As it is"),
        (StoreUnavailableError("OSError"), ExitCode.UNAVAILABLE, "The database is not available: OSError."),
        (DecodeError("amount", "is wrong"), ExitCode.FAILED, "amount: is wrong."),
        (ExceptionGroup("g", [ExceptionGroup("h", [DecodeError("a", "b")])]), ExitCode.FAILED, "a: b."),
        (asyncpg.UndefinedTableError("SECRET"), ExitCode.FAILED, "The database has not our tables."),
        (asyncpg.InvalidPasswordError("SECRET"), ExitCode.UNAVAILABLE, "PostgreSQL does not let this user in."),
        (asyncpg.UniqueViolationError("SECRET"), ExitCode.FAILED, "PostgreSQL refused it (UniqueViolationError)."),
        (
            ConnectionResetError("SECRET"),
            ExitCode.UNAVAILABLE,
            "A connection was refused or lost (ConnectionResetError).",
        ),
        (KeyError("SECRET"), ExitCode.FAILED, "This should not happen: KeyError."),
    ],
)
def test_errors_as_sentences(error: Exception, code: ExitCode, text: str) -> None:
    told = explain(error)
    assert (told.code, str(told)) == (code, text)
    assert "SECRET" not in str(told) + told.hint


def test_documents_are_one_json_or_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for text, wanted in (
        ('{"a": 1}', [(1, b'{"a": 1}')]),
        ('\n{\n  "a": 1\n}\n', [(2, b'{\n  "a": 1\n}')]),
        ('{"a": 1}\n\n{"a": 2}\n', [(1, b'{"a": 1}'), (3, b'{"a": 2}')]),
        ("nonsense\nmore", [(1, b"nonsense\nmore")]),
    ):
        path.write_text(text)
        assert common.read_documents(path) == wanted
    path.write_text(" \n")
    with pytest.raises(CliError, match="is empty"):
        common.read_documents(path)
    with pytest.raises(CliError, match="No such file"):
        common.read_documents(tmp_path / "none")


def test_a_file_larger_than_memory_should_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "INPUT_BYTES_MAX", 10)
    (tmp_path / "f").write_bytes(b"x" * 11)
    with pytest.raises(CliError, match="larger than"):
        common.read_input(tmp_path / "f")


def test_what_people_read() -> None:
    assert common.money(1_250_000, "USD") == "12,500.00 USD"
    assert common.money(12_500, "KRW") == "12,500 KRW"
    assert [common.shown(v) for v in (None, True, False, frozenset("ba"), 3)] == ["", "yes", "no", "a, b", "3"]


def test_what_programs_read(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    at = datetime(2026, 3, 2, tzinfo=UTC)
    common.print_json({"at": at, "id": UUID(int=1), "code": ExitCode.FAILED, "set": frozenset("ba"), "p": Path("x")})
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == {
        "at": "2026-03-02T00:00:00+00:00",
        "id": str(UUID(int=1)),
        "code": 1,
        "set": ["a", "b"],
        "p": "x",
    }


def test_programs_read_records_of_either_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_json({"trace": TraceNumbers("GW000000", 6, "633000000006", datetime(2026, 3, 2, tzinfo=UTC))})
    assert json.loads(out.getvalue())["trace"] == {
        "terminal_id": "GW000000",
        "stan": 6,
        "rrn": "633000000006",
        "transmitted_at": "2026-03-02T00:00:00+00:00",
    }


@pytest.mark.parametrize("name", sorted(common._KNOWN))
def test_every_error_that_is_told_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), Exception)
