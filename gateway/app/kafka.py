"""As whom a process speaks to Kafka, and how it proves that."""

from pathlib import Path

from pydantic import SecretStr

from gateway.app.addresses import KafkaAddress
from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.base.causes import cause_of
from gateway.messaging.settings import KafkaSettings
from gateway.sealing.files import SecretFileError, read_secret_file


def kafka_settings(settings: Settings, at: KafkaAddress, principal: str, *, client_id: str = "mypay") -> KafkaSettings:
    """How this process reaches Kafka: as ``principal``, unless the settings name another user.

    Raises:
        NotConfiguredError: the protocol needs a password or a certificate that is nowhere, or encrypts nothing on the
            way to another machine.
    """
    name = settings.kafka_username or principal
    password, certificate, key = settings.kafka_password, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
    if at.credentials is not None:
        if at.protocol.startswith("SASL") and password is None:
            password = read_password(at.credentials, name)
        if at.protocol.endswith("SSL") and certificate is None:
            certificate, key = _certificate(at.credentials, name, needed=at.protocol == "SSL")
    try:
        found = KafkaSettings(
            bootstrap_servers=at.bootstrap_servers,
            security_protocol=at.protocol,
            sasl_mechanism=settings.kafka_sasl_mechanism,
            username=name,
            password=password,
            ssl_cafile=at.cafile,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_key_password=settings.kafka_ssl_key_password,
            allow_plaintext=settings.kafka_allow_plaintext,
            client_id=client_id,
            worker=settings.worker,
            session_s=settings.kafka_session_s,
        )
        found.ssl_context()
    except ValueError as error:
        raise NotConfiguredError(f"Kafka as {name}: {error}") from None
    except OSError as error:
        raise NotConfiguredError(
            f"Kafka as {name}: a certificate or its key cannot be used ({cause_of(error)}); see "
            "MYPAY_KAFKA_SSL_CAFILE, MYPAY_KAFKA_SSL_CERTFILE, MYPAY_KAFKA_SSL_KEYFILE and its password"
        ) from None
    return found


def password_file(credentials: Path, principal: str) -> Path:
    """Where a principal's password is."""
    return credentials / f"{principal}.password"


def read_password(credentials: Path, name: str) -> SecretStr:
    """A principal's password, from its file.

    Raises:
        NotConfiguredError: there is none, or its file cannot be used.
    """
    try:
        text = read_secret_file(password_file(credentials, name)).decode().strip()
    except (SecretFileError, UnicodeDecodeError) as error:
        raise NotConfiguredError(f"no password for Kafka's user {name}: {error}") from None
    if not text:
        raise NotConfiguredError(f"no password for Kafka's user {name}: {password_file(credentials, name)} is empty")
    return SecretStr(text)


def _certificate(credentials: Path, name: str, *, needed: bool) -> tuple[Path | None, Path | None]:
    certificate, key = credentials / f"{name}.crt", credentials / f"{name}.key"
    if not needed and not certificate.exists():
        return None, None
    try:
        # Looked at for its mode alone: OpenSSL reads it by name.
        read_secret_file(key)
    except SecretFileError as error:
        raise NotConfiguredError(f"no certificate for Kafka's principal {name}: {error}") from None
    return certificate, key
