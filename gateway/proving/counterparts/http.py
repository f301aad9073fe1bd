"""What the simulators' HTTP interfaces share: a listener on the loopback address, and errors as JSON."""

import json
from collections.abc import Iterable
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from schemas.wording import faults_of

BODY_MAX: Final = 16 * 1024

M = TypeVar("M", bound=BaseModel)


class LoopbackServer:
    """Serves some routes on 127.0.0.1."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        application = web.Application(client_max_size=BODY_MAX)
        application.add_routes(routes)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, port: int) -> int:
        """Listen; return the port, also where 0 asked for a free one.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the listener and its connections."""
        await self._runner.cleanup()


def http_error(kind: type[web.HTTPException], text: str) -> web.HTTPException:
    """Make an error ``{"error": text}``, to be raised."""
    return kind(text=json.dumps({"error": text}), content_type="application/json")


def checked(model: type[M], given: object) -> M:
    """Read a request's body (bytes of JSON, or what they hold) as ``model``.

    Raises:
        web.HTTPBadRequest: naming every field that is wrong, and no value.
    """
    try:
        if isinstance(given, bytes):
            return model.model_validate_json(given)
        return model.model_validate(given)
    except ValidationError as error:
        text = faults_of(error)
    raise http_error(web.HTTPBadRequest, text)
