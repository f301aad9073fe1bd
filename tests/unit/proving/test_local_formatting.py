"""The storage of a new local Kafka: Kafka's own tool writes it once for an installation, later it is written from that.

That a real broker starts from it is a test of the local stack.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.proving.stack import processes
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.state import StackDir

FIRST_RECORDS = b"features"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "installed"))
    monkeypatch.setattr(KafkaServer, "class_path", "kafka.jar")
    return tmp_path / "installed"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cluster ids that the tool was given."""
    ids: list[str] = []

    def run(_what: str, argv: Sequence[str], *, cwd: Path, **_: Any) -> None:
        ids.append(next(a.removeprefix("--cluster-id=") for a in argv if a.startswith("--cluster-id=")))
        folder = cwd / "data" / "kafka.new"
        folder.mkdir()
        (folder / "bootstrap.checkpoint").write_bytes(FIRST_RECORDS)
        (folder / "meta.properties").write_text(f"cluster.id={ids[-1]}\n", encoding="ascii")

    monkeypatch.setattr(processes, "run_to_end", run)
    return ids


def prepared(path: Path, name: str, *, secure: bool = False) -> KafkaServer:
    stack = StackDir(name, path / name)
    stack.data.mkdir(parents=True)
    server = KafkaServer(stack, lambda _: None, secure=secure)
    server.prepare()
    return server


def written(server: KafkaServer) -> dict[str, str]:
    lines = (server.data / "meta.properties").read_text(encoding="ascii").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_tool_runs_once_and_each_cluster_has_ids_of_its_own(prefix: Path, runs: list[str], tmp_path: Path) -> None:
    first, second, third = (prepared(tmp_path, name) for name in ("first", "second", "third"))
    assert len(runs) == 1
    for server in (first, second, third):
        assert (server.data / "bootstrap.checkpoint").read_bytes() == FIRST_RECORDS
    assert written(second).keys() == {"version", "cluster.id", "node.id", "directory.id"}
    ids = [
        written(first)["cluster.id"],
        *(written(s)[i] for s in (second, third) for i in ("cluster.id", "directory.id")),
    ]
    assert len(set(ids)) == len(ids)
    assert {path.suffix for path in (prefix / "share" / "mypay").iterdir()} == {".checkpoint"}


def test_what_is_formatted_stays_as_it_is(prefix: Path, runs: list[str], tmp_path: Path) -> None:
    server = prepared(tmp_path, "first")
    before = written(server)
    server.prepare()
    assert written(server) == before
    assert len(runs) == 1


def test_what_a_killed_format_left_does_not_count(prefix: Path, runs: list[str], tmp_path: Path) -> None:
    prepared(tmp_path, "first")
    half = StackDir("second", tmp_path / "second").data / "kafka.new"
    half.mkdir(parents=True)
    (half / "bootstrap.checkpoint").write_bytes(b"half")
    server = KafkaServer(StackDir("second", tmp_path / "second"), lambda _: None)
    server.prepare()
    assert (server.data / "bootstrap.checkpoint").read_bytes() == FIRST_RECORDS
    assert len(runs) == 1


def test_a_secured_one_s_first_records_hold_a_password_and_are_not_kept(
    prefix: Path, runs: list[str], tmp_path: Path
) -> None:
    prepared(tmp_path, "first", secure=True)
    assert not (prefix / "share").exists()
    prepared(tmp_path, "second")
    prepared(tmp_path, "third", secure=True)
    assert len(runs) == 3


def test_where_nothing_may_be_written_the_tool_runs_each_time(prefix: Path, runs: list[str], tmp_path: Path) -> None:
    prefix.mkdir()
    (prefix / "share").write_text("not a folder", encoding="ascii")
    prepared(tmp_path, "first")
    prepared(tmp_path, "second")
    assert len(runs) == 2
