"""The short way of an answer: what decides is cut out of it and checked in one step, all else is passed over.

One pattern for each bitmap, made of the layout. An answer that does not fit it is left to the long way (None), which
knows what of it can be read all the same. A property test holds both together, at layouts of every kind.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, assert_never

from gateway.network.exchange import Echoed
from gateway.network.iso8583.dialect import ANSWERS, FIELDS, Content
from gateway.network.iso8583.layout import Encoding, FieldFormat, LengthEncoding
from gateway.network.iso8583.messages import NETWORK_MANAGEMENT_ANSWER, Answer
from gateway.network.iso8583.wire import WIRE_TEXT, Dialect

HEADS_KEPT: Final = 256
"""A network uses a handful of bitmaps; junk must not fill the memory."""

_TAKEN: Final = (4, 7, 11, 37, 38, 39, 41, 49)
_CHECKED: Final = frozenset({*_TAKEN, 3})
_PACKED: Final = "[" + "".join(f"\\x{tens}0-\\x{tens}9" for tens in range(10)) + "]"
_TEXTS: Final[Mapping[int, str]] = {
    37: "[A-Za-z0-9 ]{12}",
    38: "[A-Za-z0-9 ]{6}",
    39: "[A-Za-z0-9]{2}",
    41: "[ -~]{8}",
}
"""What the tables allow there, and the blanks that fill it."""


class _Run(NamedTuple):
    """Fields of fixed length, and the one of variable length behind them; None: it is the last run.

    Attributes:
        cut: takes what is wanted; its last group is the length of the field behind, where there is one.
    """

    cut: re.Pattern[str]
    then: FieldFormat | None


class _Plan(NamedTuple):
    """How to take answers of one MTI and bitmap apart.

    Attributes:
        places: for each of ``_TAKEN``, where it is among the groups of all runs; -1, the last, where it is not.
        packed: the groups that are packed digits, and how many digits they have.
    """

    mti: str
    runs: tuple[_Run, ...]
    places: tuple[int, ...]
    packed: tuple[tuple[int, int], ...]


class AnswerReader:
    """Reads the answers of one network's hosts, those to network management excepted."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._head_bytes = dialect.mti_bytes + dialect.bitmap_bytes
        self._is_time = dialect.fields[7].check
        self._plans: dict[bytes, _Plan | None] = {}

    def read(self, data: bytes) -> Answer | None:
        """Read one message without its frame header; None where it is not plainly an answer with all that decides."""
        at = self._head_bytes
        head = data[:at]
        if (plan := self._plans.get(head)) is None and (plan := self._planned(head)) is None:
            return None
        text = data.decode(WIRE_TEXT)
        found: list[str | None] = []
        for cut, then in plan.runs:
            match = cut.match(text, at)
            if match is None:
                return None
            groups = match.groups()
            found += groups
            at = match.end()
            if then is not None:
                end = at + self._size(then, groups[-1], text, at)
                if not at <= end <= len(text):
                    return None
                at = end
        if at != len(text):
            return None
        found.append(None)
        for place, digits in plan.packed:
            found[place] = _unpacked(found[place] or "", digits)
        return self._answer(plan, found)

    def _answer(self, plan: _Plan, found: list[str | None]) -> Answer | None:
        amount, time, stan, rrn, approval, code, terminal, currency = [found[place] for place in plan.places]
        if code is None or stan is None or (time is not None and self._is_time(time) is None):
            return None
        echoed = Echoed(int(stan), (terminal and terminal.rstrip(" ")) or None, (rrn and rrn.rstrip(" ")) or None, time)
        return Answer(
            plan.mti, echoed, code, (approval and approval.rstrip(" ")) or None, int(amount) if amount else 0, currency
        )

    def _size(self, format_: FieldFormat, prefix: str, text: str, at: int) -> int:
        """Bytes of a variable field; negative where its length or filler is wrong."""
        match format_.length_encoding:
            case LengthEncoding.ASCII:
                length = int(prefix)
            case LengthEncoding.PACKED:
                length = int(_unpacked(prefix, len(prefix) * 2))
            case LengthEncoding.BINARY:
                length = int.from_bytes(prefix.encode(WIRE_TEXT), "big")
            case _ as never:
                assert_never(never)
        if length > format_.length * (2 if format_.encoding is Encoding.HEX else 1):
            return -1
        if format_.encoding is not Encoding.PACKED:
            return length
        size = (length + 1) // 2
        # The other filler is read as well, but the long way.
        filled = length % 2 == 0 or _unpacked(text[at : at + size], length + 1)[-1:].upper() == self._dialect.bcd_pad
        return size if filled else -1

    def _planned(self, head: bytes) -> _Plan | None:
        if head in self._plans:
            return None
        if len(self._plans) >= HEADS_KEPT:
            self._plans.clear()
        plan = self._plans[head] = self._plan(head)
        return plan

    def _plan(self, head: bytes) -> _Plan | None:
        dialect = self._dialect
        mti, bitmap = head[: dialect.mti_bytes], head[dialect.mti_bytes :]
        name = mti.decode(WIRE_TEXT) if len(mti) > 2 else mti.hex()
        bits = bitmap if len(bitmap) == 8 else _unhexed(bitmap)
        numbers = [n for n in range(1, 65) if bits[(n - 1) // 8] >> (7 - (n - 1) % 8) & 1] if len(bits) == 8 else []
        rule = ANSWERS.get(name)
        if (
            rule is None
            or name == NETWORK_MANAGEMENT_ANSWER
            or name in dialect.mandatory
            or not rule.mandatory <= set(numbers) <= FIELDS.keys()
            or not all(_is_usual(dialect.formats[number]) for number in numbers)
        ):
            return None
        return _plan_of(name, [dialect.formats[number] for number in numbers])


def _plan_of(mti: str, formats: list[FieldFormat]) -> _Plan:
    runs: list[_Run] = []
    taken: dict[int, int] = {}
    packed: list[tuple[int, int]] = []
    pattern, groups = "", 0
    for format_ in formats:
        if format_.length_digits:
            runs.append(_Run(re.compile(f"{pattern}({_prefix(format_)})", re.DOTALL), format_))
            pattern = ""
            groups += 1
        elif format_.number in _TAKEN:
            pattern += f"({_value(format_)})"
            taken[format_.number] = groups
            if format_.encoding is Encoding.PACKED:
                packed.append((groups, format_.length))
            groups += 1
        else:
            pattern += _value(format_)
    runs.append(_Run(re.compile(pattern, re.DOTALL), None))
    return _Plan(mti, tuple(runs), tuple(taken.get(number, -1) for number in _TAKEN), tuple(packed))


def _is_usual(format_: FieldFormat) -> bool:
    if format_.number in _CHECKED:
        return not format_.length_digits
    return not (format_.length_digits and format_.content is Content.XN)


def _prefix(format_: FieldFormat) -> str:
    digits = format_.length_digits
    match format_.length_encoding:
        case LengthEncoding.ASCII:
            return f"[0-9]{{{digits}}}"
        case LengthEncoding.PACKED:
            return f"{_PACKED}{{{(digits + 1) // 2}}}"
        case LengthEncoding.BINARY:
            return f".{{{(digits + 1) // 2}}}"
        case _ as never:
            assert_never(never)


def _value(format_: FieldFormat) -> str:
    """The pattern of a field of fixed length: of what it may be where it decides, else of how long it is."""
    length, is_checked = format_.length, format_.number in _CHECKED
    match format_.encoding:
        case Encoding.TEXT:
            return _TEXTS.get(format_.number, f"[0-9]{{{length}}}") if is_checked else f".{{{length}}}"
        case Encoding.HEX:
            return f".{{{length * 2}}}"
        case Encoding.BINARY:
            return f".{{{length}}}"
        case Encoding.PACKED if format_.content is Content.XN:
            return f".{{{1 + (length - 1) // 2}}}"
        case Encoding.PACKED:
            odd = ("[\\x00-\\x09]" if is_checked else "[\\x00-\\x0f]") if length % 2 else ""
            return f"{odd}{_PACKED if is_checked else '.'}{{{length // 2}}}"
        case _ as never:
            assert_never(never)


def _unpacked(value: str, digits: int) -> str:
    return value.encode(WIRE_TEXT).hex()[-digits:]


def _unhexed(bitmap: bytes) -> bytes:
    return bytes.fromhex(bitmap.decode()) if _HEX(bitmap) else b""


_HEX: Final = re.compile(rb"[0-9A-Fa-f]{16}").fullmatch
