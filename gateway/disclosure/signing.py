"""Roots are signed: compact JWS (RFC 7515) under ES256, with a key whose public half everybody may have."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from joserfc.jws import JWSRegistry
from joserfc.util import json_b64encode, urlsafe_b64encode

from gateway.identity.jose import base64url
from gateway.identity.jose.jwk import (
    PrivateKey,
    Verify,
    generate_key,
    import_private,
    import_verifier,
    public_jwk,
    read_private_key,
    write_private_key,
)
from gateway.sealing.files import write_new_file
from schemas.codec import DecodeError, decode, encode, encode_json, parse_strictly
from schemas.disclosure import ROOT_TYP, RootStatement

_ALGORITHM: Final = "ES256"
_STATEMENT_MAX: Final = 4096


class RootSigner:
    """Signs roots.

    Args:
        key: P-256.
        kid: the id under which its public half is published.
    """

    def __init__(self, key: PrivateKey, kid: str) -> None:
        self._key = import_private(key, _ALGORITHM)
        self._header: bytes = json_b64encode({"alg": _ALGORITHM, "kid": kid, "typ": ROOT_TYP})

    def sign(self, root: RootStatement) -> str:
        """The statement: a compact JWS."""
        signed = self._header + b"." + urlsafe_b64encode(encode(root))
        signature = JWSRegistry.algorithms[_ALGORITHM].sign(signed, self._key)
        return f"{signed.decode()}.{urlsafe_b64encode(signature).decode()}"


class RootVerifier:
    """Reads statements that bear a signature of one of these keys.

    Args:
        keys: public JWK by kid.
    """

    def __init__(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        self._keys: dict[str, Verify] = {kid: import_verifier(jwk, _ALGORITHM) for kid, jwk in keys.items()}

    def read(self, statement: str) -> RootStatement | None:
        """What a statement says; None unless one of the keys has signed it."""
        if len(statement) > _STATEMENT_MAX or statement.count(".") != 2:
            return None
        signed, _, signature = statement.rpartition(".")
        try:
            head, payload = (base64url.decode(part) for part in signed.split("."))
            header = parse_strictly(head)
            verify = self._keys.get(header["kid"]) if isinstance(header, dict) else None
            is_root = verify is not None and (header.get("alg"), header.get("typ")) == (_ALGORITHM, ROOT_TYP)
            if not is_root or verify is None or "crit" in header:
                return None
            if not verify(signed.encode("ascii"), base64url.decode(signature)):
                return None
            return decode(RootStatement, payload)
        except (ValueError, KeyError, TypeError, DecodeError):
            return None


def create_key(folder: Path, now: datetime) -> str:
    """Make a key in a folder: ``KID.pem``, for its owner alone, and ``KID.jwk``, for everybody; return its id.

    Raises:
        FileExistsError: a key is never overwritten.
    """
    private, public = generate_key(_ALGORITHM)
    kid = f"disclosure-{now.astimezone(UTC):%Y%m%dT%H%M%S}-{sha256(encode_json(public)).hexdigest()[:8]}"
    # Nobody is signed for by a public half alone; a private one would sign at once.
    told = encode_json({**public, "kid": kid, "use": "sig", "alg": _ALGORITHM})
    write_new_file(folder / f"{kid}.jwk", told, mode=0o644)
    write_private_key(folder / f"{kid}.pem", private)
    return kid


def newest_key(folder: Path) -> RootSigner | None:
    """What signs: the key that was made last; None where there is none.

    Raises:
        SecretFileError, KeyFormatError: it cannot be used.
    """
    files = sorted(folder.glob("*.pem"))
    return RootSigner(read_private_key(files[-1]), files[-1].stem) if files else None


def public_keys(folder: Path) -> dict[str, dict[str, Any]]:
    """Public halves of every key in a folder, by id.

    Raises:
        ValueError: a file is no JWK.
    """
    found = {f.stem: dict(parse_strictly(f.read_bytes())) for f in sorted(folder.glob("*.jwk"))}
    for file in sorted(folder.glob("*.pem")):
        if file.stem not in found:
            found[file.stem] = dict(public_jwk(read_private_key(file)))
    return found
