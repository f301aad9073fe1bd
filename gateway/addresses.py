"""Where Kafka and PostgreSQL are: as set, or else the running local stack's."""

from dataclasses import dataclass
from pathlib import Path

from gateway.adapters.kafka.settings import SecurityProtocol
from gateway.settings import Settings


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
        from gateway.local import ServerState, status  # noqa: PLC0415 - an extra that production does not install
    except ModuleNotFoundError:
        return None
    local = status(settings.stack, home=settings.home)
    if local.kafka.state is ServerState.STOPPED:
        return None
    if (secure := local.security) is None:
        return KafkaAddress(local.kafka.address, settings.kafka_security_protocol, settings.kafka_ssl_cafile, None)
    return KafkaAddress(local.kafka.address, "SASL_SSL", secure.cafile, secure.credentials)


def postgres_address(settings: Settings) -> str | None:
    """DSN of the database that is set, or else of the running local stack's; None where there is neither."""
    if settings.postgres_dsn is not None:
        return settings.postgres_dsn.get_secret_value()
    try:
        from gateway.local import ServerState, status  # noqa: PLC0415 - an extra that production does not install
    except ModuleNotFoundError:
        return None
    local = status(settings.stack, home=settings.home)
    return None if local.postgres.state is ServerState.STOPPED else local.postgres.address
