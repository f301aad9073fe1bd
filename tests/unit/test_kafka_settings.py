import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.adapters.kafka.admin import topic_configuration
from gateway.adapters.kafka.settings import KafkaSettings
from schemas.topics import TOPICS


def test_plaintext_needs_an_address_alone() -> None:
    assert KafkaSettings("a:9092, b:9092").client_arguments() == {
        "bootstrap_servers": ["a:9092", "b:9092"],
        "security_protocol": "PLAINTEXT",
        "client_id": "mypay",
    }


def test_sasl_over_tls() -> None:
    settings = KafkaSettings("a:9092", "SASL_SSL", username="gateway", password=SecretStr("hush"))
    arguments = settings.client_arguments()
    assert (arguments["sasl_mechanism"], arguments["sasl_plain_username"]) == ("SCRAM-SHA-512", "gateway")
    assert arguments["sasl_plain_password"] == "hush"
    assert arguments["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert arguments["ssl_context"].check_hostname


def test_password_is_not_shown() -> None:
    assert "hush" not in repr(KafkaSettings("a:1", "SASL_SSL", username="u", password=SecretStr("hush")))


@pytest.mark.parametrize("address", ["", "  "])
def test_an_address_is_needed(address: str) -> None:
    with pytest.raises(ValueError, match="bootstrap_servers"):
        KafkaSettings(address)


@pytest.mark.parametrize(("username", "password"), [(None, None), ("u", None), (None, SecretStr("p"))])
def test_sasl_needs_a_name_and_a_password(username: str | None, password: SecretStr | None) -> None:
    with pytest.raises(ValueError, match="username and a password"):
        KafkaSettings("a:1", "SASL_SSL", username=username, password=password)


def test_a_missing_certificate_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KafkaSettings("a:1", "SSL", ssl_cafile=tmp_path / "ca.pem").client_arguments()


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_records_are_confirmed_by_all_but_one_replica(replicas: int, in_sync: str) -> None:
    assert topic_configuration(TOPICS[0], replicas)["min.insync.replicas"] == in_sync
