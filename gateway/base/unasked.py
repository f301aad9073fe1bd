"""Why an HTTP server could not be asked, in words for operators."""

import errno
import os
from collections.abc import Sequence
from typing import Final

import aiohttp

_RESET: Final = (errno.ECONNRESET, errno.EPIPE)
_CLOSED: Final = "it closed the connection before it had answered"
_KINDS: Final[Sequence[tuple[type[Exception], str]]] = (
    (aiohttp.ClientConnectorDNSError, "its name is not known here"),
    (aiohttp.ClientSSLError, "it does not speak TLS, or none that is spoken here"),
    (aiohttp.InvalidURL, "its address is none"),
    (aiohttp.ClientPayloadError, _CLOSED),
    (aiohttp.ServerDisconnectedError, _CLOSED),
)


def why_unasked(error: aiohttp.ClientError | OSError) -> str:
    """As the end of a sentence, such as "Connection refused"; nothing of what was asked or answered is in it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = getattr(error.certificate_error, "verify_message", "") or "not valid"
        return f"its certificate is not accepted: {text}"
    if words := next((words for kind, words in _KINDS if isinstance(error, kind)), None):
        return words
    if isinstance(error, OSError) and error.errno:
        return _CLOSED if error.errno in _RESET else os.strerror(error.errno)
    return f"it did not answer as HTTP asks ({type(error).__name__})"
