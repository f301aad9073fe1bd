"""Certificates of one's own, for trials and tests: an authority on a card link, a host's and the gateway's.

What every certificate begins with, and how it is written, is here for the secured local Kafka too
(:mod:`gateway.proving.stack.secure`).
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID: Final = timedelta(days=90)
_SINCE: Final = timedelta(hours=1)
"""Clocks differ."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files. ``ca``: of the authority that signed it."""

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """Signs certificates; its key is never written down."""

    def __init__(self, name: str = "My-Payment trial") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = common_name(name)
        builder = begin_certificate(self._name, self._name, self._key.public_key(), _now() - _SINCE, _now() + _VALID)
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self,
        folder: Path,
        name: str,
        *,
        names: Sequence[str] = (),
        connects: bool = False,
        valid_until: datetime | None = None,
    ) -> CertificateFiles:
        """Write ``NAME.pem`` and ``NAME.key``, and the authority's own as ``ca.pem``.

        Args:
            folder: is made where it is missing.
            name: the common name.
            names: DNS names and addresses that it is good for, of a host; of a client none.
            connects: of a host that is others' client, too, as brokers are each other's.
            valid_until: 90 days from now when left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        until = valid_until or _now() + _VALID
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] if names else []
        if connects or not names:
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        builder = (
            begin_certificate(common_name(name), self._name, key.public_key(), min(_now(), until) - _SINCE, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        files = CertificateFiles(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
        files.ca.write_bytes(pem(self._certificate))
        files.certificate.write_bytes(pem(builder.sign(self._key, hashes.SHA256())))
        write_private(files.key, pem(key))
        return files


def _now() -> datetime:
    return datetime.now(UTC)


def common_name(name: str) -> x509.Name:
    """A subject that is a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def begin_certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    """What every certificate has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def key_usage(*, signs: bool) -> x509.KeyUsage:
    """Of an authority, which ``signs`` certificates, or of one that shows who it is."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(thing: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate, or a key in clear."""
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read; one that is there is overwritten."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
