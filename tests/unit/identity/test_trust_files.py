"""Files of the trust table and sets of providers' keys: what is wrong in one is named, and hides nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.assurance import AssuredOperation
from gateway.identity.jose.jwk import generate_key
from gateway.identity.jose.jwks import KeySetError, check_url, parse_jwks
from gateway.identity.jose.trust_files import TrustFileError, read_trust_files
from gateway.proving.counterparts.idp.provider import LEVELS
from schemas.primitives import Money
from tests.support.assertion_samples import provider
from tests.support.domain_samples import NOW

DEPLOYED = Path(__file__).parents[3] / "deploy" / "issuers"


def test_the_deployed_files_name_the_simulated_providers() -> None:
    files = read_trust_files(DEPLOYED)
    assert {i.group: dict(i.levels) for i in files.issuers.values()} == LEVELS
    assert set(files.issuers) == {provider("financial").issuer, provider("telecom").issuer}
    assert {i.audience for i in files.issuers.values()} == {provider().audience}
    # Every operation and every amount has an answer.
    for operation in AssuredOperation:
        assert files.policy.requirement(operation, Money.of(999_999_999_999, "KRW")) is not None
    small = files.policy.requirement(AssuredOperation.PAYMENT, Money.of(300_000, "KRW"))
    large = files.policy.requirement(AssuredOperation.PAYMENT, Money.of(300_001, "KRW"))
    assert small is not None
    assert large is not None
    assert small.level < large.level


GOOD = """
issuer = "https://idp"
group = "telecom"
audience = "https://gateway"
jwks_url = "https://idp/jwks.json"
[levels]
app = 1
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("group", "grup", "grup"),
        ("telecom", "retail", "group"),
        ("https://idp/jwks.json", "http://idp/jwks.json", "jwks_url"),
        ("https://idp/jwks.json", "ftp://127.0.0.1/jwks.json", "jwks_url"),
        ("[levels]", 'jwks_file = "x"\n[levels]', "exactly one"),
        ("[levels]", 'algorithms = ["HS256"]\n[levels]', "algorithms"),
        ("[levels]", "algorithms = []\n[levels]", "algorithms"),
        ("[levels]", 'operations = ["refund"]\n[levels]', "operations"),
        ("app = 1", "app = 0", "levels.app"),
        ("app = 1", "", "levels"),
        ("[levels]", "[levels", "financial.toml"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    shutil.copy(DEPLOYED / "policy.toml", tmp_path)
    path = tmp_path / "financial.toml"
    path.write_text(GOOD)
    assert list(read_trust_files(tmp_path).issuers) == ["https://idp"]
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(TrustFileError, match=named):
        read_trust_files(tmp_path)


def test_a_folder_needs_a_policy_and_issuers_that_differ(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    with pytest.raises(TrustFileError, match=r"policy\.toml"):
        read_trust_files(tmp_path)
    shutil.copy(DEPLOYED / "policy.toml", tmp_path)
    (tmp_path / "b.toml").write_text(GOOD)
    with pytest.raises(TrustFileError, match=r"b\.toml: another file"):
        read_trust_files(tmp_path)
    for path in (tmp_path / "a.toml", tmp_path / "b.toml"):
        path.unlink()
    with pytest.raises(TrustFileError, match="no issuer"):
        read_trust_files(tmp_path)
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "policy.toml").write_text(
        '[[rules]]\noperation = "payment"\nup_to = { KRW = "1.5" }\nlevel = 1\nmax_age_seconds = 1\n'
    )
    with pytest.raises(TrustFileError, match="KRW amounts have exactly 0 decimals"):
        read_trust_files(tmp_path)


@pytest.mark.parametrize("url", ["https://idp/keys", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost/k"])
def test_where_keys_may_come_from(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url", ["http://idp/keys", "http://127.0.0.1.idp/k", "http://localhost@idp/k", "https://", "file:///keys", "idp"]
)
def test_where_keys_may_not_come_from(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        check_url(url)


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


EC = {**generate_key("ES256")[1], "kid": "ec"}


OKP = {**generate_key("Ed25519")[1], "kid": "okp", "alg": "EdDSA"}


@pytest.mark.parametrize(
    "unusable",
    [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"},
        {**EC, "kid": "x", "use": "enc"},
        {**EC, "kid": "x", "alg": "ES384"},
        {**EC, "kid": "x", "key_ops": ["sign"]},
        {**EC, "kid": "x", "d": "AQAB"},
        {**EC, "kid": "x", "y": EC["x"]},
        {**EC, "kid": ["x"]},
        {**EC, "kid": ""},
        {**EC, "kid": "x", "exp": "soon"},
        {"kty": "oct", "k": "AQAB", "kid": "secret"},
        {},
    ],
    ids=[
        "RSA",
        "use enc",
        "alg ES384",
        "key_ops sign",
        "private",
        "no point",
        "kid a list",
        "kid empty",
        "exp",
        "oct",
        "empty",
    ],
)
def test_one_unusable_key_does_not_hide_the_others(unusable: dict[str, Any]) -> None:
    found = parse_jwks(jwks(unusable, EC, OKP), "https://idp")
    assert ({k: v.algorithm for k, v in found.keys.items()}, found.left_out) == ({"ec": "ES256", "okp": "Ed25519"}, 1)


def test_a_kid_of_two_keys_names_neither() -> None:
    found = parse_jwks(jwks(EC, {**OKP, "kid": "ec"}, OKP), "https://idp")
    assert (list(found.keys), found.left_out) == (["okp"], 2)


def test_a_keys_own_validity_and_revocation_are_read() -> None:
    seconds = int(NOW.timestamp())
    key = parse_jwks(jwks({**EC, "nbf": seconds, "exp": seconds + 9, "revoked": {"revoked_at": 1}}), "https://idp").keys
    assert (key["ec"].valid_from, key["ec"].revoked) == (NOW.replace(microsecond=0), True)
    assert key["ec"].valid_until is not None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"keys":[1]}', b'{"keys":[],"keys":[]}', b"[" * 10_000])
def test_what_is_no_key_set(content: bytes) -> None:
    with pytest.raises(KeySetError):
        parse_jwks(content, "https://idp")
