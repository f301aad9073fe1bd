"""Messages ↔ bytes.

pyiso8583 lays the fields out; this module checks what it does not: content classes, ranges, padding, mandatory fields.

What this side sends is written strictly (:func:`encode_message`). What a host sends is read for what decides
(:func:`decode_arriving`): those fields strictly, and all others as they came, for an approval must not be lost over a
text that nobody judges. No error text carries the content of a field, and ``repr`` that of a short list of harmless
ones alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import iso8583

from gateway.network.exchange import Echoed
from gateway.network.iso8583.ascii_wire import read_ascii, write_ascii
from gateway.network.iso8583.dialect import ANSWERS, HOST_REQUEST, MessageRule, answering_mti
from gateway.network.iso8583.wire import WIRE_TEXT, Dialect, FieldCodec

ZERO_AMOUNT: Final = "0" * 12

FIRST_BITMAP_TO: Final = 64
"""The first bitmap names fields up to this number, the second those above it."""

_SHOWN: Final = frozenset({3, 4, 7, 11, 12, 13, 18, 22, 25, 32, 37, 38, 39, 41, 42, 49, 50, 66, 70, 90})
_BITMAP: Final = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
_MTI: Final = re.compile(r"[0-9]{4}").fullmatch


class Iso8583Error(ValueError):
    """A message breaks the tables. The text names the field and the rule, never content.

    Attributes:
        field: ``"4"``, ``"mti"``, ``"bitmap"`` or ``"message"``.
        reason: what is wrong.
        mti: of the message that could not be decoded, where it could be read; else empty.
        echoed: the numbers of it that could be read; None where DE11 could not.
    """

    def __init__(self, field_: str, reason: str, mti: str = "", echoed: Echoed | None = None) -> None:
        name = f"field {field_}" if field_.isdigit() else field_
        super().__init__(f"{name}: {reason}")
        self.field = field_
        self.reason = reason
        self.mti = mti
        self.echoed = echoed


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One ISO 8583 message.

    Attributes:
        mti: four digits.
        fields: by number, none empty. Digits as they are, fixed text without its trailing spaces, binary as upper-case
            hexadecimal, x+n amounts with a leading C or D, track data with "=".
        others: by number, the bytes of fields that decide nothing and do not fit their tables. Number 0: the end of a
            message that could not be cut into fields.
    """

    mti: str
    fields: Mapping[int, str]
    others: Mapping[int, bytes] = field(default_factory=dict)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{number}={value!r}" if number in _SHOWN else f"{number}=***"
            for number, value in sorted(self.fields.items())
        )
        more = "".join(f", {number}=***" for number in sorted(self.others))
        return f"Message({self.mti}, {shown}{more})"

    def __getitem__(self, number: int) -> str:
        return self.fields[number]

    def get(self, number: int) -> str | None:
        """Return a field's value, or None where the message lacks it."""
        return self.fields.get(number)


class _Raw(NamedTuple):
    """A message cut into fields, each as it lies on the wire; ``failed``: of the field at which cutting ended."""

    mti: str
    values: dict[int, str]
    failed: tuple[str, str] | None = None
    rest: bytes = b""


def encode_message(message: Message, dialect: Dialect) -> bytes:
    """Write one message, with the constants that the network's layout asks for and without what it leaves out.

    Raises:
        Iso8583Error: a field is unknown, not allowed in this message, missing, or its value does not fit.
    """
    rule = dialect.rules.get(message.mti)
    if rule is None:
        raise Iso8583Error("mti", "is not supported")
    fields = fields_sent(message, dialect)
    if not fields.keys() <= rule.allowed:
        raise Iso8583Error(str(min(fields.keys() - rule.allowed)), f"is not sent in {message.mti}")
    if fault := _absent(message.mti, fields, rule):
        raise Iso8583Error(*fault)
    return _write(message.mti, fields, dialect)


def fields_sent(message: Message, dialect: Dialect) -> Mapping[int, str]:
    """The fields of a message with the constants of the network's layout, and without what it leaves out."""
    constants, omitted = dialect.constants[message.mti], dialect.omitted[message.mti]
    if not (constants or omitted):
        return message.fields
    return {n: value for n, value in {**constants, **message.fields}.items() if n not in omitted}


def encode_field(number: int, value: str, dialect: Dialect) -> bytes:
    """Write one field, as it stands within a message.

    Raises:
        Iso8583Error: the value does not fit.
    """
    bitmaps = 2 if number > FIRST_BITMAP_TO else 1
    return _write("0200", {number: value}, dialect)[dialect.mti_bytes + bitmaps * dialect.bitmap_bytes :]


def encode_refusal(message: Message, dialect: Dialect) -> bytes:
    """Write the answer to a message that the tables do not know: whatever of it was echoed.

    Raises:
        Iso8583Error: a value does not fit.
    """
    return _write(message.mti, message.fields, dialect)


def _write(mti: str, fields: Mapping[int, str], dialect: Dialect) -> bytes:
    codecs = dialect.fields
    values: dict[int, str] = {}
    is_plain = dialect.is_plain_ascii
    for number, value in fields.items():
        codec = codecs[number]
        if codec.check(value) is None:
            value = _in_charset(codec, value, dialect.charset)  # noqa: PLW2901  # its bytes, one character each
            is_plain = False
        values[number] = codec.to_wire(value) if codec.to_wire else value
    if is_plain:
        return write_ascii(mti, values)
    return _write_by_library(mti, values, dialect)


def _in_charset(codec: FieldCodec, value: str, charset: str) -> str:
    """The bytes of a text in the network's character set; of ASCII that does not fit there is no other spelling."""
    if codec.is_free_text and not value.isascii() and value.isprintable():
        try:
            data = value.encode(charset)
        except UnicodeEncodeError:
            data = b""
        if 0 < len(data) <= codec.length and not data.endswith(b" "):
            return data.decode(WIRE_TEXT)
    raise Iso8583Error(codec.key, "has a wrong length or character")


def _write_by_library(mti: str, values: Mapping[int, str], dialect: Dialect) -> bytes:
    document = {"t": mti, **{dialect.fields[number].key: value for number, value in values.items()}}
    data: bytearray | None = None
    where = "message"
    try:
        data, _ = iso8583.encode(document, dialect.specs[0])
    except iso8583.EncodeError as error:
        where = error.field
    if data is None:
        # Raised out here so that no traceback reaches the library's error, which holds the whole message.
        raise Iso8583Error(where, "cannot be encoded")
    return bytes(data)


def decode_message(data: bytes, dialect: Dialect) -> Message:
    """Read one message, without its frame header, that keeps the tables in every field.

    Fields that the tables neither ask for nor forbid are accepted; blank ones are left out.

    Raises:
        Iso8583Error: the bytes are not exactly one message of this layout, or it breaks the tables.
    """
    raw = _take_apart(data, dialect)
    rule = dialect.rules.get(raw.mti)
    if rule is None and (raw.failed is None or _MTI(raw.mti)):
        raise _broken(raw, "mti", "is not supported")
    if raw.failed is not None or rule is None:
        raise _broken(raw, *(raw.failed or _CUT_SHORT))
    fields, others = _read(raw, dialect)
    if others:
        raise _broken(raw, str(min(others)), "has a wrong length or character")
    if not rule.forbidden.isdisjoint(fields):
        raise _broken(raw, str(min(rule.forbidden & fields.keys())), f"does not belong in {raw.mti}")
    if fault := _absent(raw.mti, fields, rule):
        raise _broken(raw, *fault)
    return Message(raw.mti, fields)


def decode_arriving(data: bytes, dialect: Dialect, *, by_time: bool = False) -> Message:
    """Read one message that a host sent: an answer, or a request of its own.

    Args:
        data: without its frame header.
        dialect: the network's.
        by_time: DE7 decides too, for answers are matched by it.

    Raises:
        Iso8583Error: the MTI is none of them, or a field that decides is missing, does not fit or cannot be found.
    """
    raw = _take_apart(data, dialect)
    rule = ANSWERS.get(raw.mti) or (HOST_REQUEST if answering_mti(raw.mti) else None)
    if rule is None:
        where, why = ("mti", "is not supported") if _MTI(raw.mti) else raw.failed or _CUT_SHORT
        raise _broken(raw, where, why)
    deciding = rule.deciding | {7} if by_time else rule.deciding
    if raw.failed is not None and not _all_found(raw, deciding):
        raise _broken(raw, *raw.failed)
    fields, others = _read(raw, dialect)
    if others and (wrong := deciding & others.keys()):
        raise _broken(raw, str(min(wrong)), "has a wrong length or character")
    required = rule.mandatory | dialect.mandatory[raw.mti] if raw.mti in dialect.mandatory else rule.mandatory
    if not required <= fields.keys() and (missing := required - fields.keys() - others.keys()):
        raise _broken(raw, str(min(missing)), f"is missing in {raw.mti}")
    if raw.failed is not None:
        others[0] = raw.rest
    return Message(raw.mti, fields, others)


def _broken(raw: _Raw, where: str, why: str) -> Iso8583Error:
    return Iso8583Error(where, why, raw.mti, _echoed(raw))


def _all_found(raw: _Raw, deciding: frozenset[int]) -> bool:
    """True if cutting ended behind every field that decides: fields come in the order of their numbers."""
    where = raw.failed[0] if raw.failed else ""
    return where.isdigit() and int(where) > max(deciding)


def _read(raw: _Raw, dialect: Dialect) -> tuple[dict[int, str], dict[int, bytes]]:
    fields: dict[int, str] = {}
    others: dict[int, bytes] = {}
    codecs = dialect.fields
    for number, wire in raw.values.items():
        codec = codecs[number]
        value = codec.from_wire(wire) if codec.from_wire is not None else wire
        if not value:
            continue
        if codec.check(value) is not None:
            fields[number] = value
        elif (text := _from_charset(codec, value, dialect.charset)) is not None:
            fields[number] = text
        else:
            others[number] = wire.encode(WIRE_TEXT) if codec.is_text else bytes.fromhex(wire + "0" * (len(wire) % 2))
    return fields, others


def _from_charset(codec: FieldCodec, value: str, charset: str) -> str | None:
    if charset == "ascii" or not codec.is_free_text or value.isascii():
        return None
    try:
        text = value.encode(WIRE_TEXT).decode(charset)
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


_CUT_SHORT: Final = ("message", "is malformed or cut short")


def _take_apart(data: bytes, dialect: Dialect) -> _Raw:
    short = read_ascii(data) if dialect.is_plain_ascii else None
    if short is not None:
        return _Raw(*short)
    found: _Raw | None = None
    for spec in dialect.specs:
        raw = _by_library(data, spec, dialect)
        if raw.failed is None:
            return raw
        # The one that came furthest; of equals the first.
        if found is None or len(raw.values) > len(found.values):
            found = raw
    return found or _Raw("", {}, _CUT_SHORT)


def _by_library(data: bytes, spec: Mapping[str, Mapping[str, Any]], dialect: Dialect) -> _Raw:
    failed: tuple[str, str] | None = None
    rest = b""
    try:
        document, lengths = iso8583.decode(data, spec)
    except iso8583.DecodeError as error:
        document, lengths = error.doc_dec, error.doc_enc
        document.pop(error.field if error.field not in {"t", "p", "1"} else "", None)
        failed = ({"t": "mti", "p": "bitmap", "1": "bitmap"}.get(error.field, error.field), _CUT_SHORT[1])
        rest = data[error.pos :]
    except KeyError:
        document, lengths, failed = {}, {}, ("bitmap", _CUT_SHORT[1])
    mti = document.pop("t", "")
    if not all(_BITMAP(document.pop(name, ZERO_AMOUNT + "0000")) for name in ("p", "1")) and failed is None:
        return _Raw(mti, {}, ("bitmap", "is malformed"))
    values: dict[int, str] = {}
    for name, value in document.items():
        number = dialect.numbers[name]
        # int() inside the library takes "+5" and " 5" for a length.
        if dialect.fields[number].text_length and not lengths[name]["len"].isdigit():
            return _Raw(mti, values, (name, "length is not digits"))
        values[number] = value
    return _Raw(mti, values, failed, rest)


def _echoed(raw: _Raw) -> Echoed | None:
    """The numbers of a message that may be unreadable otherwise."""
    stan = raw.values.get(11, "")
    if not (len(stan) == 6 and stan.isascii() and stan.isdigit()):
        return None
    return Echoed(int(stan), *(raw.values.get(number, "").rstrip(" ") or None for number in (41, 37, 7)))


def _absent(mti: str, fields: Mapping[int, str], rule: MessageRule) -> tuple[str, str] | None:
    """The field that must be there and is not, and what is wrong with it."""
    if not rule.mandatory <= fields.keys():
        return str(min(rule.mandatory - fields.keys())), f"is missing in {mti}"
    if rule.response is not None and fields.get(4) == ZERO_AMOUNT:
        return "4", "is zero"
    return None
