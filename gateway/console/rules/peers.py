"""Where a request comes from, also where a proxy stands in front."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Proxies: TypeAlias = tuple[IPv4Network | IPv6Network, ...]


def proxies_of(text: str) -> Proxies:
    """Read addresses or networks with commas between them.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def peer_of(remote: str, forwarded: Sequence[str], proxies: Proxies, *, is_proxied: bool) -> str | None:
    """The address that a request comes from; None where it cannot be known.

    Args:
        remote: whose connection it is.
        forwarded: values of ``X-Forwarded-For``: each proxy puts whom it was called by at the end. What stands before
            that anybody may have written.
        proxies: those that are believed. Without any, nobody is.
        is_proxied: something stands in front, as far as the settings say.
    """
    if not proxies:
        return None if is_proxied else remote
    if not _is_one_of(remote, proxies):
        return remote
    last = ",".join(forwarded).rpartition(",")[2].strip()
    try:
        return str(ip_address(last))
    except ValueError:
        return None


def _is_one_of(address: str, proxies: Proxies) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in p for p in proxies)
