"""Waiting for a server until it really answers, never blindly."""

import asyncio
import concurrent.futures
import logging
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from gateway.proving.stack import secure
from gateway.proving.stack.errors import LocalStackError

POLL_S = 0.05
T = TypeVar("T")
PROBE_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 15


def wait_until_ready(
    what: str,
    answers: Callable[[], bool],
    alive: Callable[[], bool],
    last_words: Callable[[], str],
    *,
    timeout_s: float,
) -> None:
    """Poll `answers` until it is true.

    Raises:
        LocalStackError: the server died (`alive` is false) or did not answer in time; `last_words` end the message.
    """
    deadline = time.monotonic() + timeout_s
    while not answers():
        if not alive():
            raise LocalStackError(f"{what} stopped while it was starting. {last_words()}")
        if time.monotonic() > deadline:
            raise LocalStackError(f"{what} did not answer within {timeout_s:.0f} s. {last_words()}")
        time.sleep(POLL_S)


def log_tail(log: Path) -> str:
    """Return the last lines of a log, ready to end an error message with."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except FileNotFoundError:
        lines = []
    return f"The end of {log}:\n  " + "\n  ".join(lines) if lines else f"{log} is empty."


def kafka_answers(bootstrap_servers: str, secured: Path | None = None, *, brokers_min: int = 1) -> bool:
    """Say whether the first of these brokers serves metadata, and so many are registered.

    `secured` is the directory of a secured stack.
    """
    host, _, port = bootstrap_servers.partition(",")[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            pass
    except OSError:
        return False

    async def brokers() -> bool:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=bootstrap_servers,
            request_timeout_ms=2000,
            **(_as_administrator(secured) if secured else {}),
        )
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            return len(cluster["brokers"]) >= brokers_min
        finally:
            await admin.close()

    # A broker that is still starting may drop the connection; the client logs that as an error of its own.
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return bool(run(brokers()))
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        logger.setLevel(level)


def _as_administrator(stack: Path) -> dict[str, Any]:
    security = secure.security_of(stack, 0)
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=str(security.cafile)),
        "sasl_mechanism": secure.MECHANISM,
        "sasl_plain_username": secure.ADMIN,
        "sasl_plain_password": (security.credentials / f"{secure.ADMIN}.password").read_text(encoding="ascii").strip(),
    }


def postgres_answers(dsn: str) -> bool:
    """Say whether the server runs `SELECT 1`."""

    async def select() -> bool:
        connection = await asyncpg.connect(dsn, timeout=PROBE_TIMEOUT_S)
        try:
            return bool(await connection.fetchval("SELECT 1") == 1)
        finally:
            await connection.close()

    try:
        return run(select())
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False


def run(job: Coroutine[Any, Any, T], *, timeout_s: float = 2 * PROBE_TIMEOUT_S) -> T:
    """Run a coroutine to its end from any thread, even one whose own event loop is running.

    Raises:
        TimeoutError: it takes longer.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, job).result(timeout=timeout_s)
