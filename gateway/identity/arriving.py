"""Partners' records on their way in, as a trace sees them: only who has signed one can have it traced."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

from msgspec import structs

from gateway.base.process import Observer
from gateway.base.tracing import Carried
from gateway.identity.door import Authentic, Faulty, Nobodys, PartnerMessage
from schemas.primitives import holds_card_number

M = TypeVar("M", bound=PartnerMessage)

Read = Authentic[M] | Faulty | Nobodys

_TRACE_ID: Final = slice(3, 35)
_SPAN_ID: Final = slice(36, 52)


@contextmanager
def arriving(observer: Observer, read: Sequence[Read[M]]) -> Iterator[Sequence[Read[M]]]:
    """Records are brought to their ends for as long as the block lasts.

    Returns:
        the same, each with the context that goes on with it.
    """
    traces = observer.traces
    if traces is None:
        yield [_with(one, None) if _spells_a_card(_context(one)) else one for one in read]
        return
    signed = [n for n, one in enumerate(read) if not isinstance(one, Nobodys)]
    if not signed:
        yield read
        return
    came = [_context(read[n]) for n in signed]
    with traces.arriving(read[signed[0]].record.topic, came) as carried:
        going = list(read)
        for n, before, after in zip(signed, came, carried, strict=True):
            if after != before:
                going[n] = _with(read[n], after)
        yield going


def _spells_a_card(context: Carried) -> bool:
    """True if an id of it is a card number, which would be kept for years. Where there are traces, they see to it."""
    if context is None:
        return False
    ids = (context[_TRACE_ID], context[_SPAN_ID])
    return any(one.isdecimal() and holds_card_number(one.lstrip("0")) for one in ids)


def _context(one: Read[M]) -> Carried:
    match one:
        case Authentic():
            return one.envelope.traceparent
        case Faulty():
            return one.traceparent
        case Nobodys():
            return None


def _with(one: Read[M], context: Carried) -> Read[M]:
    match one:
        case Authentic():
            return structs.replace(one, envelope=structs.replace(one.envelope, traceparent=context))
        case Faulty():
            return replace(one, traceparent=context)
        case Nobodys():
            return one
