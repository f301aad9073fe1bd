import base64
import html
import json
import re
import unicodedata
import urllib.parse

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.identity.jose.jwk import generate_key
from gateway.sealing.redaction import SCAN_CHARS_MAX, contains_secret, redact


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


cards = st.from_regex(r"[0-9]{11,18}", fullmatch=True).map(lambda p: p + luhn_digit(p))

gaps = st.sampled_from(["", "", "", " ", "-"]) | st.text(
    st.characters(exclude_categories=["L", "N", "Cs"], exclude_characters="\\%&"), max_size=3
)
"""Anything that is neither letter nor digit, and begins no escape."""

SPELLINGS = (
    str,
    lambda d: f"\\u{ord(d):04x}",
    lambda d: f"\\\\u{ord(d):04X}",
    lambda d: f"\\x{ord(d):02x}",
    lambda d: f"%{ord(d):02x}",
    lambda d: f"%25{ord(d):02x}",
    lambda d: f"%u{ord(d):04x}",
    lambda d: f"&#{ord(d)};",
    lambda d: f"&amp;#x{ord(d):x};",
    lambda d: chr(ord("\uff10") + int(d)),
    lambda d: chr(ord("\u0660") + int(d)),
    lambda d: "".join(f"%{octet:02X}" for octet in chr(ord("\uff10") + int(d)).encode()),
    lambda d: "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[int(d)],
)


@st.composite
def spelt_cards(draw: st.DrawFn) -> tuple[str, str]:
    """A card number, and one way of writing it: every digit in any spelling, anything between two of them."""
    card = draw(cards)
    ways = draw(st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=3))
    spelt = [draw(st.sampled_from(ways))(digit) for digit in card]
    between = draw(st.lists(gaps, min_size=len(card) - 1, max_size=len(card) - 1))
    return card, "".join(digit + gap for digit, gap in zip(spelt, [*between, ""], strict=True))


def bare(text: str) -> str:
    """Its digits as a reader sees them, and X where something is masked or no digit stands."""
    for _ in range(3):
        text = urllib.parse.unquote(html.unescape(re.sub(r"%u([0-9a-fA-F]{4})", r"\\u\1", text)))
        text = re.sub(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))", lambda m: chr(int(m[1] or m[2], 16)), text)
    found = (unicodedata.digit(c, None) if not c.isalpha() else "X" for c in text)
    return "".join(str(c) for c in found if c is not None)


@given(spelt_cards(), st.text(st.characters(exclude_characters="\\%&")), st.text())
@example(("4111111111111111", "4111111111111111"), "0", "0")
@example(("4111111111111111", "4111 1111 1111 1111"), "12-", " 34")
@example(("4111111111111111", "4111\u00a01111\u202f1111\u20111111"), "", "")
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


CANARY = "Zx7qkW93"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://gateway:{}@db.internal:5432/gateway",
        "redis://:{}@cache:6379/0 is away",
        "could not connect: postgres://u:{}@h/d?sslmode=require",
        "https://user:{}@example.kr/path",
        "host=db user=gateway password={} sslmode=require",
        "password='{}' host=db",
        "PGPASSWORD={} psql",
        "MYPAY_KAFKA_SASL_PASSWORD: {}",
        '{{"cvv": "{}"}}',
        '{{"card": {{"cvv2":"{}","expiry":"2912"}}}}',
        "{{'cvc': '{}'}}",
        '{{\\"pin\\": \\"{}\\"}}',
        '{{"pinBlock":"{}"}}',
        '{{"newPin":"{}"}}',
        '{{"track2": "{}"}}',
        '{{"card_number": "{}"}}',
        '{{"securityCode": "{}"}}',
        "cvv={}&amount=45000",
        "<cvv>{}</cvv>",
        "\\u0022cvv\\u0022: \\u0022{}\\u0022",
        "cvv%3D{}",
        "&quot;pin&quot;: &quot;{}&quot;",
        "Authorization: Bearer {}{}",
        "client_secret={}",
        '{{"password": ["old", "{}"]}}',
        '{{"cvv": {{"type": "cvv2", "value": "{}"}}, "amount": 1}}',
        '{{"pin": {{"a": [{{"b": "}}"}}, "{}"]}}}}',
        '{{"pin": {{"a": "{}',
        '{{\\"pin\\": {{\\"value\\": \\"{}\\"}}}}',
        "{{'password' => '{}'}}",
        "secret => {}",
        "x-api-key: {}",
    ],
)
def test_what_a_name_says_is_secret_is_masked(text: str) -> None:
    written = text.format(CANARY, CANARY)
    assert CANARY not in redact(written)
    assert contains_secret(written.encode())
    assert redact(redact(written)) == redact(written)
    assert not contains_secret(redact(written).encode())


@pytest.mark.parametrize("name", ["cvv", "card_cvv2", "PIN", "password", "kafka_sasl_password", "dsnPassword", "pan"])
def test_the_value_of_a_field_with_such_a_name_is_masked(name: str) -> None:
    assert redact("123", name=name) == "[secret]"
    assert redact("", name=name) == ""


def test_behind_a_list_or_an_object_that_is_a_secret_the_text_is_shown() -> None:
    assert redact('{"pin": {"a": "}"}, "order_id": "o-1"}') == '{"pin": [secret], "order_id": "o-1"}'


@pytest.mark.parametrize("name", ["spinning", "shipping", "order_id", "companion", "panel", "token_id", "key_id"])
def test_other_names_hide_nothing(name: str) -> None:
    assert redact("123", name=name) == "123"
    assert redact(f'{{"{name}": "123"}}') == f'{{"{name}": "123"}}'


@pytest.mark.parametrize("text", ['{"pan":"4111111111111111"}', "order=1 cvv=123", "card 4111-1111-1111-1111"])
def test_base64_text_with_a_secret_is_a_secret(text: str) -> None:
    for encoded in (base64.b64encode(text.encode()), base64.urlsafe_b64encode(text.encode()).rstrip(b"=")):
        assert contains_secret(b"x." + encoded)
        assert redact(f"x.{encoded.decode()}").rstrip("=") == "x.[secret]"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00", b"\x1b[2J", b"x" * (SCAN_CHARS_MAX + 1)])
def test_what_cannot_be_known_is_a_secret(data: bytes) -> None:
    assert contains_secret(data)


@given(cards, st.integers(0, 40))
def test_what_stands_across_the_end_is_masked_before_the_text_is_cut(card: str, place: int) -> None:
    text = "y" * (1_000 - place) + " " + card + " z" * 40_000
    shown = redact(text, chars_max=1_000)
    assert shown == ("y" * (1_000 - place) + " " + redact(card) + " z" * 40)[:1_000]


@given(cards, st.binary(max_size=50), st.binary(max_size=50))
def test_card_numbers_are_found_in_any_bytes(card: str, before: bytes, after: bytes) -> None:
    assert contains_secret(before + card.encode() + after)


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.text(st.characters(exclude_categories=["N", "Cs"])))
def test_text_without_digits_or_keys_is_untouched(text: str) -> None:
    assert redact(text) == text
    assert not contains_secret("".join(c for c in text if c in "\t\n\r" or unicodedata.category(c) != "Cc").encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("card 4111111111111111 declined", "card 411111XXXXXX1111 declined"),
        ("card 4111 1111 1111 1111.", "card 4111 11XX XXXX 1111."),
        ("378282246310005", "378282XXXXX0005"),
        ("1234567890123", "1234567890123"),
        ("411111111111", "411111111111"),
        ("4111  1111  1111  1111", "4111  11XX  XXXX  1111"),
        ("4111\u00a01111\u00a01111\u00a01111", "4111\u00a011XX\u00a0XXXX\u00a01111"),
        ("4111.1111/1111_1111", "4111.11XX/XXXX_1111"),
        ("676700000001", "676700000001"),
        ("676700000000", "676700XX0000"),
        ("at 14:37 on 3 of 20", "at 14:37 on 3 of 20"),
        ("stan=123456 rrn=612345678901", "stan=123456 rrn=612345678901"),
        ("2026-03-01 12", "2026-03-01 12"),
        ("1" * 65, "X" * 65),
        ("", ""),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(cards)
def test_at_most_six_and_four_digits_are_shown(card: str) -> None:
    shown = redact(card)
    assert shown == card[:6] + "X" * (len(card) - 10) + card[-4:]


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
