import json
import time

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.adapters.crypto.jwk import generate_key
from gateway.adapters.crypto.redaction import contains_secret, redact


def luhn_digit(payload: str) -> str:
    """The check digit as the standard's text tells it, written apart from the code under test."""
    total = 0
    for place, character in enumerate(reversed(payload)):
        value = int(character)
        if place % 2 == 0:
            value *= 2
            if value > 9:
                value -= 9
        total += value
    return str((10 - total % 10) % 10)


cards = st.from_regex(r"[0-9]{12,18}", fullmatch=True).map(lambda p: p + luhn_digit(p))


@st.composite
def spelt_cards(draw: st.DrawFn) -> tuple[str, str]:
    """A card number, and one way of writing it."""
    card = draw(cards)
    gaps = draw(st.lists(st.sampled_from(["", "", "", " ", "-"]), min_size=len(card) - 1, max_size=len(card) - 1))
    return card, "".join(digit + gap for digit, gap in zip(card, [*gaps, ""], strict=True))


def bare(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


@given(spelt_cards(), st.text(), st.text())
@example(("4111111111111111", "4111111111111111"), "0", "0")
@example(("4111111111111111", "4111 1111 1111 1111"), "12-", " 34")
def test_no_card_number_survives_anywhere_in_any_text(spelt: tuple[str, str], before: str, after: str) -> None:
    card, written = spelt
    text = f"{before}{written}{after}"
    shown = redact(text)
    assert written not in shown
    assert card not in bare(shown)
    assert contains_secret(text.encode("utf-8", "surrogatepass"))


@given(spelt_cards(), st.text(st.characters(codec="ascii", exclude_characters="0123456789")))
def test_card_numbers_are_found_in_utf16(spelt: tuple[str, str], around: str) -> None:
    assert contains_secret(f"{around}{spelt[1]}{around}".encode("utf-16-le"))
    assert contains_secret(f"{around}{spelt[1]}{around}".encode("utf-16-be"))


@given(cards, st.binary(max_size=50), st.binary(max_size=50))
def test_card_numbers_are_found_in_any_bytes(card: str, before: bytes, after: bytes) -> None:
    assert contains_secret(before + card.encode() + after)


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.text(st.characters(exclude_categories=["N", "Cs"])))
def test_text_without_digits_or_keys_is_untouched(text: str) -> None:
    assert redact(text) == text
    assert not contains_secret(text.replace("\x00", "").encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("card 4111111111111111 declined", "card 411111******1111 declined"),
        ("card 4111 1111 1111 1111.", "card 4111 11** **** 1111."),
        ("378282246310005", "378282*****0005"),
        ("1234567890123", "1234567890123"),
        ("411111111111", "411111111111"),
        ("4111  1111  1111  1111", "4111  1111  1111  1111"),
        ("stan=123456 rrn=612345678901", "stan=123456 rrn=612345678901"),
        ("2026-03-01 12", "2026-03-01 12"),
        ("1" * 65, "*" * 65),
        ("", ""),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(cards)
def test_at_most_six_and_four_digits_are_shown(card: str) -> None:
    shown = redact(card)
    assert shown == card[:6] + "*" * (len(card) - 10) + card[-4:]


def pem(algorithm: str) -> str:
    private, _ = generate_key(algorithm)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


PRIVATE_JWKS = [
    ECKey.generate_key("P-256").as_dict(private=True),
    OKPKey.generate_key("Ed25519").as_dict(private=True),
    RSAKey.generate_key(2048).as_dict(private=True),
    OctKey.generate_key(256).as_dict(private=True),
]


@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_private_pem_is_found_and_masked(algorithm: str) -> None:
    text = f"before {pem(algorithm)} after"
    assert contains_secret(text.encode())
    assert redact(text).startswith("before [private key]")
    assert redact(text).endswith(" after")
    cut = text[: text.index("-----END") - 5]
    assert contains_secret(cut.encode())
    assert redact(cut) == "before [private key]"


@pytest.mark.parametrize("jwk", PRIVATE_JWKS, ids=lambda j: j["kty"])
@pytest.mark.parametrize(
    "spell",
    [json.dumps, repr, lambda j: json.dumps(j, separators=(",", ":")), lambda j: json.dumps(json.dumps(j))],
    ids=["json", "repr", "compact", "nested"],
)
def test_private_jwk_is_found_and_masked(jwk: dict[str, str], spell: object) -> None:
    text = f"key {spell(jwk)} end"  # type: ignore[operator]
    assert contains_secret(text.encode())
    shown = redact(text)
    for member in ("d", "p", "q", "dp", "dq", "qi", "k"):
        if member in jwk:
            assert jwk[member] not in shown


def test_public_keys_are_no_secret() -> None:
    _, public = generate_key("Ed25519")
    assert redact(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43})) == json.dumps(
        {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}
    )
    assert set(public) == {"kty", "crv", "x"}


@pytest.mark.parametrize(
    "data",
    [
        b"9" * 1_000_000,
        b"1-" * 500_000,
        b"4111111111111112a" * 60_000,
        b"12345678901234567890x" * 50_000,
        b'"d":' * 250_000,
        b"-----BEGIN " * 90_000,
        b"-----BEGIN PRIVATE KEY-----" * 38_000,
        b"\\" * 1_000_000,
        b"\x00" * 1_000_000,
    ],
    ids=lambda d: d[:12].decode(),
)
def test_a_megabyte_of_anything_is_searched_quickly(data: bytes) -> None:
    began = time.process_time()
    contains_secret(data)
    assert time.process_time() - began < 1.0
