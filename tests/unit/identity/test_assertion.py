"""Verification of assertions: every rule of the module's table, and a provider that shares no code with us."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest

from gateway.identity.assurance import Assertion, Issuer
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.store import IssuerKey
from gateway.proving.counterparts.idp.provider import IdentityProvider
from schemas.assertions import ASSERTION_CHARS_MAX, ASSERTION_TYPE
from schemas.codec import encode
from schemas.consents import Purpose
from schemas.reasons import Reason
from tests.support.assertion_samples import CONSENT_LINK, PAYMENT_LINK, Trust, provider
from tests.support.domain_samples import NOW

IDP = provider()
TRUST = Trust(IDP)


def verify(token: str, trust: Trust = TRUST) -> Assertion | Reason:
    return JwsAssertionVerifier(trust).verify(token, NOW)


def code(token: str, trust: Trust = TRUST) -> str:
    outcome = verify(token, trust)
    return outcome.code.value if isinstance(outcome, Reason) else "verified"


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(jwt.utils.base64url_decode(token.split(".")[1]))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(payload: bytes, header: bytes | None = None, by: IdentityProvider = IDP) -> str:
    """Any bytes as header and payload, with a good signature."""
    members = header or json.dumps({"alg": by.algorithm, "kid": by.kid, "typ": ASSERTION_TYPE}).encode()
    text = f"{b64(members)}.{b64(payload)}"
    return f"{text}.{b64(by._signing.sign(text.encode()))}"


CLAIMS = claims_of(IDP.issue("subject-1", PAYMENT_LINK))


@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_what_the_provider_said_comes_out(algorithm: Any) -> None:
    idp = provider("telecom", algorithm)
    token = idp.issue("subject-1", PAYMENT_LINK, jti="jti-1", auth_time=NOW - timedelta(seconds=40))
    assert verify(token, Trust(idp)) == Assertion(
        issuer="https://id.telecom.mypay.example",
        subject="subject-1",
        audience=("https://gateway.mypay.example",),
        issued_at=NOW,
        not_before=None,
        expires_at=NOW + timedelta(minutes=5),
        authenticated_at=NOW - timedelta(seconds=40),
        jti="jti-1",
        level_name="urn:mypay:telecom:app",
        methods=("pin", "hwk"),
        link=PAYMENT_LINK,
        kid=idp.kid,
    )


def test_what_was_verified_counts_no_more_once_its_key_is_revoked_or_withdrawn() -> None:
    idp = provider("telecom")
    known = Trust(idp)

    def rechecked(issuer: str = idp.issuer, kid: str = idp.kid) -> str | None:
        reason = JwsAssertionVerifier(known).recheck(issuer, kid)
        return reason.code.value if reason else None

    assert rechecked() is None
    assert rechecked(kid="another") == "DS0E"
    assert rechecked(kid="") == "DS0E"
    assert rechecked(issuer="https://id.financial.mypay.example") == "DS0E"
    known.keys[idp.issuer, idp.kid] = replace(known.keys[idp.issuer, idp.kid], revoked=True)
    assert rechecked() == "DS0C"


def test_a_command_on_a_consent_comes_out() -> None:
    for link in (CONSENT_LINK, CONSENT_LINK.model_copy(update={"purposes": (Purpose.PORTABILITY,)})):
        outcome = verify(IDP.issue("subject-1", link))
        assert isinstance(outcome, Assertion)
        assert outcome.link == link


def test_a_foreign_library_can_issue_one() -> None:
    headers = {"kid": IDP.kid, "typ": ASSERTION_TYPE}
    token = jwt.encode(CLAIMS, IDP._signing.private, algorithm="ES256", headers=headers)
    assert code(token) == "verified"


def test_a_foreign_library_can_verify_ours() -> None:
    token = IDP.issue("subject-1", PAYMENT_LINK)
    key = jwt.PyJWK(IDP.jwks()["keys"][0]).key
    options = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(token, key, algorithms=["ES256"], audience=IDP.audience, options=options)["jti"]


def test_claims_that_we_do_not_know_are_ignored_and_numbers_may_have_fractions() -> None:
    assert code(IDP.sign({**CLAIMS, "name": "ignored", "iat": CLAIMS["iat"] + 0.5, "nbf": CLAIMS["iat"]})) == "verified"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "es256"},
        {"alg": None},
        {"alg": ["ES256"]},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"typ": "at+jwt"},
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": ""},
        {"typ": None},
        {"typ": 1},
        {"kid": None},
        {"kid": ""},
        {"kid": "k" * 257},
    ],
    ids=str,
)
def test_headers_that_are_refused(header: dict[str, Any]) -> None:
    assert code(IDP.sign(CLAIMS, **header)) == "DS0B"


def test_an_assertion_of_no_type_is_refused_and_may_spell_its_type_in_full() -> None:
    for typ, wanted in ((None, "DS0B"), (ASSERTION_TYPE, "verified"), (f"application/{ASSERTION_TYPE}", "verified")):
        members = {"alg": IDP.algorithm, "kid": IDP.kid} | ({"typ": typ} if typ else {})
        assert code(signed(json.dumps(CLAIMS).encode(), json.dumps(members).encode())) == wanted


def test_a_token_without_signature_or_signed_with_the_public_key_is_refused() -> None:
    body = IDP.issue("subject-1", PAYMENT_LINK).split(".")[1]
    unsigned = b64(json.dumps({"alg": "none", "kid": IDP.kid}).encode())
    assert code(f"{unsigned}.{body}.") == "DS0B"
    # RFC 8725 §2.1: the public key as the secret of an HMAC.
    text = f"{b64(json.dumps({'alg': 'HS256', 'kid': IDP.kid}).encode())}.{body}"
    secret = json.dumps(IDP.jwks()["keys"][0]).encode()
    assert code(f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}") == "DS0B"


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    attacker = provider()
    jwk = attacker.jwks()["keys"][0]
    token = attacker.sign(CLAIMS, kid=IDP.kid, jwk=jwk, jku="https://attacker/jwks.json", x5u="https://attacker")
    assert code(token) == "DS17"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"iss":NaN}',
        b"[" * 2_000,
        json.dumps(CLAIMS).encode()[:-1] + b',"jti":"other"}',
        json.dumps(CLAIMS).replace('"order_id"', '"order_id":"other","order_id"').encode(),
    ],
    ids=["empty", "array", "broken", "not utf-8", "nan", "deep", "duplicate claim", "duplicate link member"],
)
def test_payloads_that_are_not_claims(payload: bytes) -> None:
    assert code(signed(payload)) == "DS0B"


def test_a_header_member_given_twice_is_refused() -> None:
    header = f'{{"alg":"ES256","alg":"ES256","kid":"{IDP.kid}","typ":"{ASSERTION_TYPE}"}}'.encode()
    assert code(signed(json.dumps(CLAIMS).encode(), header)) == "DS0B"
    assert code(signed(json.dumps(CLAIMS).encode(), header.replace(b'"alg":"ES256",', b"", 1))) == "verified"


@pytest.mark.parametrize("change", ["{}.", ".{}", "{}.x", " {}", "{}=", "{}\n", "\u00e9{}"])
def test_texts_that_are_not_three_parts(change: str) -> None:
    assert code(change.format(IDP.issue("subject-1", PAYMENT_LINK))) == "DS0B"


def test_each_signature_has_one_spelling() -> None:
    token = IDP.issue("subject-1", PAYMENT_LINK)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelt = [token[:-1] + c for c in alphabet if jwt.utils.base64url_decode(token[:-1].split(".")[2] + c)]
    accepted = [t for t in respelt if code(t) == "verified"]
    assert accepted == [token]


def test_the_size_is_bounded() -> None:
    room = ASSERTION_CHARS_MAX - len(IDP.sign({**CLAIMS, "x": ""}))
    filled = {**CLAIMS, "x": "x" * (room * 3 // 4)}
    assert len(IDP.sign(filled)) <= ASSERTION_CHARS_MAX
    assert code(IDP.sign(filled)) == "verified"
    assert code(IDP.sign({**CLAIMS, "x": "x" * room})) == "DS0B"


def test_longest_possible_claims_fit() -> None:
    link = {**json.loads(encode(PAYMENT_LINK)), "amount": {"currency": "KRW", "value": "9" * 12}}
    link |= {"partner_id": "p" * 35, "order_id": "o" * 35, "consent_id": "c" * 64, "merchant_id": "m" * 35}
    longest = {**CLAIMS, "sub": "s" * 255, "jti": "j" * 128, "acr": "a" * 255, "mypay_link": link, "nbf": CLAIMS["iat"]}
    assert code(IDP.sign(longest)) == "verified"


@pytest.mark.parametrize("claim", ["sub", "aud", "iat", "exp", "auth_time", "jti", "acr", "amr", "mypay_link"])
def test_a_missing_claim_is_named(claim: str) -> None:
    outcome = verify(IDP.sign({k: v for k, v in CLAIMS.items() if k != claim}))
    assert isinstance(outcome, Reason)
    assert (outcome.code, outcome.text) == ("DS0B", f"assertion claim {claim} is missing")


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", ""),
        ("sub", "with blank"),
        ("sub", "nul\0"),
        ("sub", 5),
        ("aud", []),
        ("aud", [1]),
        ("iat", "1"),
        ("iat", True),
        ("iat", -1),
        ("exp", 10**18),
        ("exp", 253_402_300_799),
        ("exp", 32_503_680_000),
        ("exp", 10**400),
        ("jti", "j" * 129),
        ("acr", None),
        ("amr", {}),
    ],
    ids=str,
)
def test_a_wrong_claim_is_named_and_not_repeated(claim: str, value: Any) -> None:
    outcome = verify(IDP.sign({**CLAIMS, claim: value}))
    assert isinstance(outcome, Reason)
    assert (outcome.code, outcome.text) == ("DS0B", f"assertion claim {outcome.text.split()[2]} is wrong")
    assert outcome.text.split()[2].startswith(claim)


def test_the_link_is_closed_and_what_the_provider_chose_is_not_repeated() -> None:
    link = CLAIMS["mypay_link"]
    extra = verify(IDP.sign({**CLAIMS, "mypay_link": {**link, "payee_4111111111111111": "x"}}))
    other_kind = verify(IDP.sign({**CLAIMS, "mypay_link": {**link, "kind": "4111111111111111"}}))
    for outcome in (extra, other_kind):
        assert isinstance(outcome, Reason)
        assert outcome.code == "DS0B"
        assert "4111" not in outcome.text
    assert "mypay_link has a member that is not known" in str(extra)
    for member in link:
        assert code(IDP.sign({**CLAIMS, "mypay_link": {k: v for k, v in link.items() if k != member}})) == "DS0B"


def with_key(**changes: Any) -> Trust:
    trust = Trust(IDP)
    trust.keys = {name: replace(key, **changes) for name, key in trust.keys.items()}
    return trust


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"revoked": True}, "DS0C"),
        ({"valid_from": NOW + timedelta(seconds=1)}, "DS0D"),
        ({"valid_from": NOW}, "verified"),
        ({"valid_until": NOW}, "DS0D"),
        ({"valid_until": NOW + timedelta(seconds=1)}, "verified"),
        ({"algorithm": "Ed25519"}, "DS0B"),
        ({"jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}, "DS0E"),
    ],
    ids=str,
)
def test_keys_that_may_not_be_used(changes: dict[str, Any], expected: str) -> None:
    assert code(IDP.issue("subject-1", PAYMENT_LINK), with_key(**changes)) == expected


def test_an_unknown_issuer_and_an_unknown_key() -> None:
    token = IDP.issue("subject-1", PAYMENT_LINK)
    assert code(token, Trust(provider("telecom"))) == "DS0F"
    trust = Trust(IDP)
    trust.keys = {}
    assert code(token, trust) == "DS0E"
    assert trust.misses == [(IDP.issuer, IDP.kid)]


def test_the_allow_list_is_the_issuers_own() -> None:
    assert code(IDP.issue("subject-1", PAYMENT_LINK), Trust(IDP, algorithms=frozenset({"Ed25519"}))) == "DS0B"


def test_a_providers_key_speaks_for_that_provider_alone() -> None:
    telecom = provider("telecom")
    trust = Trust(IDP, telecom)
    assert code(telecom.sign({**CLAIMS}), trust) == "DS0E"
    # Even where both use one kid.
    assert code(telecom.sign({**CLAIMS}, kid=IDP.kid), trust) == "DS17"


def test_a_replaced_key_is_taken_up_and_a_revoked_one_dropped() -> None:
    trust = Trust(IDP)
    verifier = JwsAssertionVerifier(trust)
    token = IDP.issue("subject-1", PAYMENT_LINK)
    assert isinstance(verifier.verify(token, NOW), Assertion)
    stranger = Trust(provider()).keys.popitem()[1]
    name = (IDP.issuer, IDP.kid)
    good = trust.keys[name]
    trust.keys[name] = IssuerKey(IDP.issuer, IDP.kid, "ES256", stranger.jwk, None, None, revoked=False)
    assert verifier.verify(token, NOW).code == "DS17"  # type: ignore[union-attr]
    trust.keys[name] = replace(good, revoked=True)
    assert verifier.verify(token, NOW).code == "DS0C"  # type: ignore[union-attr]
    trust.keys[name] = good
    assert isinstance(verifier.verify(token, NOW), Assertion)


def test_issuers_are_compared_to_the_letter() -> None:
    trust = Trust(IDP)
    entry = trust.issuer(IDP.issuer)
    assert isinstance(entry, Issuer)
    for name in (IDP.issuer + "/", IDP.issuer.upper(), [IDP.issuer], None):
        assert code(IDP.sign({**CLAIMS, "iss": name}), trust) == "DS0F"
