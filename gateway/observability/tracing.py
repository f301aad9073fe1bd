"""The stages' spans: who made what of a batch, whose parts are traced, and what a span says.

Records come in batches, and a batch has a span of its own: a trace for itself, linked to the contexts of those of its
records that are traced (OpenTelemetry's conventions for messaging). What concerns one record or payment is a span in
that one's trace. Spans say ids, codes and numbers by names that are listed here: no consent, customer, token or amount.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum, unique
from typing import Final
from uuid import UUID

from msgspec import Struct

from gateway.base.tracing import Carried, Exemplar, Field
from gateway.observability.sampling import Allowance, Context, Sampling, ours
from schemas.topics import TOPICS

LINKS_MAX: Final = 128
"""Of one span, as OpenTelemetry bounds it; the other contexts of a batch are left out."""

SPANS_A_TRACE: Final = 20
"""Spans of one process a second are at most so many times the traces that may begin in it."""

FIELDS: Final[Mapping[str, str]] = {
    "code": "mypay.response_code",
    "network_id": "mypay.network_id",
    "outcome": "mypay.outcome",
    "partner_id": "mypay.partner_id",
    "payment_id": "mypay.payment_id",
    "reason": "mypay.reason",
    "state": "mypay.state",
}
"""What stages may say of a payment, and the attribute that it becomes. The log says no less."""

_TEMPLATES: Final = tuple(t.name for t in TOPICS if t.name.endswith("}"))


@unique
class Kind(StrEnum):
    """As OpenTelemetry calls it."""

    INTERNAL = "internal"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Struct, frozen=True, gc=False):
    """A span that has ended.

    Attributes:
        parent_id: 0 where it begins its trace.
        began_ns, ended_ns: since the epoch.
        error: the class of what ended it; None where it ended as it should.
    """

    name: str
    kind: Kind
    context: Context
    parent_id: int
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int]
    links: Sequence[Context] = ()
    error: str | None = None


class StageTraces:
    """Implements :class:`gateway.base.tracing.Traces`.

    Args:
        emit: takes each span, at once and without waiting.
        sampling: decides at the door, and knows behind it.
        allowance: of spans, whatever asks for them.
        untold: called for each span, or field of one, that is held back.
    """

    def __init__(
        self,
        emit: Callable[[Span], None],
        *,
        sampling: Sampling,
        allowance: Allowance,
        untold: Callable[[], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._take = emit
        self._sampling = sampling
        self._allowance = allowance
        self._untold = untold
        self._now_ns = now_ns

    @contextmanager
    def arriving(self, topic: str, came: Sequence[Carried]) -> Iterator[Sequence[Carried]]:
        opened = [self._sampling.opened(one) for one in came]
        going = [one.going for one in opened]
        traced = [(one.context, one.parent_id) for one in opened if one.context is not None]
        if not traced:
            yield going
            return
        batch = self._new()

        def tell(began: int, ended: int, error: str | None) -> None:
            for context, parent_id in traced:
                self._emit("judge", Kind.INTERNAL, context, parent_id, began, ended, {}, links=[batch], error=error)
            links = [context for context, _ in traced]
            self._emit(
                f"process {template_of(topic)}",
                *(Kind.CONSUMER, batch, 0, began, ended, _messaging(topic, "process", len(came))),
                links=links,
                error=error,
            )

        with self._telling(tell):
            yield going

    @contextmanager
    def processing(self, topic: str, carried: Iterable[Carried]) -> Iterator[None]:
        contexts = list(carried)
        links = [found for one in contexts if (found := self._sampling.continued(one)) is not None]
        if not links:
            yield
            return

        def tell(began: int, ended: int, error: str | None) -> None:
            self._emit(
                f"process {template_of(topic)}",
                *(Kind.CONSUMER, self._new(), 0, began, ended, _messaging(topic, "process", len(contexts))),
                links=links,
                error=error,
            )

        with self._telling(tell):
            yield

    @contextmanager
    def publishing(self, events: Sequence[tuple[str, Carried]]) -> Iterator[Sequence[Carried]]:
        made: dict[int, tuple[Context, int]] = {}
        for index, (_, carried) in enumerate(events):
            if (parent := self._sampling.continued(carried)) is not None:
                made[index] = (ours(parent.trace_id), parent.span_id)
        if not made:
            yield [carried for _, carried in events]
            return
        batch = self._new()

        def tell(began: int, ended: int, error: str | None) -> None:
            for index, (context, parent_id) in made.items():
                topic = events[index][0]
                self._emit(
                    f"create {template_of(topic)}",
                    *(Kind.PRODUCER, context, parent_id, began, ended, _messaging(topic, "create")),
                    links=[batch],
                    error=error,
                )
            topics = {topic for topic, _ in events}
            attributes = _messaging(topics.pop() if len(topics) == 1 else "", "send", len(events))
            links = [context for context, _ in made.values()]
            self._emit("send events", Kind.CLIENT, batch, 0, began, ended, attributes, links=links, error=error)

        with self._telling(tell):
            yield [made[n][0].text if n in made else carried for n, (_, carried) in enumerate(events)]

    def asking(self, name: str, carried: Carried, **fields: Field) -> Callable[..., None] | None:
        parent = self._sampling.continued(carried)
        if parent is None:
            return None
        began = self._now_ns()

        def ended(**more: Field) -> None:
            attributes = self._told({**fields, **more})
            self._emit(name, Kind.CLIENT, ours(parent.trace_id), parent.span_id, began, self._now_ns(), attributes)

        return ended

    def step(self, name: str, carried: Carried, *, began: datetime, **fields: Field) -> None:
        parent = self._sampling.continued(carried)
        if parent is not None:
            ended = self._now_ns()
            # Another machine's clock may say that it began later.
            first = min(int(began.timestamp() * 1e9), ended)
            context = ours(parent.trace_id)
            self._emit(name, Kind.INTERNAL, context, parent.span_id, first, ended, self._told(fields))

    def exemplar(self, carried: Iterable[Carried]) -> Exemplar | None:
        for index, one in enumerate(carried):
            if (found := self._sampling.continued(one)) is not None:
                return Exemplar(index, f"{found.trace_id:032x}")
        return None

    @contextmanager
    def _telling(self, tell: Callable[[int, int, str | None], None]) -> Iterator[None]:
        """Tell, however the block ends, when it began and ended, and the class of what ended it early."""
        began, error = self._now_ns(), None
        try:
            yield
        except BaseException as failed:
            error = type(failed).__name__
            raise
        finally:
            tell(began, self._now_ns(), error)

    def _new(self) -> Context:
        return ours(random.getrandbits(128) or 1)

    def _told(self, fields: Mapping[str, Field]) -> dict[str, str | int]:
        told: dict[str, str | int] = {}
        for name, value in fields.items():
            if value is None:
                continue
            attribute = FIELDS.get(name)
            if attribute is None:
                self._untold()
                continue
            told[attribute] = str(value) if isinstance(value, UUID) else value
        return told

    def _emit(
        self,
        name: str,
        kind: Kind,
        context: Context,
        parent_id: int,
        began_ns: int,
        ended_ns: int,
        attributes: Mapping[str, str | int],
        *,
        links: Sequence[Context] = (),
        error: str | None = None,
    ) -> None:
        if not self._allowance.take():
            self._untold()
            return
        self._take(Span(name, kind, context, parent_id, began_ns, ended_ns, attributes, links[:LINKS_MAX], error))


def template_of(topic: str) -> str:
    """A topic's name as the table of topics has it: ``mypay.events.{partner}``."""
    return next((t for t in _TEMPLATES if topic.startswith(t.partition("{")[0])), topic)


def _messaging(topic: str, operation: str, count: int | None = None) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    if topic:
        attributes["messaging.destination.name"] = topic
        if (template := template_of(topic)) != topic:
            attributes["messaging.destination.template"] = template
    if count is not None:
        attributes["messaging.batch.message_count"] = count
    return attributes
