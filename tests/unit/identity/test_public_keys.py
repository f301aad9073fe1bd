"""What partners send as their public key, and what they are told where it is none."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

from gateway.cli.public_keys import read_public_key
from gateway.identity.jose.jwk import KeyFormatError, import_verifier, public_jwk
from gateway.identity.jose.jwks import KeySetError, parse_jwks

EC = generate_private_key(SECP256R1())
ED = Ed25519PrivateKey.generate()
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
PRIVATE_PEM = EC.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


def jwk(**members: object) -> bytes:
    return json.dumps({**public_jwk(EC), **members}).encode()


@pytest.mark.parametrize(
    ("given", "algorithm", "kid"),
    [
        (jwk(), "ES256", None),
        (jwk(kid="shop-2026"), "ES256", "shop-2026"),
        (json.dumps({"keys": [json.loads(jwk(kid="one"))]}).encode(), "ES256", "one"),
        (EC.public_key().public_bytes(PEM, PUBLIC), "ES256", None),
        (b"\n" + ED.public_key().public_bytes(PEM, PUBLIC), "Ed25519", None),
    ],
)
def test_a_jwk_a_set_of_one_and_pem_are_read(given: bytes, algorithm: str, kid: str | None) -> None:
    public, found, own = read_public_key(given)
    assert (found, own) == (algorithm, kid)
    assert public == public_jwk(EC if algorithm == "ES256" else ED)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (json.dumps({"keys": [{}, {}]}).encode(), "JWKS with 2 keys"),
        (json.dumps({"keys": "x"}).encode(), "JWKS with no list of keys"),
        (b'{"kty": "EC"', "not JSON"),
        (jwk().decode().encode("utf-16-le"), "not JSON in UTF-8"),
        (jwk()[:-1] + b',"x":"AAAA"}', "unique members"),
        (jwk(use="enc"), "use must be sig"),
        (jwk(use=["sig"]), "use must be sig"),
        (jwk(key_ops=["sign"]), "key_ops must hold verify"),
        (jwk(key_ops="verify"), "key_ops must hold verify"),
        (jwk(alg="ES384"), "alg must be ES256"),
        (jwk(alg="Ed25519"), "alg must be ES256"),
        (json.dumps({"keys": [{**json.loads(jwk()), "use": "enc"}]}).encode(), "use must be sig"),
        (b"ssh-ed25519 AAAA", "no key that can be read"),
        (EC.public_key().public_bytes(DER, PUBLIC), "this is DER"),
        (PRIVATE_PEM, "private key"),
        (CERTIFICATE, "certificate"),
        (generate_rsa(65537, 2048).public_key().public_bytes(PEM, PUBLIC), "another type"),
        (generate_private_key(SECP384R1()).public_key().public_bytes(PEM, PUBLIC), "another type or curve"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM cannot be read"),
        (jwk(kid="ein Schlüssel"), "kid must be"),
        (jwk(d="AAAA"), "private member"),
        (jwk(crv=["P-256"]), "another type or curve"),
    ],
    ids=lambda value: value if isinstance(value, str) else "given",
)
def test_what_is_no_public_key_is_told_in_words(given: bytes, told: str) -> None:
    with pytest.raises(KeyFormatError, match=told) as refused:
        read_public_key(given)
    assert "AAAA" not in str(refused.value)


PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Addition on edwards25519 (RFC 8032 §5.1.4, affine)."""
    k = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, PRIME)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, PRIME)
    return x % PRIME, y % PRIME


def small_order_points() -> set[tuple[int, int]]:
    """All eight, from one of order 8 whose y is known and whose x follows from the curve's equation."""
    y = 2707385501144840649318225287225658788936804267575313519463743609750303402022
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(x2, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != x2:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    found, point = set(), (0, 1)
    for _ in range(8):
        point = add(point, (x, y))
        found.add(point)
    assert len(found) == 8
    assert point == (0, 1)
    return found


def spellings() -> list[bytes]:
    """Every 32 bytes that some library reads as such a point: both signs, and y above the prime where it fits."""
    found = []
    for _, y in sorted(small_order_points()):
        for spelt in (y, y + PRIME):
            if spelt < 1 << 255:
                found += [(spelt | sign << 255).to_bytes(32, "little") for sign in (0, 1)]
    return sorted(set(found))


@pytest.mark.parametrize("point", spellings(), ids=lambda p: p.hex()[:12])
def test_a_point_of_small_order_is_no_key_anywhere(point: bytes) -> None:
    x = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
    key = {"kty": "OKP", "crv": "Ed25519", "x": x}
    with pytest.raises(KeyFormatError):
        read_public_key(json.dumps(key).encode())
    with pytest.raises(KeyFormatError):
        import_verifier(key, "Ed25519")
    found = parse_jwks(json.dumps({"keys": [{**key, "kid": "a"}]}).encode(), "https://id.test")
    assert (found.keys, found.left_out) == ({}, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_key_set_in_another_encoding_is_none(encoding: str) -> None:
    text = json.dumps({"keys": [{**public_jwk(EC), "kid": "a"}]})
    assert parse_jwks(text.encode(), "https://id.test").left_out == 0
    with pytest.raises(KeySetError):
        parse_jwks(text.encode(encoding), "https://id.test")


@pytest.mark.parametrize(
    "members", [{"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "ES384"}, {"alg": 1}, {"use": None}]
)
def test_a_registered_key_that_is_meant_for_something_else_verifies_nothing(members: dict[str, object]) -> None:
    with pytest.raises(KeyFormatError):
        import_verifier({**public_jwk(EC), **members}, "ES256")
