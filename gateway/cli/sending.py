"""What every command shares that sends as a partner: its options, and the way from a body to its answer."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from gateway.app.settings import Settings
from gateway.cli.arguments import key_id
from gateway.cli.common import (
    KAFKA_DEADLINE_S,
    SILENCE_HINT,
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    partner_principal,
    read_documents,
    run,
)
from gateway.client import Client, Event, Message, answers, open_client, read_signer, signed
from gateway.messaging.records import Outgoing
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode
from schemas.primitives import Model

M = TypeVar("M", bound=Model)

FILLED_VALIDITY: Final = timedelta(minutes=10)
"""What --fill gives a message to live: enough for a person to watch it, too short to be forgotten."""

Key = Annotated[Path, typer.Option(help="The partner's private key (PEM).", dir_okay=False)]
SomeKey = Annotated[
    Path | None,
    typer.Option("--key", help="Send it as the partner, signed with this private key (PEM).", dir_okay=False),
]
Kid = Annotated[
    str | None, typer.Option(parser=key_id, metavar="KID", help="As registered. Default: from the key's thumbprint.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the partner's events and print what became of it.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that --wait waits.")]


@dataclass(frozen=True, slots=True)
class Sending:
    """The options of every command that sends one message: how to sign it, and what to do after."""

    kid: Kid = None
    wait: Wait = False
    timeout: Timeout = 60.0
    json_: Json = False


def read_one(file: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        CliError: it cannot be read, or holds something else.
    """
    documents = read_documents(file)
    if len(documents) > 1:
        raise CliError("The file holds more than one document; give one.", ExitCode.USAGE)
    try:
        fields = json.loads(documents[0][1])
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise CliError("The file holds no JSON object; nothing was sent.")
    return fields


def read_message(model: type[M], body: bytes, *, bytes_max: int = BODY_BYTES_MAX) -> M:
    """Read the body that is to be sent.

    Raises:
        CliError: it is no such message.
    """
    try:
        return decode(model, body, bytes_max=bytes_max)
    except DecodeError as error:
        raise CliError(f"{error}; nothing was sent.") from None


def times() -> dict[str, str]:
    """``issued_at`` now and ``expires_at`` a little later."""
    now = datetime.now(UTC)
    return {"issued_at": timestamp(now), "expires_at": timestamp(now + FILLED_VALIDITY)}


def timestamp(moment: datetime) -> str:
    """RFC 3339 to the second. The digits of a fraction can look like a card number, and what does is sealed."""
    return moment.isoformat(timespec="seconds")


def send(
    body: bytes, message: Message, key: Path, sending: Sending, *, type_: str | None = None
) -> dict[str, Any] | None:
    """Sign a body, send it, and with --wait follow the partner's events up to the answer.

    ``type_``: of a message whose body is that of several types.

    Returns:
        The answer's fields with its type; None where there was none, or none was waited for.
    """
    settings = load_settings()
    signer = read_signer(key, message.partner_id, sending.kid)
    record = signed(signer, message, type_=type_, body=body)
    event = run(_ask(settings, record, message, sending.timeout if sending.wait else None))
    return None if event is None else {"type": event.type, **event.body}


def fail_in_silence(answer: Mapping[str, Any] | None, sending: Sending) -> None:
    """End the program where an answer was waited for and did not come.

    Raises:
        CliError: it did not.
    """
    if sending.wait and answer is None:
        raise CliError(f"Nothing was told within {sending.timeout:g} s.", ExitCode.UNAVAILABLE, hint=SILENCE_HINT)


@asynccontextmanager
async def open_partner(settings: Settings, partner_id: str) -> AsyncIterator[Client]:
    """A client with the partner's own credentials."""
    async with open_client(kafka(settings, partner_principal(partner_id)), patience_s=KAFKA_DEADLINE_S) as client:
        yield client


async def _ask(settings: Settings, record: Outgoing, message: Message, seconds: float | None) -> Event | None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_partner(settings, message.partner_id))
        if seconds is None:
            await client.send([record])
            return None
        # Before it is sent, or its event would be missed.
        events = await stack.enter_async_context(client.events(message.partner_id))
        await client.send([record])
        return await events.first(partial(answers, message), seconds=seconds)
