"""``mypay simulate idp``: local identity providers of both groups."""

import asyncio
import errno
import sys
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from gateway.cli.common import CliError
from gateway.proving.counterparts.idp.run import run

DEFAULT_PORT = 8590
"""The one that ``deploy/issuers`` names."""

_ANOTHER_PORT: Final = (
    "Another checkout's may have it. `--port 0 --issuers-dir var/issuers` takes a free one and writes the trust table "
    "for it: set MYPAY_ISSUERS_DIR=var/issuers, and `mypay auth policy apply`."
)


@unique
class AlgorithmChoice(StrEnum):
    """Signature algorithms, as the command line offers them."""

    ES256 = "ES256"
    ED25519 = "Ed25519"


def idp(
    *,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = DEFAULT_PORT,
    algorithm: Annotated[AlgorithmChoice, typer.Option(help="What both providers sign with.")] = AlgorithmChoice.ES256,
    ready_file: Annotated[
        Path | None, typer.Option(help="JSON with the address, written when it listens.", dir_okay=False)
    ] = None,
    issuers_dir: Annotated[
        Path | None,
        typer.Option(help="Write the gateway's trust table here; a policy.toml that is there stays.", file_okay=False),
    ] = None,
) -> None:
    """Run identity providers of both groups until SIGTERM or Ctrl-C. Keys are made at start and never stored."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                run(
                    port=port,
                    algorithm=algorithm.value,
                    ready_file=ready_file,
                    issuers_dir=issuers_dir,
                    announce=_announce,
                )
            )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise CliError(f"The identity providers cannot run: {error}.", hint=_ANOTHER_PORT if taken else "") from error


def _announce(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()
