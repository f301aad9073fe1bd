"""An OpenTelemetry collector: takes OTLP over HTTP on this machine, and remembers."""

import asyncio
import gzip
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan


@dataclass(frozen=True)
class Collected:
    """A span as it came; ids in hexadecimal digits, an empty parent where there is none."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[tuple[str, str]]


@dataclass
class Collector:
    """Listens for as long as the block lasts.

    Attributes:
        status: what it answers. hangs: it takes what comes and never answers.
        headers: of each request. spans: all that came.
    """

    status: int = 200
    hangs: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Collected] = field(default_factory=list)
    endpoint: str = ""
    _runner: web.AppRunner | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def of(self, trace_id: str) -> list[Collected]:
        """What belongs to one trace."""
        return [s for s in self.spans if s.trace == trace_id]

    async def _take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        if self.hangs:
            await self._closing.wait()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {a.key: _value(a.value) for a in part.resource.attributes}
            self.spans += [_read(span, resource) for scope in part.scope_spans for span in scope.spans]
        location = {"Location": "/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=location)


def _read(span: Any, resource: dict[str, Any]) -> Collected:
    return Collected(
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes={a.key: _value(a.value) for a in span.attributes},
        resource=resource,
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
