"""As whom a process speaks to Kafka: one set of settings, and every stage its own user."""

from pathlib import Path

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from pydantic import SecretStr

from gateway.app.addresses import KafkaAddress
from gateway.app.errors import NotConfiguredError
from gateway.app.kafka import kafka_settings
from gateway.app.settings import Settings
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from gateway.proving import stack as local
from gateway.proving.stack import secure
from streams.app import build_app


@pytest.fixture
def secured(tmp_path: Path) -> KafkaAddress:
    """What a secured local stack would ask for; two stages have passwords."""
    secure.make(tmp_path)
    security = secure.security_of(tmp_path, 1)
    for name in ("mypay-relay", "mypay-execution-bcard"):
        (security.credentials / f"{name}.password").write_text(f"of {name}\n")
        (security.credentials / f"{name}.password").chmod(0o600)
    return KafkaAddress("127.0.0.1:1", "SASL_SSL", security.cafile, security.credentials)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings()


@pytest.mark.parametrize("principal", ["mypay-relay", "mypay-execution-bcard"])
def test_a_stage_is_its_own_user(settings: Settings, secured: KafkaAddress, principal: str) -> None:
    found = kafka_settings(settings, secured, principal)
    assert (found.username, found.password) == (principal, SecretStr(f"of {principal}"))


def test_a_named_user_counts_before_the_stages(settings: Settings, secured: KafkaAddress) -> None:
    named = settings.model_copy(update={"kafka_username": "mypay-relay"})
    assert kafka_settings(named, secured, "mypay-initiation").password == SecretStr("of mypay-relay")
    given = settings.model_copy(update={"kafka_username": "u", "kafka_password": SecretStr("p")})
    found = kafka_settings(given, secured, "mypay-initiation")
    assert (found.username, found.password) == ("u", SecretStr("p"))


def test_a_missing_password_is_told_by_its_file(settings: Settings, secured: KafkaAddress) -> None:
    with pytest.raises(NotConfiguredError, match=r"mypay-initiation.*mypay-initiation\.password"):
        kafka_settings(settings, secured, "mypay-initiation")


def test_a_password_that_others_can_read_is_refused(settings: Settings, secured: KafkaAddress) -> None:
    assert secured.credentials is not None
    (secured.credentials / "mypay-relay.password").chmod(0o644)
    with pytest.raises(NotConfiguredError, match="open to others") as told:
        kafka_settings(settings, secured, "mypay-relay")
    assert "of mypay-relay" not in str(told.value)


def test_a_certificate_of_its_own_instead_of_a_password(settings: Settings, secured: KafkaAddress) -> None:
    assert secured.credentials is not None
    assert secured.cafile is not None
    mutual = KafkaAddress("127.0.0.1:1", "SSL", secured.cafile, secured.credentials)
    with pytest.raises(NotConfiguredError, match=r"no certificate.*mypay-relay"):
        kafka_settings(settings, mutual, "mypay-relay")
    local.issue_certificate(local.KafkaSecurity(secured.cafile, secured.credentials, ""), "mypay-relay")
    found = kafka_settings(settings, mutual, "mypay-relay")
    assert found.ssl_certfile == secured.credentials / "mypay-relay.crt"
    assert found.ssl_context() is not None


def test_an_authority_that_is_no_certificate_is_told(settings: Settings, secured: KafkaAddress, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    wrong = KafkaAddress("127.0.0.1:1", "SASL_SSL", tmp_path / "ca.pem", secured.credentials)
    with pytest.raises(NotConfiguredError, match="MYPAY_KAFKA_SSL_CAFILE"):
        kafka_settings(settings, wrong, "mypay-relay")


def test_plaintext_to_another_machine_is_refused_unless_said(settings: Settings) -> None:
    at = KafkaAddress("kafka.example:9092", "PLAINTEXT", None, None)
    with pytest.raises(NotConfiguredError, match="MYPAY_KAFKA_ALLOW_PLAINTEXT=1"):
        kafka_settings(settings, at, "mypay-relay")
    allowed = settings.model_copy(update={"kafka_allow_plaintext": True})
    assert kafka_settings(allowed, at, "mypay-relay").bootstrap_servers == "kafka.example:9092"


async def test_faust_shows_what_every_other_client_shows(secured: KafkaAddress, tmp_path: Path) -> None:
    user = KafkaSettings("127.0.0.1:1", "SASL_SSL", username="u", password=SecretStr("p"), ssl_cafile=secured.cafile)
    shown = build_app("test", Settings(home=tmp_path), user).conf.broker_credentials
    assert isinstance(shown, SASLCredentials)
    assert (shown.username, shown.password, shown.mechanism.value) == ("u", "p", "SCRAM-SHA-512")
    assert shown.protocol.value == "SASL_SSL"
    plain = KafkaSettings("127.0.0.1:1", "SASL_PLAINTEXT", username="u", password=SecretStr("p"))
    assert build_app("test", Settings(home=tmp_path), plain).conf.broker_credentials.protocol.value == "SASL_PLAINTEXT"
    certificate = KafkaSettings("127.0.0.1:1", "SSL", ssl_cafile=secured.cafile)
    assert isinstance(build_app("test", Settings(home=tmp_path), certificate).conf.broker_credentials, SSLCredentials)
    assert build_app("test", Settings(home=tmp_path), KafkaSettings("127.0.0.1:1")).conf.broker_credentials is None


def test_a_worker_that_is_gone_is_made_up_for_within_five_seconds(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    kafka = kafka_settings(settings, KafkaAddress("127.0.0.1:1", "PLAINTEXT", None, None), "mypay-execution")
    # Its session ends, and the last of the others hears of it; what it had sent is taken over by who looks next.
    assert kafka.session_s + 2 * kafka.heartbeat_s < 5
    assert settings.recovery_lease_s + settings.recovery_interval_s < 5
    # A report, or a heartbeat, that is lost or late kills nobody.
    assert kafka.session_s >= 4 * kafka.heartbeat_s
    assert settings.recovery_lease_s >= 4 * settings.recovery_interval_s


async def test_a_worker_is_a_member_of_its_groups_under_its_name(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, worker="initiation-0", kafka_session_s=4.0)
    kafka = kafka_settings(settings, KafkaAddress("127.0.0.1:1", "PLAINTEXT", None, None), "mypay-initiation")
    consumer = BatchConsumer(kafka, RecordingObserver(), topics=["t"], group_id="g")._new_consumer()
    conf = build_app("test", settings, kafka).conf
    assert consumer._group_instance_id == conf.consumer_group_instance_id == "initiation-0"
    assert (consumer._session_timeout_ms, conf.broker_session_timeout) == (4000, 4.0)
    assert (consumer._heartbeat_interval_ms, conf.broker_heartbeat_interval) == (800, 0.8)
