"""Ctrl-C in a command: it was stopped, whatever came of what it was about."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.base.errors import StoreUnavailableError
from gateway.cli.common import run


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Whoever runs tests in several processes lets them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def _asking(told: BaseException | None, *, stopped: bool) -> str:
    try:
        if stopped:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if told is None:
            raise
    if told is not None:
        raise told
    return "done"


@pytest.mark.parametrize("told", [None, StoreUnavailableError("PostgreSQL did not answer in time")])
def test_what_a_server_says_of_a_statement_that_was_given_up_is_no_error_of_its(told: BaseException | None) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(_asking(told, stopped=True))


def test_an_error_is_told_where_nobody_stopped_it() -> None:
    assert run(_asking(None, stopped=False)) == "done"
    with pytest.raises(StoreUnavailableError):
        run(_asking(StoreUnavailableError("PostgreSQL did not answer in time"), stopped=False))
