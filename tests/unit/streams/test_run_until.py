"""How a Faust stage ends: as told, or by the error that says what has crashed, however its parts stop after it."""

import asyncio
from asyncio import CancelledError
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.app.settings import Settings
from gateway.messaging.settings import KafkaSettings
from streams.app import AppCrashedError, build_app, run_until
from streams.stopping import Ended, StopSignal, run_until_stopped


class App:
    """As much of Faust's as is asked. ``stops``: what stopping it raises."""

    def __init__(self, *, crashed: bool, stops: BaseException | None = None) -> None:
        self._crashed = asyncio.Event()
        if crashed:
            self._crashed.set()
        self.crash_reason = ValueError("secret")
        self.consumer = SimpleNamespace(has_left=lambda: False)
        self.stopped = False
        self._stops = stops

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True
        if self._stops is not None:
            raise self._stops


def told(*, to_stop: bool) -> asyncio.Event:
    event = asyncio.Event()
    if to_stop:
        event.set()
    return event


@pytest.mark.parametrize(
    ("stops", "note"),
    [
        (None, None),
        (RuntimeError("Event loop is closed"), "RuntimeError"),
        (CancelledError(), "a part of it was cancelled"),
    ],
    ids=["in order", "error", "a part was cancelled"],
)
async def test_what_has_crashed_is_told_even_if_it_cannot_stop_in_order(
    stops: BaseException | None, note: str | None
) -> None:
    app: Any = App(crashed=True, stops=stops)
    stopping = told(to_stop=False)
    with pytest.raises(AppCrashedError, match="ValueError") as ended:
        await run_until(app, stopping)
    assert app.stopped
    assert stopping.is_set()
    notes = getattr(ended.value, "__notes__", [])
    assert notes == ([] if note is None else [f"It did not stop in order either: {note}"])


async def test_a_stage_that_has_crashed_and_cannot_stop_is_cut() -> None:
    stopping, over = StopSignal(), asyncio.Event()

    class Hanging(App):
        async def stop(self) -> None:
            while not over.is_set():
                # As mode, which takes a cancellation for that of a part.
                with suppress(CancelledError):
                    await over.wait()

    app: Any = Hanging(crashed=True)
    running = asyncio.create_task(run_until_stopped(run_until(app, stopping), stopping, drain_s=0.01, cancel_s=0.01))
    assert await asyncio.wait_for(running, 60.0) is Ended.CUT
    over.set()


@pytest.mark.parametrize(
    ("stops", "error"), [(RuntimeError("Event loop is closed"), RuntimeError), (CancelledError(), AppCrashedError)]
)
async def test_one_that_is_told_to_stop_says_what_kept_it_from_stopping(
    stops: BaseException, error: type[Exception]
) -> None:
    app: Any = App(crashed=False, stops=stops)
    with pytest.raises(error):
        await run_until(app, told(to_stop=True))


@pytest.mark.parametrize("stops", [None, CancelledError()], ids=["in order", "a part was cancelled"])
async def test_one_that_is_cancelled_stops(stops: BaseException | None) -> None:
    app: Any = App(crashed=False, stops=stops)
    running = asyncio.ensure_future(run_until(app, told(to_stop=False)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert app.stopped


async def test_nothing_is_written_where_nothing_can_be(tmp_path: Path) -> None:
    home = tmp_path / "a file, below which no folder can be made"
    home.touch()
    app: Any = build_app("test", Settings(home=home), KafkaSettings("127.0.0.1:1"))
    await app.on_first_start()
    assert home.is_file()
