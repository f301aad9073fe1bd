"""Where Kafka and PostgreSQL are: as set, or else the running local stack's."""

from dataclasses import dataclass
from pathlib import Path

from gateway.app.settings import Settings
from gateway.database.dsn import check_dsn, with_user
from gateway.database.roles import Role
from gateway.messaging.settings import SecurityProtocol


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """A cluster, and what a secured local one asks for besides its address.

    Attributes:
        credentials: folder of passwords and certificates by principal.
    """

    bootstrap_servers: str
    protocol: SecurityProtocol
    cafile: Path | None
    credentials: Path | None


def kafka_address(settings: Settings) -> KafkaAddress | None:
    """The cluster that is set, or else the running local stack's; None where there is neither."""
    if settings.kafka_bootstrap_servers is not None:
        return KafkaAddress(
            settings.kafka_bootstrap_servers,
            settings.kafka_security_protocol,
            settings.kafka_ssl_cafile,
            settings.kafka_credentials_dir,
        )
    try:
        from gateway.proving.stack import ServerState, status  # noqa: PLC0415 - an extra that production does not install
    except ModuleNotFoundError:
        return None
    local = status(settings.stack, home=settings.home)
    if local.kafka.state is ServerState.STOPPED:
        return None
    if (secure := local.security) is None:
        return KafkaAddress(local.kafka.address, settings.kafka_security_protocol, settings.kafka_ssl_cafile, None)
    return KafkaAddress(local.kafka.address, "SASL_SSL", secure.cafile, secure.credentials)


def postgres_address(settings: Settings, role: Role) -> str | None:
    """DSN of the database for the user of a role, as it is set, or else of the running local stack's; None: neither.

    Of a local stack the owner's address is the superuser's, who makes the roles.

    Raises:
        DsnError: the one that is set may not be used; the text names the setting.
    """
    for name in (f"postgres_dsn_{role.value}", "postgres_dsn"):
        if (secret := getattr(settings, name)) is not None:
            dsn: str = secret.get_secret_value()
            check_dsn(dsn, name=f"MYPAY_{name.upper()}", allow_plaintext=settings.postgres_allow_plaintext)
            return dsn
    try:
        from gateway.proving.stack import ServerState, status  # noqa: PLC0415 - an extra that production does not install
    except ModuleNotFoundError:
        return None
    local = status(settings.stack, home=settings.home).postgres
    if local.state is ServerState.STOPPED:
        return None
    return (
        local.address if role is Role.OWNER or local.state is ServerState.GIVEN else with_user(local.address, role.user)
    )
