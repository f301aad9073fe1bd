"""The short way of an 0200: what payments have in common is laid out once, and each is put together of such pieces.

The pieces come from the long way (:func:`financial_message` and the codec), so that no rule of a layout is written
twice. A request goes the short way if all of its pieces have gone the long way before, and its own numbers are plainly
right; any other is left to the long way, which knows what is wrong with it. A property test holds both together, at
layouts of every kind.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from gateway.network.exchange import FinancialRequest
from gateway.network.iso8583.codec import FIRST_BITMAP_TO, encode_field, encode_message, fields_sent
from gateway.network.iso8583.config import NetworkConfig
from gateway.network.iso8583.layout import Encoding
from gateway.network.iso8583.messages import financial_message
from gateway.network.iso8583.wire import Dialect
from schemas.primitives import AMOUNT_MINOR_MAX

PIECES_KEPT: Final = 16_384
"""Of each kind, a hundred bytes each: more shops than a network's worker meets in an hour."""

_OF_EACH: Final = frozenset({2, 4, 11, 37})
"""What every message has of its own; the pieces are what stands between these, and behind them."""

_STAN_MAX: Final = 999_999
_PAN_LENGTHS: Final = range(8, 20)
_DIGITS: Final = re.compile(r"[0-9]+").fullmatch

_Key = TypeVar("_Key")
_Writer = Callable[[str], bytes]


class FinancialEncoder:
    """Encodes the 0200s of one network."""

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._dialect = dialect = config.wire
        self._is_rrn = dialect.fields[37].check
        self._pan, self._amount, self._stan, self._rrn = (_writer(number, dialect) for number in sorted(_OF_EACH))
        # Without one of these, or with a card number of one length alone, every message goes the long way.
        self._is_whole = _OF_EACH.isdisjoint(dialect.omitted["0200"]) and dialect.formats[2].length_digits > 0
        self._moment: datetime | None = None
        self._sent_at = self._local_time = b""
        self._heads: dict[bool, bytes] = {}
        self._operations: dict[str, bytes] = {}
        self._expiries: dict[str | None, bytes] = {}
        self._categories: dict[str, bytes] = {}
        self._terminals: dict[str, bytes] = {}
        self._tails: dict[tuple[str, str, str], bytes] = {}

    def encode(self, request: FinancialRequest) -> bytes:
        """Write one 0200.

        Raises:
            Iso8583Error: as :func:`financial_message` and :func:`encode_message`.
        """
        front = self._front(request)
        if front is not None:
            acceptor = request.acceptor
            tail = self._tails.get((acceptor.acceptor_id, acceptor.name_location, request.currency))
            if tail is not None:
                return front + tail
        return self._long(request, front)

    def _front(self, request: FinancialRequest) -> bytes | None:
        """All up to the terminal; None where a piece is not known, or a number is not plainly right."""
        trace, card, amount = request.trace, request.card, request.amount_minor
        if (
            trace.transmitted_at != self._moment
            or not 0 < amount <= AMOUNT_MINOR_MAX
            or not 0 < trace.stan <= _STAN_MAX
            or len(card.pan) not in _PAN_LENGTHS
            or _DIGITS(card.pan) is None
            or self._is_rrn(trace.rrn) is None
        ):
            return None
        try:
            return b"".join(
                (
                    self._heads[card.expiry is None],
                    self._pan(card.pan),
                    self._operations[request.operation],
                    self._amount(f"{amount:012d}"),
                    self._sent_at,
                    self._stan(f"{trace.stan:06d}"),
                    self._local_time,
                    self._expiries[card.expiry],
                    self._categories[request.acceptor.mcc],
                    self._rrn(trace.rrn),
                    self._terminals[trace.terminal_id],
                )
            )
        except KeyError:
            return None

    def _long(self, request: FinancialRequest, front: bytes | None) -> bytes:
        message = financial_message(request, self._config)
        data = encode_message(message, self._dialect)
        if self._is_whole:
            if front is None:
                self._learn(request, fields_sent(message, self._dialect), data)
                front = self._front(request)
            if front is not None and data.startswith(front):
                acceptor = request.acceptor
                key = (acceptor.acceptor_id, acceptor.name_location, request.currency)
                _keep(self._tails, key, data[len(front) :])
        return data

    def _learn(self, request: FinancialRequest, fields: Mapping[int, str], data: bytes) -> None:
        """Keep the pieces of a message that went the long way; constants of the layout may stand in any of them."""

        def piece(first: int, last: int) -> bytes:
            numbers = sorted(number for number in fields if first <= number <= last)
            return b"".join(encode_field(number, fields[number], self._dialect) for number in numbers)

        trace, card = request.trace, request.card
        bitmaps = 2 if max(fields) > FIRST_BITMAP_TO else 1
        _keep(self._heads, card.expiry is None, data[: self._dialect.mti_bytes + bitmaps * self._dialect.bitmap_bytes])
        _keep(self._operations, request.operation, piece(3, 3))
        self._moment, self._sent_at, self._local_time = trace.transmitted_at, piece(5, 10), piece(12, 13)
        _keep(self._expiries, card.expiry, piece(14, 14))
        _keep(self._categories, request.acceptor.mcc, piece(15, 36))
        _keep(self._terminals, trace.terminal_id, piece(38, 41))


def _keep(pieces: dict[_Key, bytes], key: _Key, piece: bytes) -> None:
    if len(pieces) >= PIECES_KEPT:
        pieces.clear()
    pieces[key] = piece


def _writer(number: int, dialect: Dialect) -> _Writer:
    """Writes a checked value of one field: in one step where its format is a usual one."""
    format_ = dialect.formats[number]
    is_packed = format_.encoding is Encoding.PACKED
    if number == 2 and format_.length_digits:
        sizes = {n: (n + 1) // 2 if is_packed else n for n in _PAN_LENGTHS}
        prefixes = {n: encode_field(2, "0" * n, dialect)[:-size] for n, size in sizes.items()}
        if is_packed:
            return lambda pan: prefixes[len(pan)] + bytes.fromhex(pan + dialect.bcd_pad if len(pan) % 2 else pan)
        return lambda pan: prefixes[len(pan)] + pan.encode()
    if number == 2 or format_.length_digits or (is_packed and format_.length % 2):
        return partial(encode_field, number, dialect=dialect)
    if is_packed:
        return bytes.fromhex
    return lambda value: value.ljust(format_.length).encode()
