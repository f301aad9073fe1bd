"""``python -m streams STAGE``: one process of the gateway. ``mypay run STAGE`` starts the same."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import cast

import uvloop

from gateway.base.garbage_collection import collect_rarely, collect_seldom

if __name__ == "__main__":
    collect_seldom()

from gateway.app.environment import read_settings
from gateway.app.process import Process, started_process
from schemas.primitives import NetworkId
from streams.stopping import Ended, StopSignal, end_now, run_until_stopped

Run = Callable[..., Awaitable[None]]
"""Of the process and what tells it to stop."""

STAGES = (
    *("initiation", "consents", "execution", "relay", "settlement", "schedule", "disclosure", "portability", "sharing"),
    "portability_api",
    "marketing",
)


def run_of(stage: str) -> Run:
    """What a stage does; execution's wants a network, too.

    Read only now: whoever starts again after a crash is waited for, and Faust, say, takes a quarter of all that there
    is to read, for two stages alone.
    """
    return cast("Run", import_module(f"streams.{stage}").run)


def main(arguments: list[str] | None = None) -> int:
    """Run one stage until SIGTERM or SIGINT.

    0 after a clean stop, 1 where what was in hand could not be ended in time; where it cannot start or go on, what
    `mypay` ends with for the same cause.
    """
    parser = argparse.ArgumentParser(prog="python -m streams", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--network", help="execution: the card network to execute")
    options = parser.parse_args(arguments)
    if (options.stage == "execution") != bool(options.network):
        parser.error("execution needs --network, the other stages take none")
    collect_rarely()
    try:
        uvloop.run(_process(options.stage, options.network))
    except Exception as error:  # noqa: BLE001 - told, or raised again
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    """Say what ended the stage as every command says it, and return the exit code that goes with it.

    Raises:
        Exception: the error itself, where it is none that is known: a bug, which the log tells with its place.
    """
    from gateway.app.errors import NotConfiguredError  # noqa: PLC0415 - whoever starts again is waited for
    from gateway.cli.explaining import explain, is_known, tell  # noqa: PLC0415

    if not is_known(error):
        raise error
    if not isinstance(error, (NotConfiguredError, ValueError)):
        # It came while the stage ran, perhaps: the log has its place.
        sys.excepthook(type(error), error, error.__traceback__)
    told = explain(error)
    tell(f"mypay: {told}", told.code, told.hint)
    return told.code


async def _process(stage: str, network: str | None) -> None:
    run = run_of(stage)
    if network:
        run = partial(run, network_id=NetworkId(network))
    stopping = StopSignal()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    settings = read_settings()
    seen: list[Process] = []

    async def work() -> None:
        async with started_process(settings, stage, network_id=network or "") as process:
            seen.append(process)
            try:
                await run(process, stopping)
            finally:
                # Where it failed, too: what closes now is waited for no longer than any other stop.
                stopping.close()

    drain_s = settings.stop_s + (settings.execution_drain_s if stage == "execution" else 0.0)
    ended = await run_until_stopped(work(), stopping, drain_s=drain_s)
    if ended is not Ended.BY_ITSELF:
        # Nothing was in hand where it had not started yet.
        end_now(seen[0].observer if seen else None, clean=ended is Ended.CANCELLED and not stopping.awaited)


if __name__ == "__main__":
    sys.exit(main())
