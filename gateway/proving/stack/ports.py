"""Free TCP ports on the loopback address."""

import random
import socket

from gateway.proving.stack.errors import LocalStackError

LOOPBACK = "127.0.0.1"
# Below the ephemeral ranges of Linux (32768) and macOS (49152): an outgoing connection may take an ephemeral port
# while its server restarts, and a client that retries such a port can even end up connected to itself.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200


def free_ports(count: int) -> tuple[int, ...]:
    """Choose `count` ports nobody listens on.

    Raises:
        LocalStackError: none was found.
    """
    found: list[int] = []
    for port in random.sample(range(_FIRST, _LAST + 1), _ATTEMPTS):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise LocalStackError(
        f"No {count} free ports were found between {_FIRST} and {_LAST}.",
        "List the listening sockets with `ss -ltn`, and stop what is not needed.",
    )


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT don't hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
