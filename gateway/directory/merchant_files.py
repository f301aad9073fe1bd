"""Merchant files: CSV with a header line, or JSON lines; every row is checked alone and errors name its line."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from gateway.base.lines import filled_lines
from gateway.directory.merchants import Merchant
from gateway.network.exchange import Acceptor
from schemas.codec import DecodeError, decode, encode_json
from schemas.primitives import MerchantCategoryCode, MerchantIdField, Model, NetworkIdField

COLUMNS: Final = ("merchant_id", "acceptor_id", "name_location", "mcc", "networks", "active", "name")
OPTIONAL: Final = frozenset(("active", "name"))

_YES: Final = frozenset(("true", "yes", "1", ""))
_NO: Final = frozenset(("false", "no", "0"))

_REWRITTEN: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
"""``1.00E+08``: what a spreadsheet makes of a long number."""


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise ValueError(
            "goes to networks as it is: printable ASCII, no blank at either end; other scripts go into `name`"
        )
    return text


def _acceptor(text: str) -> str:
    if _REWRITTEN.fullmatch(text):
        raise ValueError("looks like a number that a spreadsheet has rewritten: export the column as text")
    return text


def _display(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable text, no blank at either end")
    return text


_Printable = Annotated[str, AfterValidator(_printable)]
"""What networks take in text fields: printable ASCII, without a blank at either end."""


class MerchantRow(Model):
    """One merchant as files have it.

    Attributes:
        acceptor_id: DE42, as the networks registered it.
        name_location: DE43: name, city, country.
        networks: those that the merchant has a contract with.
        name: what people call it, in any script.
    """

    merchant_id: MerchantIdField
    acceptor_id: Annotated[_Printable, Field(min_length=1, max_length=15), AfterValidator(_acceptor)]
    name_location: Annotated[_Printable, Field(min_length=1, max_length=40)]
    mcc: MerchantCategoryCode
    networks: Annotated[tuple[NetworkIdField, ...], Field(min_length=1, max_length=64)]
    active: bool = True
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_display)] | None = None


@dataclass(slots=True)
class MerchantFile:
    """What a file holds. ``errors``: line number → what is wrong there; holds nothing of the line."""

    merchants: list[Merchant] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)


def read_merchants(data: bytes, *, configured: Collection[str] | None = None) -> MerchantFile:
    """Read a file. JSON lines where the first character is ``{``, else CSV; in CSV networks are separated by blanks.

    Args:
        data: the whole file.
        configured: the networks that there are: a merchant on another one could never be paid. None: not looked at.

    Raises:
        DecodeError: not UTF-8, or a CSV header with other columns; names the right ones.
    """
    try:
        lines = [(number, line.decode().strip()) for number, line in filled_lines(data.split(b"\n"))]
    except UnicodeDecodeError:
        raise DecodeError("", "the file is not UTF-8") from None
    rows = _json_lines(lines) if lines and lines[0][1].startswith("{") else _csv(lines)
    result = MerchantFile()
    first_lines: dict[str, int] = {}
    for number, body in rows:
        try:
            if body is None:
                raise DecodeError("", "not CSV: a quote where none may stand")
            row = decode(MerchantRow, body)
            if (first := first_lines.setdefault(row.merchant_id, number)) != number:
                raise DecodeError("merchant_id", f"stands in line {first} already")
            if configured is not None and (strange := sorted(set(row.networks) - set(configured))):
                there = ", ".join(sorted(configured))
                raise DecodeError("networks", f"{', '.join(strange)} is not configured; there are: {there}")
        except DecodeError as error:
            result.errors[number] = str(error)
        else:
            result.merchants.append(_merchant(row))
    return result


def _json_lines(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, bytes]]:
    for number, line in lines:
        yield number, line.encode()


def _csv(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, bytes | None]]:
    columns = [c.strip() for c in (_cells(lines[0][1]) if lines else None) or ()]
    if set(columns) | OPTIONAL != set(COLUMNS) or len(set(columns)) != len(columns):
        wanted = ", ".join(f"{c} (optional)" if c in OPTIONAL else c for c in COLUMNS)
        raise DecodeError("", f"the first line must name these columns, each once: {wanted}")
    for number, line in lines[1:]:
        cells = _cells(line)
        yield number, None if cells is None else encode_json(_typed(columns, cells))


def _cells(line: str) -> list[str] | None:
    """One line's cells; None where it is not CSV. Line by line, so that an open quote takes no other line with it."""
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return None


def _typed(columns: list[str], cells: list[str]) -> dict[str, object]:
    typed: dict[str, object] = dict(zip(columns, cells, strict=False))
    if len(cells) > len(columns):
        typed["surplus"] = cells[len(columns)]
    if "networks" in typed:
        typed["networks"] = str(typed["networks"]).split()
    if not typed.get("name", True):
        del typed["name"]
    active = str(typed.pop("active", "")).strip().lower()
    typed["active"] = True if active in _YES else False if active in _NO else active
    return typed


def _merchant(row: MerchantRow) -> Merchant:
    return Merchant(
        merchant_id=row.merchant_id,
        acceptor=Acceptor(acceptor_id=row.acceptor_id, name_location=row.name_location, mcc=row.mcc),
        networks=frozenset(row.networks),
        active=row.active,
        name=row.name,
    )
