"""The quick way through the JSON door and the long one are one door: what either takes, the other does, as the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.assertions import AssertionClaims, PaymentLink
from schemas.codec import DecodeError, decode, parse_strictly, validate
from schemas.orders import OccurrenceOrder, PaymentOrder
from schemas.primitives import Model

ORDER: dict[str, Any] = {
    "partner_id": "partner-1",
    "order_id": "order-1",
    "consent_id": "consent-1",
    "merchant_id": "merchant-1",
    "amount": {"currency": "KRW", "value": "12500"},
    "issued_at": "2026-03-02T03:04:05.123456Z",
    "expires_at": "2026-03-02T04:04:05+00:00",
}
CLAIMS: dict[str, Any] = {
    "iss": "https://idp.example",
    "sub": "subject-1",
    "aud": "mypay",
    "iat": 1_772_420_000,
    "exp": 1_772_420_300.5,
    "auth_time": 1_772_419_990,
    "jti": "jti-1",
    "acr": "loa3",
    "amr": ["pin", "hwk"],
    "mypay_link": {
        "kind": "payment",
        **{name: ORDER[name] for name in ("partner_id", "order_id", "consent_id", "merchant_id", "amount")},
    },
}


def claims_the_long_way(body: bytes) -> AssertionClaims:
    return AssertionClaims.__pydantic_validator__.validate_python(parse_strictly(body))


LONG_WAYS: dict[type[Model], Callable[[bytes], Model]] = {
    PaymentOrder: lambda body: validate(PaymentOrder, body),
    OccurrenceOrder: lambda body: validate(OccurrenceOrder, body),
    AssertionClaims: claims_the_long_way,
}


def long_way(model: type[Model], body: bytes) -> Model | None:
    try:
        return LONG_WAYS[model](body)
    except (ValidationError, ValueError):
        return None


def assert_same(quick: Model, long: Model | None) -> None:
    """Equal in every value, also those that equality does not look at."""
    assert quick == long
    assert long is not None
    assert (repr(quick), hash(quick)) == (repr(long), hash(long))
    assert (quick.model_fields_set, quick.model_extra) == (long.model_fields_set, long.model_extra)
    for part, other in ((quick, long), *((v, getattr(long, n)) for n, v in quick if isinstance(v, Model))):
        assert vars(part) == vars(other)
        assert list(map(type, vars(part).values())) == list(map(type, vars(other).values()))
        assert part.model_fields_set == other.model_fields_set
        assert part.model_dump_json() == other.model_dump_json()


# --- texts of each kind, right and wrong; none needs an escape ---

CARD = "4111111111111111"
IDS = st.sampled_from(
    [
        *(
            "a",
            "A.b_c-9",
            "x" * 35,
            "x" * 36,
            "y" * 64,
            "y" * 65,
            "",
            " ",
            "-a",
            ".a",
            "_a",
            "a b",
            "a\u0660",
            "٣",
            "é",
        ),
        *(
            CARD,
            f"o-{CARD}",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "3782_822463_10005",
            "411111111111",
            "1" * 16,
        ),
        *("20260302030405123", "4111-1111.1111-1111", "4111111111111111a", "0" * 12, "rent+20261201", "a/b", "한글"),
        *("4111111111111111" + "abcdef01", "a41111111-1111-1111-1111-111111111111", "\ud800", "a\x7f"),
    ]
) | st.text(st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=32), max_size=70)
TIMES = st.sampled_from(
    [
        *("2026-03-02T03:04:05Z", "2026-03-02t03:04:05z", "2026-03-02T03:04:05.1Z", "2026-03-02T03:04:05.123456789Z"),
        *("2026-03-02T03:04:05.1234567890Z", "2026-03-02T03:04:05.Z", "2026-03-02T03:04:05", "2026-03-02"),
        *(
            "2026-03-02T03:04:05+23:59",
            "2026-03-02T03:04:05-23:59",
            "2026-03-02T03:04:05+24:00",
            "2026-03-02T03:04:05+9",
        ),
        *(
            "2026-03-02T03:04:05-00:00",
            "2026-03-02T03:04:05+0900",
            "2026-03-02T03:04:05+09:00:30",
            "2026-03-02 03:04:05Z",
        ),
        *("2026-02-30T00:00:00Z", "2028-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-03-02T24:00:00Z"),
        *("2026-03-02T23:59:60Z", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00+23:59", "2999-12-31T23:59:59-23:59"),
        *("3000-01-01T00:00:00Z", "1772420645", "", "٢026-03-02T03:04:05Z", "2026-W10-1T03:04:05Z", "20260302T030405Z"),
    ]
) | st.datetimes().map(lambda at: f"{at.isoformat()}Z")
AMOUNTS = st.fixed_dictionaries(
    {
        "currency": st.sampled_from(["KRW", "USD", "KWD", "XAU", "XXX", "krw", "KR", "", "CLF", "한국원"]),
        "value": st.sampled_from(
            [
                *("12500", "0", "00", "01", "1.0", "12.50", "12.500", "0.0001", "999999999999", "1000000000000", "-1"),
                *(
                    "+1",
                    "1e3",
                    "1E3",
                    " 1",
                    "1 ",
                    "",
                    ".5",
                    "5.",
                    "٣",
                    "9999999999.99",
                    "1" * 20,
                    "1" * 21,
                    "NaN",
                    "1_0",
                ),
            ]
        )
        | st.integers(-10, 10**13).map(str),
    }
)
TOKENS = st.sampled_from(
    ["a.b.c", "a.b", "a.b.c.d", "a..c", ".b.c", "a.b.", "a.b.c=", "a.b.é", "", "x" * 4092 + ".y.z", "x" * 4093 + ".y.z"]
)
SECONDS = st.sampled_from(
    [0, -1, 0.5, 1e5, 32_503_679_999, 32_503_680_000, 32_503_679_999.5, 2**53 + 1, 10**400, True, "1", -0.0, 1e-9]
) | st.floats(allow_nan=False, allow_infinity=False)
PRINTABLE = st.sampled_from(["a", "x" * 128, "x" * 129, "x" * 255, "x" * 256, "", " ", "a b", "é", "https://idp/~!"])
NAMES = PRINTABLE | st.lists(PRINTABLE, max_size=9)
JSON_OF_ANY_KIND = st.sampled_from([None, True, 0, 10**30, 1.5, [], {}, "", [1], {"value": "1"}])

ORDER_PARTS: dict[str, st.SearchStrategy[Any]] = {
    "partner_id": IDS,
    "order_id": IDS,
    "consent_id": IDS,
    "merchant_id": IDS,
    "amount": AMOUNTS,
    "issued_at": TIMES,
    "expires_at": TIMES,
    "authentication": TOKENS,
}
LINK_PARTS = {name: ORDER_PARTS[name] for name in ("partner_id", "order_id", "consent_id", "merchant_id", "amount")}
CLAIM_PARTS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("iss", "sub", "jti", "acr"), PRINTABLE),
    **dict.fromkeys(("aud", "amr"), NAMES),
    **dict.fromkeys(("iat", "exp", "auth_time", "nbf"), SECONDS),
    "mypay_link": st.dictionaries(st.sampled_from(list(LINK_PARTS)), st.none(), max_size=2).flatmap(
        lambda changed: st.fixed_dictionaries({name: LINK_PARTS[name] for name in changed}).map(
            lambda drawn: CLAIMS["mypay_link"] | drawn
        )
    ),
}


@st.composite
def plain(draw: st.DrawFn, good: dict[str, Any], parts: dict[str, st.SearchStrategy[Any]]) -> bytes:
    """A body without an escape or a null, every known member once: its texts are right or wrong."""
    changed = draw(st.lists(st.sampled_from(list(parts)), max_size=3, unique=True))
    body = good | {name: draw(parts[name]) for name in changed}
    members = list(body.items())
    draw(st.randoms(use_true_random=False)).shuffle(members)
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r")]))
    return json.dumps(dict(members), separators=spaces, ensure_ascii=False).encode("utf-8", "surrogatepass")


PLAIN_ORDERS, PLAIN_CLAIMS = plain(ORDER, ORDER_PARTS), plain(CLAIMS, CLAIM_PARTS)


@st.composite
def nasty(draw: st.DrawFn, model: type[Model]) -> bytes:
    """What is not plain, or not JSON: members twice, unknown, missing or of other types; escapes; bytes changed."""
    body = draw(PLAIN_CLAIMS if model is AssertionClaims else PLAIN_ORDERS)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(body)))
        name = draw(st.sampled_from([*ORDER, *CLAIMS, "value", "currency", "kind", "nbf", "note", "authentication"]))
        value = json.dumps(draw(JSON_OF_ANY_KIND | IDS), ensure_ascii=draw(st.booleans())).encode(
            "utf-8", "surrogatepass"
        )
        match draw(st.sampled_from(["member", "member", "replace", "insert", "escape", "cut", "ends"])):
            case "member":
                member = json.dumps(name).encode() + b":" + value
                inner = draw(st.sampled_from([b"{", b'"amount":{', b'"mypay_link":{']))
                body = body.replace(inner, inner + member + b",", 1)
            case "replace":
                body = body.replace(draw(st.sampled_from([b'"partner-1"', b'"KRW"', b'"12500"', b"300.5"])), value, 1)
            case "insert":
                body = body[:at] + draw(st.sampled_from([b"\x00", b"\xff", b"\n", b'"', b",", b"1", b"e5"])) + body[at:]
            case "escape":
                escape = draw(st.sampled_from([b"\\u0061", b"\\ud800", b"\\u0000", b"\\/", b"\\\\", b'\\"', b"\\n"]))
                body = body.replace(b"-1", escape, draw(st.integers(1, 3)))
            case "cut":
                body = body[:at]
            case _:
                begin, end = (
                    draw(st.sampled_from([b"\xef\xbb\xbf", b"", b" "])),
                    draw(st.sampled_from([b"}", b" ", b"1"])),
                )
                body = begin + body + end
    return body


@given(PLAIN_ORDERS)
@example(json.dumps(ORDER).encode())
@example(json.dumps(ORDER | {"authentication": "a.b.c"}).encode())
def test_of_plain_orders_both_ways_take_the_same(body: bytes) -> None:
    for model in (PaymentOrder, OccurrenceOrder):
        quick, long = model.of_plain(body), long_way(model, body)
        if quick is None:
            # An occurrence's own id is for the long way.
            assert long is None or (model is OccurrenceOrder and b"+" in body)
        else:
            assert_same(quick, long)


@given(PLAIN_CLAIMS)
@example(json.dumps(CLAIMS).encode())
@example(json.dumps(CLAIMS | {"nbf": 0, "aud": ["mypay"], "amr": "pin"}).encode())
def test_of_plain_claims_both_ways_take_the_same(body: bytes) -> None:
    quick, long = AssertionClaims.of_plain(body), long_way(AssertionClaims, body)
    if quick is None:
        assert long is None
    else:
        assert_same(quick, long)


@pytest.mark.parametrize("model", [PaymentOrder, OccurrenceOrder, AssertionClaims])
@given(data=st.data())
def test_the_quick_way_takes_nothing_that_the_long_one_refuses(model: type[Model], data: st.DataObject) -> None:
    body = data.draw(nasty(model))
    if (quick := model.of_plain(body)) is not None:
        assert_same(quick, long_way(model, body))


@given(nasty(PaymentOrder) | PLAIN_ORDERS, st.booleans())
def test_the_door_tells_the_same_fault_as_pydantic_alone(body: bytes, trusted: bool) -> None:
    def told(read: Callable[..., PaymentOrder]) -> PaymentOrder | str:
        try:
            return read(PaymentOrder, body, trusted=trusted)
        except DecodeError as error:
            return str(error)

    assert told(decode) == told(validate)


@pytest.mark.parametrize(
    ("member", "inside"),
    [("partner_id", b"{"), ("issued_at", b"{"), ("value", b'"amount": {'), ("amount", b"{"), ("note", b"{")],
)
@pytest.mark.parametrize("value", [b'"12500"', b"1", b"null", b'{"currency":"KRW","value":"12500"}'])
def test_a_member_that_is_given_twice_or_unknown_is_not_taken(member: str, inside: bytes, value: bytes) -> None:
    body = json.dumps(ORDER).encode().replace(inside, inside + b'"%s":%s,' % (member.encode(), value), 1)
    assert PaymentOrder.of_plain(body) is None


def test_the_quick_way_is_taken() -> None:
    assert PaymentOrder.of_plain(json.dumps(ORDER).encode()) == PaymentOrder.model_validate(ORDER)
    link = AssertionClaims.of_plain(json.dumps(CLAIMS).encode())
    assert link is not None
    assert isinstance(link.mypay_link, PaymentLink)
