"""What cannot be cancelled is waited for: whoever gives up goes on only when nothing of it is under way any more.

A thread runs to its end whatever becomes of the task that waits for it. Whoever clears up after a cancellation while it
still runs may clear up before it has made what was to be cleared.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def to_end(work: Coroutine[Any, Any, T], *, name: str | None = None) -> T:
    """Return what it returns; it runs to its end also when the caller is cancelled, however often.

    Raises:
        CancelledError: the caller was cancelled meanwhile; the work has ended.
        BaseException: of the work, also where the caller was cancelled.
    """
    running = asyncio.create_task(work, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    result = running.result()
    if cancelled is not None:
        raise cancelled
    return result


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """As :func:`asyncio.to_thread`, but the thread has ended when this has: for what starts or stops something.

    Raises:
        CancelledError: the caller was cancelled meanwhile.
        BaseException: of the function, also where the caller was cancelled.
    """
    return await to_end(asyncio.to_thread(function, *args, **kwargs))
