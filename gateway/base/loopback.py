"""Whether a host is this machine: what is said in clear goes nowhere else unasked."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and addresses of the loopback interface; any other name may be anybody's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
