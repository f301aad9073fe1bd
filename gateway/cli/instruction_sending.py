"""Signed instructions as a partner sends them on ``mypay.orders``, and what is told of them first."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import typer

from gateway.app.settings import Settings
from gateway.cli.arguments import key_id
from gateway.cli.common import (
    CliError,
    ExitCode,
    kafka,
    load_settings,
    open_publisher,
    partner_principal,
    read_documents,
    run,
)
from gateway.cli.partner import default_kid
from gateway.identity.jose.jwk import algorithm_of, public_jwk, read_private_key
from gateway.identity.jose.signature import sign_detached
from gateway.messaging.reader import TopicReader, open_reader
from gateway.messaging.records import Outgoing, Record
from schemas.envelope import Envelope, EnvelopeError, read_envelope, write_envelope
from schemas.primitives import PartnerId
from schemas.topics import ORDERS, events_topic

FILLED_VALIDITY: Final = timedelta(minutes=10)
"""What --fill gives an instruction to live: enough for a person to watch it, too short to be forgotten."""

Key = Annotated[Path, typer.Option(help="The partner's private key (PEM).", dir_okay=False)]
Kid = Annotated[
    str | None, typer.Option(parser=key_id, metavar="KID", help="As registered. Default: from the key's thumbprint.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the partner's events and print what became of it.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that --wait waits.")]


class Sendable(Protocol):
    """What every message on the topic tells of itself."""

    @property
    def partner_id(self) -> PartnerId:
        """Who signs."""

    @property
    def record_key(self) -> str:
        """The Kafka key."""

    @property
    def instruction_id(self) -> str:
        """The partner's own id of it."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How to sign and what to do after. ``timeout``: seconds to follow the events; None: it is only sent."""

    key: Path
    kid: str | None
    timeout: float | None


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


def times() -> dict[str, str]:
    """``issued_at`` now and ``expires_at`` a little later."""
    now = datetime.now(UTC)
    return {"issued_at": timestamp(now), "expires_at": timestamp(now + FILLED_VALIDITY)}


def timestamp(moment: datetime) -> str:
    """RFC 3339 to the second. The digits of a fraction can look like a card number, and what does is sealed."""
    return moment.isoformat(timespec="seconds")


def send_instruction(
    body: bytes, message: Sendable, type_: str, sending: Sending, is_answer: Callable[[str, dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Sign, send, and follow the partner's events up to the answer: its body with its type, or None."""
    settings = load_settings()
    private = read_private_key(sending.key)
    algorithm = algorithm_of(private)
    kid = sending.kid or default_kid(message.partner_id, public_jwk(private), algorithm)
    envelope = Envelope(
        id=message.instruction_id,
        source=f"/partners/{message.partner_id}",
        type=type_,
        time=datetime.now(UTC),
        signature=sign_detached(body, private, kid=kid, algorithm=algorithm, typ=type_),
    )
    record = Outgoing(topic=ORDERS, key=message.record_key.encode(), value=body, headers=write_envelope(envelope))
    return run(_publish(settings, record, message.partner_id, sending.timeout, is_answer))


async def _publish(
    settings: Settings,
    record: Outgoing,
    partner_id: str,
    seconds: float | None,
    is_answer: Callable[[str, dict[str, Any]], bool],
) -> dict[str, Any] | None:
    sender = partner_principal(partner_id)
    async with AsyncExitStack() as stack:
        reader = None
        if seconds is not None:
            # Before it is sent, or its event would be missed.
            reader = await stack.enter_async_context(
                open_reader(kafka(settings, sender), events_topic(partner_id), at_end=True)
            )
        publisher = await stack.enter_async_context(open_publisher(settings, sender))
        await publisher.publish([record])
        return None if reader is None or seconds is None else await _follow(reader, is_answer, seconds)


async def _follow(
    reader: TopicReader, is_answer: Callable[[str, dict[str, Any]], bool], seconds: float
) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(seconds):
            async for records in reader.follow():
                for record in records:
                    type_, body = _read(record)
                    if is_answer(type_, body):
                        return {"type": type_, **body}
    except TimeoutError:
        pass
    return None


def _read(record: Record) -> tuple[str, dict[str, Any]]:
    try:
        return read_envelope(record.headers).type, json.loads(record.value)
    except (EnvelopeError, ValueError):
        return "", {}
