"""ISO 8583:1987 as the host reads and writes it: bytes ↔ field values, in both dialects.

Written apart from the gateway's codec, so that one mistake in how a field is written and read cannot hide by being made
on both sides; only the standard's table of field formats is shared. It is also lean: a message is cut along a plan that
is worked out once for each set of fields. It checks structure and the digits of numeric fields, not the meaning.

Values are as on the wire: digits; fixed text with its trailing spaces; binary as upper-case hexadecimal.
"""

import re
from collections.abc import Mapping
from enum import IntEnum, unique
from typing import Final, NamedTuple

from gateway.network.iso8583.dialect import FIELDS, Content, Field
from gateway.network.iso8583.layout import DialectName

MTI: Final = 0
"""The key of the message type among a message's fields."""

_MTI: Final = re.compile(r"0[0-9]{3}").fullmatch
_PRINTABLE: Final = re.compile(rb"[ -~]*").fullmatch
_ASCII_IN_BCD: Final = frozenset({49, 50, 51})


class WireError(ValueError):
    """The bytes are not one message of this dialect, or a value does not fit; the text never holds content."""


@unique
class _Shape(IntEnum):
    """How one field lies on the wire; sizes are characters (ASCII) or bytes and digits (BCD)."""

    TEXT = 0
    PACKED = 1
    BINARY = 2
    SIGNED = 3
    TEXT_VARIABLE = 4
    PACKED_VARIABLE = 5


class _Step(NamedTuple):
    number: int
    shape: _Shape
    length: int
    length_digits: int
    numeric: bool


def _shape_in_bcd(field: Field) -> _Shape:
    packed = field.content in {Content.N, Content.Z} and field.number not in _ASCII_IN_BCD
    if field.length_digits:
        return _Shape.PACKED_VARIABLE if packed else _Shape.TEXT_VARIABLE
    if packed:
        return _Shape.PACKED
    if field.content is Content.B:
        return _Shape.BINARY
    return _Shape.SIGNED if field.content is Content.XN else _Shape.TEXT


def _step_of(field: Field, *, bcd: bool) -> _Step:
    numeric = field.content is Content.N
    if bcd:
        return _Step(field.number, _shape_in_bcd(field), field.length, field.length_digits, numeric)
    length = field.length * 2 if field.content is Content.B else field.length
    shape = _Shape.TEXT_VARIABLE if field.length_digits else _Shape.TEXT
    return _Step(field.number, shape, length, field.length_digits, numeric)


class Wire:
    """Reads and writes one dialect."""

    __slots__ = ("_bcd", "_bitmaps", "_plans", "_steps")

    def __init__(self, dialect: DialectName) -> None:
        self._bcd = dialect == "iso87-bcd"
        self._steps = {number: _step_of(field, bcd=self._bcd) for number, field in FIELDS.items()}
        self._plans: dict[str, tuple[_Step, ...]] = {}
        self._bitmaps: dict[tuple[int, ...], bytes] = {}

    def decode(self, body: bytes) -> dict[int, str]:
        """Cut one message, without its frame header, into its fields; the MTI is field 0.

        Raises:
            WireError: it is cut short, too long, or a field's length or digits are wrong.
        """
        return self._decode_bcd(body) if self._bcd else self._decode_ascii(body)

    def encode(self, fields: Mapping[int, str]) -> bytes:
        """Write one message; every value must have its full length already.

        Raises:
            WireError: a field is unknown or its value does not fit.
        """
        numbers = tuple(sorted(fields))
        head = self._bitmaps.get(numbers)
        if head is None:
            if numbers[:1] != (MTI,) or not set(numbers[1:]) <= self._steps.keys():
                raise WireError("unknown field")
            head = self._bitmaps[numbers] = self._bitmap_of(numbers[1:])
        mti = fields[MTI]
        if _MTI(mti) is None:
            raise WireError("MTI is not four digits")
        if not self._bcd:
            return b"%b%b%b" % (mti.encode(), head, self._ascii_fields(fields, numbers).encode("ascii", "strict"))
        parts = [bytes.fromhex(mti), head]
        for number in numbers[1:]:
            self._append_bcd(parts, self._steps[number], fields[number])
        return b"".join(parts)

    def _decode_ascii(self, body: bytes) -> dict[int, str]:
        if _PRINTABLE(body) is None:
            raise WireError("not printable ASCII")
        text = body.decode("ascii")
        first = text[4:20]
        if len(first) < 16 or _MTI(text[:4]) is None:
            raise WireError("cut short or no MTI")
        position = 20
        if first[0] in "89ABCDEFabcdef":
            first, position = text[4:36], 36
        plan = self._plans.get(first) or self._plan_of(first)
        fields = {MTI: text[:4]}
        for number, _, length, digits, numeric in plan:
            if digits:
                prefix = text[position : position + digits]
                position += digits
                if not prefix.isdecimal() or int(prefix) > length:
                    raise WireError(f"field {number}: length")
                end = position + int(prefix)
            else:
                end = position + length
            value = text[position:end]
            if numeric and not value.isdecimal():
                raise WireError(f"field {number}: not digits")
            fields[number] = value
            position = end
        if position != len(text):
            raise WireError("length does not agree with the fields")
        return fields

    def _decode_bcd(self, body: bytes) -> dict[int, str]:
        # One conversion of the whole body: a packed field is then a slice of it, two characters a byte.
        nibbles = body.hex().upper()
        first = nibbles[4:20]
        if len(first) < 16 or _MTI(nibbles[:4]) is None:
            raise WireError("cut short or no MTI")
        position = 10
        if body[2] & 0x80:
            first, position = nibbles[4:36], 18
        plan = self._plans.get(first) or self._plan_of(first)
        fields = {MTI: nibbles[:4]}
        for step in plan:
            number, shape, length, digits, numeric = step
            if shape is _Shape.TEXT:
                end = position + length
                value = body[position:end].decode("latin-1")
            elif shape is _Shape.PACKED:
                end = position + (length + 1) // 2
                value = nibbles[end * 2 - length : end * 2]
            elif digits:
                prefix = nibbles[position * 2 : (position + (digits + 1) // 2) * 2]
                position += (digits + 1) // 2
                if not prefix.isdecimal() or int(prefix) > length:
                    raise WireError(f"field {number}: length")
                count = int(prefix)
                packed = shape is _Shape.PACKED_VARIABLE
                end = position + ((count + 1) // 2 if packed else count)
                value = nibbles[position * 2 : position * 2 + count] if packed else body[position:end].decode("latin-1")
            else:
                end, value = self._binary(step, nibbles, position)
            if numeric and not value.isdecimal():
                raise WireError(f"field {number}: not digits")
            fields[number] = value
            position = end
        if position != len(body):
            raise WireError("length does not agree with the fields")
        return fields

    @staticmethod
    def _binary(step: _Step, nibbles: str, position: int) -> tuple[int, str]:
        if step.shape is _Shape.BINARY:
            end = position + step.length
            return end, nibbles[position * 2 : end * 2]
        end = position + 1 + (step.length - 1) // 2
        sign = {"43": "C", "44": "D"}.get(nibbles[position * 2 : position * 2 + 2])
        if sign is None:
            raise WireError(f"field {step.number}: sign")
        return end, sign + nibbles[position * 2 + 2 : end * 2]

    def _plan_of(self, bitmap: str) -> tuple[_Step, ...]:
        try:
            bits = int(bitmap, 16)
        except ValueError:
            raise WireError("bitmap is not hexadecimal") from None
        width = len(bitmap) * 4
        if len(bitmap) < 16 or (width == 64 and bits >> 63):
            raise WireError("cut short")
        numbers = [number for number in range(2, width + 1) if bits >> (width - number) & 1]
        if not set(numbers) <= self._steps.keys():
            raise WireError("unknown field in the bitmap")
        plan = tuple(self._steps[number] for number in numbers)
        # Bounded: a peer chooses its bitmaps, and none that means well needs many.
        if len(self._plans) < 1_000:
            self._plans[bitmap] = plan
        return plan

    def _bitmap_of(self, numbers: tuple[int, ...]) -> bytes:
        width = 128 if numbers and numbers[-1] > 64 else 64
        bits = sum(1 << (width - number) for number in numbers) | (1 << 127 if width == 128 else 0)
        text = f"{bits:0{width // 4}X}"
        return bytes.fromhex(text) if self._bcd else text.encode()

    def _ascii_fields(self, fields: Mapping[int, str], numbers: tuple[int, ...]) -> str:
        parts: list[str] = []
        for number in numbers[1:]:
            _, _, length, digits, _ = self._steps[number]
            value = fields[number]
            if digits:
                parts.append(f"{len(value):0{digits}d}")
            if len(value) > length or (not digits and len(value) != length) or not value.isascii():
                raise WireError(f"field {number}: value does not fit")
            parts.append(value)
        return "".join(parts)

    @staticmethod
    def _append_bcd(parts: list[bytes], step: _Step, value: str) -> None:
        number, shape, length, digits, _ = step
        size = len(value)
        wanted = length * 2 if shape is _Shape.BINARY else length
        if size > wanted or (not digits and size != wanted) or not value.isascii():
            raise WireError(f"field {number}: value does not fit")
        if digits:
            parts.append(bytes.fromhex(f"{size:0{digits + digits % 2}d}"))
        if shape in {_Shape.TEXT, _Shape.TEXT_VARIABLE}:
            parts.append(value.encode("ascii"))
            return
        if shape is _Shape.SIGNED:
            parts.append(value[:1].encode("ascii"))
            value = value[1:]
        elif size % 2:
            value = value + "F" if digits else "0" + value
        try:
            parts.append(bytes.fromhex(value.replace("=", "D")))
        except ValueError:
            raise WireError(f"field {number}: value does not fit") from None
