"""Spans on their way to a collector: OpenTelemetry's batches and encoding, OTLP over HTTP.

Whoever makes a span puts it into a queue and goes on. A thread sends what is there; with the collector away the queue
fills, and its oldest spans are dropped. Nothing that the libraries say of a failure is logged, for it may quote
addresses and answers: it is counted.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.observability.sampling import Context
from gateway.observability.tracing import Kind, Span

FLUSH_S: Final = 1.0
"""What is queued when the process ends may take so long to leave."""

EXPORT_S: Final = 5.0
"""A collector that does not take a batch for so long, repetitions included, does not get it."""

QUEUE_MAX: Final = 2048
BATCH_MAX: Final = 128
"""Encoding a span takes some 20 µs, in which nothing else of the process runs: few at a time."""

DELAY_S: Final = 1.0

_SCOPE: Final = InstrumentationScope("mypay")
_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_LIBRARIES: Final = ("opentelemetry", "urllib3", "requests")


class OtlpSpans:
    """Sends spans to one collector.

    Args:
        endpoint: its address; OTLP's own path is added where it has none.
        resource: what the process is, by OpenTelemetry's names.
        told: called on a thread of its own with how many were sent, and whether the collector took them.
    """

    def __init__(self, *, endpoint: str, resource: Mapping[str, str], told: Callable[[int, bool], None]) -> None:
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        session = requests.Session()
        # No proxy, and no password of somebody's .netrc. No redirection is followed either: it would carry secrets on.
        session.trust_env = False
        self._exporter = OTLPSpanExporter(endpoint=_whole(endpoint), session=session, timeout=EXPORT_S)
        self._resource = Resource.create(dict(resource))
        self._processor = BatchSpanProcessor(
            _Counted(self._exporter, told),
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=DELAY_S * 1000,
            max_export_batch_size=BATCH_MAX,
        )

    def take(self, span: Span) -> None:
        """Queue it."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.context),
                parent=_context(Context(span.context.trace_id, span.parent_id)) if span.parent_id else None,
                resource=self._resource,
                attributes={**span.attributes, "error.type": span.error} if span.error else span.attributes,
                links=[Link(_context(link)) for link in span.links],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR) if span.error else Status(),
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    async def stop(self, within_s: float = FLUSH_S) -> None:
        """Send what is queued, for as long as that may take; what has not left by then is lost."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def flush() -> None:
            self._processor.force_flush()
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(sent.set)
            self._processor.shutdown()  # type: ignore[no-untyped-call]

        threading.Thread(target=flush, name="last-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await sent.wait()
                return
        # Each batch that is queued would be tried for EXPORT_S more, by a thread that nobody waits for. The one that is
        # on its way ends by itself.
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Counted(SpanExporter):
    """An exporter that tells how it went."""

    def __init__(self, exporter: SpanExporter, told: Callable[[int, bool], None]) -> None:
        self._exporter = exporter
        self._told = told

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._told(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _whole(endpoint: str) -> str:
    """An address without a path is asked under OTLP's own."""
    scheme, _, place = endpoint.partition("://")
    host, _, path = place.partition("/")
    return endpoint if path else f"{scheme}://{host}/v1/traces"


def _context(found: Context) -> SpanContext:
    return SpanContext(found.trace_id, found.span_id, is_remote=False, trace_flags=_SAMPLED)
