"""A layout made ready for the codec: what each field's value may be, and pyiso8583's specification of where it lies."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, assert_never

from gateway.network.iso8583.dialect import FIELDS, Content, MessageRule
from gateway.network.iso8583.layout import DialectName, Encoding, FieldFormat, Layout, LengthEncoding

_DAY_OF_YEAR: Final = (
    r"(?:(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)|02(?:0[1-9]|[12][0-9]))"
)
_TIME_OF_DAY: Final = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
_NARROWER: Final[Mapping[int, str]] = {
    2: r"[0-9]{8,19}",
    7: _DAY_OF_YEAR + _TIME_OF_DAY,
    12: _TIME_OF_DAY,
    13: _DAY_OF_YEAR,
    14: r"[0-9]{2}(?:0[1-9]|1[0-2])",
}
"""Fields whose values are fewer than their content class allows."""

_FREE_TEXT_FROM: Final = 43
"""The acceptor's name (DE43) and what hosts add; DE41 and DE42 are identifiers."""

WIRE_TEXT: Final = "latin-1"
"""Text is cut as bytes, one character each, whatever its character set is."""


def _pattern(format_: FieldFormat) -> str:
    standard, length = FIELDS[format_.number], format_.length
    if (format_.content, length) == (standard.content, standard.length) and format_.number in _NARROWER:
        return _NARROWER[format_.number]
    count = f"{{1,{length}}}" if format_.length_digits else f"{{{length}}}"
    # Fixed text may be shorter here, as it is filled with spaces on the wire.
    filled = not format_.length_digits
    match format_.content:
        case Content.N:
            pattern = f"[0-9]{count}"
        case Content.AN:
            pattern = f"[A-Za-z0-9 ]{{0,{length - 1}}}[A-Za-z0-9]" if filled else f"[A-Za-z0-9]{count}"
        case Content.ANS:
            pattern = f"[ -~]{{0,{length - 1}}}[!-~]" if filled else f"[ -~]{count}"
        case Content.B:
            pattern = f"(?:[0-9A-F]{{2}}){count}"
        case Content.XN:
            pattern = f"[CD][0-9]{{{length - 1}}}"
        case Content.Z:
            pattern = f"[0-9=]{count}"
        case _:
            assert_never(format_.content)
    return pattern


@dataclass(frozen=True, slots=True)
class FieldCodec:
    """What the codec needs of one field, worked out once.

    Attributes:
        key: the field's key in pyiso8583's dictionaries.
        check: returns None for a value that is not of the content class and length.
        to_wire: fills or converts a checked value for pyiso8583, or None where it goes as it is.
        from_wire: undoes ``to_wire``; may meet anything, ``check`` comes after it.
        text_length: whether the length prefix is ASCII digits.
        is_text: whether the wire's value is text, else hexadecimal.
        is_free_text: text that decides nothing, in the network's character set.
        length: the longest, in characters of the wire.
    """

    key: str
    check: Callable[[str], Any]
    to_wire: Callable[[str], str] | None
    from_wire: Callable[[str], str] | None
    text_length: bool
    is_text: bool
    is_free_text: bool
    length: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to put the fields on the wire. Get it from :func:`wire_of`.

    Attributes:
        specs: pyiso8583 specifications, the one to write with first; the others are accepted when reading.
        is_plain_ascii: whole messages can go the short way of :mod:`gateway.network.iso8583.ascii_wire`.
        bcd_pad: filler nibble written after an odd number of packed digits.
        mti_bytes, bitmap_bytes: how long an MTI and one bitmap are.
        charset: of text that decides nothing.
        fields: per field number.
        formats: likewise, how it lies on the wire.
        numbers: field number of each pyiso8583 key.
        rules: by MTI, of what this side sends and strictly reads.
        mandatory: by MTI, what this network's messages carry beyond the standard.
        constants: by MTI, what is sent in all of them.
        omitted: by MTI, what is left out.
    """

    specs: tuple[Mapping[str, Mapping[str, Any]], ...]
    is_plain_ascii: bool
    bcd_pad: str
    mti_bytes: int
    bitmap_bytes: int
    charset: str
    fields: Mapping[int, FieldCodec]
    formats: Mapping[int, FieldFormat]
    numbers: Mapping[str, int]
    rules: Mapping[str, MessageRule]
    mandatory: Mapping[str, frozenset[int]]
    constants: Mapping[str, Mapping[int, str]]
    omitted: Mapping[str, frozenset[int]]


def wire_of(layout: Layout) -> Dialect:
    """Make a layout ready."""
    pads = (layout.bcd_pad, "0" if layout.bcd_pad == "F" else "F")
    formats = layout.formats()
    plain = Layout("iso87-ascii")
    like_ascii = (layout.mti_encoding, layout.bitmap_encoding, formats) == (
        plain.mti_encoding,
        plain.bitmap_encoding,
        plain.formats(),
    )
    is_padded = any(f.encoding is Encoding.PACKED and f.length_digits for f in formats.values())
    return Dialect(
        specs=tuple(_spec(layout, formats, pad) for pad in (pads if is_padded else pads[:1])),
        is_plain_ascii=like_ascii,
        bcd_pad=layout.bcd_pad,
        mti_bytes=2 if layout.mti_encoding is Encoding.PACKED else 4,
        bitmap_bytes=8 if layout.bitmap_encoding is Encoding.BINARY else 16,
        charset=layout.charset,
        fields=MappingProxyType({number: _field_codec(format_) for number, format_ in formats.items()}),
        formats=formats,
        numbers=MappingProxyType({str(number): number for number in formats}),
        rules=layout.rules(),
        mandatory=layout.mandatory(),
        constants=layout.constants(),
        omitted=layout.omitted(),
    )


@cache
def dialect_of(name: DialectName, *, bcd_pad: str = "F") -> Dialect:
    """Return a dialect as it is, without any network's changes."""
    return wire_of(Layout(name, bcd_pad))


def _spec(layout: Layout, formats: Mapping[int, FieldFormat], pad: str) -> Mapping[str, Mapping[str, Any]]:
    fixed = {"len_enc": "ascii", "len_type": 0}
    mti = {"data_enc": "b", "max_len": 2} if layout.mti_encoding is Encoding.PACKED else {**_TEXT, "max_len": 4}
    binary = layout.bitmap_encoding is Encoding.BINARY
    bitmap = {"data_enc": "b", "max_len": 8} if binary else {"data_enc": "ascii", "max_len": 16}
    return {
        "h": {"data_enc": "ascii", "max_len": 0, **fixed},
        "t": mti | fixed,
        "p": bitmap | fixed,
        "1": bitmap | fixed,
    } | {str(number): _field_spec(format_, pad) for number, format_ in formats.items()}


_TEXT: Final[Mapping[str, Any]] = MappingProxyType({"data_enc": WIRE_TEXT})


def _field_spec(format_: FieldFormat, pad: str) -> dict[str, Any]:
    spec = _length_spec(format_)
    match format_.encoding:
        case Encoding.TEXT:
            return {**spec, **_TEXT, "max_len": format_.length}
        case Encoding.HEX:
            return {**spec, **_TEXT, "max_len": format_.length * 2}
        case Encoding.BINARY:
            return {**spec, "data_enc": "b", "max_len": format_.length}
        case Encoding.PACKED if format_.content is Content.XN:
            return {**spec, "data_enc": "b", "max_len": 1 + (format_.length - 1) // 2}
        case Encoding.PACKED:
            filler = {"right_pad": pad} if format_.length_digits else {"left_pad": "0"}
            return {**spec, "data_enc": "b", "len_count": "nibbles", "max_len": format_.length, **filler}
        case _ as never:
            assert_never(never)


def _length_spec(format_: FieldFormat) -> dict[str, Any]:
    digits = format_.length_digits
    match format_.length_encoding:
        case LengthEncoding.ASCII:
            return {"len_enc": "ascii", "len_type": digits}
        case LengthEncoding.PACKED:
            # Two digits of length fit one packed byte, three need two.
            return {"len_enc": "bcd", "len_type": (digits + 1) // 2}
        case LengthEncoding.BINARY:
            return {"len_enc": "b", "len_type": (digits + 1) // 2}
        case _ as never:
            assert_never(never)


def _sign_to_hex(value: str) -> str:
    return ("43" if value[0] == "C" else "44") + value[1:]


def _sign_from_hex(value: str) -> str:
    return {"43": "C", "44": "D"}.get(value[:2], "?") + value[2:]


def _strip_blanks(value: str) -> str:
    # Blanks alone: a tab or a separator at the end is content.
    return value.rstrip(" ")


def _field_codec(format_: FieldFormat) -> FieldCodec:
    to_wire: Callable[[str], str] | None = None
    from_wire: Callable[[str], str] | None = None
    content, packed = format_.content, format_.encoding is Encoding.PACKED
    if content in {Content.AN, Content.ANS} and not format_.length_digits:
        to_wire, from_wire = f"{{:<{format_.length}}}".format, _strip_blanks
    elif content is Content.B:
        from_wire = str.upper
    elif packed and content is Content.XN:
        to_wire, from_wire = _sign_to_hex, _sign_from_hex
    elif packed and content is Content.Z:
        to_wire, from_wire = (lambda value: value.replace("=", "D")), (lambda value: value.replace("D", "="))
    return FieldCodec(
        key=str(format_.number),
        check=re.compile(_pattern(format_)).fullmatch,
        to_wire=to_wire,
        from_wire=from_wire,
        text_length=bool(format_.length_digits) and format_.length_encoding is LengthEncoding.ASCII,
        is_text=format_.encoding in {Encoding.TEXT, Encoding.HEX},
        is_free_text=content is Content.ANS and format_.number >= _FREE_TEXT_FROM,
        length=format_.length,
    )
