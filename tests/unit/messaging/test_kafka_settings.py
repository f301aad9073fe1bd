import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from gateway.messaging.settings import KafkaSettings, SecurityProtocol
from gateway.messaging.topics_admin import topic_configuration
from gateway.proving.stack import issue_certificate, secure
from schemas.topics import TOPICS


def test_plaintext_needs_an_address_alone() -> None:
    assert KafkaSettings("127.0.0.1:9092, localhost:9093").client_arguments() == {
        "bootstrap_servers": ["127.0.0.1:9092", "localhost:9093"],
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


@pytest.mark.parametrize(
    "address",
    [
        *("", "  ", "localhost", "localhost:", ":9092", "localhost:0", "localhost:65536", "localhost:x"),
        *("localhost:1 localhost:2", "localhost:1;localhost:2", "PLAINTEXT://localhost:9092", "localhost:1,kafka"),
        "u:hush@localhost:9092",
    ],
)
def test_an_address_is_needed_with_its_port(address: str) -> None:
    """What was none was told as a machine elsewhere, or as what should not happen."""
    with pytest.raises(ValueError, match="MYPAY_KAFKA_BOOTSTRAP_SERVERS must be host:port") as caught:
        KafkaSettings(address, allow_plaintext=True)
    assert "hush" not in str(caught.value)


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


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:9092", True),
        ("127.8.9.1:9092", True),
        ("localhost:9092", True),
        ("[::1]:9092", True),
        ("10.0.0.1:9092", False),
        ("kafka:9092", False),
        ("localhost.example:9092", False),
        ("127.0.0.1.example:9092", False),
        ("127.0.0.1:9092,kafka:9092", False),
        ("0.0.0.0:9092", False),
        ("[::]:9092", False),
    ],
)
def test_what_is_not_encrypted_stays_on_this_machine(protocol: SecurityProtocol, address: str, *, here: bool) -> None:
    user, password = "u", SecretStr("p")
    if here:
        assert KafkaSettings(address, protocol, username=user, password=password).addresses
    else:
        with pytest.raises(ValueError, match="encrypts nothing"):
            KafkaSettings(address, protocol, username=user, password=password)
    assert KafkaSettings(address, protocol, username=user, password=password, allow_plaintext=True).addresses
    assert KafkaSettings(address, "SSL").addresses


def test_an_encrypted_key_needs_its_password_and_asks_nobody(tmp_path: Path) -> None:
    secure.make(tmp_path)
    security = secure.security_of(tmp_path, 1)
    issue_certificate(security, "mypay-relay")
    key = security.credentials / "mypay-relay.key"
    loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
    locked = serialization.BestAvailableEncryption(b"hush")
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    settings = KafkaSettings(
        "kafka:1",
        "SSL",
        ssl_cafile=security.cafile,
        ssl_certfile=security.credentials / "mypay-relay.crt",
        ssl_keyfile=key,
    )
    with pytest.raises(ssl.SSLError):
        settings.ssl_context()
    assert replace(settings, ssl_key_password=SecretStr("hush")).ssl_context() is not None
