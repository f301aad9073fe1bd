"""CloudEvents 1.0 in Kafka binary mode: metadata in headers, the message itself as the record's value.

Headers: ``ce_specversion ce_id ce_source ce_type ce_time content-type`` and optionally ``traceparent`` (W3C) and
``signature`` (a detached JWS over the raw value, RFC 7515 appendix F and RFC 7797).
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from schemas.primitives import read_time

CONTENT_TYPE: Final = "application/json"
HEADER_BYTES_MAX: Final = 4096
"""A detached ES256 JWS takes about 250 bytes; no header of ours comes near this."""

Headers = Sequence[tuple[str, bytes]]

_REQUIRED: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
_DECIDING: Final = ("ce_specversion", "ce_type")
"""Of these depends how a record is read. The others of CloudEvents tell partners' own systems something, not us."""

_CHARS_MAX: Final = 256
TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C's trace context: ids of trace and span, and flags. Version ff, and ids of noughts alone, are none."""


class EnvelopeError(ValueError):
    """The headers are not a CloudEvent's.

    Attributes:
        header: the header that is missing or wrong.
    """

    def __init__(self, header: str, problem: str) -> None:
        """Name the header and what is wrong with it; the text contains nothing of its value."""
        super().__init__(f"header {header}: {problem}")
        self.header = header
        self.problem = problem


class Envelope(Struct, frozen=True, gc=False):
    """A CloudEvent's metadata. ``traceparent`` is None where absent or malformed: it never decides anything."""

    id: str
    source: str
    type: str
    time: datetime
    signature: str | None = None
    traceparent: str | None = None


def read_envelope(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Read a record's headers, as the gateway writes them and partners should.

    Raises:
        EnvelopeError: a required header is missing, given twice, too long, not printable ASCII, or has a wrong value.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in _KNOWN:
            continue
        if name in found:
            if name == _TRACE:
                found[name] = ""
                continue
            raise EnvelopeError(name, "given twice")
        if value is None or len(value) > HEADER_BYTES_MAX or not value.isascii():
            if name == _TRACE:
                continue
            raise EnvelopeError(name, f"must be ASCII of at most {HEADER_BYTES_MAX} bytes")
        found[name] = value.decode("ascii")
    for name in _REQUIRED:
        _printable(name, found.get(name))
    _understood(found)
    return Envelope(
        id=found["ce_id"],
        source=found["ce_source"],
        type=found["ce_type"],
        time=_time(found["ce_time"]),
        signature=found.get("signature"),
        traceparent=_trace(found.get(_TRACE)),
    )


def read_loosely(headers: Iterable[tuple[str, bytes]], *, instead: Envelope) -> Envelope:
    """Read what decides anything: specversion, type, content type and signature. Of the rest what is right is kept.

    Args:
        headers: that :func:`read_envelope` refuses.
        instead: whose id, source and time stand where those of the headers are missing or wrong.

    Raises:
        EnvelopeError: one that decides is missing, given twice, too long, not printable ASCII, or has a wrong value.
    """
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for name, value in headers:
        if name not in _KNOWN:
            continue
        if name in found or name in wrong:
            wrong[name] = "given twice"
        elif value is None or len(value) > HEADER_BYTES_MAX or not value.isascii():
            wrong[name] = f"must be ASCII of at most {HEADER_BYTES_MAX} bytes"
        else:
            found[name] = value.decode("ascii")
    for name in (*_DECIDING, "content-type", "signature"):
        if name in wrong:
            raise EnvelopeError(name, wrong[name])
    for name in _DECIDING:
        _printable(name, found.get(name))
    _understood(found)
    kept = {name: text for name, text in found.items() if name not in wrong}
    return Envelope(
        id=_or(kept.get("ce_id"), instead.id),
        source=_or(kept.get("ce_source"), instead.source),
        type=found["ce_type"],
        time=_time_or(kept.get("ce_time"), instead.time),
        signature=found.get("signature"),
        traceparent=_trace(kept.get(_TRACE)),
    )


def read_signature(headers: Iterable[tuple[str, bytes]]) -> str | None:
    """The signature of a record whose other headers cannot be read; None where there is not exactly one of them."""
    found = [value for name, value in headers if name == "signature"]
    if len(found) != 1 or len(found[0]) > HEADER_BYTES_MAX or not found[0].isascii():
        return None
    return found[0].decode("ascii")


def write_envelope(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Return the headers that :func:`read_envelope` reads back."""
    headers = event_headers(envelope.id, envelope.source, envelope.type, envelope.time, None)
    if envelope.signature is not None:
        headers.append(("signature", envelope.signature.encode()))
    if envelope.traceparent is not None:
        headers.append((_TRACE, envelope.traceparent.encode()))
    return headers


def event_headers(
    event_id: str, source: str, type_: str, time: datetime, traceparent: str | None
) -> list[tuple[str, bytes]]:
    """Return the same headers of an event that nobody signed."""
    headers = [
        _SPECVERSION,
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", type_.encode()),
        ("ce_time", time.isoformat().encode()),
        _CONTENT_TYPE,
    ]
    if traceparent is not None:
        headers.append((_TRACE, traceparent.encode()))
    return headers


_SPECVERSION: Final = ("ce_specversion", b"1.0")
_CONTENT_TYPE: Final = ("content-type", CONTENT_TYPE.encode())
_TRACE: Final = "traceparent"
_KNOWN: Final = frozenset((*_REQUIRED, "content-type", "signature", _TRACE))


def _printable(name: str, text: str | None) -> None:
    if text is None:
        raise EnvelopeError(name, "is missing")
    if not _is_printable(text):
        raise EnvelopeError(name, f"must be 1 to {_CHARS_MAX} printable characters")


def _is_printable(text: str) -> bool:
    # ASCII as it is, only the space is printable and not a mark.
    return 0 < len(text) <= _CHARS_MAX and text.isprintable() and " " not in text


def _understood(found: dict[str, str]) -> None:
    if found["ce_specversion"] != "1.0":
        raise EnvelopeError("ce_specversion", "must be 1.0")
    content = found.get("content-type", CONTENT_TYPE)
    if content != CONTENT_TYPE and content.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise EnvelopeError("content-type", f"must be {CONTENT_TYPE}")


def _or(text: str | None, instead: str) -> str:
    return text if text is not None and _is_printable(text) else instead


def _trace(text: str | None) -> str | None:
    return text if text and TRACEPARENT.fullmatch(text) else None


def _time(text: str) -> datetime:
    try:
        return read_time(text)
    except ValueError as error:
        raise EnvelopeError("ce_time", str(error)) from None


def _time_or(text: str | None, instead: datetime) -> datetime:
    try:
        return instead if text is None else read_time(text)
    except ValueError:
        return instead
