"""Runs one simulated network as a process: start, announce, serve, stop on SIGTERM or SIGINT."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.proving.counterparts.config import SimulatorConfig
from gateway.proving.counterparts.control import Control
from gateway.proving.counterparts.host import Host

_log: Final = structlog.get_logger("simulator")


async def run(
    config: SimulatorConfig,
    *,
    ready_file: Path | None,
    announce: Callable[[str], None],
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until a signal ends it.

    Args:
        config: the network.
        ready_file: written whole when the network listens: ``{"network_id", "host", "port", "control_port", "ledger",
            "clearing_directory", "pid"}``.
        announce: is given one line for people at the same moment.
        listening: is given the port, before the two.

    Raises:
        LedgerError, sqlite3.Error: the ledger cannot be used.
        OSError: a port is taken or a file cannot be written.
    """
    host = Host(config)
    control = Control(host)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await host.start()
        control_port = await control.start(config.control_port) if config.control_port is not None else None
        listening(host.port)
        _write_ready(ready_file, host, control_port)
        announce(_start_line(host, control_port))
        await _serve_until(stop, host)
    finally:
        await control.stop()
        await host.close()


async def _serve_until(stop: asyncio.Event, host: Host) -> None:
    config = host.config
    serving = asyncio.create_task(host.serve(), name="serve")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    others: list[asyncio.Task[Any]] = [stopping]
    if config.echo_seconds is not None:
        others.append(asyncio.create_task(host.send_echoes(config.echo_seconds), name="echoes"))
    if config.clearing.cycle_seconds is not None and config.clearing.directory is not None:
        others.append(asyncio.create_task(_close_cycles(host, config.clearing.cycle_seconds), name="cycles"))
    try:
        # Only a signal ends one of these without an error; any error ends the process.
        done, _ = await asyncio.wait([serving, *others], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
        _log.info("stopping", network_id=config.network_id)
        host.begin_stop()
        await serving
    finally:
        for task in (serving, *others):
            task.cancel()
        await asyncio.gather(serving, *others, return_exceptions=True)


async def _close_cycles(host: Host, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await host.close_cycle()


def _write_ready(ready_file: Path | None, host: Host, control_port: int | None) -> None:
    if ready_file is None:
        return
    directory = host.config.clearing.directory
    text = json.dumps(
        {
            "network_id": host.config.network_id,
            "host": host.config.host,
            "port": host.port,
            "control_port": control_port,
            "ledger": str(host.config.ledger.path.resolve()),
            "clearing_directory": str(directory.resolve()) if directory else None,
            "pid": os.getpid(),
        }
    )
    unfinished = ready_file.with_name(f"{ready_file.name}.tmp")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(ready_file)


def _start_line(host: Host, control_port: int | None) -> str:
    config = host.config
    control = f", control http://127.0.0.1:{control_port}" if control_port is not None else ""
    return (
        f"network {config.network_id} listens on {config.host}:{host.port} "
        f"({config.dialect}, {config.header}{', TLS' if config.tls else ''}), ledger {config.ledger.path}{control}"
    )
