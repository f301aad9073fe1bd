"""What partners send as their public key, and what they are told where it is none."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

from gateway.adapters.crypto.jwk import KeyFormatError, public_jwk
from gateway.cli.public_keys import read_public_key

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
)
def test_what_is_no_public_key_is_told_in_words(given: bytes, told: str) -> None:
    with pytest.raises(KeyFormatError, match=told) as refused:
        read_public_key(given)
    assert "AAAA" not in str(refused.value)
