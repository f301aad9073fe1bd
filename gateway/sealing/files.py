"""Files that hold a secret: written for their owner alone, and refused when anybody on the machine could read them."""

import os
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES_MAX: Final = 64 * 1024
"""No key of ours takes more than a few KiB; a larger file is a mistake."""

_FORBIDDEN: Final = stat.S_IWGRP | stat.S_IRWXO
"""Group read is allowed: mounted secrets (Kubernetes with an fsGroup) have it."""


class SecretFileError(Exception):
    """A secret file cannot be used. The text names the file and the cause, never its content."""


def write_secret_file(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600, flushed to disk: all of it, or there is no file.

    Raises:
        FileExistsError: a secret is never overwritten.
        OSError: it cannot be written; the error names the file.
    """
    write_new_file(path, content, mode=0o600)


def write_new_file(path: Path, content: bytes, *, mode: int) -> None:
    """The same with a mode of the caller's: for what belongs to a secret, as its public half."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        # Whoever finds the file later takes what it holds: what is left of a password is one.
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def read_secret_file(path: Path) -> bytes:
    """Read a whole secret file.

    Raises:
        SecretFileError: missing, unreadable, larger than :data:`SECRET_BYTES_MAX`, or open to others by its mode.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}") from None
    if mode & _FORBIDDEN:
        raise SecretFileError(f"{path} is open to others (mode {stat.S_IMODE(mode):04o}): chmod 600")
    if len(content) > SECRET_BYTES_MAX:
        raise SecretFileError(f"{path} is too large for a secret")
    return content
