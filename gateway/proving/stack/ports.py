"""Free TCP ports on the loopback address."""

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

from gateway.proving.stack.errors import LocalStackError

LOOPBACK = "127.0.0.1"
# Below the ephemeral ranges of Linux (32768) and macOS (49152): an outgoing connection may take an ephemeral port
# while its server restarts, and a client that retries such a port can even end up connected to itself.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200

# Given by this process: a server that is down for a while has its port still.
_GIVEN: set[int] = set()


def free_ports(count: int) -> tuple[int, ...]:
    """Choose `count` ports nobody listens on; they are this process's, whoever listens there, as long as it lives.

    Raises:
        LocalStackError: none was found, or it cannot be seen which ports are others'.
    """
    found: list[int] = []
    for port in random.sample(range(_FIRST, _LAST + 1), _ATTEMPTS):
        if len(found) == count:
            return tuple(found)
        if is_free(port) and _take(port):
            found.append(port)
    raise LocalStackError(
        f"No {count} free ports were found between {_FIRST} and {_LAST}.",
        "List the listening sockets with `ss -ltn`, and stop what is not needed.",
    )


def _take(port: int) -> bool:
    """Take a port; False where somebody has it. Others look at the same moment, and listen later."""
    if port in _GIVEN:
        return False
    try:
        fcntl.lockf(_places(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    _GIVEN.add(port)
    return True


@cache
def _places() -> int:
    """A file of which each byte stands for a port, and is locked by whoever has it."""
    path = Path(tempfile.gettempdir()) / f"mypay-{os.getuid()}.ports"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalStackError(
            f"{path}, which says whose ports are taken, cannot be opened: {error.strerror}.",
            "Choose another directory for temporary files in TMPDIR.",
        ) from error


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
