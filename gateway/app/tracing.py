"""Tracing of one process, where a collector is configured: see ARCHITECTURE, "Traces"."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Protocol

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.base.process import Observer
from gateway.observability.observer import StageObserver
from gateway.observability.sampling import Allowance, Sampling
from gateway.observability.tracing import SPANS_A_TRACE, Span, StageTraces
from gateway.sealing.redaction import redact

_STAGE = "traces"


class Spans(Protocol):
    """Where spans go."""

    async def stop(self) -> None:
        """Let go what is still there, for as long as that may take."""


def start_traces(settings: Settings, observer: StageObserver, *, stage: str, worker: str) -> Spans | None:
    """Let a stage's spans go to the collector that is configured; None where none is. Call it in the event loop.

    Raises:
        NotConfiguredError: there is one, and the libraries are not installed.
    """
    if settings.otel_endpoint is None:
        return None
    try:
        from gateway.observability.otlp import OtlpSpans  # noqa: PLC0415 - an extra, and slow to read
    except ImportError as error:
        raise NotConfiguredError(
            f'MYPAY_OTEL_ENDPOINT is set, and {error.name} is not installed: pip install "mypay-gateway[otel]"'
        ) from None
    resource = {
        "service.namespace": "mypay",
        "service.name": f"mypay-{stage}",
        "service.version": version("mypay-gateway"),
        "service.instance.id": worker,
    }
    spans = OtlpSpans(endpoint=settings.otel_endpoint, resource=resource, told=_teller(observer))

    def take(span: Span) -> None:
        observer.count(_STAGE, "span_made")
        spans.take(span)

    sampling = Sampling(
        ratio=settings.otel_ratio,
        partner_ratio=settings.otel_partner_ratio,
        allowance=Allowance(settings.otel_traces_per_s),
        is_harmless=_is_harmless,
    )
    observer.traces = StageTraces(
        take,
        sampling=sampling,
        allowance=Allowance(settings.otel_traces_per_s * SPANS_A_TRACE),
        untold=partial(observer.count, _STAGE, "span_held_back"),
    )
    return spans


def _teller(observer: Observer) -> Callable[[int, bool], None]:
    """Brings to the event loop what the exporter's thread tells."""
    loop = asyncio.get_running_loop()

    def told(n: int, taken: bool) -> None:  # noqa: FBT001 - how the exporter calls it
        count = partial(observer.count, _STAGE, "span_sent" if taken else "span_not_sent", n=n)
        with suppress(RuntimeError):
            # The loop has ended where the last spans leave after it.
            loop.call_soon_threadsafe(count)

    return told


def _is_harmless(ids: str) -> bool:
    return redact(ids) == ids
