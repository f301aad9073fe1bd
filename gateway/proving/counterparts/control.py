"""The control interface of a simulated network, for demos and chaos runs; on the loopback address only.

- ``GET /state`` → ``{"network_id", "port", "links", "signed_on", "faults", "counters"}``
- ``POST /faults`` with some or all of the ``[faults]`` keys as JSON: those given change, the others stay → all of them
- ``DELETE /faults`` → nothing goes wrong any more
- ``POST /cycle``, optionally with ``[clearing.faults]`` keys for this one file
  → ``{"cycle_id", "path", "records", "sum_minor", "faulty"}``
- ``POST /links/cut`` closes every link at once → ``{"cut": n}``

Errors are ``{"error": "…"}`` with 400 (bad JSON or a wrong key) or 409 (no clearing directory).
"""

import json
from typing import Any

from aiohttp import web

from gateway.proving.counterparts.config import ClearingFaults, Faults
from gateway.proving.counterparts.host import ClearingNotConfiguredError, Host
from gateway.proving.counterparts.http import LoopbackServer, checked, http_error


class Control(LoopbackServer):
    """Serves the interface for one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        super().__init__(
            [
                web.get("/state", self._state),
                web.post("/faults", self._change_faults),
                web.delete("/faults", self._clear_faults),
                web.post("/cycle", self._close_cycle),
                web.post("/links/cut", self._cut_links),
            ]
        )

    async def _state(self, _request: web.Request) -> web.Response:
        host = self._host
        return web.json_response(
            {
                "network_id": host.config.network_id,
                "port": host.port,
                "links": len(host.links),
                "signed_on": sum(link.signed_on for link in host.links),
                "faults": host.faults.model_dump(mode="json"),
                "counters": host.counters(),
            }
        )

    async def _change_faults(self, request: web.Request) -> web.Response:
        changed = {**self._host.faults.model_dump(), **await _body(request)}
        self._host.set_faults(checked(Faults, changed))
        return web.json_response(self._host.faults.model_dump(mode="json"))

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._host.set_faults(Faults())
        return web.json_response(self._host.faults.model_dump(mode="json"))

    async def _close_cycle(self, request: web.Request) -> web.Response:
        given = await _body(request)
        try:
            summary = await self._host.close_cycle(checked(ClearingFaults, given) if given else None)
        except ClearingNotConfiguredError:
            raise http_error(web.HTTPConflict, "the network has no clearing directory") from None
        return web.json_response(
            {
                "cycle_id": summary.cycle_id,
                "path": str(summary.path),
                "records": summary.record_count,
                "sum_minor": summary.sum_minor,
                "faulty": summary.faulty,
            }
        )

    async def _cut_links(self, _request: web.Request) -> web.Response:
        links = tuple(self._host.links)
        for link in links:
            link.abort()
        return web.json_response({"cut": len(links)})


async def _body(request: web.Request) -> dict[str, Any]:
    if not request.can_read_body:
        return {}
    try:
        given = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        given = None
    if not isinstance(given, dict):
        raise http_error(web.HTTPBadRequest, "the body must be a JSON object")
    return given
