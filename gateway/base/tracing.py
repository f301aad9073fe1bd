"""W3C trace contexts as they travel with what partners send, and where stages report spans.

A context is its ``traceparent`` text. It goes on in records' headers, in the rows of payments, consents and orders, and
with events; it decides nothing. What is traced is decided once, where a partner's record comes in
(:meth:`Traces.arriving`). Without tracing a stage asks one question a batch: whether there is anybody to report to.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

Carried = str | None
"""The ``traceparent`` that goes on with a record, payment or event; None where there is none."""

Field = str | int | UUID | None
"""What a span may say of its subject: ids, codes and numbers, by names that the adapter knows."""

_TRACE_ID: Final = slice(3, 35)
_UNTRACED: Final = nullcontext()


class Exemplar(NamedTuple):
    """One of several values whose trace can be looked at: which one, and the trace's id."""

    place: int
    trace_id: str


class Traces(Protocol):
    """Where spans are reported. Called on the event loop alone; never raises, never waits."""

    def arriving(self, topic: str, came: Sequence[Carried]) -> AbstractContextManager[Sequence[Carried]]:
        """Partners' records are brought to their ends for as long as the block lasts: decide which of them are traced.

        Args:
            topic: where they stood.
            came: the context of each, as its partner gave it.

        Returns:
            what goes on with each, in their order: a span's own context where it is traced, else what came, as far as
            it neither passes for one of those nor spells what must not be shown.
        """

    def processing(self, topic: str, carried: Iterable[Carried]) -> AbstractContextManager[None]:
        """The gateway's own records are worked on for as long as the block lasts: one span, linked to those traced."""

    def publishing(self, events: Sequence[tuple[str, Carried]]) -> AbstractContextManager[Sequence[Carried]]:
        """Events are published for as long as the block lasts: topic and context of each.

        Returns:
            what each event's header says, in their order.
        """

    def asking(self, name: str, carried: Carried, **fields: Field) -> Callable[..., None] | None:
        """A request leaves; call what is returned, with more fields, when it has ended. None: it is not traced."""

    def step(self, name: str, carried: Carried, *, began: datetime, **fields: Field) -> None:
        """Something came to its end now that began then."""

    def exemplar(self, carried: Iterable[Carried]) -> Exemplar | None:
        """One of those that are traced."""


def trace_id_of(carried: Carried) -> str | None:
    """The id of a context's trace: 32 hexadecimal digits."""
    return carried[_TRACE_ID] if carried else None


def processing(
    traces: Traces | None, topic: str, carried: Callable[[], Iterable[Carried]]
) -> AbstractContextManager[None]:
    """As :meth:`Traces.processing`, where there is anybody to report to; else nobody is asked for contexts."""
    return _UNTRACED if traces is None else traces.processing(topic, carried())


def exemplar(traces: Traces | None, carried: Callable[[], Iterable[Carried]]) -> Exemplar | None:
    """As :meth:`Traces.exemplar`, likewise."""
    return None if traces is None else traces.exemplar(carried())
