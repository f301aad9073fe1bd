"""Fields on the wire at a network that does single things otherwise than its dialect: field by field, by its layout.

Slower than :mod:`gateway.proving.counterparts.wire`, which reads the two dialects as they are; written apart from the
gateway's codec as that is, so that only the data of the layout is shared.
"""

from collections.abc import Mapping
from typing import Final, assert_never

from gateway.network.iso8583.dialect import Content
from gateway.network.iso8583.layout import Encoding, FieldFormat, Layout, LengthEncoding
from gateway.proving.counterparts.wire import MTI, WireError

_BITMAP_BYTES: Final = 8


class MixedWire:
    """Reads and writes one layout; values as :class:`gateway.proving.counterparts.wire.Wire` has them."""

    __slots__ = ("_binary_bitmap", "_formats", "_packed_mti")

    def __init__(self, layout: Layout) -> None:
        self._formats = layout.formats()
        self._packed_mti = layout.mti_encoding is Encoding.PACKED
        self._binary_bitmap = layout.bitmap_encoding is Encoding.BINARY

    def decode(self, body: bytes) -> dict[int, str]:
        """Cut one message, without its frame header, into its fields; the MTI is field 0.

        Raises:
            WireError: it is cut short, too long, or a field's length or digits are wrong.
        """
        cursor = _Cursor(body)
        mti = cursor.take(2).hex() if self._packed_mti else cursor.take(4).decode("latin-1")
        if not (mti.isascii() and mti.isdigit() and mti[0] == "0"):
            raise WireError("no MTI")
        fields = {MTI: mti}
        for number in self._numbers(cursor):
            if number not in self._formats:
                raise WireError("unknown field in the bitmap")
            fields[number] = self._value(cursor, self._formats[number])
        if cursor.left:
            raise WireError("length does not agree with the fields")
        return fields

    def encode(self, fields: Mapping[int, str]) -> bytes:
        """Write one message; every value must have its full length already.

        Raises:
            WireError: a field is unknown or its value does not fit.
        """
        numbers = sorted(number for number in fields if number != MTI)
        if not set(numbers) <= self._formats.keys():
            raise WireError("unknown field")
        mti = bytes.fromhex(fields[MTI]) if self._packed_mti else fields[MTI].encode("ascii")
        return b"".join([mti, self._bitmap(numbers), *(_written(self._formats[n], fields[n]) for n in numbers)])

    def _numbers(self, cursor: "_Cursor") -> list[int]:
        bits = self._half(cursor)
        if bits[0] == "1":
            bits += self._half(cursor)
        return [place for place, bit in enumerate(bits, 1) if bit == "1" and place > 1]

    def _half(self, cursor: "_Cursor") -> str:
        raw = cursor.take(_BITMAP_BYTES if self._binary_bitmap else 2 * _BITMAP_BYTES)
        try:
            half = raw if self._binary_bitmap else bytes.fromhex(raw.decode("latin-1"))
        except ValueError:
            raise WireError("bitmap is not hexadecimal") from None
        return "".join(f"{byte:08b}" for byte in half)

    def _bitmap(self, numbers: list[int]) -> bytes:
        width = 128 if numbers and numbers[-1] > 64 else 64
        places = {1, *numbers} if width == 128 else set(numbers)
        bits = "".join("1" if place in places else "0" for place in range(1, width + 1))
        data = int(bits, 2).to_bytes(width // 8, "big")
        return data if self._binary_bitmap else data.hex().upper().encode()

    @staticmethod
    def _value(cursor: "_Cursor", format_: FieldFormat) -> str:
        count = _count(cursor, format_)
        match format_.encoding:
            case Encoding.TEXT:
                value = cursor.take(count).decode("latin-1")
            case Encoding.HEX:
                value = cursor.take(count).decode("latin-1").upper()
            case Encoding.BINARY:
                value = cursor.take(count).hex().upper()
            case Encoding.PACKED if format_.content is Content.XN:
                value = cursor.take(1).decode("latin-1") + cursor.take(count // 2).hex()
            case Encoding.PACKED:
                nibbles = cursor.take((count + 1) // 2).hex().upper()
                # A fixed field is filled on the left, a variable one on the right.
                value = nibbles[:count] if format_.length_digits else nibbles[len(nibbles) - count :]
            case _ as never:
                assert_never(never)
        if format_.content is Content.N and not (value.isascii() and value.isdigit()):
            raise WireError(f"field {format_.number}: not digits")
        return value


class _Cursor:
    """What is left of a message."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise WireError("cut short")
        part = self._body[self._at : self._at + count]
        self._at += count
        return part


def _wire_length(format_: FieldFormat) -> int:
    """The longest, in the unit that its prefix counts: characters, digits or bytes."""
    return format_.length * 2 if format_.encoding is Encoding.HEX else format_.length


def _count(cursor: _Cursor, format_: FieldFormat) -> int:
    digits = format_.length_digits
    if not digits:
        return _wire_length(format_)
    raw = cursor.take(digits if format_.length_encoding is LengthEncoding.ASCII else (digits + 1) // 2)
    if format_.length_encoding is LengthEncoding.BINARY:
        count = int.from_bytes(raw, "big")
    else:
        text = raw.hex() if format_.length_encoding is LengthEncoding.PACKED else raw.decode("latin-1")
        if not (text.isascii() and text.isdigit()):
            raise WireError(f"field {format_.number}: length")
        count = int(text)
    if count > _wire_length(format_):
        raise WireError(f"field {format_.number}: length")
    return count


def _written(format_: FieldFormat, value: str) -> bytes:
    size = len(value) // 2 if format_.encoding is Encoding.BINARY else len(value)
    longest, digits = _wire_length(format_), format_.length_digits
    if size > longest or (not digits and size != longest):
        raise WireError(f"field {format_.number}: value does not fit")
    try:
        return _prefix(format_, size) + _data(format_, value)
    except ValueError:
        raise WireError(f"field {format_.number}: value does not fit") from None


def _prefix(format_: FieldFormat, size: int) -> bytes:
    digits = format_.length_digits
    if not digits:
        return b""
    match format_.length_encoding:
        case LengthEncoding.ASCII:
            return f"{size:0{digits}d}".encode()
        case LengthEncoding.PACKED:
            return bytes.fromhex(f"{size:0{digits + digits % 2}d}")
        case LengthEncoding.BINARY:
            return size.to_bytes((digits + 1) // 2, "big")
        case _ as never:
            assert_never(never)


def _data(format_: FieldFormat, value: str) -> bytes:
    match format_.encoding:
        case Encoding.TEXT | Encoding.HEX:
            return value.encode("latin-1")
        case Encoding.BINARY:
            return bytes.fromhex(value)
        case Encoding.PACKED if format_.content is Content.XN:
            return value[:1].encode("latin-1") + bytes.fromhex(value[1:])
        case Encoding.PACKED:
            if len(value) % 2:
                value = value + "F" if format_.length_digits else "0" + value
            return bytes.fromhex(value.replace("=", "D"))
        case _ as never:
            assert_never(never)
