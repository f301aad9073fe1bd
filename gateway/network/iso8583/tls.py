"""TLS on a network's links: the context that its file asks for, and why a handshake failed, in words."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from gateway.base.causes import cause_of
from gateway.network.iso8583.base import Section


class TlsError(Exception):
    """TLS cannot be begun: a file cannot be used, or the handshake failed; the text says why."""


_File = Annotated[Path, Field(strict=False)]


class TlsSection(Section):
    """TLS of every link of a network: ``[tls]``. Paths are relative to the network's file."""

    ca: _File
    """Certificates (PEM) of who may have signed the host's."""
    certificate: _File | None = None
    """The gateway's own (PEM), for hosts that ask who connects (mutual TLS). With `key` or not at all."""
    key: _File | None = None
    """Its key (PEM)."""
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """The name that the host's certificate must carry; left out: the address's own."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """Of the protocol."""

    @model_validator(mode="after")
    def _pair(self) -> "TlsSection":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_context(tls: TlsSection) -> ssl.SSLContext:
    """Read the files. Blocks; done at every connection, so that renewed certificates need no restart.

    Raises:
        TlsError: a file cannot be read or used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    try:
        context.load_verify_locations(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise TlsError(f"tls.ca cannot be used ({cause_of(error)})") from None
    if tls.certificate is not None:
        try:
            # An empty password: a key that needs one fails instead of asking at the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
        except (OSError, ValueError) as error:
            raise TlsError(f"tls.certificate or tls.key cannot be used ({cause_of(error)})") from None
    return context


_UNKNOWN_SIGNER: Final = "the host's certificate is signed by nobody that tls.ca knows"
_WRONG_NAME: Final = "the host's certificate is for another name"
_VERIFY: Final[Mapping[int, str]] = {
    9: "the host's certificate is not valid yet",
    10: "the host's certificate has expired",
    **dict.fromkeys((2, 18, 19, 20, 21, 24), _UNKNOWN_SIGNER),
    23: "the host's certificate is revoked",
    **dict.fromkeys((62, 64), _WRONG_NAME),
}
"""X509_V_ERR_… of OpenSSL."""

_NOT_TLS: Final = "the host does not speak TLS"
_ALERTS: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "UNSUPPORTED_PROTOCOL": "the host speaks an older TLS than tls.minimum_version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the host does not take the versions of TLS that are offered",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the host asks for a client certificate and tls.certificate is not set",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the host refused the handshake: it may ask for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the host does not know who signed the gateway's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the host finds the gateway's certificate expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the host does not accept the gateway's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the host does not accept the gateway's certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the host finds the gateway's certificate revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the host does not accept the gateway's kind of certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "the host accepts the gateway's certificate and lets it not in",
    "UNEXPECTED_EOF_WHILE_READING": "the host closed within TLS",
}
"""OpenSSL's reasons: alerts of the host, and what it sent instead of a handshake."""


REFUSED_AT_ONCE: Final = (
    "before any answer came over TLS: the host may ask for, or not accept, the gateway's certificate"
)


def tls_failure(error: BaseException) -> str:
    """Say why TLS failed, in words for the operators; never content."""
    match error:
        case ssl.SSLCertVerificationError():
            why = _VERIFY.get(error.verify_code, f"the host's certificate is not valid (X.509 {error.verify_code})")
        case ssl.SSLError():
            why = _ALERTS.get(error.reason or "", f"TLS failed ({error.reason or type(error).__name__})")
        case TimeoutError() | ConnectionAbortedError():
            why = "the handshake was not answered in time: the host may not speak TLS"
        case OSError():
            why = "the host closed during the handshake: it may not speak TLS, or not accept the gateway"
        case _:
            why = type(error).__name__
    return f"TLS: {why}"
