"""Trace numbers from a number that is never given out twice.

A network asks for STANs (DE11, six digits) that are unique per terminal and day, so payments walk through all STANs
of one terminal before they move to the next. Follow-ups (reversals, inquiries) must keep the original's terminal;
they take their STANs from a range of their own, so that they can never meet a payment's.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from gateway.network.exchange import TraceNumbers

PAYMENT_STANS: Final = 500_000
"""Payments use STANs 1 … 500,000; a thousand terminals thus carry 5,700 payments a second all day long."""

FOLLOW_UP_STANS: Final = 499_999
"""Follow-ups use STANs 500,001 … 999,999; half a million a day before one could meet itself on one terminal."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def payment_trace(number: int, terminals: Sequence[str], now: datetime) -> TraceNumbers:
    """Trace numbers of the ``number``-th payment (from 1), sent at ``now`` (aware UTC).

    The RRN (DE37, an12) is the customary year digit and day of year, then the number in base 36: 2.8e12 payments
    before a tail repeats.
    """
    block, offset = divmod(number - 1, PAYMENT_STANS)
    day, second = _dated(now)
    return TraceNumbers(
        terminal_id=terminals[block % len(terminals)],
        stan=offset + 1,
        rrn=f"{day}{_base36(number, 8)}",
        transmitted_at=second,
    )


# A batch is decided at one moment.
@lru_cache(maxsize=8)
def _dated(now: datetime) -> tuple[str, datetime]:
    return f"{now.year % 10}{now.timetuple().tm_yday:03d}", now.replace(microsecond=0)


def follow_up_stan(number: int) -> int:
    """STAN of the ``number``-th reversal or inquiry (from 1)."""
    return PAYMENT_STANS + 1 + (number - 1) % FOLLOW_UP_STANS


_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)


def _base36(number: int, width: int) -> str:
    """``width`` digits, an even number of them; higher ones are cut off."""
    pairs = []
    for _ in range(width // 2):
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))
