"""Until when certificates are good."""

from datetime import datetime
from pathlib import Path

from cryptography import x509


class CertificateError(Exception):
    """The file holds no certificate that can be read. The text completes "FILE …"."""


def ends_at(path: Path) -> datetime:
    """When the first of a PEM file's certificates to end does so: aware, in UTC.

    Raises:
        CertificateError: it cannot be read, or holds none.
    """
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError("holds no certificate (PEM)") from None
    return min(certificate.not_valid_after_utc for certificate in found)
