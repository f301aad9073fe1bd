import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

from gateway.directory.partners import PartnerKey
from gateway.identity.jose.jwk import (
    KeyFormatError,
    algorithm_of,
    generate_key,
    import_public,
    read_private_key,
    write_private_key,
)
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.jose.signing import sign_detached
from gateway.identity.signing import Signed
from schemas.primitives import PartnerId
from schemas.reasons import Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TYPE = "kr.mypay.payment.order.v1"
BODY = '{"order_id":"o-1","memo":"안녕","amount":{"currency":"KRW","value":"12500"}}'.encode()
HEADER = {"alg": "ES256", "kid": "k-es", "typ": TYPE, "b64": False, "crit": ["b64"]}

ES_PRIVATE, ES_PUBLIC = generate_key("ES256")
ED_PRIVATE, ED_PUBLIC = generate_key("Ed25519")


def registered(kid: str, jwk: dict[str, Any], algorithm: str, partner: str = "acme") -> PartnerKey:
    return PartnerKey(kid, PartnerId(partner), algorithm, jwk, NOW - timedelta(days=1), NOW + timedelta(days=1), None)


class Keys:
    def __init__(self, *keys: PartnerKey) -> None:
        self.keys = {k.kid: k for k in keys}

    def partner_exists(self, partner_id: str) -> bool:
        return any(k.partner_id == partner_id for k in self.keys.values())

    def key(self, kid: str) -> PartnerKey | None:
        return self.keys.get(kid)

    async def refresh(self) -> None:
        raise NotImplementedError


ES_KEY = registered("k-es", ES_PUBLIC, "ES256")
ED_KEY = registered("k-ed", ED_PUBLIC, "Ed25519")
KEYS = Keys(ES_KEY, ED_KEY)
VERIFIER = JwsVerifier(KEYS)
SIGNATURE = sign_detached(BODY, ES_PRIVATE, kid="k-es", algorithm="ES256", typ=TYPE)


def code(
    signature: str | None,
    *,
    body: bytes = BODY,
    verifier: JwsVerifier = VERIFIER,
    type_: str | None = TYPE,
    now: datetime = NOW,
) -> str | None:
    """None where partner acme has signed."""
    found = verifier.authenticate(body=body, signature=signature, type_=type_, now=now)
    if isinstance(found, Signed):
        assert found.partner_id == "acme"
        return f"lapsed {found.lapsed.code}" if found.lapsed else None
    return str(found.code)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: object, *, sign: Callable[[bytes], bytes] | None = None, body: bytes = BODY) -> str:
    """A detached JWS over any header text, signed rightly with the ES256 key unless told otherwise."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    protected = b64(text)
    signing_input = protected.encode() + b"." + body
    raw = (
        sign(signing_input)
        if sign
        else JWSRegistry.algorithms["ES256"].sign(signing_input, ECKey.import_key(ES_PRIVATE))
    )
    return f"{protected}..{b64(raw)}"


@pytest.mark.parametrize(
    ("private", "kid", "algorithm"),
    [(ES_PRIVATE, "k-es", "ES256"), (ED_PRIVATE, "k-ed", "Ed25519"), (ED_PRIVATE, "k-ed", "EdDSA")],
)
def test_own_signature_is_accepted(private: Any, kid: str, algorithm: str) -> None:
    signature = sign_detached(BODY, private, kid=kid, algorithm=algorithm, typ=TYPE)
    assert code(signature) is None
    assert signature.count(".") == 2
    assert ".." in signature


@pytest.mark.parametrize(
    ("private", "kid", "algorithm"), [(ES_PRIVATE, "k-es", "ES256"), (ED_PRIVATE, "k-ed", "EdDSA")]
)
def test_signature_by_another_library_is_accepted(private: Any, kid: str, algorithm: str) -> None:
    token = jwt.PyJWS().encode(
        BODY,
        private,
        algorithm=algorithm,
        headers={"kid": kid, "typ": TYPE, "crit": ["b64"]},
        is_payload_detached=True,
    )
    assert code(token) is None


def test_another_library_accepts_our_signature() -> None:
    public = ES_PRIVATE.public_key()
    seen = jwt.PyJWS().decode_complete(SIGNATURE, public, algorithms=["ES256"], detached_payload=BODY)
    assert seen["payload"] == BODY


def test_rfc7797_body_of_url_safe_characters_stays_detached() -> None:
    signature = sign_detached(b"abc", ES_PRIVATE, kid="k-es", algorithm="ES256", typ=TYPE)
    assert code(signature, body=b"abc") is None


def test_body_need_not_be_utf8() -> None:
    body = bytes(range(256))
    signature = sign_detached(body, ED_PRIVATE, kid="k-ed", algorithm="Ed25519", typ=TYPE)
    assert code(signature, body=body) is None


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_any_changed_byte_of_the_body_is_refused(position: int, flip: int) -> None:
    tampered = bytearray(BODY)
    tampered[position] ^= flip
    assert code(SIGNATURE, body=bytes(tampered)) == "DS17"


@given(st.integers(0, len(SIGNATURE) - 1), st.characters(max_codepoint=127))
def test_any_changed_character_of_the_signature_is_refused(position: int, character: str) -> None:
    if SIGNATURE[position] == character:
        return
    assert code(SIGNATURE[:position] + character + SIGNATURE[position + 1 :]) in {"DS0B", "DS0E", "DS17"}


@given(st.integers(0, len(SIGNATURE) - 1))
def test_cut_signature_is_refused(length: int) -> None:
    assert code(SIGNATURE[:length]) in {"DS0B", "DS17"}


@given(st.text())
def test_any_text_is_refused_without_an_exception(text: str) -> None:
    assert code(text) == "DS0B"


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "b64", "crit", "jwk"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s, max_size=3)),
    )
)
def test_any_other_header_is_refused(header: dict[str, object]) -> None:
    if header != HEADER:
        assert code(signed(header)) is not None


def test_the_key_tells_who_signed_whatever_the_body_says() -> None:
    theirs = JwsVerifier(Keys(replace(ES_KEY, partner_id=PartnerId("globex"))))
    found = theirs.authenticate(body=BODY, signature=SIGNATURE, type_=TYPE, now=NOW)
    assert found == Signed(PartnerId("globex"))


def test_a_partner_that_is_no_longer_active_has_signed_nothing() -> None:
    keys = Keys(ES_KEY)
    keys.partner_exists = lambda _: False  # type: ignore[method-assign]
    assert code(SIGNATURE, verifier=JwsVerifier(keys)) == "AG01"


def test_a_record_that_does_not_say_what_it_is_may_be_signed_as_anything() -> None:
    assert code(SIGNATURE, type_=None) is None
    assert code(SIGNATURE, type_=None, body=BODY + b" ") == "DS17"


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]
)
def test_a_header_in_another_encoding_than_utf8_is_refused(encoding: str) -> None:
    assert code(signed(json.dumps(HEADER).encode(encoding))) == "DS0B"


def test_signature_for_another_message_type_is_refused() -> None:
    assert code(SIGNATURE, type_="kr.mypay.consent.revoke.v1") == "DS17"


def test_missing_signature_is_refused() -> None:
    assert code(None) == "DS0B"


def test_unknown_key_is_refused() -> None:
    assert code(signed({**HEADER, "kid": "other"})) == "DS0E"


@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ({"disabled_at": NOW}, NOW, "lapsed DS0C"),
        ({"disabled_at": NOW + timedelta(seconds=1)}, NOW, None),
        ({"valid_from": NOW}, NOW, None),
        ({"valid_from": NOW}, NOW - timedelta(microseconds=1), "DS0D"),
        ({"valid_until": NOW}, NOW - timedelta(microseconds=1), None),
        ({"valid_until": NOW}, NOW, "lapsed DS0D"),
        ({"valid_until": NOW, "disabled_at": NOW}, NOW, "lapsed DS0C"),
        ({"valid_until": None}, NOW + timedelta(days=9999), None),
        ({"algorithm": "Ed25519"}, NOW, "DS0B"),
        ({"algorithm": "RS256"}, NOW, "DS0B"),
        ({"jwk": {**ES_PUBLIC, "x": ES_PUBLIC["y"]}}, NOW, "DS0E"),
        ({"jwk": ED_PUBLIC}, NOW, "DS0E"),
        ({"jwk": {}}, NOW, "DS0E"),
    ],
)
def test_state_of_the_registered_key(changes: dict[str, Any], now: datetime, expected: str | None) -> None:
    verifier = JwsVerifier(Keys(replace(ES_KEY, **changes)))
    assert code(SIGNATURE, verifier=verifier, now=now) == expected


def test_replaced_key_takes_effect_at_once() -> None:
    keys = Keys(ES_KEY)
    verifier = JwsVerifier(keys)
    assert code(SIGNATURE, verifier=verifier) is None
    _, other = generate_key("ES256")
    keys.keys["k-es"] = replace(ES_KEY, jwk=other)
    assert code(SIGNATURE, verifier=verifier) == "DS17"
    keys.keys["k-es"] = replace(ES_KEY, disabled_at=NOW)
    assert code(SIGNATURE, verifier=verifier) == "lapsed DS0C"
    assert code(signed(HEADER, body=b"other"), verifier=verifier) == "DS17"


def test_alg_none_is_refused() -> None:
    header = {**HEADER, "alg": "none"}
    assert code(signed(header, sign=lambda _: b"")) == "DS0B"
    assert code(signed(header)) == "DS0B"


def test_public_key_used_as_hmac_secret_is_refused() -> None:
    secret = json.dumps(ES_PUBLIC).encode()
    forged = signed({**HEADER, "alg": "HS256"}, sign=lambda data: hmac.new(secret, data, hashlib.sha256).digest())
    assert code(forged) == "DS0B"


def test_der_encoded_ecdsa_signature_is_refused_and_told_as_one() -> None:
    der = signed(HEADER, sign=lambda data: ES_PRIVATE.sign(data, ec.ECDSA(hashes.SHA256())))
    refused = VERIFIER.authenticate(body=BODY, signature=der, type_=TYPE, now=NOW)
    assert isinstance(refused, Reason)
    assert (str(refused.code), "is DER" in (refused.text or "")) == ("DS0B", True)


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "b64": True},
        {**HEADER, "b64": 0},
        {**HEADER, "crit": []},
        {**HEADER, "crit": ["b64", "exp"]},
        {**HEADER, "crit": ["b64", "b64"]},
        {**HEADER, "crit": "b64"},
        {**HEADER, "crit": ["b64", "http://example.invalid/x"], "http://example.invalid/x": 1},
        {k: v for k, v in HEADER.items() if k != "crit"},
        {k: v for k, v in HEADER.items() if k != "typ"},
        {k: v for k, v in HEADER.items() if k != "kid"},
        {**HEADER, "jwk": ES_PUBLIC},
        {**HEADER, "kid": 7},
        {**HEADER, "typ": None},
        {**HEADER, "alg": ["ES256"]},
        {**HEADER, "alg": "ES256K"},
        [],
        b'{"alg":"none",' + json.dumps(HEADER)[1:].encode(),
        b"\xff\xfe",
        b"[" * 400,
    ],
)
def test_rightly_signed_but_wrong_header_is_refused(header: object) -> None:
    assert code(signed(header)) == "DS0B"


def test_attached_payload_is_refused() -> None:
    protected, _, raw = SIGNATURE.split(".")
    assert code(f"{protected}.{b64(BODY)}.{raw}") == "DS0B"


def test_base64_body_signature_is_refused_for_raw_bytes() -> None:
    token = jwt.PyJWS().encode(BODY, ES_PRIVATE, algorithm="ES256", headers={"kid": "k-es", "typ": TYPE})
    protected, _, raw = token.split(".")
    assert code(f"{protected}..{raw}") == "DS0B"


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=40))
def test_reason_repeats_nothing_of_the_input(kid: str) -> None:
    forged = signed({**HEADER, "kid": f"x{kid}", "typ": f"x{kid}"})
    reason = VERIFIER.authenticate(body=BODY, signature=forged, type_=TYPE, now=NOW)
    assert isinstance(reason, Reason)
    assert kid not in reason.text


@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_private_key_survives_its_file(algorithm: str, tmp_path: Path) -> None:
    private, public = generate_key(algorithm)
    path = tmp_path / "keys" / "signing.pem"
    write_private_key(path, private)
    assert path.stat().st_mode & 0o777 == 0o600
    assert algorithm_of(read_private_key(path)) == algorithm
    signature = sign_detached(BODY, read_private_key(path), kid="k", algorithm=algorithm, typ=TYPE)
    assert code(signature, verifier=JwsVerifier(Keys(registered("k", public, algorithm)))) is None
    with pytest.raises(FileExistsError):
        write_private_key(path, private)


def test_public_jwk_has_no_private_member_and_a_private_one_is_not_registered() -> None:
    assert set(ES_PUBLIC) == {"kty", "crv", "x", "y"}
    assert set(ED_PUBLIC) == {"kty", "crv", "x"}
    with pytest.raises(KeyFormatError, match="must be public"):
        import_public({**ES_PUBLIC, "d": "AAAA"}, "ES256")


def test_signing_with_a_key_for_another_algorithm_fails() -> None:
    with pytest.raises(KeyFormatError):
        sign_detached(BODY, ES_PRIVATE, kid="k", algorithm="Ed25519", typ=TYPE)
    with pytest.raises(KeyFormatError):
        sign_detached(BODY, ES_PRIVATE, kid="k", algorithm="none", typ=TYPE)


def test_what_was_verified_counts_no_more_once_its_key_or_partner_is_disabled() -> None:
    signature = sign_detached(BODY, ES_PRIVATE, kid="k-es", algorithm="ES256", typ=TYPE)

    def rechecked(*keys: PartnerKey, signature: str | None = signature, active: bool = True) -> str | None:
        known = Keys(*keys)
        if not active:
            known.partner_exists = lambda _: False  # type: ignore[method-assign]
        reason = JwsVerifier(known).recheck(signature=signature, now=NOW)  # type: ignore[arg-type]
        return reason.code if reason else None

    assert rechecked(ES_KEY) is None
    # A key may run out: it was good when it signed.
    assert rechecked(replace(ES_KEY, valid_until=NOW - timedelta(hours=1))) is None
    assert rechecked(ED_KEY) == "DS0E"
    assert rechecked(replace(ES_KEY, disabled_at=NOW)) == "DS0C"
    assert rechecked(replace(ES_KEY, disabled_at=NOW + timedelta(seconds=1))) is None
    assert rechecked(ES_KEY, active=False) == "AG01"
    assert rechecked(ES_KEY, signature=None) == "DS0B"
