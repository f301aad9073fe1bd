"""A recipient's side: which exports are whole, opened and checked against their receipts; which attempts are void."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError

from gateway.portability.sealed import BYTES_MAX, open_receipt, unseal
from schemas.codec import DecodeError, decode
from schemas.portability import (
    EXPORT_CHUNK_TYPE,
    EXPORT_COMPLETE_TYPE,
    EXPORT_VOID_TYPE,
    ExportChunk,
    ExportComplete,
    ExportManifest,
    ExportVoid,
)

AttemptKey = tuple[str, int]
"""Export id and attempt."""

_BODY_BYTES_MAX: Final = 2 * BYTES_MAX


class ExportRefusedError(Exception):
    """An export does not hold: it must not be used. The text says what is wrong, and nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """An export that is whole, as its receipt says."""

    manifest: ExportManifest
    lists: Mapping[str, list[dict[str, Any]]] = field(repr=False)


class ExportReader:
    """Takes a topic's records in their order; each export that is whole is opened once.

    Args:
        private_keys: joserfc key objects by kid.
        receipt_key: the gateway's public key.
        org_code: whose records these are.
    """

    def __init__(self, *, private_keys: Mapping[str, Any], receipt_key: Any, org_code: str) -> None:
        self._private_keys = private_keys
        self._receipt_key = receipt_key
        self._org_code = org_code
        self._chunks: dict[AttemptKey, dict[int, str]] = {}
        self.whole: dict[str, VerifiedExport] = {}
        self.void: dict[AttemptKey, str] = {}

    @property
    def open_attempts(self) -> list[AttemptKey]:
        """Attempts of which neither was told yet: nothing of them may be used."""
        return sorted(self._chunks)

    def take(self, type_: str, body: bytes) -> VerifiedExport | None:
        """Take one record; return the export that it makes whole.

        Raises:
            ExportRefusedError: it makes one whole that does not hold, or cannot be read.
        """
        try:
            match type_:
                case t if t == EXPORT_CHUNK_TYPE:
                    chunk = decode(ExportChunk, body, bytes_max=_BODY_BYTES_MAX)
                    self._chunks.setdefault((chunk.export_id, chunk.attempt), {})[chunk.chunk] = chunk.jwe
                case t if t == EXPORT_VOID_TYPE:
                    void = decode(ExportVoid, body)
                    self._chunks.pop((void.export_id, void.attempt), None)
                    self.void[void.export_id, void.attempt] = void.reason.text
                case t if t == EXPORT_COMPLETE_TYPE:
                    return self._complete(decode(ExportComplete, body, bytes_max=_BODY_BYTES_MAX))
        except DecodeError as error:
            raise ExportRefusedError(f"a record cannot be read: {error}") from None
        return None

    def _complete(self, complete: ExportComplete) -> VerifiedExport | None:
        known = self.whole.get(complete.export_id)
        try:
            payload = open_receipt(complete.receipt, self._receipt_key)
            manifest = decode(ExportManifest, payload, bytes_max=_BODY_BYTES_MAX)
        except (JoseError, ValueError):
            raise ExportRefusedError("the receipt is not signed with the gateway's key, or cannot be read") from None
        if known is not None:
            # The relay may tell it twice; two that differ would be the gateway's fault.
            if known.manifest != manifest:
                raise ExportRefusedError(f"export {complete.export_id} is whole twice")
            return None
        named = (manifest.export_id, manifest.attempt)
        if named != (complete.export_id, complete.attempt) or manifest.rcv_org_code != self._org_code:
            raise ExportRefusedError(f"the receipt is of another export than {complete.export_id}, or not for us")
        opened = VerifiedExport(manifest, self._open(manifest, self._chunks.pop(named, {})))
        self.whole[complete.export_id] = opened
        return opened

    def _open(self, manifest: ExportManifest, chunks: Mapping[int, str]) -> Mapping[str, list[dict[str, Any]]]:
        key = self._private_keys.get(manifest.kid)
        if key is None:
            raise ExportRefusedError(f"there is no private key {manifest.kid}")
        lists: dict[str, list[dict[str, Any]]] = {}
        for number, listed in enumerate(manifest.chunks, 1):
            sealed = chunks.get(number)
            if sealed is None or hashlib.sha256(sealed.encode()).hexdigest() != listed.sha256:
                raise ExportRefusedError(f"chunk {number} is missing, or not the one that the manifest lists")
            found = self._read(manifest, number, sealed, key)
            if sum(len(rows) for rows in found.values()) != listed.records:
                raise ExportRefusedError(f"chunk {number} does not hold as many records as the manifest says")
            for name, rows in found.items():
                lists.setdefault(name, []).extend(rows)
        if Counter({name: len(rows) for name, rows in lists.items()}) != Counter(manifest.counts):
            raise ExportRefusedError("the records are not as many as the manifest says")
        return lists

    def _read(self, manifest: ExportManifest, number: int, sealed: str, key: Any) -> dict[str, list[dict[str, Any]]]:
        try:
            told = json.loads(unseal(sealed, key))
        except (JoseError, ValueError):
            raise ExportRefusedError(f"chunk {number} cannot be opened with the private key {manifest.kid}") from None
        place = (manifest.export_id, manifest.attempt, number, manifest.schema_version)
        if (told.get("export_id"), told.get("attempt"), told.get("chunk"), told.get("schema_version")) != place:
            raise ExportRefusedError(f"chunk {number} is another's")
        return {name: rows for name, rows in told.items() if name.endswith("_list")}
