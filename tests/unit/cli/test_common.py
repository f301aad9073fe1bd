"""The command as a whole: exit codes, errors as sentences, a quick start."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from msgspec import Struct

from gateway import cli
from gateway.base import build
from gateway.base.errors import StoreUnavailableError, StoreUnfinishedError, TopicClosedError
from gateway.cli import common
from gateway.cli.common import CliError, ExitCode
from gateway.cli.explaining import _KNOWN, explain, tell
from gateway.messaging.reader import TopicMissingError
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


@pytest.mark.parametrize("json_", [(), ("--json",)])
@pytest.mark.parametrize(
    "arguments",
    [
        "4111111111111111",
        "--4111111111111111",
        "token add --4111111111111111",
        "consent 4111111111111111",
        "consent revoke C-1 --partner p 4111111111111111",
        "consent revoke C-1 --partner p --purpose 4111111111111111",
    ],
)
def test_wrong_arguments_show_no_card_number(arguments: str, json_: tuple[str, ...]) -> None:
    told = mypay(*arguments.split(), *json_).expect(2).err
    assert "411111XXXXXX1111" in told
    assert "4111111111111111" not in told


@pytest.mark.parametrize("noun", sorted(cli._NOUNS))
def test_every_noun_can_be_loaded(noun: str) -> None:
    ran = mypay(noun.replace("_", "-"), "--help").expect()
    assert "Usage" in ran.out
    assert "-completion" not in ran.out
    # In the words of the list of commands.
    assert f" {cli._NOUNS[noun]} " in " ".join(ran.out.split())


def test_a_paragraph_of_help_is_broken_where_the_terminal_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TERMINAL_WIDTH", "1000")
    lines = [line.strip() for line in mypay("token", "add", "--help").expect().out.splitlines()]
    [paragraph] = [line for line in lines if line.startswith("The card belongs to this customer for ever")]
    assert paragraph.endswith("when another operator has approved them.")


def test_the_start_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gateway.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'aiokafka', 'asyncpg', 'pydantic', 'faust', 'uvloop', 'joserfc', 'prometheus_client', 'structlog'}\n"
        "sys.exit(str(sorted(heavy & sys.modules.keys()) or 0) if heavy & sys.modules.keys() else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", sorted(_KNOWN))
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
        ("MYPAY_OTEL_ENDPOINT", "http://s3cr3t.example:4318", ExitCode.USAGE),
    ],
)
def test_wrong_settings_are_named_and_not_shown(
    variable: str, value: str, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    ran = mypay("partner", "list").expect(code)
    assert variable in ran.err
    assert "s3cr3t" not in ran.err + ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        "partner add shop --name Shop --group telecom --jwk absent",
        "partner key add shop --jwk absent",
        "keys rotate shop --jwk absent",
        "affiliate key add points --jwk absent",
        "recipient add A1AAAA0000 --name Bank --jwk absent",
        "recipient add A1AAAA0000 --name Bank --jwk - --certificate absent",
        "recipient key add A1AAAA0000 --jwk absent",
        "recipient certificate A1AAAA0000 --file absent",
        "merchant import absent",
        "token add --customer c-1 --partner shop --card-file absent",
        "consent add absent",
        "consent digest absent",
        "consent request absent --key absent",
        "consent amend absent --key absent",
        "consent grant c-1 --partner shop --key absent",
        "consent revoke c-1 --partner shop --key absent",
        "campaign apply absent",
        "clearing import absent",
        "audit verify --keys absent",
        "audit check-proof absent",
        "portability request absent --key absent",
        "portability digest absent",
        "portability verify --recipient A1AAAA0000 --key absent --gateway-key absent",
        "order send absent --key absent",
        "order bulk absent --key absent",
        "order cancel o-1 --partner shop --consent c-1 --key absent",
        "standing create absent --key absent",
        "plan --tps 5 --measured absent",
    ],
)
def test_a_file_that_is_missing_is_told_before_anybody_is_asked(arguments: str) -> None:
    ran = mypay(*arguments.split())
    assert "absent" in ran.err
    assert "No such file" in ran.err
    assert ran.code in (ExitCode.USAGE, ExitCode.FAILED)


def test_kafka_that_does_not_answer_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert "Kafka cannot be reached." in mypay("dead-letter", "list").expect(ExitCode.UNAVAILABLE).err


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
        (TopicClosedError("mypay.orders"), ExitCode.USAGE, "Topic mypay.orders does not exist, or is closed to us."),
        (TopicMissingError("there is no topic x"), ExitCode.USAGE, "There is no topic x."),
        (UnknownTopicOrPartitionError(), ExitCode.USAGE, "Kafka has not the topic that this needs."),
        (DecodeError("amount", "is wrong"), ExitCode.FAILED, "amount: is wrong."),
        (ExceptionGroup("g", [ExceptionGroup("h", [DecodeError("a", "b")])]), ExitCode.FAILED, "a: b."),
        (asyncpg.UndefinedTableError("SECRET"), ExitCode.USAGE, "The database has not our tables."),
        (asyncpg.InvalidPasswordError("SECRET"), ExitCode.USAGE, "PostgreSQL does not let this user in."),
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


HOSTILE = "\x1b[2J\x9b2J\x07\u202egnp.exe\u200b\ud800"
"""Clears the screen twice, rings, turns a name around, hides a blank, and cannot be written."""

TAMED = r"\u001b[2J\u009b2J\u0007\u202egnp.exe\u200b\ud800"


def test_nothing_that_strangers_wrote_is_obeyed_by_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = "가나 Café\n\t" + TAMED
    assert common.shown("가나 Café\n\t" + HOSTILE) == shown
    assert common.shown([HOSTILE]) == TAMED
    monkeypatch.setenv("COLUMNS", "200")
    common.print_table("T", ("name",), [(HOSTILE,)])
    common.say(HOSTILE)
    tell(HOSTILE, ExitCode.FAILED, HOSTILE)
    tell(HOSTILE, ExitCode.FAILED, json_=True)
    said = capsys.readouterr()
    assert (said.out.count(TAMED), said.err.replace("\\\\", "\\").count(TAMED)) == (1, 4)
    common.print_json({"name": HOSTILE})
    written = capsys.readouterr().out
    assert json.loads(written) == {"name": HOSTILE}
    assert written.strip().isprintable()


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


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_every_error_that_is_told_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), Exception)


WAYS_TO_FAIL = (
    ("partner", "list"),  # no address at all: a sentence of a command
    ("partner", "lst"),  # a wrong name: told by the library that reads arguments
    ("partner", "add", "a/b", "--name", "x"),  # a wrong argument
    ("consent", "add", "nowhere.json"),  # a file that is not there
    ("local", "up", "--secure", "--containers"),  # an error of the local stack
)


@pytest.mark.parametrize("arguments", WAYS_TO_FAIL, ids=" ".join)
def test_with_json_an_error_is_one_line_of_json(arguments: tuple[str, ...]) -> None:
    for_people, ran = mypay(*arguments), mypay(*arguments, "--json")
    error = json.loads(ran.err)["error"]
    assert ran.err.count("\n") == 1
    assert ran.code == error["exit_code"] == for_people.code != 0
    assert error["message"]
    assert ran.out == ""


def test_an_error_in_json_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise CliError("card 4111111111111111")

    monkeypatch.setattr("gateway.cli.migrate.load_settings", broken)
    assert "4111111111111111" not in mypay("migrate", "--json").expect(1).err


def test_an_outage_names_the_address_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://u:s3cr3t@127.0.0.1:1/payments")
    told = mypay("partner", "list").expect(ExitCode.UNAVAILABLE).err
    assert "at 127.0.0.1:1/payments" in told
    assert "s3cr3t" not in told


def test_a_topic_that_is_missing_is_no_outage() -> None:
    for error in (TopicClosedError("t"), TopicMissingError("there is no topic t"), UnknownTopicOrPartitionError()):
        told = explain(error)
        assert "mypay topics apply" in told.hint
        assert "running" not in told.hint


def test_a_change_that_stands_is_no_outage() -> None:
    told = explain(StoreUnfinishedError("it was not over after 30 s"))
    assert told.code == ExitCode.UNAVAILABLE
    assert "stands" in str(told)
    assert "running" not in told.hint


def test_a_name_that_may_have_been_meant_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_STAK", "x")
    assert (
        "MYPAY_STAK is no setting: did you mean MYPAY_STACK?\n" in mypay("partner", "list").expect(ExitCode.USAGE).err
    )


def test_the_version() -> None:
    assert mypay("--version").expect().out.startswith(f"mypay {build.version()} (Python 3.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    script = mypay("completion", shell).expect().out
    assert "_MYPAY_COMPLETE" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0 or shell != "bash"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("mypay partn", "partner"), ("mypay consent rev", "revoke"), ("mypay order send --fi", "--fill")],
)
def test_nouns_commands_and_options_are_completed(words: str, wanted: str) -> None:
    place = str(len(words.split()) - 1)
    asked = {**os.environ, "_MYPAY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    program = [sys.executable, "-c", "from gateway.cli import main; main()"]
    ran = subprocess.run(program, env=asked, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [wanted]


ID = UUID("52de4dc4-82e1-5111-bb3a-b0b396c08dd1")
ROW = (ID, *["a long cell that would not leave an id the room it needs"] * 3)


def test_a_table_in_a_pipe_keeps_each_id_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_table("Payments", ("payment", "a", "b", "c"), [ROW])
    assert any(all(str(cell) in line for cell in ROW) for line in out.getvalue().splitlines())


def test_a_table_is_as_wide_as_columns_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_table("Payments", ("payment", "a", "b", "c"), [ROW])
    assert max(map(len, out.getvalue().splitlines())) <= 70


WORDS = [word for cell in ROW for word in str(cell).split()]


@pytest.mark.parametrize("columns", range(20, 140, 7))
@pytest.mark.parametrize("whole", [(), ("payment",), ("payment", "b")])
def test_no_id_is_broken_and_no_word_lost_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, whole: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_table("Payments", ("payment", "a", "b", "c"), [ROW], whole=whole)
    told = Counter(out.getvalue().replace("│", " ").split())
    assert {word: told[word] for word in set(WORDS) - {"a"}} == Counter(w for w in WORDS if w != "a")


def test_a_list_of_two_columns_without_names_is_told_line_by_line_where_it_is_too_wide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_table("Payment", ("", ""), [("id", ID), ("reason", None)])
    assert out.getvalue().splitlines() == ["Payment", f"id  {ID}", "reason"]


def test_times_for_people_are_seouls_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        shown = common.shown(datetime(2026, 3, 2, 15, 0, 1, 2999, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown == "2026-03-03 00:00:01.002+09:00"


@dataclass(frozen=True)
class Cleared:
    amount_minor: int
    fee_minor: int | None
    currency: str


class Posted(Struct, frozen=True):
    amount_minor: int
    currency: str


def test_money_has_one_form_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    common.print_json([Cleared(1050, None, "USD"), Posted(45000, "KRW"), common.money_json(5, "USD")])
    assert json.loads(out.getvalue()) == [
        {"amount": {"currency": "USD", "value": "10.50"}, "fee": None},
        {"amount": {"currency": "KRW", "value": "45000"}},
        {"currency": "USD", "value": "0.05"},
    ]


def test_no_command_prints_minor_units() -> None:
    """Neither by a name of its own, nor by handing on a record's fields behind the back of what prints JSON."""
    sources = {p.name: p.read_text() for p in Path(cli.__file__).parent.rglob("*.py")}
    named = {name: found for name, text in sources.items() if (found := re.findall(r'"\w*_minor":', text))}
    assert named == {}
