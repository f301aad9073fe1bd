"""The archive of Kafka's classes: made once, used where it is whole, and never missed. That a real broker starts from
it is a test of the local stack.
"""

import sys
from pathlib import Path

import pytest

from gateway.proving.stack import classes
from gateway.proving.stack.classes import archive_classes
from gateway.proving.stack.errors import LocalStackError
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.state import StackDir


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def server(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> KafkaServer:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(KafkaServer, "class_path", "kafka.jar")
    return KafkaServer(StackDir("any", tmp_path), told.append)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    attempts: list[Path] = []

    def write(_self: object, file: Path) -> None:
        attempts.append(file)
        file.write_text("classes", encoding="ascii")

    monkeypatch.setattr(classes._Recorder, "record_classes", lambda _self: None)
    monkeypatch.setattr(classes._Recorder, "write_archive", write)
    return attempts


def test_it_is_made_once_and_started_with(server: KafkaServer, attempts: list[Path]) -> None:
    archive_classes(server)
    archive_classes(server)
    assert len(attempts) == 1
    assert server.archive.read_text(encoding="ascii") == "classes"
    assert f"-XX:SharedArchiveFile={server.archive}" in server._kafka()


def test_where_it_cannot_be_made_nobody_tries_again_and_kafka_starts_without(
    server: KafkaServer, attempts: list[Path], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object, file: Path) -> None:
        attempts.append(file)
        file.write_text("half an archive", encoding="ascii")
        raise LocalStackError("the disk is full")

    monkeypatch.setattr(classes._Recorder, "write_archive", fail)
    archive_classes(server)
    archive_classes(server)
    assert len(attempts) == 1
    assert "the disk is full" in told[-1]
    assert not [option for option in server._kafka() if "SharedArchiveFile" in option]


def test_where_nothing_may_be_written_kafka_starts_without(
    server: KafkaServer, attempts: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "share").write_text("not a folder", encoding="ascii")
    archive_classes(server)
    assert not attempts
    assert not [option for option in server._kafka() if "SharedArchiveFile" in option]


def test_another_jvm_and_other_libraries_have_another(server: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {server.archive}
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "26.0")
    names.add(server.archive)
    monkeypatch.setattr(KafkaServer, "class_path", "others.jar")
    names.add(server.archive)
    assert len(names) == 3
