"""Rings of keys as folders of files: one ring a purpose, ``<id>.key`` each, base64 of 32 bytes.

The rings are apart so that a process is given those alone which it needs: whoever parses strangers' bytes never holds
the keys that open cards. A folder or file that anybody but the process's own user (or root) could have written, or that
is a link to somewhere else, is refused: a key that others can put there opens and vouches for whatever they like.
"""

import base64
import binascii
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.sealing.files import SecretFileError, read_secret_file, write_secret_file
from schemas.primitives import holds_card_number

KEY_BYTES: Final = 32
_SUFFIX: Final = ".key"


def read_ring(directory: Path) -> dict[str, bytes]:
    """Read every key of a ring: id → 32 bytes. A missing folder holds none.

    Raises:
        SecretFileError: the folder or a file in it cannot be used.
    """
    if not os.path.lexists(directory):
        return {}
    _check(directory, is_folder=True)
    keys: dict[str, bytes] = {}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        _check(path, is_folder=False)
        try:
            key = base64.b64decode(read_secret_file(path).strip(), validate=True)
        except binascii.Error:
            raise SecretFileError(f"{path} is not base64") from None
        if len(key) != KEY_BYTES:
            raise SecretFileError(f"{path} does not hold {KEY_BYTES} bytes")
        keys[path.name.removesuffix(_SUFFIX)] = key
    return keys


def ring_ids(directory: Path) -> list[str]:
    """Ids of a ring's keys, oldest first, from the files' names alone: nothing is opened."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in directory.glob(f"*{_SUFFIX}"))


def create_key(directory: Path) -> str:
    """Make a new key file, newer than all others; return its id.

    Raises:
        SecretFileError: the folder cannot be used.
    """
    if os.path.lexists(directory):
        _check(directory, is_folder=True)
    now = datetime.now(UTC)
    # Operators name keys, and no id that they name may be a card number: of twelve digits every tenth looks so.
    while holds_card_number(key_id := f"{now:%Y%m%dT%H%M%S%fZ}"):
        now += timedelta(microseconds=1)
    write_secret_file(directory / f"{key_id}{_SUFFIX}", base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
    return key_id


def _check(path: Path, *, is_folder: bool) -> None:
    """Refuse what others could have put there; the modes of files are :func:`read_secret_file`'s to check."""
    try:
        found = path.lstat()
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SecretFileError(f"{path} is a symbolic link: keys stand where they are named, put the real one there")
    if is_folder and not stat.S_ISDIR(found.st_mode):
        raise SecretFileError(f"{path} is no folder")
    if not is_folder and not stat.S_ISREG(found.st_mode):
        raise SecretFileError(f"{path} is no regular file")
    if found.st_uid not in {os.geteuid(), 0}:
        raise SecretFileError(f"{path} belongs to another user (uid {found.st_uid}): chown it to who runs the gateway")
    if is_folder and found.st_mode & 0o077:
        raise SecretFileError(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 700")
