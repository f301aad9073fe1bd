"""A public key is known by itself, whatever id it was given and however it is spelt."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from gateway.directory.public_keys import HeldKey, Holder, refuse_key, thumbprint, well_spelt
from gateway.identity.jose.jwk import import_public

NOW = datetime(2026, 3, 2, tzinfo=UTC)
MINE = (Holder.PARTNER, "acme")


def made(key: Any) -> dict[str, Any]:
    return dict(key.as_dict(private=False))


ES256, ED25519, X25519 = (
    made(k) for k in (ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519"), OKPKey.generate_key("X25519"))
)


def held(jwk: dict[str, Any], holder: Holder, owner: str, *, disabled: bool = False) -> HeldKey:
    return HeldKey(holder, owner, "k-1", jwk, NOW if disabled else None)


def test_a_thumbprint_is_that_of_the_rfc() -> None:
    # RFC 8037, appendix A.3.
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(okp | {"kid": "own", "use": "sig"}) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    for jwk, kind in ((ES256, ECKey), (ED25519, OKPKey), (X25519, OKPKey)):
        assert thumbprint(jwk) == kind.import_key(jwk).thumbprint()


def with_a_zero() -> dict[str, Any]:
    """A key whose x begins with a zero: of 256 one does."""
    while x_of(jwk := made(ECKey.generate_key("P-256")))[0]:
        pass
    return jwk


def x_of(jwk: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64decode(jwk["x"] + "=")


@pytest.mark.parametrize("spelt", [lambda x: x.lstrip(b"\0"), lambda x: b"\0\0" + x], ids=["none", "more"])
def test_leading_zeros_make_no_other_key(spelt: Callable[[bytes], bytes]) -> None:
    jwk = with_a_zero()
    changed = jwk | {"x": base64.urlsafe_b64encode(spelt(x_of(jwk))).rstrip(b"=").decode()}
    assert changed != jwk
    # It is taken as the same key.
    assert import_public(changed, "ES256").public_key == import_public(jwk, "ES256").public_key
    assert well_spelt(changed) == jwk
    assert thumbprint(changed) == thumbprint(jwk)


@pytest.mark.parametrize("member", ["kty", "crv", "x", "y"])
def test_keys_that_differ_have_other_thumbprints(member: str) -> None:
    assert thumbprint(ES256 | {member: "AAAA"}) != thumbprint(ES256)
    assert thumbprint(ES256 | {"kid": "another"}) == thumbprint(ES256)


def test_what_is_no_base64url_is_what_it_is() -> None:
    assert thumbprint(ES256 | {"x": "A"}) != thumbprint(ES256 | {"x": "B"})


@pytest.mark.parametrize(
    ("others", "refused"),
    [
        ([], None),
        ([held(ED25519, Holder.PARTNER, "shop")], None),
        ([held(ED25519, *MINE, disabled=True)], None),
        # Its own, under a second id.
        ([held(ES256, *MINE)], None),
        ([held(ES256, *MINE, disabled=True)], "This public key was disabled, as k-1 of partner acme"),
        (
            [held(ES256, *MINE), held(ES256, *MINE, disabled=True)],
            "This public key was disabled, as k-1 of partner acme",
        ),
        (
            [held(ES256, Holder.RECIPIENT, "A1AAAA0000", disabled=True)],
            "This public key was disabled, as k-1 of recipient A1AAAA0000",
        ),
        ([held(ES256, Holder.PARTNER, "shop")], "This public key is registered, as k-1 of partner shop"),
        # Whoever has the same id elsewhere is somebody else.
        ([held(ES256, Holder.AFFILIATE, "acme")], "This public key is registered, as k-1 of affiliate acme"),
    ],
)
def test_a_key_that_was_disabled_or_is_anothers_is_refused(others: list[HeldKey], refused: str | None) -> None:
    assert refuse_key(ES256, *MINE, others) == refused
