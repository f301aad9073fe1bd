"""How to reach a Kafka cluster: one frozen record for producers, consumers and administration."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from gateway.base.loopback import is_loopback
from gateway.messaging.connections import guard_connections

HEARTBEAT_S_MAX: Final = 1.0
"""While a group is shared out anew nobody in it works: the last to hear of it keeps all others waiting."""

START_S: Final = 15.0
"""A person waits no longer for brokers that take a connection and say nothing: aiokafka would for 40 s a question."""

_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")

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
        ssl_certfile, ssl_keyfile, ssl_key_password: the client's own certificate, where the cluster asks for one
            (mutual TLS). PEM; the key may be in the certificate's file.
        allow_plaintext: let what is not encrypted leave this machine.
        client_id: what the brokers' logs and quotas know this process by.
        worker: a name that stays over restarts (static membership): in each of its groups a process that starts again
            within ``session_s`` has its partitions back at once, and no other member hears of it. No two living
            processes of one stage may share it. None: a killed process's partitions stand still for ``session_s``.
        session_s: a process that has not been heard of for so long is dead, and its partitions move to others. Brokers
            may insist on longer: see :mod:`gateway.messaging.group_sessions`.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = None
    allow_plaintext: bool = False
    client_id: str = "mypay"
    worker: str | None = None
    session_s: float = 3.0

    def __post_init__(self) -> None:
        """Refuse settings that could only fail later.

        Raises:
            ValueError: no address, or one that is none or beyond this machine without encryption; SASL without name and
                password.
        """
        if not self.addresses or not all(map(_is_address, self.addresses)):
            # Not told as it is: somebody may have put a password into it.
            raise ValueError("MYPAY_KAFKA_BOOTSTRAP_SERVERS must be host:port, with commas between several")
        if not self.encrypted and not self.allow_plaintext:
            for address in self.addresses:
                if not is_loopback(address.rpartition(":")[0].strip("[]")):
                    raise ValueError(
                        f"{address} is not on this machine, and {self.security_protocol} encrypts nothing: set "
                        "MYPAY_KAFKA_SECURITY_PROTOCOL to SASL_SSL or SSL, or MYPAY_KAFKA_ALLOW_PLAINTEXT=1 where the "
                        "network is trusted"
                    )
        if self.security_protocol.startswith("SASL") and (self.username is None or self.password is None):
            raise ValueError(f"{self.security_protocol} needs a username and a password")

    @property
    def addresses(self) -> list[str]:
        """``host:port`` each."""
        return [a.strip() for a in self.bootstrap_servers.split(",") if a.strip()]

    @property
    def heartbeat_s(self) -> float:
        """How often a process is heard of, and hears that its group shares its partitions out anew."""
        return min(HEARTBEAT_S_MAX, self.session_s / 5)

    @property
    def encrypted(self) -> bool:
        """True if the protocol is one over TLS."""
        return self.security_protocol.endswith("SSL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS trusts and shows; None where the protocol has none.

        Raises:
            OSError, ssl.SSLError: a certificate file cannot be used.
        """
        if not self.encrypted:
            return None
        context = ssl.create_default_context(cafile=None if self.ssl_cafile is None else str(self.ssl_cafile))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ssl_certfile is not None:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal.
            password = self.ssl_key_password.get_secret_value() if self.ssl_key_password else ""
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password=lambda: password)
        return context

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes. Holds the password in clear: pass on, never print.

        No client of ours is made without them, and so none whose connections are not guarded: see
        :mod:`gateway.messaging.connections`.

        Raises:
            OSError, ssl.SSLError: a certificate file cannot be used.
        """
        guard_connections()
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.addresses,
            "security_protocol": self.security_protocol,
            "client_id": self.client_id,
        }
        if self.security_protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.username
            arguments["sasl_plain_password"] = self.password.get_secret_value() if self.password else None
        if (context := self.ssl_context()) is not None:
            arguments["ssl_context"] = context
        return arguments


def _is_address(address: str) -> bool:
    found = _ADDRESS.fullmatch(address)
    return found is not None and 0 < int(found[1]) < 2**16
