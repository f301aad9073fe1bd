"""Addresses of the database: whose user one names, where it leads, and whether it may be used as it is.

A DSN can hold a password: whoever shows one shows what :func:`gateway.sealing.redaction.redact` leaves of it.
"""

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gateway.base.causes import cause_of
from gateway.base.loopback import is_loopback

SCHEMES: Final = ("postgresql", "postgres")
VERIFIED: Final = frozenset({"verify-ca", "verify-full"})
"""The values of ``sslmode`` by which a server has to show who it is; the others take any server, or none at all."""

_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES: Final = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
_ENCODED: Final = "special characters of a password must be percent-encoded"


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
        DsnError: it is no URL of PostgreSQL's, an option of it is none or names a file that cannot be used, or a host
            beyond this machine need not show who it is.
    """
    try:
        parts = urlsplit(dsn)
        hosts = list(_hosts(dsn))
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        # Its text would quote what it takes for a port: a piece of a password with a slash in it.
        raise DsnError(f"{name} cannot be used: it is no URL; {_ENCODED}") from None
    if parts.scheme not in SCHEMES:
        raise DsnError(f"{name} cannot be used: it is no URL like postgresql://user@host/database")
    if "@" in parts.path or parts.fragment:
        # What stands where the host does is then a piece of the password, or the user: it is not shown.
        raise DsnError(f"{name} cannot be used: it is no URL, or its database is not percent-encoded; {_ENCODED}")
    modes = options.get("sslmode") or [os.environ.get("PGSSLMODE", "")]
    if wrong := _wrong_option(options, modes[-1]):
        raise DsnError(f"{name} cannot be used: {wrong}")
    beyond = [h for h in hosts if not _is_here(h)]
    if beyond and not set(modes) <= VERIFIED and not allow_plaintext:
        raise DsnError(
            f"{name} cannot be used: {beyond[0]} is another machine, which need not show who it is: add "
            "sslmode=verify-full&sslrootcert=FILE, or say MYPAY_POSTGRES_ALLOW_PLAINTEXT=1 where the network is safe"
        )


def _wrong_option(options: Mapping[str, Sequence[str]], mode: str) -> str | None:
    """What a driver would refuse each time that it connects: waiting for the server would not help."""
    if mode and mode not in _MODES:
        return f"sslmode is none of {', '.join(_MODES)}"
    if not all(port.isdecimal() for value in options.get("port", ()) for port in value.split(",")):
        return "port is no number"
    if mode not in {"require", *VERIFIED}:
        return None
    named = {n: options.get(n, [os.environ.get(f"PG{n.upper()}", "")])[-1] for n in _FILES}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for option, path in named.items():
        try:
            if path:
                Path(path).read_bytes()
            if path and option in {"sslrootcert", "sslcrl"}:
                context.load_verify_locations(cafile=path)
        except OSError as error:  # and SSLError
            return f"the file that {option} names cannot be used ({path}: {cause_of(error)})"
    return None


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
