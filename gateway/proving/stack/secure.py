"""What a secured local Kafka is made of: an authority of its own, certificates, the administrator's password.

Layout below the stack's directory: `tls/` (`ca.crt`, `ca.key`, `broker.pem`) and `credentials/` (`mypay-admin.password`
and what is made for others later), readable by their owner alone.
"""

import ipaddress
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.proving.stack.certificates import begin_certificate, common_name, key_usage, pem, write_private
from gateway.proving.stack.ports import LOOPBACK

ADMIN: Final = "mypay-admin"
BROKER: Final = "mypay-broker"
MECHANISM: Final = "SCRAM-SHA-512"

_TLS: Final = "tls"
_VALID: Final = timedelta(days=3650)
_SINCE: Final = timedelta(days=1)
"""Certificates are valid a day before they are made: clocks of containers and their hosts differ."""

# The controller's listener and the brokers' own ask for a certificate: on them a password is nobody's.
SETTINGS: Final = {
    "listener.security.protocol.map": "CONTROLLER:SSL,MUTUAL:SSL,SASL_SSL:SASL_SSL",
    "inter.broker.listener.name": "MUTUAL",
    "sasl.enabled.mechanisms": MECHANISM,
    "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "ssl.keystore.type": "PEM",
    "ssl.keystore.location": f"{_TLS}/broker.pem",
    "ssl.truststore.type": "PEM",
    "ssl.truststore.location": f"{_TLS}/ca.crt",
    "listener.name.mutual.ssl.client.auth": "required",
    "listener.name.controller.ssl.client.auth": "required",
    # A certificate's common name is the principal, as a password's user name is; another subject is refused.
    "ssl.principal.mapping.rules": "RULE:^CN=([A-Za-z0-9._-]+)$/$1/",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": f"User:{ADMIN};User:{BROKER}",
}


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Where a client finds what a secured stack asks for.

    Attributes:
        cafile: PEM of the authority that signed the broker's certificate.
        credentials: folder of passwords and certificates by principal.
        mutual: address of the listener that asks for a certificate instead of a password.
    """

    cafile: Path
    credentials: Path
    mutual: str


def security_of(stack: Path, mutual_port: int) -> KafkaSecurity:
    """Name the files of a secured stack."""
    return KafkaSecurity(stack / _TLS / "ca.crt", stack / "credentials", f"{LOOPBACK}:{mutual_port}")


def make(stack: Path) -> str:
    """Make authority, certificates and the administrator's password anew; return the password.

    A run that is killed leaves nothing behind that counts: the folders get their names at the end.
    """
    tls, credentials = stack / "tls.new", stack / "credentials.new"
    for folder in (tls, credentials):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name(f"My-Payment local stack {secrets.token_hex(4)}")
    authority = (
        _certificate(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tls / "ca.crt").write_bytes(pem(authority))
    write_private(tls / "ca.key", pem(key))
    broker_certificate, broker_key = _issue(tls, BROKER)
    write_private(tls / "broker.pem", broker_key + broker_certificate)
    password = secrets.token_urlsafe(32)
    write_private(credentials / f"{ADMIN}.password", password.encode() + b"\n")
    for folder in (tls, credentials):
        final = folder.with_suffix("")
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    return password


def issue_certificate(security: KafkaSecurity, principal: str) -> None:
    """Make a certificate and key for a principal, beside its password if it has one."""
    certificate, key = _issue(security.cafile.parent, principal)
    write_private(security.credentials / f"{principal}.key", key)
    (security.credentials / f"{principal}.crt").write_bytes(certificate)


def _issue(tls: Path, principal: str) -> tuple[bytes, bytes]:
    authority = x509.load_pem_x509_certificate((tls / "ca.crt").read_bytes())
    signing: Any = serialization.load_pem_private_key((tls / "ca.key").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = common_name(principal)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _certificate(subject, authority.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages if principal == BROKER else usages[1:]), critical=False)
    )
    if principal == BROKER:
        names = [x509.IPAddress(ipaddress.ip_address(LOOPBACK)), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return pem(builder.sign(signing, hashes.SHA256())), pem(key)


def _certificate(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return begin_certificate(subject, issuer, public, now - _SINCE, now + _VALID)
