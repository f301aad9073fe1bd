"""A server that takes the connection and says nothing: a machine that stands still, or a network that drops all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

PATIENCE_S = 25.0
"""Less than the libraries' own, 40 s and more: what is told within it came from us."""


@asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """The port of such a server on this machine, for as long as the block lasts."""
    over = asyncio.Event()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await server.wait_closed()


async def error_of(asking: Awaitable[object]) -> BaseException | None:
    """What it ends with; fails where it does not end."""
    asked = asyncio.ensure_future(asking)
    done, _ = await asyncio.wait([asked], timeout=PATIENCE_S)
    asked.cancel()
    assert done
    return asked.exception()
