"""Runs the simulated identity providers as a process: start, announce, serve, stop on SIGTERM or SIGINT."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.proving.counterparts.idp.provider import LEVELS, Algorithm, Group, IdentityProvider
from gateway.proving.counterparts.idp.server import IdpServer

POLICY: Final = (
    """\
# What each operation asks for: see deploy/issuers/policy.toml, which explains every member.

[[rules]]
operation = "payment"
up_to = { KRW = "300000", USD = "200.00" }
level = 1
max_age_seconds = 600

[[rules]]
operation = "payment"
level = 2
max_age_seconds = 300
"""
    + "".join(
        f'\n[[rules]]\noperation = "consent.{command}"\nlevel = {level}\nmax_age_seconds = {seconds}\n'
        for level, seconds, commands in (
            (2, 300, ("grant", "amend", "resume")),
            (1, 3600, ("reject", "suspend", "revoke")),
        )
        for command in commands
    )
    + """
[methods]
pin = 1
hwk = 3

[exemptions.KRW]
max_amount = "50000"
max_count = 5
max_sum = "150000"
"""
)


async def run(
    *,
    port: int,
    algorithm: Algorithm,
    ready_file: Path | None,
    issuers_dir: Path | None,
    announce: Callable[[str], None],
) -> None:
    """Serve both groups until a signal ends it.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        algorithm: what both sign with.
        ready_file: written whole when it listens: ``{"url", "port", "pid", "issuers"}``.
        issuers_dir: where the gateway's trust-table files for these two providers are written at the same moment, and
            an assurance policy beside them if there is none: one that is there is the operator's and is left alone.
        announce: is given one line for people.

    Raises:
        OSError: the port is taken or a file cannot be written.
    """
    groups: tuple[Group, ...] = ("financial", "telecom")
    providers = {group: IdentityProvider(group, algorithm=algorithm) for group in groups}
    server = IdpServer(providers)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        url = f"http://127.0.0.1:{await server.start(port)}"
        if issuers_dir is not None:
            write_trust_files(issuers_dir, providers, url)
        if ready_file is not None:
            issuers = {p.issuer: f"{url}/{g}/jwks.json" for g, p in providers.items()}
            told = {"url": url, "port": int(url.rpartition(":")[2]), "pid": os.getpid(), "issuers": issuers}
            _write(ready_file, json.dumps(told) + "\n")
        announce(f"identity providers of both groups listen on {url}")
        await stop.wait()
    finally:
        await server.stop()


def write_trust_files(folder: Path, providers: Mapping[Group, IdentityProvider], url: str) -> None:
    """Write the gateway's trust-table files for providers served under ``url``; others' files stay.

    The folder is then complete: where it has no assurance policy, it gets one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for group, provider in providers.items():
        _write(folder / f"{group}.toml", trust_file(provider, f"{url}/{group}/jwks.json"))
    with suppress(FileExistsError), (folder / "policy.toml").open("x", encoding="utf-8") as policy:
        policy.write(POLICY)


def trust_file(provider: IdentityProvider, jwks_url: str) -> str:
    """Return the gateway's trust-table file for a simulated provider, as TOML."""
    levels = "".join(f"{json.dumps(word)} = {level}\n" for word, level in LEVELS[provider.group].items())
    return (
        f"issuer = {json.dumps(provider.issuer)}\n"
        f"group = {json.dumps(provider.group)}\n"
        f"audience = {json.dumps(provider.audience)}\n"
        f"algorithms = [{json.dumps(provider.algorithm)}]\n"
        f"jwks_url = {json.dumps(jwks_url)}\n"
        f"refresh_seconds = 1\n\n[levels]\n{levels}"
    )


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
