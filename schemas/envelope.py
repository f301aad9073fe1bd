"""CloudEvents 1.0 in Kafka binary mode: metadata in headers, the message itself as the record's value.

Headers: ``ce_specversion ce_id ce_source ce_type ce_time content-type`` and optionally ``traceparent`` (W3C) and
``signature`` (a detached JWS over the raw value, RFC 7515 appendix F and RFC 7797).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

CONTENT_TYPE: Final = "application/json"
HEADER_BYTES_MAX: Final = 4096
"""A detached ES256 JWS takes about 250 bytes; no header of ours comes near this."""

Headers = Sequence[tuple[str, bytes]]

_REQUIRED: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time")
_CHARS_MAX: Final = 256
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """A CloudEvent's metadata. ``traceparent`` is None where absent or malformed: it never decides anything."""

    id: str
    source: str
    type: str
    time: datetime
    signature: str | None = None
    traceparent: str | None = None


def read_envelope(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Read a record's headers.

    Raises:
        EnvelopeError: a required header is missing, given twice, too long, not printable ASCII, or has a wrong value.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in _KNOWN:
            continue
        if name in found:
            raise EnvelopeError(name, "given twice")
        if value is None or len(value) > HEADER_BYTES_MAX or not value.isascii():
            raise EnvelopeError(name, f"must be ASCII of at most {HEADER_BYTES_MAX} bytes")
        found[name] = value.decode("ascii")
    for name in _REQUIRED:
        if name not in found:
            raise EnvelopeError(name, "is missing")
        text = found[name]
        # ASCII as it is, only the space is printable and not a mark.
        if not 0 < len(text) <= _CHARS_MAX or not text.isprintable() or " " in text:
            raise EnvelopeError(name, f"must be 1 to {_CHARS_MAX} printable characters")
    if found["ce_specversion"] != "1.0":
        raise EnvelopeError("ce_specversion", "must be 1.0")
    content = found.get("content-type", CONTENT_TYPE)
    if content != CONTENT_TYPE and content.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise EnvelopeError("content-type", f"must be {CONTENT_TYPE}")
    trace = found.get("traceparent")
    return Envelope(
        id=found["ce_id"],
        source=found["ce_source"],
        type=found["ce_type"],
        time=_time(found["ce_time"]),
        signature=found.get("signature"),
        traceparent=trace if trace and _TRACEPARENT.fullmatch(trace) else None,
    )


def write_envelope(envelope: Envelope) -> list[tuple[str, bytes]]:
    """Return the headers that :func:`read_envelope` reads back."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_time", envelope.time.isoformat().encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
    if envelope.signature is not None:
        headers.append(("signature", envelope.signature.encode()))
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    return headers


def is_traceparent(value: bytes) -> bool:
    """True for a W3C trace context header as :func:`read_envelope` takes it."""
    return value.isascii() and _TRACEPARENT.fullmatch(value.decode("ascii")) is not None


_KNOWN: Final = frozenset((*_REQUIRED, "content-type", "signature", "traceparent"))


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EnvelopeError("ce_time", "must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise EnvelopeError("ce_time", "needs a UTC offset")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
