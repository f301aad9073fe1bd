"""How the fields of ISO 8583:1987 lie on the wire at one network: a dialect, and what the network does otherwise.

``iso87-ascii``: everything is ASCII, bitmaps and binary fields as hexadecimal characters.
``iso87-bcd``: MTI and digits are packed (odd fixed lengths filled on the left with 0, odd variable lengths on the right
with a filler nibble that the length does not count), bitmaps and binary fields are raw, length prefixes are packed,
text and the currency codes (DE49–51) stay ASCII, and the sign of x+n amounts is an ASCII C or D before packed digits.

A :class:`Layout` changes single parts of either. It is data alone: whoever reads and writes by it (the gateway's codec,
the simulator's wire) has its own code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final, Literal

from gateway.network.iso8583.dialect import FIELDS, RULES, Content, MessageRule

DialectName = Literal["iso87-ascii", "iso87-bcd"]


@unique
class Encoding(StrEnum):
    """How a field's value lies on the wire."""

    TEXT = "text"  # a byte a character
    PACKED = "bcd"  # two digits a byte; x+n: an ASCII sign before packed digits
    BINARY = "binary"  # raw bytes
    HEX = "hex"  # two hexadecimal characters a byte


@unique
class LengthEncoding(StrEnum):
    """How the length prefix of a variable field lies on the wire."""

    ASCII = "ascii"
    PACKED = "bcd"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class FieldFormat:
    """One data element at one network.

    Attributes:
        length: exact length, or the longest where ``length_digits`` is set; characters, for class b bytes.
        length_digits: 0 for a fixed length, else how many decimal digits its prefix has (2 is LLVAR, 3 LLLVAR).
    """

    number: int
    content: Content
    length: int
    length_digits: int
    encoding: Encoding
    length_encoding: LengthEncoding = LengthEncoding.ASCII


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a network does otherwise with one data element; None: as the dialect has it.

    Attributes:
        constant: value that is sent in every message of ``sent_in``.
        mandatory_in: MTIs that must carry it, whoever sends them.
        omit_in: MTIs that the gateway sends without it.
    """

    content: Content | None = None
    length: int | None = None
    length_digits: int | None = None
    encoding: Encoding | None = None
    length_encoding: LengthEncoding | None = None
    constant: str | None = None
    sent_in: frozenset[str] = frozenset()
    mandatory_in: frozenset[str] = frozenset()
    omit_in: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Layout:
    """One network's way to put fields on the wire.

    Attributes:
        bcd_pad: filler nibble written after an odd number of variable-length digits, ``F`` or ``0``; both are read.
        mti, bitmap: TEXT or PACKED, HEX or BINARY; None: as the dialect has it.
        charset: of text that decides nothing (names, additional data): a codec of Python.
        changes: by field number.
    """

    dialect: DialectName
    bcd_pad: str = "F"
    mti: Encoding | None = None
    bitmap: Encoding | None = None
    charset: str = "ascii"
    changes: Mapping[int, FieldChange] = field(default_factory=dict)

    @property
    def is_packed(self) -> bool:
        """True for the packed dialect."""
        return self.dialect == "iso87-bcd"

    @property
    def mti_encoding(self) -> Encoding:
        """TEXT or PACKED."""
        return self.mti or (Encoding.PACKED if self.is_packed else Encoding.TEXT)

    @property
    def bitmap_encoding(self) -> Encoding:
        """HEX or BINARY."""
        return self.bitmap or (Encoding.BINARY if self.is_packed else Encoding.HEX)

    def formats(self) -> Mapping[int, FieldFormat]:
        """Every field by number."""
        return MappingProxyType({number: self._format(number) for number in FIELDS})

    def rules(self) -> Mapping[str, MessageRule]:
        """Every message that this side sends or reads, with what the network asks for beyond the standard."""
        return MappingProxyType({mti: self._rule(mti, rule) for mti, rule in RULES.items()})

    def mandatory(self) -> Mapping[str, frozenset[int]]:
        """By MTI, the fields that this network's messages carry beyond the standard."""
        mtis = frozenset().union(*(change.mandatory_in for change in self.changes.values()))
        return MappingProxyType({mti: self._numbers_in(mti, "mandatory_in") for mti in sorted(mtis)})

    def constants(self) -> Mapping[str, Mapping[int, str]]:
        """By MTI, the fields that are always sent with one value."""
        return MappingProxyType(
            {
                mti: {n: c.constant for n, c in self.changes.items() if c.constant is not None and mti in c.sent_in}
                for mti in RULES
            }
        )

    def omitted(self) -> Mapping[str, frozenset[int]]:
        """By MTI, the fields that are left out."""
        return MappingProxyType({mti: self._numbers_in(mti, "omit_in") for mti in RULES})

    def _numbers_in(self, mti: str, which: str) -> frozenset[int]:
        return frozenset(number for number, change in self.changes.items() if mti in getattr(change, which))

    def _rule(self, mti: str, rule: MessageRule) -> MessageRule:
        more, less = self._numbers_in(mti, "mandatory_in"), self._numbers_in(mti, "omit_in")
        allowed = rule.allowed | more | self._numbers_in(mti, "sent_in")
        mandatory = (rule.mandatory | more) - less
        return MessageRule(mandatory, allowed, rule.forbidden - allowed, rule.response)

    def _format(self, number: int) -> FieldFormat:
        standard, change = FIELDS[number], self.changes.get(number, _UNCHANGED)
        content = change.content or standard.content
        digits = standard.length_digits if change.length_digits is None else change.length_digits
        length_encoding = LengthEncoding.PACKED if self.is_packed else LengthEncoding.ASCII
        return FieldFormat(
            number,
            content,
            change.length or standard.length,
            digits,
            change.encoding or self._encoding(number, content),
            change.length_encoding or length_encoding,
        )

    def _encoding(self, number: int, content: Content) -> Encoding:
        if not self.is_packed:
            return Encoding.HEX if content is Content.B else Encoding.TEXT
        if content is Content.B:
            return Encoding.BINARY
        packed = content in {Content.N, Content.Z, Content.XN} and number not in _TEXT_IN_BCD
        return Encoding.PACKED if packed else Encoding.TEXT


_UNCHANGED: Final = FieldChange()
_TEXT_IN_BCD: Final = frozenset({49, 50, 51})
