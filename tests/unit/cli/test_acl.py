"""`mypay topics acl` where no server is needed, and what it refuses."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.app.errors import NotConfiguredError
from gateway.app.kafka import password_file
from gateway.cli import topics_acl
from gateway.messaging.settings import KafkaSettings
from gateway.proving.world.opening import refuse_secured_kafka
from gateway.proving.world.world import WorldError
from gateway.sealing.files import write_secret_file
from tests.support.cli import mypay

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYPAY_HOME", str(tmp_path))
    monkeypatch.setenv("MYPAY_NETWORKS_DIR", str(REPOSITORY / "deploy" / "networks"))
    monkeypatch.delenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", raising=False)


def test_the_script_needs_no_server_and_is_the_one_that_is_kept() -> None:
    printed = mypay("topics", "acl", "--print", "--partner", "example-partner").expect().out
    assert printed == (REPOSITORY / "deploy" / "kafka" / "acls.sh").read_text()


@pytest.mark.parametrize("partner", ["a'; rm -rf /; '", "", "a b", "a:b", "é", "$(id)"])
def test_what_is_no_partner_id_gets_into_no_script(partner: str) -> None:
    ran = mypay("topics", "acl", "--print", "--partner", partner).expect(2)
    assert "acls -" not in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prune",),
        ("--print", "--apply"),
        ("--apply", "--prune", "--partner", "acme"),
        ("--print", "--prune"),
        ("--renew", "mypay-relay"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...]) -> None:
    mypay("topics", "acl", *arguments).expect(2)


def test_without_a_cluster_it_says_so() -> None:
    assert "MYPAY_KAFKA_BOOTSTRAP_SERVERS" in mypay("topics", "acl", "--partner", "acme").expect(4).err


def test_a_cluster_beyond_this_machine_is_not_spoken_to_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    ran = mypay("topics", "acl", "--partner", "acme").expect(2)
    assert "MYPAY_KAFKA_ALLOW_PLAINTEXT=1" in ran.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, False),
        ({"MYPAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}, False),
        ({"MYPAY_KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092"}, True),
        ({"MYPAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "MYPAY_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, True),
    ],
)
def test_demo_and_bench_say_that_they_need_a_kafka_without_rules(environment: dict[str, str], *, refused: bool) -> None:
    if refused:
        with pytest.raises(WorldError, match="without access rules"):
            refuse_secured_kafka(environment)
    else:
        refuse_secured_kafka(environment)


async def test_an_empty_password_file_gives_nobody_an_empty_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    async def nobody(_: KafkaSettings) -> frozenset[str]:
        return frozenset()

    async def give(_: KafkaSettings, passwords: object) -> None:
        given.append(passwords)

    monkeypatch.setattr(topics_acl, "scram_users", nobody)
    monkeypatch.setattr(topics_acl, "set_passwords", give)
    write_secret_file(password_file(tmp_path, "mypay-relay"), b"\n")
    cluster = KafkaSettings("k:9093", security_protocol="SASL_SSL", username="mypay-admin", password=SecretStr("p"))
    with pytest.raises(NotConfiguredError, match=r"mypay-relay\.password is empty"):
        await topics_acl.make_users(cluster, tmp_path, ["mypay-relay"])
    assert given == []
