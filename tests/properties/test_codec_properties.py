"""Whatever comes in: an answer in bounded time, errors without input, and money that stays what it was."""

import json
import string

from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.cancellation import PaymentCancellation
from schemas.codec import DecodeError, decode, encode
from schemas.consents import ConsentTerms
from schemas.envelope import EnvelopeError, read_envelope
from schemas.orders import PaymentOrder
from schemas.primitives import AMOUNT_MINOR_MAX, EXPONENTS, Model, Money, decimal_of, minor_of, payment_id_of
from tests.support.messages import CONSENT, ORDER

CANARY = "4929 1234 5678 9012 s3cr3t"

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=35).filter(lambda t: t[0].isalnum())


def refusal(model: type[Model], body: bytes) -> str | None:
    """Why the body is refused, or None."""
    try:
        decode(model, body)
    except DecodeError as error:
        return f"{error.field}: {error.problem}" if error.field else error.problem
    return None


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for model in (PaymentOrder, ConsentTerms):
        assert len(refusal(model, body) or "") < 400


@given(st.data())
def test_a_damaged_message_is_another_message_or_refused(data: st.DataObject) -> None:
    body = bytearray(encode(ORDER))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode(PaymentOrder, bytes(body))
    except DecodeError:
        return
    # Whatever was taken is a whole order again.
    assert decode(PaymentOrder, encode(read)) == read


@given(st.data(), json_values)
def test_errors_repeat_nothing_of_what_came(data: st.DataObject, value: object) -> None:
    message = data.draw(st.sampled_from([ORDER, CONSENT]))
    fields = json.loads(encode(message))
    place, path = fields, []
    while isinstance(place, dict):
        path.append(data.draw(st.sampled_from(sorted(place))))
        if not isinstance(place[path[-1]], dict) or data.draw(st.booleans()):
            break
        place = place[path[-1]]
    planted = data.draw(st.sampled_from([CANARY, {CANARY: value}, [CANARY, value], {"x": CANARY}]))
    place[path[-1]] = planted
    if data.draw(st.booleans()):
        place[CANARY] = value
    try:
        decode(type(message), json.dumps(fields).encode())
    except DecodeError as error:
        told = f"{error} {error!r} {error.field} {error.problem} {error.__cause__}"
        assert "4929" not in told
        assert "s3cr3t" not in told
    else:
        raise AssertionError("a canary was taken for a value")


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=12))
def test_any_headers_are_read_or_refused(headers: list[tuple[str, bytes]]) -> None:
    told = ""
    try:
        read_envelope(headers)
    except EnvelopeError as error:
        told = str(error)
    assert not any(len(v) > 3 and v.decode("latin-1") in told for _, v in headers)


@given(st.integers(1, AMOUNT_MINOR_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_money_stays_what_it_was(minor: int, currency: str) -> None:
    money = Money.of(minor, currency)
    assert money.minor == minor
    assert decode(Money, encode(money)) == money
    # One amount has one spelling.
    assert money.value == decimal_of(minor_of(money.value, currency), currency)


@given(st.text(max_size=20), st.sampled_from(sorted(EXPONENTS)))
def test_only_the_one_spelling_is_read(text: str, currency: str) -> None:
    try:
        minor = minor_of(text, currency)
    except ValueError:
        return
    assert decimal_of(minor, currency) == text


@given(ids, ids, ids, ids)
def test_two_orders_never_share_a_payment(partner: str, order: str, other_partner: str, other_order: str) -> None:
    assume((partner, order) != (other_partner, other_order))
    assert payment_id_of(partner, order) != payment_id_of(other_partner, other_order)


@given(st.sampled_from(sorted(json.loads(encode(ORDER)))), st.booleans())
def test_a_field_given_twice_is_always_found(name: str, first: bool) -> None:
    body = encode(ORDER)
    fields = json.loads(body)
    twice = json.dumps({name: fields[name]})[1:-1].encode()
    repeated = b"{" + twice + b"," + body[1:] if first else body[:-1] + b"," + twice + b"}"
    assert refusal(PaymentOrder, repeated) == "a field is given twice"


CANCELLATION = {
    "partner_id": "acme",
    "cancellation_id": "k-1",
    "consent_id": "c-1",
    "order_id": "A",
    "issued_at": "2026-03-02T03:04:05Z",
    "expires_at": "2026-03-02T03:14:05Z",
}


@st.composite
def spelt(draw: st.DrawFn, text: str) -> str:
    """A JSON string of the text, each character as it is or as one of its escapes."""
    short = {'"': r"\"", "\\": r"\\", "\n": r"\n", "/": r"\/"}
    parts = []
    for character in text:
        ways = [] if character in '"\\' or ord(character) < 0x20 else [character]
        if ord(character) < 0x10000:
            ways.append(f"\\u{ord(character):04x}")
        if character in short:
            ways.append(short[character])
        parts.append(draw(st.sampled_from(ways)))
    return f'"{"".join(parts)}"'


REASONS = st.text(st.sampled_from('"\\u0/ax:,{}안\n'), min_size=1, max_size=12)


@given(st.data(), REASONS)
def test_a_member_is_found_twice_if_a_parser_that_tells_finds_it_twice(data: st.DataObject, reason: str) -> None:
    names = [*CANCELLATION, *data.draw(st.lists(st.sampled_from([*CANCELLATION, "reason_text"]), max_size=2))]
    if "reason_text" not in names:
        names.append("reason_text")
    values = {**CANCELLATION, "reason_text": reason}
    order = data.draw(st.permutations(names))
    members = [f"{data.draw(spelt(n))}:{data.draw(spelt(values[n]))}" for n in order]
    body = ("{" + ",".join(members) + "}").encode()
    assert json.loads(body) == values
    doubled = len(set(names)) != len(names)
    told = refusal(PaymentCancellation, body)
    assert (told == "a field is given twice") is doubled, told
    if not doubled:
        assert told is None
        assert decode(PaymentCancellation, body).reason_text == reason
