"""CloudEvents headers: required once each, bounded, printable. What is unknown decides nothing and passes."""

from datetime import UTC, datetime
from typing import Final

import pytest

from schemas.envelope import HEADER_BYTES_MAX, Envelope, EnvelopeError, read_envelope, write_envelope

GOOD: Final = {
    "ce_specversion": b"1.0",
    "ce_id": b"e-1",
    "ce_source": b"/partners/acme",
    "ce_type": b"kr.mypay.payment.order.v1",
    "ce_time": b"2026-03-02T12:04:05.678+09:00",
    "content-type": b"application/json",
    "signature": b"a..b",
    "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
READ: Final = Envelope(
    id="e-1",
    source="/partners/acme",
    type="kr.mypay.payment.order.v1",
    time=datetime(2026, 3, 2, 3, 4, 5, 678000, tzinfo=UTC),
    signature="a..b",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


def headers(**changes: bytes | None) -> list[tuple[str, bytes]]:
    wanted = {**GOOD, **{name.replace("__", "-"): value for name, value in changes.items()}}
    return [(name, value) for name, value in wanted.items() if value is not None]


def test_headers_are_read() -> None:
    assert read_envelope(headers()) == READ


def test_what_is_written_is_read_back() -> None:
    assert read_envelope(write_envelope(READ)) == READ
    bare = Envelope(id="e", source="s", type="t", time=READ.time)
    assert read_envelope(write_envelope(bare)) == bare


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"])
def test_required_headers(name: str) -> None:
    for value in (None, b"", b"   ", b"tab\there", b"x" * 257, b"\xff", "카드".encode(), b"nul\x00"):
        with pytest.raises(EnvelopeError) as caught:
            read_envelope(headers(**{name: value}))
        assert caught.value.header == name
    with pytest.raises(EnvelopeError, match="given twice") as caught:
        read_envelope([*headers(), (name, GOOD[name])])
    assert caught.value.header == name


@pytest.mark.parametrize("code", range(128))
def test_marks_are_taken_and_nothing_else(code: int) -> None:
    value = b"a" + bytes([code]) + b"z"
    if 0x21 <= code <= 0x7E:
        assert read_envelope(headers(ce_id=value)).id == value.decode()
    else:
        with pytest.raises(EnvelopeError, match="printable"):
            read_envelope(headers(ce_id=value))


@pytest.mark.parametrize("name", ["signature", "content-type"])
def test_optional_headers_are_bounded_too(name: str) -> None:
    for value in (b"x" * (HEADER_BYTES_MAX + 1), b"\xff"):
        with pytest.raises(EnvelopeError) as caught:
            read_envelope([*[h for h in headers() if h[0] != name], (name, value)])
        assert caught.value.header == name
    with pytest.raises(EnvelopeError, match="given twice"):
        read_envelope([*headers(), (name, GOOD[name])])


@pytest.mark.parametrize("value", [b"0.3", b"1", b"1.0.0", b"2.0"])
def test_only_one_version_is_known(value: bytes) -> None:
    with pytest.raises(EnvelopeError, match="ce_specversion"):
        read_envelope(headers(ce_specversion=value))


@pytest.mark.parametrize("value", [b"now", b"2026-03-02T03:04:05", b"1772420645", b"2026-13-01T00:00:00Z"])
def test_times_need_a_date_and_an_offset(value: bytes) -> None:
    with pytest.raises(EnvelopeError, match="ce_time"):
        read_envelope(headers(ce_time=value))


@pytest.mark.parametrize("value", [b"text/xml", b"application/jsonx", b"application/cloudevents+json", b""])
def test_other_content_is_refused(value: bytes) -> None:
    with pytest.raises(EnvelopeError, match="content-type"):
        read_envelope(headers(content__type=value))


@pytest.mark.parametrize("value", [None, b"application/json; charset=utf-8", b"Application/JSON"])
def test_json_by_any_usual_name_is_taken(value: bytes | None) -> None:
    assert read_envelope(headers(content__type=value)).type == READ.type


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"00", b"x" * 300, b"x" * 9_000, b"\xff"),
        b"00-" + b"G" * 32 + b"-" + b"1" * 16 + b"-01",
        # As W3C has it, these are none either.
        b"ff-" + b"a" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"a" * 32 + b"-" + b"0" * 16 + b"-01",
    ],
)
def test_a_malformed_trace_context_is_dropped(value: bytes) -> None:
    assert read_envelope(headers(traceparent=value)).traceparent is None


def test_of_two_trace_contexts_none_is_taken() -> None:
    assert read_envelope([*headers(), ("traceparent", GOOD["traceparent"])]).traceparent is None


@pytest.mark.parametrize("value", [b"2026-03-02t03:04:05.678z", b"2026-03-02T12:04:05.678+09:00"])
def test_times_are_read_as_those_of_bodies(value: bytes) -> None:
    assert read_envelope(headers(ce_time=value)).time == READ.time


def test_unknown_headers_are_nobody_s_business() -> None:
    odd = [("x", b"\xff" * 9_000), ("x", b""), ("CE_ID", b"\x00"), ("", b"")]
    assert read_envelope([*odd, *headers()]) == READ


def test_errors_hold_nothing_of_the_value() -> None:
    for name in GOOD.keys() - {"traceparent"}:
        with pytest.raises(EnvelopeError) as caught:
            read_envelope([*[h for h in headers() if h[0] != name], (name, b"4111111111111111 \xff")])
        assert "4111" not in str(caught.value)
