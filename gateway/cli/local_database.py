"""Whether a database is on this machine."""

import ipaddress
from urllib.parse import parse_qs, unquote, urlsplit


def is_local(dsn: str) -> bool:
    """True if every host that a ``postgresql://`` URL names is this machine: a socket or a loopback address.

    What cannot be read is somewhere else.
    """
    try:
        parts = urlsplit(dsn)
        named = [h for value in parse_qs(parts.query).get("host", []) for h in value.split(",")]
        hosts = [_host(h) for h in parts.netloc.rpartition("@")[2].split(",") if h]
    except ValueError:
        return False
    return all(_is_loopback(h) for h in (*hosts, *named))


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return unquote(address).rpartition(":")[0] or unquote(address) if ":" in address else unquote(address)


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
