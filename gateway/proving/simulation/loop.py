"""An event loop whose clock jumps to the next timer: virtual hours pass in real milliseconds, always in the same order.

Callbacks run in the order in which they became ready; nothing but timers and callbacks can make one ready. There are
no sockets, threads or signals here.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


OWN_TASKS: ContextVar["dict[asyncio.Task[Any], None] | None"] = ContextVar("own_tasks", default=None)
"""Where the tasks are kept of whoever runs, so that they can be ended together. Tasks inherit it."""

CALLBACKS_MAX = 200_000
"""A world needs some hundreds; one that needs so many turns in circles."""


class NothingLeftError(Exception):
    """No timer or callback is left that could wake who waits (a deadlock), or there is no end of them (a livelock)."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """Implements what asyncio's tasks, futures, locks and time-outs need of a loop.

    Args:
        on_error: told of every error that nobody caught.
    """

    def __init__(self, on_error: Callable[[dict[str, Any]], None]) -> None:
        self._on_error = on_error
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        # The number keeps timers of one moment in the order in which they were set.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._set = 0
        self._closed = False

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until ``main`` is done.

        Raises:
            NothingLeftError: it never will be.
        """
        events._set_running_loop(self)  # noqa: SLF001 - what every loop calls
        try:
            task = asyncio.Task(main, loop=self)
            ready, timers = self._ready, self._timers
            left = CALLBACKS_MAX
            while not task.done():
                left -= 1 + len(ready)
                if left < 0:
                    raise NothingLeftError
                if not ready:
                    self._jump(timers, ready)
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle.cancelled():
                        handle._run()  # noqa: SLF001 - a handle is the loop's to run
            return task.result()
        finally:
            events._set_running_loop(None)  # noqa: SLF001

    def _jump(self, timers: list[tuple[float, int, asyncio.TimerHandle]], ready: deque[asyncio.Handle]) -> None:
        while timers:
            when, _, handle = heappop(timers)
            if not handle.cancelled():
                self._now = max(self._now, when)
                ready.append(handle)
                return
        raise NothingLeftError

    # --- asyncio's side ---

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._set += 1
        heappush(self._timers, (when, self._set, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """As asyncio's."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        """As asyncio's; the task is one of whoever's context it runs in."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        tasks = OWN_TASKS.get() if context is None else context.get(OWN_TASKS)
        if tasks is not None:
            tasks[task] = None
            task.add_done_callback(partial(_forget, tasks))
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell of an error that nobody caught."""
        self._on_error(context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always: nothing asks from outside."""
        return True

    def is_closed(self) -> bool:
        """True after :meth:`close`."""
        return self._closed

    def close(self) -> None:
        """Forget every callback and timer."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap: it is skipped when its time comes."""


def _forget(tasks: dict[asyncio.Task[Any], None], task: asyncio.Task[Any]) -> None:
    tasks.pop(task, None)


class SkewedClock:
    """Implements :class:`gateway.base.process.Clock` for one worker.

    The loop's time from ``epoch``, wrong by ``skew_s``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: datetime, skew_s: float = 0.0) -> None:
        self._loop = loop
        self._epoch = epoch
        self.skew_s = skew_s

    def now(self) -> datetime:
        """Aware UTC, as this worker sees it."""
        return self._epoch + timedelta(seconds=self._loop.time() + self.skew_s)
