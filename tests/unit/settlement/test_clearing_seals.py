"""Seals of clearing files."""

import base64
import hashlib
import hmac
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.app.settlement import clearing_seals
from gateway.settlement.seals import ClearingKeysError, FileSeals
from gateway.settlement.store import ClearingSealError
from schemas.primitives import NetworkId

BCARD, KCARD, ZCARD = NetworkId("bcard"), NetworkId("kcard"), NetworkId("zcard")
SECRETS = (bytes(range(32)), bytes(range(1, 65)))
PRIVATE = ec.generate_private_key(ec.SECP256R1())
DATA = b"H,bcard,\n" * 300_000


def pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def mac(secret: bytes, data: bytes = DATA) -> bytes:
    return hmac.new(secret, data, hashlib.sha256).hexdigest().encode()


def signed(key: ec.EllipticCurvePrivateKey, data: bytes = DATA) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for network, names in ((BCARD, ("old.hmac", "new.hmac")), (KCARD, ("1.pem",))):
        (tmp_path / network).mkdir()
        for name, secret in zip(names, SECRETS, strict=False):
            path = tmp_path / network / name
            path.write_bytes(pem(PRIVATE.public_key()) if name.endswith(".pem") else secret.hex().encode() + b"\n")
    return tmp_path


def seals(keys: Path, *, allow_unsealed: bool = False) -> FileSeals:
    return FileSeals.load(keys, frozenset({BCARD, KCARD, ZCARD}), allow_unsealed=allow_unsealed)


OTHER = ec.generate_private_key(ec.SECP256R1())
GOOD: list[tuple[NetworkId, Mapping[str, bytes]]] = [
    (BCARD, {".hmac": mac(SECRETS[0])}),
    (BCARD, {".hmac": mac(SECRETS[1]).upper() + b"\n"}),
    (KCARD, {".sig": signed(PRIVATE)}),
    (KCARD, {".sig": base64.encodebytes(signed(PRIVATE))}),
    (KCARD, {".sig": signed(PRIVATE), ".hmac": b"x"}),
]
BAD: list[tuple[NetworkId, Mapping[str, bytes]]] = [
    (BCARD, {}),
    (BCARD, {".hmac": b""}),
    (BCARD, {".hmac": mac(bytes(32))}),
    (BCARD, {".hmac": mac(SECRETS[0], DATA + b"x")}),
    (BCARD, {".sig": signed(PRIVATE)}),
    (KCARD, {".hmac": mac(SECRETS[0])}),
    (KCARD, {".hmac": mac(pem(PRIVATE.public_key()))}),
    (KCARD, {".sig": signed(OTHER)}),
    (KCARD, {".sig": signed(PRIVATE, DATA[1:])}),
    (KCARD, {".sig": b"junk"}),
    (KCARD, {".sig": b"\x30"}),
    (ZCARD, {}),
    (ZCARD, {".hmac": mac(SECRETS[0])}),
]


@pytest.mark.parametrize(("network", "given"), GOOD)
def test_a_seal_under_any_key_of_the_network_opens(keys: Path, network: NetworkId, given: Mapping[str, bytes]) -> None:
    seals(keys).check(network, io.BytesIO(DATA), given)


@pytest.mark.parametrize(("network", "given"), BAD)
def test_no_other_seal_does(keys: Path, network: NetworkId, given: Mapping[str, bytes]) -> None:
    assert seals(keys).required(network)
    with pytest.raises(ClearingSealError):
        seals(keys).check(network, io.BytesIO(DATA), given)


def test_without_a_seal_files_are_taken_where_that_is_said_and_only_of_networks_without_keys(keys: Path) -> None:
    lenient = seals(keys, allow_unsealed=True)
    assert [lenient.required(n) for n in (BCARD, KCARD, ZCARD)] == [True, True, False]
    lenient.check(ZCARD, io.BytesIO(DATA), {})
    with pytest.raises(ClearingSealError):
        lenient.check(BCARD, io.BytesIO(DATA), {})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("1.hmac", b"short", "hexadecimal"),
        ("1.hmac", b"00" * 31, "shorter"),
        ("1.pem", b"x", "PEM"),
        ("1.pem", pem(ed25519.Ed25519PrivateKey.generate().public_key()), "P-256"),
        ("1.pem", pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "P-256"),
        ("1.txt", b"", "no key"),
    ],
)
def test_a_key_that_is_none_is_told_by_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / BCARD).mkdir()
    (tmp_path / BCARD / name).write_bytes(content)
    with pytest.raises(ClearingKeysError, match=told):
        seals(tmp_path)


@pytest.mark.parametrize(
    ("fields", "required"),
    [
        ({}, False),
        ({"kafka_bootstrap_servers": "kafka:9092"}, True),
        ({"postgres_dsn": "postgresql://db/x"}, True),
        ({"kafka_bootstrap_servers": "kafka:9092", "clearing_unsealed": True}, False),
    ],
)
def test_beyond_the_local_stack_files_without_a_seal_are_refused_unless_that_is_said(
    keys: Path, fields: dict[str, Any], *, required: bool
) -> None:
    settings = Settings(_env_file=None, clearing_keys_dir=keys, **fields)
    found = clearing_seals(settings, frozenset({BCARD, ZCARD}))
    assert [found.required(n) for n in (BCARD, ZCARD)] == [True, required]
    (keys / ZCARD).mkdir()
    with pytest.raises(NotConfiguredError):
        clearing_seals(settings, frozenset({ZCARD}))
