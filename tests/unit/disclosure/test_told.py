"""What an event's body tells: the quick way through it takes only what the strict one takes, as the same value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base.storable import is_storable
from gateway.disclosure.rules.entry import Kind
from gateway.disclosure.rules.uses import (
    USES,
    OfBody,
    PaymentFacts,
    SourceRow,
    _filled,
    consent_of,
    facts_of,
    plain_use,
    told_by,
    use_of,
)
from schemas.codec import parse_strictly
from schemas.events import EventType
from schemas.topics import events_topic
from tests.support.builders import NOW

TEXTS = st.text(max_size=8)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3), max_leaves=6)
MEMBERS = st.lists(st.tuples(st.sampled_from(["partner_id", "consent_id", "a"]) | TEXTS, VALUES), max_size=5)


def strictly(body: bytes) -> Any:
    try:
        told = parse_strictly(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


@given(MEMBERS, st.booleans(), st.sampled_from(["", " "]))
def test_a_body_is_read_as_strictly_as_ever(members: list[tuple[str, Any]], escaped: bool, space: str) -> None:
    """Also where a member is given twice, which a dictionary cannot say."""
    written = f",{space}".join(
        f"{json.dumps(n, ensure_ascii=escaped)}:{space}{json.dumps(v, ensure_ascii=escaped)}" for n, v in members
    )
    body = f"{{{written}}}".encode("utf-8", "surrogatepass")
    # Whole numbers and others, truth and one, are different things that compare as equal.
    assert repr(told_by(body)) == repr(strictly(body))


@given(st.binary(max_size=40) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_what_is_no_object_tells_nothing(body: bytes) -> None:
    assert repr(told_by(body)) == repr(strictly(body))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": "x", "a": "x"}', None),
        (b'{"a": 1, "a": 2}', None),
        (b'{"a":"x","a":"x"}', None),
        (b'{"a":1,"a":1}', None),
        (b'{"a":1.0,"b":-0}', {"a": 1.0, "b": 0}),
        (b'{"a":true}', {"a": True}),
        (b'{"a": 18446744073709551616}', {"a": 18446744073709551616}),
        (b'{"a": NaN}', None),
        (b'{"a": "\\u0022", "b": "\\""}', {"a": '"', "b": '"'}),
        (b"[" * 100_000, None),
        (b'{"a": ' * 100_000, None),
    ],
)
def test_what_a_quick_reader_would_take_for_something_else(body: bytes, told: object) -> None:
    assert repr(told_by(body)) == repr(told)


SENT = {
    "payment_id": (ID := "00000000-0000-5000-8000-000000000001"),
    "partner_id": "p",
    "consent_id": "c",
    "consent_version": 2,
    "merchant_id": "m",
    "amount": {"currency": "KRW", "value": "5"},
    "network_id": "n",
    "rrn": "000000000001",
}


def said(event_type: str = EventType.PAYMENT_SENT, partner: str = "p", key: str = ID, **other: object) -> Any:
    body = {name: value for name, value in (SENT | other).items() if value is not None}
    return facts_of(event_type, events_topic(partner), key, json.dumps(body).encode())


def test_an_event_that_a_payment_is_sent_says_itself_what_it_was() -> None:
    assert said(more="of later releases") == PaymentFacts(
        *("p", ID, "c", 2, "m", "purchase", "5", "KRW", "n"), was_sent=True
    )
    assert said(original_payment_id=ID).operation == "refund"


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in SENT),
        *({"consent_version": v} for v in (0, -1, 2**31, 2**70, 1.5, "1", True)),
        *({name: value} for name in ("consent_id", "merchant_id", "network_id") for value in ("\0", "\ud800", 7)),
        *({"amount": a} for a in ({"currency": "KRW"}, {"currency": "\0", "value": "5"}, "5 KRW")),
        {"partner": "q"},
        {"key": ID.replace("1", "2")},
        {"partner_id": "q"},
        {"event_type": EventType.PAYMENT_REJECTED},
    ],
)
def test_of_what_an_event_does_not_say_its_payment_is_asked(changed: dict[str, Any]) -> None:
    assert said(**changed) is None


CHANGED = st.sampled_from(sorted(SENT)).flatmap(
    lambda name: st.tuples(st.just(name), st.none() | st.sampled_from(["p", "c", ID, "\0", "\ud800", 0, 3, 2**31]))
)
KNOWN = st.fixed_dictionaries({("p", "c"): st.sampled_from(["customer-1", ""])})
OTHERS = st.dictionaries(st.sampled_from([("p", "p"), ("q", "c"), ("c", "p")]), st.just("customer-2"))


@pytest.mark.parametrize("event_type", [EventType.PAYMENT_SENT, EventType.PAYMENT_REJECTED])
@pytest.mark.parametrize("original", [{}, {"original_payment_id": ID}, {"original_payment_id": 7}])
@given(
    st.sampled_from(["p", "p", "q"]),
    st.sampled_from([ID, ID, "p"]),
    st.just([]) | st.lists(CHANGED, max_size=2),
    KNOWN | OTHERS,
)
def test_a_plain_use_is_what_is_told_of_it_the_long_way(
    event_type: str,
    original: dict[str, Any],
    partner: str,
    key: str,
    changed: list[tuple[str, Any]],
    customers: dict[tuple[str, str], str],
) -> None:
    """None only where something has to be asked."""
    body = json.dumps({n: v for n, v in (SENT | original | dict(changed)).items() if v is not None}).encode()
    event = event_type, events_topic(partner), key
    facts = facts_of(*event, body)
    customer_id = None if facts is None else customers.get((facts.partner_id, facts.consent_id))
    row = SourceRow(1, 1, event_type, "e", NOW, payment=facts, customer_id=customer_id)
    wanted = None if customer_id is None else use_of(row)
    assert plain_use(facts, NOW, customers) == wanted


def test_an_event_that_is_nested_too_deep_says_nothing() -> None:
    body = b'{"more":' + b"[" * 100_000
    assert facts_of(EventType.PAYMENT_SENT, events_topic("p"), ID, body) is None


@given(st.binary(max_size=40) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_what_is_no_event_of_a_payment_says_nothing_of_one(body: bytes) -> None:
    assert facts_of(EventType.PAYMENT_SENT, events_topic("p"), ID, body) is None


def test_a_consent_is_named_by_both_members() -> None:
    assert consent_of({"partner_id": "p", "consent_id": "c", "x": 1}) == ("p", "c")
    assert [consent_of(t) for t in (None, {}, {"partner_id": "p"}, {"partner_id": None, "consent_id": "c"})] == [
        None
    ] * 4


@pytest.mark.parametrize("value", ["x", "", 7, None, True, 1.5, ["a", 1], {"a": 1}])
def test_each_text_of_the_table_is_filled_in_as_the_language_does(value: object) -> None:
    texts = {t for r in USES.values() if isinstance(r, OfBody) for t in (r.recipient, r.purpose, r.what, r.reference)}
    for text in texts | {"{a}", "a {a} b", "{a}{a}", "{a!r}", "{{a}}", "none"}:
        names = dict.fromkeys(["rcv_org_code", "records", "chunks", "export_id", "attempt", "affiliate_id", "purposes"])
        body: dict[str, Any] = {**names, "a": value}
        try:
            wanted = text.format_map(body)
        except KeyError as error:
            wanted = repr(error)
        try:
            [found] = _filled([text], body)
        except KeyError as error:
            found = repr(error)
        assert found == wanted


def test_what_is_nested_too_deep_to_be_told_is_an_entry_all_the_same() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    told = {"partner_id": "p", "consent_id": "c", "rcv_org_code": deep, "records": 1, "chunks": 1, "export_id": "x"}
    use = use_of(SourceRow(1, 1, EventType.PORTABILITY_DELIVERED, "e", NOW, told=told, customer_id="customer-1"))
    assert use is not None
    assert (use.kind, use.customer_id, use.reference) == (Kind.UNREADABLE, "customer-1", "e")


@pytest.mark.parametrize("value", [7, ["p"], {"p": 1}, "\0", "\ud800", "p\udfff"])
def test_a_consent_is_named_by_texts_that_there_can_be(value: object) -> None:
    assert consent_of({"partner_id": value, "consent_id": "c"}) is None
    assert consent_of({"partner_id": "p", "consent_id": value}) is None


@given(st.text() | st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE100, exclude_categories=())))
def test_what_can_be_stored_is_what_utf_8_spells_without_nul(text: str) -> None:
    try:
        spelt = b"\0" not in text.encode()
    except UnicodeEncodeError:
        spelt = False
    assert is_storable(text) is spelt
