"""A simulated identity provider: it says that a customer authenticated, and signs that.

For demos, tests and load generation. Written with none of the gateway's own verifying code, as a foreign provider would
be. Keys are made when it starts and live in memory alone. One assertion costs about 40 µs.
"""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.assertions import ASSERTION_TYPE, Link
from schemas.codec import encode

Group = Literal["financial", "telecom"]
Algorithm = Literal["ES256", "Ed25519"]

GATEWAY_AUDIENCE: Final = "https://gateway.mypay.example"
ISSUERS: Final[dict[Group, str]] = {
    "financial": "https://id.financial.mypay.example",
    "telecom": "https://id.telecom.mypay.example",
}
LEVELS: Final[dict[Group, dict[str, int]]] = {
    "financial": {
        "urn:mypay:financial:basic": 1,
        "urn:mypay:financial:strong": 2,
        "urn:mypay:financial:certificate": 3,
    },
    "telecom": {"urn:mypay:telecom:sms": 1, "urn:mypay:telecom:app": 2, "urn:mypay:telecom:usim": 3},
}
"""The providers of ``deploy/issuers`` and their words for each level."""

LIFETIME: Final = timedelta(minutes=5)


class UnknownKeyError(Exception):
    """No published key has this kid."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    algorithm: Algorithm
    private: EllipticCurvePrivateKey | Ed25519PrivateKey
    made_at: datetime

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(data)
        r, s = decode_dss_signature(self.private.sign(data, ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def jwk(self) -> dict[str, Any]:
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig", "iat": int(self.made_at.timestamp())}
        if isinstance(self.private, Ed25519PrivateKey):
            raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519", "x": _b64(raw), **common}
        numbers = self.private.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return {"kty": "EC", "crv": "P-256", "x": _b64(x), "y": _b64(y), **common}


class IdentityProvider:
    """One group's provider.

    Args:
        group: whose it is; gives the issuer's name and words unless told otherwise.
        clock: the provider's own clock.
        signing: kid and ES256 key to begin with instead of a new one: load is signed by many processes with one key.
    """

    def __init__(
        self,
        group: Group,
        *,
        issuer: str | None = None,
        audience: str = GATEWAY_AUDIENCE,
        algorithm: Algorithm = "ES256",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        signing: tuple[str, EllipticCurvePrivateKey] | None = None,
    ) -> None:
        self.group = group
        self.issuer = issuer or ISSUERS[group]
        self.audience = audience
        self.algorithm = algorithm
        self._clock = clock
        self._keys: dict[str, _Key] = {}
        self._signing = self._new_key() if signing is None else self._take_key(*signing)

    @property
    def kid(self) -> str:
        """Of the key that signs now."""
        return self._signing.kid

    @property
    def published(self) -> list[str]:
        """Kids in the key set, oldest first."""
        return list(self._keys)

    def jwks(self) -> dict[str, Any]:
        """The key set: public keys, the retired ones until they are withdrawn."""
        return {"keys": [key.jwk() for key in self._keys.values()]}

    def rotate(self) -> str:
        """Sign with a new key from now on; the old one stays in the key set. Returns the new kid."""
        self._signing = self._new_key()
        return self._signing.kid

    def withdraw(self, kid: str) -> None:
        """Take a key out of the key set; if it is the one that signs, a new one takes its place.

        Raises:
            UnknownKeyError: it is not in the key set.
        """
        if self._keys.pop(kid, None) is None:
            raise UnknownKeyError(kid)
        if kid == self._signing.kid:
            self.rotate()

    def acr(self, level: int) -> str:
        """This provider's word for a level, 1 to 3."""
        return next(word for word, known in LEVELS[self.group].items() if known == level)

    def issue(
        self,
        subject: str,
        link: Link,
        *,
        acr: str | None = None,
        amr: Sequence[str] = ("pin", "hwk"),
        auth_time: datetime | None = None,
        issued_at: datetime | None = None,
        lifetime: timedelta = LIFETIME,
        jti: str | None = None,
        audience: str | Sequence[str] | None = None,
    ) -> str:
        """Sign that ``subject`` authenticated for exactly what ``link`` says.

        Args:
            subject: the customer as this provider knows them.
            link: a payment's fields or a command on a consent.
            acr: assurance level in this provider's word; its second level if not told.
            amr: how the customer authenticated (RFC 8176).
            auth_time: when the customer authenticated; now if not told.
            issued_at: now if not told.
            lifetime: until ``exp``.
            jti: a new one if not told.
            audience: the gateway if not told.
        """
        now = issued_at or self._clock()
        issued = int(now.timestamp())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": self.audience if audience is None else audience,
            "iat": issued,
            "exp": issued + lifetime // timedelta(seconds=1),
            "auth_time": int((auth_time or now).timestamp()),
            "jti": jti or secrets.token_urlsafe(16),
            "acr": acr or self.acr(2),
            "amr": list(amr),
            "mypay_link": json.loads(encode(link)),
        }
        return self.sign(claims)

    def sign(self, claims: object, **header: Any) -> str:
        """Sign any claims, also wrong ones, under any header members: for tests of who reads them."""
        members = {"alg": self.algorithm, "kid": self._signing.kid, "typ": ASSERTION_TYPE, **header}
        signed = f"{_b64(_json(members))}.{_b64(_json(claims))}"
        return f"{signed}.{_b64(self._signing.sign(signed.encode()))}"

    def _new_key(self) -> _Key:
        private = generate_private_key(SECP256R1()) if self.algorithm == "ES256" else Ed25519PrivateKey.generate()
        # Ten hexadecimal digits: of twelve that are decimal by chance every tenth would look like a card number.
        return self._take_key(f"{self.group}-{secrets.token_hex(5)}", private)

    def _take_key(self, kid: str, private: EllipticCurvePrivateKey | Ed25519PrivateKey) -> _Key:
        key = _Key(kid, self.algorithm, private, self._clock())
        self._keys[key.kid] = key
        return key


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
