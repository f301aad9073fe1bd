"""Marks on what the gateway's own processes write: HMAC-SHA256 (RFC 2104) under a key that only they hold.

A mark is ``<key id>.<base64url of 32 bytes>``. The newest key marks, all of a ring are known again, so that keys rotate
without a pause: put the new file where records are read first, then where they are written. A key id that is not known
makes the ring be read once more, at most once a second.

What is marked is a list of parts. Their number and lengths come first, so that no two lists spell the same.
"""

import binascii
import hmac
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from gateway.sealing.files import SecretFileError
from gateway.sealing.marks import MarkProblem
from gateway.sealing.sealing import MasterKeys, NoMasterKeyError, Purpose

RELOAD_SECONDS: Final = 1.0
"""A flood of unknown key ids costs one look into the folder a second."""

_NONE: Final = (1 << 64) - 1
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_MARK_BYTES_MAX: Final = 64 + 1 + 43


class HmacMarks:
    """Implements :class:`gateway.sealing.marks.RecordMarks` for one purpose.

    Args:
        keys: the ring.
        purpose: marks of one purpose are none of another, also under the same ring.
        reload: reads the ring again; None: it never changes.
    """

    def __init__(
        self,
        keys: MasterKeys,
        purpose: Purpose,
        *,
        reload: Callable[[], MasterKeys] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._purpose = purpose
        self._reload = reload
        self._monotonic = monotonic
        self._reloaded_at: float | None = None
        self._keys: dict[bytes, bytes] = {}
        self._newest: bytes | None = None
        self._take(keys)

    def mark(self, parts: Sequence[bytes | None]) -> bytes:
        if self._newest is None:
            raise NoMasterKeyError(f"no key is configured for {self._purpose}")
        return self._made(self._newest, self._keys[self._newest], parts)

    def check(self, mark: bytes, parts: Sequence[bytes | None]) -> MarkProblem | None:
        if len(mark) > _MARK_BYTES_MAX:
            return MarkProblem.WRONG
        key_id, dot, _ = mark.rpartition(b".")
        if not dot:
            return MarkProblem.WRONG
        key = self._keys.get(key_id) or self._look_again(key_id)
        if key is None:
            return MarkProblem.UNKNOWN_KEY
        # Compared as written: each mark has one spelling.
        return None if hmac.compare_digest(mark, self._made(key_id, key, parts)) else MarkProblem.WRONG

    def _look_again(self, key_id: bytes) -> bytes | None:
        now = self._monotonic()
        if self._reload is None or (self._reloaded_at is not None and now - self._reloaded_at < RELOAD_SECONDS):
            return None
        self._reloaded_at = now
        try:
            self._take(self._reload())
        except SecretFileError:
            # What cannot be read vouches for nothing: the mark stays unknown, and the next start tells why.
            return None
        return self._keys.get(key_id)

    def _take(self, ring: MasterKeys) -> None:
        known = {key_id.encode(): ring.derive(self._purpose, key_id) for key_id in ring.ids}
        # The key that marks changes when the process starts again, and not before: so it can be put everywhere first.
        if self._newest is None:
            self._newest = ring.newest.encode() if ring.newest is not None else None
        else:
            known.setdefault(self._newest, self._keys[self._newest])
        self._keys = known

    @staticmethod
    def _made(key_id: bytes, key: bytes, parts: Sequence[bytes | None]) -> bytes:
        count = len(parts)
        head = _lengths(count)(count, *[_NONE if p is None else len(p) for p in parts])
        tag = hmac.digest(key, b"".join([head, *[p for p in parts if p]]), "sha256")
        return key_id + b"." + binascii.b2a_base64(tag, newline=False).translate(_URL_SAFE, b"=")


# Bounded: whoever writes to a topic chooses how many headers a record has.
@lru_cache(maxsize=64)
def _lengths(parts: int) -> Callable[..., bytes]:
    return struct.Struct(f">{parts + 1}Q").pack
