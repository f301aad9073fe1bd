"""The one door for partners' records: nothing of a body is read before it is known who signed it.

Bytes are bounded, then the signature says whose they are, and only then are they decoded. A record is

- **nobody's**: no signature that holds, or a body that names another partner than the key's owner. Whoever wrote it
  must not make the gateway speak to anybody: it becomes a dead letter and is counted, and nobody is told;
- **a partner's, with a fault**: that partner is told which field or header it is in, and what was expected;
- **a partner's message**: metadata that decides nothing stops none, and is set right where it was wrong.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError

from gateway.base.errors import NotAuthenticatedError
from gateway.identity.signing import KeySource, SignatureVerifier, Signed
from gateway.messaging.records import Record
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode, parse_strictly
from schemas.envelope import Envelope, EnvelopeError, read_envelope, read_loosely, read_signature
from schemas.primitives import PartnerId
from schemas.reasons import Reason, ReasonCode

RECORD_BYTES_MAX: Final = 1024 * 1024
"""The topics' limit: what is larger came compressed, and is not even hashed."""

_TEXT_CHARS_MAX: Final = 500
_MEMBERS_MAX: Final = 100
"""No message has as many."""

_TIMESTAMPS_MS: Final = range(946_684_800_000, 32_503_680_000_000)
"""Of the years 2000 to 2999, as the times in bodies."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOO_LARGE: Final = Reason(code=ReasonCode.FF01, text=f"record is larger than {RECORD_BYTES_MAX} bytes")
_OTHERS: Final = Reason(code=ReasonCode.DS19, text="signing key is not of the partner that the body names")
_UNKNOWN: Final = frozenset({ReasonCode.DS0E, ReasonCode.AG01})


class PartnerMessage(Protocol):
    """What every message of a partner tells of itself."""

    @property
    def partner_id(self) -> PartnerId:
        """The partner that signs."""

    @property
    def record_key(self) -> str:
        """What the record's Kafka key must be."""


M_co = TypeVar("M_co", bound=PartnerMessage, covariant=True)


class Authentic(Struct, Generic[M_co], frozen=True, gc=False):
    """A message of the partner that it names.

    Attributes:
        envelope: its headers; of those that decide nothing what was wrong is set right.
        digest: SHA-256 of the raw bytes; tells a redelivery from an id that is used again.
        ordered_at: Kafka timestamp of the record.
        lapsed: why its key vouches for nothing new; what was accepted with these very bytes before stands.
    """

    record: Record
    envelope: Envelope
    message: M_co
    digest: bytes
    ordered_at: datetime
    lapsed: Reason | None = None

    @property
    def reference(self) -> str:
        """Topic, partition and offset of the partner's record."""
        return self.record.reference


@dataclass(frozen=True, slots=True)
class Faulty:
    """A partner's record that is no message.

    Attributes:
        partner_id: who signed it.
        type_: CloudEvents type; None where the headers do not say.
        reason: names the field or header, and what was expected.
        fields: those of the body's members that are texts or whole numbers, unchecked; none where it could not be read
            at all, or names one twice.
    """

    record: Record
    partner_id: PartnerId
    type_: str | None
    reason: Reason
    traceparent: str | None = None
    fields: Mapping[str, str | int] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> str:
        """Topic, partition and offset of the partner's record."""
        return self.record.reference

    def member(self, name: str, type_: TypeAdapter[Any]) -> Any:
        """A member of the body, if it is of its type; else None."""
        try:
            return type_.validate_python(self.fields.get(name))
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class Nobodys:
    """A record whose sender is not known."""

    record: Record
    error: NotAuthenticatedError

    @property
    def may_be_known_by_now(self) -> bool:
        """True if its key or partner may have been registered a moment ago."""
        return self.error.reason.code in _UNKNOWN


class Door(Generic[M_co]):
    """Reads the records of one topic.

    Args:
        models: CloudEvents type → body of what partners may send there.
    """

    def __init__(self, *, verifier: SignatureVerifier, models: Mapping[str, type[M_co]]) -> None:
        self._verifier = verifier
        # Asked once: a class answers for what it has not more slowly than a message is read.
        self._models = {
            type_: (model, int(getattr(model, "BYTES_MAX", BODY_BYTES_MAX))) for type_, model in models.items()
        }
        self._types = " or ".join(sorted(models))

    async def read_all(
        self, records: Sequence[Record], now: datetime, keys: KeySource
    ) -> list[Authentic[M_co] | Faulty | Nobodys]:
        """As :meth:`read`, a batch in its order.

        A partner or key may have been registered a moment ago: before anybody is turned away, the registry is read
        again, and then those records alone whose sender was not known.
        """
        read = [self.read(record, now) for record in records]
        unknown = [n for n, one in enumerate(read) if isinstance(one, Nobodys) and one.may_be_known_by_now]
        if unknown and await keys.refresh_if_stale():
            for n in unknown:
                read[n] = self.read(records[n], now)
        return read

    async def read_or_park(
        self, records: Sequence[Record], now: datetime, keys: KeySource
    ) -> tuple[list[Authentic[M_co]], list[tuple[Record, NotAuthenticatedError]]]:
        """As :meth:`read_all`, where senders are told of no fault: what may count, and what is parked, and why."""
        good: list[Authentic[M_co]] = []
        parked: list[tuple[Record, NotAuthenticatedError]] = []
        for one in await self.read_all(records, now, keys):
            match one:
                case Nobodys():
                    parked.append((one.record, one.error))
                case Faulty():
                    parked.append((one.record, NotAuthenticatedError(one.reason)))
                case Authentic() if one.lapsed is not None:
                    parked.append((one.record, NotAuthenticatedError(one.lapsed)))
                case Authentic():
                    good.append(one)
        return good, parked

    def read(self, record: Record, now: datetime) -> Authentic[M_co] | Faulty | Nobodys:
        """Tell whose a record is, and what it says."""
        if len(record.value) > RECORD_BYTES_MAX:
            return Nobodys(record, NotAuthenticatedError(_TOO_LARGE))
        headers = _headers(record)
        if isinstance(headers, EnvelopeError):
            signed = self._authenticate(record, read_signature(record.headers), None, now)
            return signed if isinstance(signed, Nobodys) else _fault(record, None, signed, headers)
        signed = self._authenticate(record, headers.signature, headers.type, now)
        return signed if isinstance(signed, Nobodys) else self._open(record, headers, signed)

    def _authenticate(
        self, record: Record, signature: str | None, type_: str | None, now: datetime
    ) -> Signed | Nobodys:
        signed = self._verifier.authenticate(body=record.value, signature=signature, type_=type_, now=now)
        return signed if isinstance(signed, Signed) else Nobodys(record, NotAuthenticatedError(signed))

    def _open(self, record: Record, envelope: Envelope, signed: Signed) -> Authentic[M_co] | Faulty | Nobodys:
        known = self._models.get(envelope.type)
        try:
            if known is None:
                raise EnvelopeError("ce_type", f"must be {self._types}")
            model, bytes_max = known
            message: M_co = decode(model, record.value, bytes_max=bytes_max)  # type: ignore[type-var]
            if message.partner_id != signed.partner_id:
                return Nobodys(record, NotAuthenticatedError(_OTHERS))
            if record.key != message.record_key.encode():
                raise EnvelopeError("key", "the record's key must be the message's consent_id (a bulk's: its bulk_id)")
            ordered_at = _ordered_at(record)
        except (DecodeError, EnvelopeError) as error:
            return _fault(record, envelope, signed, error)
        digest = hashlib.sha256(record.value).digest()
        return Authentic(record, envelope, message, digest, ordered_at, signed.lapsed)


def _headers(record: Record) -> Envelope | EnvelopeError:
    """The metadata, set right where it decides nothing; or what decides and is wrong."""
    try:
        return read_envelope(record.headers)
    except EnvelopeError:
        pass
    # Only now: nearly every record's headers are right.
    at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC) if record.timestamp_ms in _TIMESTAMPS_MS else _EPOCH
    try:
        return read_loosely(record.headers, instead=Envelope(record.reference, "/", "", at))
    except EnvelopeError as error:
        return error


def _fault(
    record: Record, envelope: Envelope | None, signed: Signed, error: DecodeError | EnvelopeError
) -> Faulty | Nobodys:
    """A partner is told of a fault if its key vouches for what is new, and the body does not name another."""
    if signed.lapsed is not None:
        return Nobodys(record, NotAuthenticatedError(signed.lapsed))
    fields = _fields(record.value)
    named = fields.get("partner_id")
    if isinstance(named, str) and named != signed.partner_id:
        return Nobodys(record, NotAuthenticatedError(_OTHERS))
    reason = Reason(code=ReasonCode.FF01, text=str(error)[:_TEXT_CHARS_MAX])
    type_, trace = (envelope.type, envelope.traceparent) if envelope else (None, None)
    return Faulty(record, signed.partner_id, type_, reason, trace, fields)


def _fields(body: bytes) -> Mapping[str, str | int]:
    """The texts and whole numbers among a body's members. All else is dropped: it may be many times as large."""
    if len(body) > BODY_BYTES_MAX:
        return _fields_of_large(body)
    try:
        members = parse_strictly(body)
    except ValueError:
        return {}
    return {n: v for n, v in members.items() if type(v) in (str, int)} if isinstance(members, dict) else {}


def _fields_of_large(body: bytes) -> Mapping[str, str | int]:
    """As above, and nothing is made of the other members, which would take up to half a second a megabyte.

    Of a body with a member twice, with many or with a long name nothing is read.
    """
    try:
        members = _decode_members(body)
    except (ValueError, RecursionError):
        return {}
    if len(members) > _MEMBERS_MAX or any(len(name) > _TEXT_CHARS_MAX for name in members):
        return {}
    if not _are_all(body, [bytes(value) for value in members.values()]):
        return {}
    short = {name: bytes(value) for name, value in members.items() if len(value) <= _TEXT_CHARS_MAX}
    return {n: msgspec.json.decode(v) for n, v in short.items() if v.startswith(b'"') or v.isdigit()}


def _are_all(body: bytes, values: Sequence[bytes]) -> bool:
    """True if an object has these members and no more. Of one that is given twice the reader tells the last alone."""
    at = body.index(b"{") + 1
    for value in values:
        name = _NAME.match(body, at)
        if name is None or not body.startswith(value, name.end()):
            return False
        at = name.end() + len(value)
        if (after := _AFTER.match(body, at)) is None:
            return False
        at = after.end()
    return body[at - 1 : at] == b"}"


_NAME: Final = re.compile(rb'[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*')
_AFTER: Final = re.compile(rb"[ \t\r\n]*[,}]")


_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _ordered_at(record: Record) -> datetime:
    if record.timestamp_ms not in _TIMESTAMPS_MS:
        raise EnvelopeError("timestamp", "the record's must be one of the years 2000 to 2999")
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
