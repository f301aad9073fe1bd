"""What three brokers and a standby are told of each other, before any of them runs."""

from pathlib import Path

import pytest

from gateway.proving.stack import LocalStackError, reset, status, up
from gateway.proving.stack.kafka import NODE_SETTINGS, KafkaServer
from gateway.proving.stack.postgres import PostgresServer
from gateway.proving.stack.replicas import NODES, KafkaNode, PostgresStandby, is_replicated, make_replicated
from gateway.proving.stack.stack import quiet
from gateway.proving.stack.state import ServerRecord, StackDir


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackDir:
    monkeypatch.delenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("MYPAY_POSTGRES_DSN", raising=False)
    made = StackDir.of("three", tmp_path)
    make_replicated(made)
    return made


def nodes(stack: StackDir) -> list[KafkaNode]:
    return [KafkaNode(stack, quiet, n) for n in NODES]


def test_brokers_are_one_cluster_of_three_that_know_each_other(stack: StackDir) -> None:
    told = [n.settings(n.choose_ports((), same_address=False)) for n in nodes(stack)]
    assert [t["node.id"] for t in told] == ["1", "2", "3"]
    assert len({t["controller.quorum.voters"] for t in told}) == 1
    assert len({t["listeners"] for t in told}) == 3
    assert len({n.cluster_id for n in nodes(stack)}) == 1
    for own in told:
        address = own["listeners"].partition("CONTROLLER://")[2]
        assert f"{own['node.id']}@{address}" in own["controller.quorum.voters"].split(",")


def test_a_record_is_confirmed_when_two_brokers_have_it_the_groups_offsets_too(stack: StackDir) -> None:
    [told, *_] = [NODE_SETTINGS | n.settings(n.choose_ports((), same_address=False)) for n in nodes(stack)]
    assert (told["default.replication.factor"], told["min.insync.replicas"]) == ("3", "2")
    assert {v for k, v in told.items() if k.endswith(".replication.factor")} == {"3"}
    assert {v for k, v in told.items() if k.endswith(".min.isr")} == {"2"}


def test_a_client_is_given_all_brokers(stack: StackDir) -> None:
    addresses = [n.address(()).split(",") for n in nodes(stack)]
    assert len({tuple(sorted(a)) for a in addresses}) == 1
    assert len({a[0] for a in addresses}) == 3


def test_servers_are_told_apart_by_their_records_data_and_command_lines(stack: StackDir) -> None:
    primary = PostgresServer(stack, quiet)
    servers = [*nodes(stack), primary, PostgresStandby(stack, quiet, primary)]
    for of in (lambda s: s.key, lambda s: s.data, lambda s: s.marker, lambda s: s.log):
        assert len({of(s) for s in servers}) == 5
    assert primary.socket_dir != PostgresStandby(stack, quiet, primary).socket_dir


def test_ports_stay(stack: StackDir) -> None:
    before = [n.choose_ports((), same_address=False) for n in nodes(stack)]
    make_replicated(stack)
    assert [n.choose_ports((1, 2), same_address=False) for n in nodes(stack)] == before


def test_a_stack_of_one_broker_does_not_become_one_of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = StackDir.of("one", tmp_path)
    single.path.mkdir()
    single.write(KafkaServer.key, ServerRecord(address="127.0.0.1:1", ports=(1, 2)))
    with pytest.raises(LocalStackError, match="not replicated"):
        up("one", home=tmp_path, replicated=True)
    assert not is_replicated(single)
    monkeypatch.setenv("MYPAY_POSTGRES_DSN", "postgresql://elsewhere")
    with pytest.raises(LocalStackError, match="given"):
        up("other", home=tmp_path, replicated=True)


def test_a_stack_that_does_not_run_is_shown_and_deleted_with_all_its_servers(stack: StackDir, tmp_path: Path) -> None:
    assert dict(status("three", home=tmp_path).replicas) == {}
    reset("three", home=tmp_path)
    assert not stack.path.exists()
