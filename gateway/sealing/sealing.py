"""Sealing what may only be stored unreadable: cards behind funding tokens, and dead letters that hold a secret.

AES-256-GCM with a random 96-bit nonce for each sealing. The keys that seal are derived (HKDF-SHA256, RFC 5869) from a
master key and a purpose, so that what was sealed for one purpose opens for no other. The context (a token, a record's
place) and the key's id are authenticated with it: a sealed row that is moved to another place does not open. Random
nonces are safe for 2^32 sealings under one key (NIST SP 800-38D); rotate long before.

Several master keys live side by side: the newest seals, all of them open.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.sealing.key_ring import KEY_BYTES, create_key, read_ring

MASTER_KEY_BYTES: Final = KEY_BYTES


_NONCE_BYTES: Final = 12
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@unique
class Purpose(StrEnum):
    """What a derived key is for."""

    FUNDING_TOKEN = "funding-token"  # noqa: S105 - a name
    DEAD_LETTER = "dead-letter"
    DEAD_LETTER_MARK = "dead-letter-mark"
    DISPATCH_MARK = "dispatch-mark"
    WAITING_MARK = "waiting-mark"
    PSEUDONYM = "pseudonym"
    NEXT_PAGE = "next-page"


class NoMasterKeyError(Exception):
    """There is no master key to seal with, or not the one that something was sealed under."""


class UnsealError(Exception):
    """What was to be opened was changed, moved, or sealed under another key with the same id."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Sealed bytes. ``key_id`` names the master key."""

    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


class MasterKeys:
    """The keys of one ring (cards, dead letters, internal); empty where none is configured. Holds nothing but memory.

    Args:
        keys: id → 32 bytes. The greatest id, as text, is the newest: ids begin with a date.

    Raises:
        ValueError: an id or a key of the wrong form.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id) or len(key) != MASTER_KEY_BYTES:
                raise ValueError(
                    f"a master key is {MASTER_KEY_BYTES} bytes under an id of letters, digits, '.', '_', '-'"
                )
        self._keys = dict(keys)
        self._derived: dict[tuple[Purpose, str], AESGCM] = {}

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a ring (:func:`gateway.sealing.key_ring.read_ring`). A missing directory holds none.

        Raises:
            SecretFileError: the directory or a file cannot be used.
        """
        return cls(read_ring(directory))

    @staticmethod
    def create(directory: Path) -> str:
        """Make a new master key file, newer than all others; return its id. Processes take it up when they restart."""
        return create_key(directory)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"MasterKeys({sorted(self._keys)})"

    @property
    def newest(self) -> str | None:
        """Id of the key that seals."""
        return max(self._keys, default=None)

    @property
    def ids(self) -> list[str]:
        """Ids of all keys, oldest first."""
        return sorted(self._keys)

    def derive(self, purpose: Purpose, key_id: str) -> bytes:
        """The key of one purpose that follows from a master key: 32 bytes."""
        info = f"mypay/{purpose}/v1".encode()
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._keys[key_id])

    def seal(self, purpose: Purpose, plaintext: bytes, context: str) -> Sealed:
        """Seal under the newest key; ``context`` must be given again to open.

        Raises:
            NoMasterKeyError: there is none.
        """
        key_id = self.newest
        if key_id is None:
            raise NoMasterKeyError("no master key is configured")
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._cipher(purpose, key_id).encrypt(nonce, plaintext, _associated(key_id, context))
        return Sealed(key_id, nonce, ciphertext)

    def open(self, purpose: Purpose, sealed: Sealed, context: str) -> bytes:
        """Open what :meth:`seal` made with the same purpose and context.

        Raises:
            NoMasterKeyError: the key it names is not here.
            UnsealError: anything of it was changed.
        """
        if sealed.key_id not in self._keys:
            raise NoMasterKeyError(f"master key {sealed.key_id} is not configured")
        cipher = self._cipher(purpose, sealed.key_id)
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, _associated(sealed.key_id, context))
        except (InvalidTag, ValueError):
            raise UnsealError(f"what was sealed as {purpose} does not open") from None

    def _cipher(self, purpose: Purpose, key_id: str) -> AESGCM:
        cipher = self._derived.get((purpose, key_id))
        if cipher is None:
            cipher = self._derived[purpose, key_id] = AESGCM(self.derive(purpose, key_id))
        return cipher


def _associated(key_id: str, context: str) -> bytes:
    # Key ids hold no "/", so no two pairs of id and context spell the same.
    return f"{key_id}/{context}".encode()
