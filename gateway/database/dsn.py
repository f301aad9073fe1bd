"""Addresses of the database: whose user one names, where it leads, and whether it may be used as it is.

A DSN can hold a password: whoever shows one shows what :func:`gateway.sealing.redaction.redact` leaves of it.
"""

import os
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gateway.base.loopback import is_loopback

SCHEMES: Final = ("postgresql", "postgres")
VERIFIED: Final = frozenset({"verify-ca", "verify-full"})
"""The values of ``sslmode`` by which a server has to show who it is; the others take any server, or none at all."""


class DsnError(Exception):
    """The address cannot be used as it is; the text says why, and nothing of the address but a host's name."""


def with_user(dsn: str, user: str) -> str:
    """The same place for another user, without a password."""
    scheme, _, rest = dsn.partition("://")
    place = urlsplit(dsn).netloc.rpartition("@")[2]
    after = rest[len(urlsplit(dsn).netloc) :]
    return f"{scheme}://{quote(user)}@{place}{after}"


def check_dsn(dsn: str, *, name: str = "the address", allow_plaintext: bool = False) -> None:
    """Make sure that an address is one, and that it does not trust a network.

    Raises:
        DsnError: it is no URL of PostgreSQL's, or a host beyond this machine need not show who it is.
    """
    try:
        parts = urlsplit(dsn)
        hosts = list(_hosts(dsn))
    except ValueError:
        # Its text would quote what it takes for a port: a piece of a password with a slash in it.
        raise DsnError(
            f"{name} cannot be used: it is no URL; special characters of a password must be percent-encoded"
        ) from None
    if parts.scheme not in SCHEMES:
        raise DsnError(f"{name} cannot be used: it is no URL like postgresql://user@host/database")
    modes = parse_qs(parts.query).get("sslmode") or [os.environ.get("PGSSLMODE", "")]
    beyond = [h for h in hosts if not _is_here(h)]
    if beyond and not set(modes) <= VERIFIED and not allow_plaintext:
        raise DsnError(
            f"{name} cannot be used: {beyond[0]} is another machine, which need not show who it is: add "
            "sslmode=verify-full&sslrootcert=FILE, or say MYPAY_POSTGRES_ALLOW_PLAINTEXT=1 where the network is safe"
        )


def place_of(dsn: str) -> str:
    """Where it leads, and nothing of who goes there: ``db.example:5432/mypay``; for a socket its folder."""
    try:
        parts = urlsplit(dsn)
        sockets = parse_qs(parts.query).get("host", [])
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.netloc.rpartition('@')[2] or ','.join(sockets) or 'the local socket'}{parts.path}"


def is_local(dsn: str) -> bool:
    """True if every host that it names is this machine: a socket or a loopback address.

    What cannot be read is somewhere else.
    """
    try:
        return all(map(_is_here, _hosts(dsn)))
    except ValueError:
        return False


def _hosts(dsn: str) -> Iterator[str]:
    """Every host that a driver might try; an empty one is the local socket.

    Raises:
        ValueError: the URL cannot be read.
    """
    parts = urlsplit(dsn)
    named = [_host(h) for h in parts.netloc.rpartition("@")[2].split(",") if h]
    named += [h for value in parse_qs(parts.query).get("host", []) for h in value.split(",")]
    yield from named or os.environ.get("PGHOST", "").split(",")


def _host(place: str) -> str:
    """A host without its port.

    Raises:
        ValueError: what follows the colon is no port.
    """
    parts = urlsplit(f"//{place}")
    _ = parts.port
    return unquote(parts.hostname or "")


def _is_here(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or is_loopback(host)
