"""Which records are traced: a share of all, what partners ask for, and never more than so many a second.

A partner fills its ``traceparent`` as it likes. What it can bring about by that is bounded: only records that it has
signed count, of those that it marks as sampled a share, and all of it by a rate. Whether a trace is within a share is
read off its id, as OpenTelemetry's TraceIdRatioBased does, so that whoever else samples by the id keeps the same ones.

Behind the door nobody decides again: the ids of the gateway's own spans tell (:func:`is_ours`). So a trace that was
begun is continued by every process, and one that was not begun by none, without a bit more in any record or row. Such
ids can be made by whoever reads this: the door lets no sampled one by that it has not made, and ids that spell what
must not be shown are not continued either, for rows and topics may be older than the door's settings.
"""

import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from zlib import crc32

from schemas.envelope import TRACEPARENT

_ID_BITS: Final = 64
_ID_MASK: Final = (1 << _ID_BITS) - 1
_CHECK_BITS: Final = 16
_CHECK_MASK: Final = (1 << _CHECK_BITS) - 1
_SAMPLED: Final = 1
_FLAGS: Final = slice(-2, None)

_TRIES: Final = 4
"""One random id in hundreds looks as if a number were spelt in it."""

RandomBits = Callable[[int], int]


class Context(NamedTuple):
    """A span's place: the trace that it belongs to, and its own id. Neither is 0."""

    trace_id: int
    span_id: int

    @property
    def text(self) -> str:
        """As ``traceparent``, sampled."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"


def sampled_context(traceparent: str | None) -> Context | None:
    """The context of a ``traceparent`` that says it is sampled; None of any other, and of what is none."""
    read = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if read is None or not int(read[3], 16) & _SAMPLED:
        return None
    return Context(int(read[1], 16), int(read[2], 16))


def ours(trace_id: int, bits: RandomBits = random.getrandbits) -> Context:
    """A new span of the gateway's in a trace."""
    head = bits(_ID_BITS - _CHECK_BITS) or 1
    return Context(trace_id, head << _CHECK_BITS | _check(trace_id, head))


def is_ours(context: Context) -> bool:
    """Whether a span's id is one that the gateway makes, or somebody on purpose: see :meth:`Sampling.opened`."""
    return context.span_id & _CHECK_MASK == _check(context.trace_id, context.span_id >> _CHECK_BITS)


def _check(trace_id: int, head: int) -> int:
    return crc32((trace_id << _ID_BITS | head).to_bytes(24)) & _CHECK_MASK


class Allowance:
    """So many a second, and after a pause as many at once."""

    def __init__(self, per_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s)
        self._monotonic = monotonic
        self._left = self._burst
        self._at = monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Opened(NamedTuple):
    """A record at the door.

    Attributes:
        going: the ``traceparent`` that goes on with it.
        context: of the span that begins there; None where the record is not traced.
        parent_id: that span's parent; 0 where it begins the trace.
    """

    going: str | None
    context: Context | None = None
    parent_id: int = 0


class Sampling:
    """Decides at the door, and knows behind it what was decided.

    Args:
        ratio: the share of records that came without a context for which a trace begins.
        partner_ratio: the share of those that partners mark as sampled.
        allowance: of both together.
        is_harmless: whether ids may be shown: a partner can spell in them what must not be.
    """

    def __init__(
        self,
        *,
        ratio: float,
        partner_ratio: float,
        allowance: Allowance,
        is_harmless: Callable[[str], bool] = lambda _: True,
        bits: RandomBits = random.getrandbits,
    ) -> None:
        self._bound = round(ratio * (1 << _ID_BITS))
        self._partner_bound = round(partner_ratio * (1 << _ID_BITS))
        self._allowance = allowance
        self._is_harmless = is_harmless
        self._bits = bits

    def opened(self, traceparent: str | None) -> Opened:
        """What goes on with a record that came with this, and the span that begins where it is traced.

        A context that is not traced goes on as it came, but not as sampled where it would pass for the gateway's own;
        not at all where something is spelt in it that must not be shown.
        """
        if traceparent is None:
            low = self._bits(_ID_BITS)
            if low >= self._bound or not self._allowance.take():
                return Opened(None)
            came, refused = Context(self._bits(_ID_BITS) << _ID_BITS | low or 1, 0), Opened(None)
        else:
            read = sampled_context(traceparent)
            if read is None:
                return Opened(traceparent)
            came, refused = read, Opened(_unsampled(traceparent) if is_ours(read) else traceparent)
            if came.trace_id & _ID_MASK >= self._partner_bound or not self._allowance.take():
                return refused
        if not self._may_show(came):
            return Opened(None)
        made = (ours(came.trace_id, self._bits) for _ in range(_TRIES))
        span = next((one for one in made if self._may_show(one)), None)
        return refused if span is None else Opened(span.text, span, came.span_id)

    def continued(self, traceparent: str | None) -> Context | None:
        """The context of a record or row behind the door that is traced; None of any other."""
        context = sampled_context(traceparent)
        return context if context is not None and is_ours(context) and self._may_show(context) else None

    def _may_show(self, context: Context) -> bool:
        # What begins here has no span above it, and sixteen zeros would pass for a card number.
        span_id = f" {context.span_id:016x}" if context.span_id else ""
        return self._is_harmless(f"{context.trace_id:032x}{span_id}")


def _unsampled(traceparent: str) -> str:
    return f"{traceparent[: _FLAGS.start]}{int(traceparent[_FLAGS], 16) & ~_SAMPLED:02x}"
