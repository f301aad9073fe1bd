"""The format of networks' clearing files, read line by line.

LF- or CRLF-ended ASCII without quoting; a byte order mark, blank lines and Ctrl-Z are passed over:
 ``H,<network_id>,<cycle_id>,<business_date>,<created_at>``, then a line
``D,<record_no>,<purchase|refund>,<rrn>,<stan>,<terminal_id>,<acceptor_id>,<amount_minor>,<currency>,<approval_code>,
<MMDDhhmmss>`` a record, ascending by number, and ``T,<record_count>,<sum of amount_minor, purchases +, refunds ->``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from gateway.base.lines import filled_lines
from schemas.clearing import AcceptorId, ApprovalCode, ClearingKind, ClearingRecord, CycleId, Rrn, TerminalId
from schemas.codec import DecodeError, decode, encode_json
from schemas.plain import built, whole, within
from schemas.primitives import CurrencyCode, Model, NetworkIdField, UtcTime

LINE_BYTES_MAX: Final = 1024
"""A record with every field at its longest takes about 120 bytes."""

BAD_LINES_TOLD_MAX: Final = 20
"""Of more lines the number alone is told."""

JUNK_LINES_MIN: Final = 100
"""A file with more bad lines than this, and more than records, is no clearing file with faults: nothing is imported."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_FIELDS: Final = 11

_KINDS: Final = {kind.value: kind for kind in ClearingKind}
_RECORD_NOS, _STANS, _AMOUNTS = (within(ClearingRecord, name) for name in ("record_no", "stan", "amount_minor"))
_GIVEN: Final = frozenset(ClearingRecord.model_fields)
_RECORD: Final = re.compile(
    ",".join(
        (
            f"D,[0-9]{{1,18}},(?:{'|'.join(_KINDS)}),{whole(Rrn)},[0-9]{{1,18}},{whole(TerminalId)},{whole(AcceptorId)}",
            f"[0-9]{{1,18}},{whole(CurrencyCode)},{whole(ApprovalCode)}?,[\\x00-\\x2b\\x2d-\\x7f]*",
        )
    ).encode()
)
"""Nothing but the numbers' bounds is left to look at."""


class ClearingFileError(Exception):
    """The file cannot be imported; nothing of it was. The text says why and holds nothing of its content."""


class Header(Model):
    """First line of a file."""

    network_id: NetworkIdField
    cycle_id: CycleId
    created_at: UtcTime


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record. ``raw``: at most :data:`LINE_BYTES_MAX` bytes of it."""

    number: int
    raw: bytes
    error: DecodeError


@dataclass(frozen=True, slots=True)
class Trailer:
    """Last line of a file: how many records it should hold, and their signed sum in minor units."""

    records: int
    sum_minor: int


@dataclass(slots=True)
class Scan:
    """What one pass over a file found.

    Attributes:
        sum_minor: purchases less refunds, in minor units of whatever currency, as the trailer counts.
        bad_lines: how many lines are no records; ``bad``: a sentence for each of the first of them.
        has_trailer: False: the file breaks off.
        problems: why it must not be imported, a sentence each.
        losses: what is missing or in doubt although the rest may be imported, a sentence each.
    """

    header: Header
    records: int = 0
    sum_minor: int = 0
    bad_lines: int = 0
    bad: list[str] = field(default_factory=list)
    has_trailer: bool = False
    problems: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


def read_header(line: bytes) -> Header:
    """Read the first line.

    Raises:
        ClearingFileError: it is no header; without one nothing in the file can be attributed.
    """
    parts = _split(line)
    if parts is None or parts[0] != "H" or len(parts) != 5:
        raise ClearingFileError("the first line is no header (H,network_id,cycle_id,business_date,created_at)")
    try:
        return decode(Header, encode_json({"network_id": parts[1], "cycle_id": parts[2], "created_at": parts[4]}))
    except DecodeError as error:
        raise ClearingFileError(f"the header's {error}") from None


def read_record(line: bytes) -> ClearingRecord:
    """Read a ``D`` line.

    Raises:
        DecodeError: it is no record; names the field and holds nothing of it.
    """
    plain = read_plain(line)
    return read_any(line) if plain is None else plain


def read_plain(line: bytes) -> ClearingRecord | None:
    """Read a ``D`` line the quick way: in less than half of the time, by the constraints of the record's own fields.

    None: it has a fault, which :func:`read_any` tells.
    """
    if len(line) > LINE_BYTES_MAX or _RECORD.fullmatch(line) is None:
        return None
    _, number, kind, rrn, stan, terminal_id, acceptor_id, amount, currency, code, _ = line.decode().split(",")
    record_no, stan_no, minor = int(number), int(stan), int(amount)
    if record_no not in _RECORD_NOS or stan_no not in _STANS or minor not in _AMOUNTS:
        return None
    values = {
        "record_no": record_no,
        "kind": _KINDS[kind],
        "rrn": rrn,
        "stan": stan_no,
        "terminal_id": terminal_id,
        "acceptor_id": acceptor_id,
        "amount_minor": minor,
        "currency": currency,
        "approval_code": code or None,
    }
    return built(ClearingRecord, values, _GIVEN)


def read_any(line: bytes) -> ClearingRecord:
    """As :func:`read_record`, by the contract alone: the long way, which also tells what is wrong."""
    parts = _split(line)
    if parts is None or parts[0] != "D" or len(parts) != _FIELDS:
        raise DecodeError("", f"not a D line with {_FIELDS} fields")
    _, record_no, kind, rrn, stan, terminal_id, acceptor_id, amount_minor, currency, approval_code, _ = parts
    return decode(
        ClearingRecord,
        encode_json(
            {
                "record_no": _whole("record_no", record_no),
                "kind": kind,
                "rrn": rrn,
                "stan": _whole("stan", stan),
                "terminal_id": terminal_id,
                "acceptor_id": acceptor_id,
                "amount_minor": _whole("amount_minor", amount_minor),
                "currency": currency,
                "approval_code": approval_code or None,
            }
        ),
    )


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and bytes of each line that is not blank; a longer one than allowed is cut."""
    return filled_lines(_raw_lines(file))


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES_MAX + 1):
        rest = line
        while not rest.endswith(b"\n") and len(rest) > LINE_BYTES_MAX:
            rest = file.readline(LINE_BYTES_MAX + 1)
        yield line


def read_body(lines: Iterator[tuple[int, bytes]]) -> Iterator[ClearingRecord | BadLine | Trailer]:
    """Read every line from the one after the header to the trailer.

    Record numbers must rise: settlement knows a record by its number alone.
    """
    last = 0
    for number, line in lines:
        try:
            if line.startswith(b"T,"):
                yield _read_trailer(line)
                return
            record = read_record(line)
            if record.record_no <= last:
                raise DecodeError("record_no", "is not above the one before")
        except DecodeError as error:
            yield BadLine(number, line[:LINE_BYTES_MAX], error)
        else:
            last = record.record_no
            yield record


def scan(file: BinaryIO) -> Scan:
    """Read a whole file and judge whether it may be imported.

    The trailer counts the network's records. Bad lines may be some of them, or more than them: with ``b`` bad lines
    the count may be up to ``b`` above what was read; that, and by how much the sums differ, is then told as a loss.

    Raises:
        ClearingFileError: there is no header.
    """
    lines = read_lines(file)
    found = Scan(read_header(next(lines, (0, b""))[1]))
    trailer: Trailer | None = None
    for item in read_body(lines):
        match item:
            case Trailer():
                trailer = item
            case BadLine():
                found.bad_lines += 1
                if len(found.bad) < BAD_LINES_TOLD_MAX:
                    found.bad.append(f"line {item.number}: {item.error}")
            case ClearingRecord():
                found.records += 1
                found.sum_minor += _signed(item)
    if found.bad_lines > JUNK_LINES_MIN and found.bad_lines > found.records:
        found.problems.append(f"{found.bad_lines} lines are no records, and {found.records} are: this is junk")
    if trailer is None:
        found.problems.append("the trailer is missing: the file breaks off")
        return found
    found.has_trailer = True
    if next(lines, None) is not None:
        found.problems.append("lines follow the trailer")
    _compare(found, trailer)
    return found


def _compare(found: Scan, trailer: Trailer) -> None:
    if found.bad_lines:
        found.losses.append(f"{found.bad_lines} lines are no records")
    missing = trailer.records - found.records
    count = f"the trailer tells {trailer.records} records, the file has {found.records}"
    total = f"the trailer tells a sum of {trailer.sum_minor}, the records make {found.sum_minor}"
    if not 0 <= missing <= found.bad_lines:
        found.problems.append(count)
    elif missing:
        found.losses += [count, total]
    elif trailer.sum_minor != found.sum_minor:
        found.problems.append(total)


def _read_trailer(line: bytes) -> Trailer:
    parts = _split(line)
    if parts is None or len(parts) != 3:
        raise DecodeError("", "not a T line with 3 fields")
    return Trailer(_whole("record_count", parts[1]), _whole("sum", parts[2]))


def _split(line: bytes) -> list[str] | None:
    if len(line) > LINE_BYTES_MAX or not line.isascii():
        return None
    return line.decode("ascii").split(",")


def _whole(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise DecodeError(name, "is not a whole number")
    return int(text)


def _signed(record: ClearingRecord) -> int:
    return record.amount_minor if record.kind is ClearingKind.PURCHASE else -record.amount_minor
