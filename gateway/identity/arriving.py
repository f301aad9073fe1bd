"""Partners' records on their way in, as a trace sees them: only who has signed one can have it traced."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from msgspec import structs

from gateway.base.process import Observer
from gateway.base.tracing import Carried
from gateway.identity.door import Authentic, Faulty, Nobodys, PartnerMessage

M = TypeVar("M", bound=PartnerMessage)

Read = Authentic[M] | Faulty | Nobodys


@contextmanager
def arriving(observer: Observer, read: Sequence[Read[M]]) -> Iterator[Sequence[Read[M]]]:
    """Records are brought to their ends for as long as the block lasts.

    Returns:
        the same, each with the context that goes on with it.
    """
    traces = observer.traces
    signed = [] if traces is None else [n for n, one in enumerate(read) if not isinstance(one, Nobodys)]
    if traces is None or not signed:
        yield read
        return
    came = [_context(read[n]) for n in signed]
    with traces.arriving(read[signed[0]].record.topic, came) as carried:
        going = list(read)
        for n, before, after in zip(signed, came, carried, strict=True):
            if after != before:
                going[n] = _with(read[n], after)
        yield going


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
