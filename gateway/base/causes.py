"""What the system, OpenSSL or a parser says of what cannot be used: the end of a sentence, not the name of a class."""

import errno
import os
import socket
import ssl
import tomllib
from collections.abc import Mapping
from typing import Final

_NUMBERS: Final[Mapping[type[OSError], int]] = {
    BrokenPipeError: errno.EPIPE,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
}
"""Of those that asyncio raises without a number, too."""


def cause_of(error: Exception) -> str:
    """``error``: of a file or a connection. No address, no file's name and nothing that it holds is told."""
    if isinstance(error, ssl.SSLError):
        # Its number is one of OpenSSL's own, not the system's.
        return error.reason or type(error).__name__
    if isinstance(error, socket.gaierror):
        return "its name is not known here"
    if isinstance(error, OSError) and (number := error.errno or _NUMBERS.get(type(error))):
        return os.strerror(number)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"it is not TOML: {error}"
    return type(error).__name__
