"""Customers' proofs in one world: what is asked for, who signs them, and what partners show in their place.

Most worlds ask for none. Some ask where nobody can have one, so that payments are free, or exempt and capped. In the
others two identity providers sign (Ed25519, for its signatures are the same each time), and partners also show what
proves nothing: another customer's proof, one for another amount, an old or a weak one, one of a stranger, one that was
changed, or one whose id was used before.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.assurance import AssurancePolicy, AssuranceRule, AssuredOperation, Issuer, Requirement
from gateway.identity.exemption_caps import ExemptionCap
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.store import AssertionVerifier, IssuerKey, TrustTable
from gateway.proving.simulation.script.scene import CUSTOMER, VICTIM
from gateway.proving.simulation.script.showing import NOTHING_SHOWN, Asked, ProofKind, Shown
from schemas.assertions import ASSERTION_TYPE, Link, PaymentLink
from schemas.codec import encode

FREE_MINOR: Final = 4_000
"""Payments up to this much need no proof."""

CAP: Final = ExemptionCap(max_amount_minor=6_000, max_count=3, max_sum_minor=15_000)
"""What consents may let pass above that; their terms say more."""

_NOTHING: Final = Requirement(0, timedelta(0))
_PROOF: Final = Requirement(2, timedelta(minutes=30))
"""Longer than any world lives, and shorter than an old proof is old."""

_PROVEN_COMMANDS: Final = frozenset({AssuredOperation.GRANT, AssuredOperation.AMEND, AssuredOperation.RESUME})


def _policy(*, commands: frozenset[AssuredOperation]) -> AssurancePolicy:
    return AssurancePolicy(
        (
            AssuranceRule(AssuredOperation.PAYMENT, {"KRW": FREE_MINOR}, _NOTHING),
            AssuranceRule(AssuredOperation.PAYMENT, None, _PROOF),
            *(
                AssuranceRule(o, None, _PROOF if o in commands else _NOTHING)
                for o in AssuredOperation
                if o is not AssuredOperation.PAYMENT
            ),
        ),
        methods={"pin": 2, "sms": 1},
        exemptions={"KRW": CAP},
    )


class AskingForProofs(NoIdentityProviders):
    """Implements TrustTable where nobody can have a proof: payments need one, commands on consents none."""

    policy = _policy(commands=frozenset())


class KnownProviders:
    """Implements TrustTable with the world's two identity providers."""

    policy = _policy(commands=_PROVEN_COMMANDS)

    def issuer(self, issuer: str) -> Issuer | None:
        """The provider's entry."""
        return _TRUSTED.get(issuer)

    def key(self, issuer: str, kid: str) -> IssuerKey | None:
        """The provider's key."""
        return _KEYS.get((issuer, kid))

    async def refresh_unknown(self) -> bool:
        """There is nothing newer to read."""
        return False


def trusted(asked: Asked) -> tuple[TrustTable, AssertionVerifier]:
    """What a world's workers trust."""
    if asked is Asked.PROOFS:
        table = KnownProviders()
        return table, JwsAssertionVerifier(table)
    nobody = AskingForProofs() if asked is Asked.IMPOSSIBLE else NoIdentityProviders()
    return nobody, nobody


# --- who signs ---

AUDIENCE: Final = "gateway"
_ISSUERS: Final = ("https://bank.example", "https://telecom.example")
_STRANGER: Final = "https://stranger.example"
_SIGNERS: Final = {
    issuer: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(issuer.encode()).digest())
    for issuer in (*_ISSUERS, _STRANGER)
}


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _public(issuer: str) -> str:
    return _b64(_SIGNERS[issuer].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


_TRUSTED: Final = {i: Issuer(i, "financial", AUDIENCE, {"low": 1, "high": 2}) for i in _ISSUERS}
_KEYS: Final = {
    (i, "key-1"): IssuerKey(i, "key-1", "Ed25519", {"kty": "OKP", "crv": "Ed25519", "x": _public(i)}, None, None, False)  # noqa: FBT003
    for i in _ISSUERS
}

IDENTITIES: Final = {(issuer, f"sub-of-{customer}"): customer for issuer in _ISSUERS for customer in (CUSTOMER, VICTIM)}
"""(issuer, subject) → the customer that it is linked to."""


_DRAWN: Final = (
    *[ProofKind.GOOD] * 30,
    *[ProofKind.NONE] * 5,
    *(k for k in ProofKind if k not in (ProofKind.GOOD, ProofKind.NONE)),
)


class Prover:
    """Signs what one world's customers confirm. Where no proofs are asked for it draws nothing, and shows nothing.

    Attributes:
        epoch: wall time at virtual second 0.
        false: when something was shown that proves nothing, and what.
    """

    def __init__(self, rng: Random, asked: Asked, epoch: datetime) -> None:
        self._rng = rng
        self._is_asked = asked is Asked.PROOFS
        self.epoch = epoch
        self._made = 0
        self._good: list[tuple[str, str]] = []
        self.false: list[tuple[float, str]] = []

    def prove(self, link: Link, at: float, *, again: float = 0.15) -> tuple[str | None, Shown]:
        """A token for what a link says, at a virtual second, or something in its place; and what it is.

        Args:
            link: what the customer confirms.
            at: when.
            again: how often a good one has the id of an earlier one.
        """
        if not self._is_asked:
            return None, NOTHING_SHOWN
        rng = self._rng
        kind = rng.choice(_DRAWN)
        if kind is ProofKind.NONE:
            return None, NOTHING_SHOWN
        if kind is ProofKind.OTHER_AMOUNT and not isinstance(link, PaymentLink):
            kind = ProofKind.FOREIGN
        issuer, jti = rng.choice(_ISSUERS), f"proof-{self._made}"
        self._made += 1
        if kind is ProofKind.GOOD and self._good and rng.random() < again:
            # A provider that gives one id to two proofs, or somebody who made it do so.
            issuer, jti = rng.choice(self._good)
            self.false.append((at, f"{jti} again"))
        elif kind is ProofKind.GOOD:
            self._good.append((issuer, jti))
        if kind is not ProofKind.GOOD:
            self.false.append((at, f"{jti}, {kind}"))
        return self._token(kind, issuer, jti, link, at), Shown(kind, f"{issuer}#{jti}")

    def _token(self, kind: ProofKind, issuer: str, jti: str, link: Link, at: float) -> str:
        if kind is ProofKind.STRANGE:
            issuer = _STRANGER
        if kind is ProofKind.OTHER_AMOUNT and isinstance(link, PaymentLink):
            amount = link.amount.model_copy(update={"value": str(link.amount.minor + 1)})
            link = link.model_copy(update={"amount": amount})
        subject = {ProofKind.FOREIGN: f"sub-of-{VICTIM}", ProofKind.UNLINKED: "sub-of-nobody"}.get(
            kind, f"sub-of-{CUSTOMER}"
        )
        issued = int((self.epoch + timedelta(seconds=at - 1.0)).timestamp())
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "iat": issued,
            "exp": issued + 1_800,
            "auth_time": issued - (7_200 if kind is ProofKind.OLD else 0),
            "jti": jti,
            "acr": "low" if kind is ProofKind.WEAK else "high",
            "amr": ["pin"],
            "mypay_link": json.loads(encode(link)),
        }
        header = {"alg": "Ed25519", "kid": "key-1", "typ": ASSERTION_TYPE}
        signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        signature = _SIGNERS[issuer].sign(signed.encode())
        if kind is ProofKind.CHANGED:
            signature = bytes([signature[0] ^ 1]) + signature[1:]
        return f"{signed}.{_b64(signature)}"
