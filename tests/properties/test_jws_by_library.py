"""The strict readers of signatures accept nothing that general libraries refuse, and verify as they do."""

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jws import JWSRegistry

from gateway.client import Signer
from gateway.directory.partners import PartnerKey
from gateway.identity.assurance import Assertion
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.jwk import generate_key, import_private, import_verifier
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from schemas.primitives import PartnerId
from tests.support.assertion_samples import CONSENT_LINK, Trust, provider
from tests.support.domain_samples import NOW

TYPE = "kr.mypay.payment.order.v1"
ALGORITHMS = ("ES256", "Ed25519")
# PyJWT has RFC 8037's older name alone.
OLDER = {"ES256": "ES256", "Ed25519": "EdDSA"}
PAIRS = {algorithm: generate_key(algorithm) for algorithm in ALGORITHMS}
SIGNERS = {algorithm: Signer(private, algorithm) for algorithm, (private, _) in PAIRS.items()}
PUBLIC: dict[str, Any] = {algorithm: private.public_key() for algorithm, (private, _) in PAIRS.items()}
IDP = provider()
ASSERTIONS = JwsAssertionVerifier(Trust(IDP))
TOKEN = IDP.issue("u-1", CONSENT_LINK)
CHARACTERS = st.sampled_from("ABCZabcz0189-_=.+/ \n\u00e9")

algorithms = st.sampled_from(ALGORITHMS)
bodies = st.binary(max_size=40)


class Keys:
    """Implements :class:`gateway.identity.signing.KeySource`; a key's id is its algorithm."""

    def partner_exists(self, _partner_id: str) -> bool:
        return True

    def key(self, kid: str) -> PartnerKey | None:
        since = NOW - timedelta(days=1)
        return PartnerKey(kid, PartnerId("acme"), kid, PAIRS[kid][1], since, None, None) if kid in PAIRS else None

    async def refresh_if_stale(self) -> bool:
        return False


VERIFIER = JwsVerifier(Keys())


def is_ours(signature: str, body: bytes) -> bool:
    return VERIFIER.authenticate(body=body, signature=signature, type_=TYPE, now=NOW) == Signed(PartnerId("acme"))


def is_librarys(signature: str, body: bytes, algorithm: str) -> bool:
    header = json.loads(base64.urlsafe_b64decode(signature.partition(".")[0] + "=="))
    if header["alg"] == "Ed25519":
        signed, _, raw = signature.partition("..")
        key = import_private(PAIRS["Ed25519"][0], "Ed25519")
        padded = base64.urlsafe_b64decode(raw + "==")
        return bool(JWSRegistry.algorithms["Ed25519"].verify(signed.encode() + b"." + body, padded, key))
    try:
        jwt.PyJWS().decode_complete(signature, PUBLIC[algorithm], algorithms=[OLDER[algorithm]], detached_payload=body)
    except jwt.InvalidTokenError:
        return False
    return True


def damaged(draw: Any, text: str) -> str:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text) - 1))
        width = draw(st.integers(0, 1))
        text = text[:place] + draw(CHARACTERS | st.just("")) + text[place + width :]
    return text


@st.composite
def damaged_signatures(draw: st.DrawFn) -> tuple[str, bytes, str]:
    algorithm, body = draw(algorithms), draw(bodies)
    signature = damaged(draw, SIGNERS[algorithm].sign(body, TYPE))
    return signature, draw(st.just(body) | bodies), algorithm


@st.composite
def any_header(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """Signed rightly, under a header with other members, in another order or spelling."""
    algorithm, body = draw(algorithms), draw(bodies)
    names = st.sampled_from((algorithm, OLDER[algorithm], "none", "HS256"))
    header: dict[str, Any] = {"alg": draw(names), "kid": algorithm, "typ": TYPE, "b64": False, "crit": ["b64"]}
    changes = st.dictionaries(
        st.sampled_from((*header, "cty", "jwk")),
        st.sampled_from((None, False, [], ["b64"], algorithm, TYPE)),
        max_size=1,
    )
    header |= draw(changes)
    members = draw(st.permutations(sorted(header)))
    text = json.dumps({m: header[m] for m in members}, indent=draw(st.sampled_from((None, 1)))).encode()
    protected = base64.urlsafe_b64encode(text).rstrip(b"=")
    key = import_private(PAIRS[algorithm][0], algorithm)
    raw = JWSRegistry.algorithms[algorithm].sign(protected + b"." + body, key)
    return f"{protected.decode()}..{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}", body, algorithm


@given(algorithms, bodies, bodies, st.binary(max_size=80), st.integers(0, 63), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_it_verifies_as_the_library_does(
    algorithm: str, signed: bytes, other: bytes, junk: bytes, place: int, flip: int
) -> None:
    private, public = PAIRS[algorithm]
    library, key = JWSRegistry.algorithms[algorithm], import_private(private, algorithm)
    good = library.sign(signed, key)
    flipped = bytearray(good)
    flipped[place] ^= flip
    # The same numbers, spelt with a zero in front of the second.
    stretched = good[:32] + b"\x00" + good[32:]
    verify = import_verifier(public, algorithm)
    for message in (signed, other):
        for signature in (good, bytes(flipped), stretched, good[:-1], junk):
            assert verify(message, signature) == bool(library.verify(message, signature, key))
    # Not a byte of what was signed passes for one of its signature, nor the other way round.
    assert not verify(signed[1:], good + signed[:1]) or not signed
    assert not verify(good[-1:] + signed, good[:-1])


@given(damaged_signatures() | any_header())
@settings(max_examples=400, deadline=None)
def test_no_signature_is_accepted_that_a_library_refuses(given_: tuple[str, bytes, str]) -> None:
    signature, body, algorithm = given_
    if is_ours(signature, body):
        assert is_librarys(signature, body, algorithm)


@given(algorithms, bodies)
def test_a_partners_signature_is_accepted_by_both(algorithm: str, body: bytes) -> None:
    signature = SIGNERS[algorithm].sign(body, TYPE)
    assert is_ours(signature, body)
    assert is_librarys(signature, body, algorithm)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_no_assertion_is_accepted_that_a_library_refuses(data: st.DataObject) -> None:
    token = damaged(data.draw, TOKEN)
    if isinstance(ASSERTIONS.verify(token, NOW), Assertion):
        assert claims_by_library(token) == claims_by_library(TOKEN)


def claims_by_library(token: str) -> dict[str, Any]:
    key = jwt.PyJWK(IDP.jwks()["keys"][0]).key
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    return dict(jwt.decode(token, key, algorithms=["ES256"], audience=IDP.audience, options=options))


def test_an_unchanged_assertion_is_accepted_by_both() -> None:
    assert isinstance(ASSERTIONS.verify(TOKEN, NOW), Assertion)
    assert claims_by_library(TOKEN)["iss"] == IDP.issuer
