"""How to reach a Kafka cluster: one frozen record for producers, consumers and administration."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Address and credentials of one cluster.

    Attributes:
        bootstrap_servers: ``host:port``, comma separated.
        security_protocol: as Kafka names it.
        sasl_mechanism, username, password: for the SASL protocols.
        ssl_cafile: PEM of the authorities to trust; None trusts the system's.
        ssl_certfile, ssl_keyfile: the client's own certificate, where the cluster asks for one (mutual TLS).
        client_id: what the brokers' logs and quotas know this process by.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    client_id: str = "mypay"

    def __post_init__(self) -> None:
        """Refuse settings that could only fail later.

        Raises:
            ValueError: no address, or SASL without name and password.
        """
        if not self.bootstrap_servers.strip():
            raise ValueError("bootstrap_servers is empty")
        if self.security_protocol.startswith("SASL") and (self.username is None or self.password is None):
            raise ValueError(f"{self.security_protocol} needs a username and a password")

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes. Holds the password in clear: pass on, never print.

        Raises:
            OSError, ssl.SSLError: a certificate file cannot be used.
        """
        arguments: dict[str, Any] = {
            "bootstrap_servers": [a.strip() for a in self.bootstrap_servers.split(",") if a.strip()],
            "security_protocol": self.security_protocol,
            "client_id": self.client_id,
        }
        if self.security_protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password.get_secret_value() if self.password else None
        if self.security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=None if self.ssl_cafile is None else str(self.ssl_cafile))
            if self.ssl_certfile is not None:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
            arguments["ssl_context"] = context
        return arguments
