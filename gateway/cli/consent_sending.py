"""Commands on consents as a partner sends them: signed, on Kafka, and followed to what became of them."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uuid_utils

from gateway.app.settings import Settings
from gateway.cli.arguments import key_id
from gateway.cli.common import (
    SILENCE_HINT,
    CliError,
    ExitCode,
    kafka,
    load_settings,
    open_publisher,
    partner_principal,
    print_json,
    read_documents,
    read_input,
    run,
    say,
)
from gateway.cli.partner import default_kid
from gateway.consents.commands import COMMANDS
from gateway.consents.rules.consent import ConsentCommand
from gateway.identity.jose.jwk import algorithm_of, public_jwk, read_private_key
from gateway.identity.jose.signature import sign_detached
from gateway.messaging.reader import TopicReader, open_reader
from gateway.messaging.records import Outgoing, Record
from schemas.codec import DecodeError, decode, encode_json
from schemas.consent_commands import CONSENT_MESSAGES, ConsentMessage
from schemas.consents import ConsentTerms
from schemas.envelope import Envelope, EnvelopeError, read_envelope, write_envelope
from schemas.events import EventType
from schemas.topics import CONSENT_COMMANDS, events_topic

TYPE_OF: Final = {command: type_ for type_, command in COMMANDS.items()}

Key = Annotated[Path, typer.Option(help="The partner's private key (PEM).", dir_okay=False)]
SomeKey = Annotated[
    Path | None,
    typer.Option("--key", help="Send it as the partner, signed with this private key (PEM).", dir_okay=False),
]
Kid = Annotated[
    str | None, typer.Option(parser=key_id, metavar="KID", help="As registered. Default: from the key's thumbprint.")
]
Assertion = Annotated[
    Path | None,
    typer.Option(help="The customer's assertion, or an identity provider's JSON with it; - reads standard input."),
]
CommandId = Annotated[str | None, typer.Option("--command-id", metavar="ID", help="Default: a new one.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the partner's events and print what became of it.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that --wait waits.")]

_TELLS: Final = frozenset({EventType.CONSENT_CHANGED, EventType.CONSENT_REPORTED, EventType.CONSENT_REFUSED})


@dataclass(frozen=True, slots=True)
class Sending:
    """How to sign and what to do after."""

    key: Path
    kid: str | None
    command_id: str | None
    wait: bool
    timeout: float
    json_: bool


def read_terms(file: Path) -> tuple[bytes, ConsentTerms]:
    """Read one document with terms.

    Raises:
        CliError: it cannot be read, or holds something else.
    """
    documents = read_documents(file)
    if len(documents) > 1:
        raise CliError("The file holds more than one document; give one consent's terms.", ExitCode.USAGE)
    document = documents[0][1]
    try:
        return document, decode(ConsentTerms, document)
    except DecodeError as error:
        raise CliError(f"{error}; nothing was sent.") from None


def send_terms(command: ConsentCommand, file: Path, assertion: Path | None, sending: Sending) -> None:
    """Send a request or an amendment, the terms exactly as the file has them."""
    document, terms = read_terms(file)
    fields = {"terms": json.loads(document)}
    _send(command, terms.partner_id, terms.consent_id, fields | _authentication(assertion), sending)


def send_instruction(
    command: ConsentCommand, partner_id: str, consent_id: str, assertion: Path | None, sending: Sending
) -> None:
    """Send any other command."""
    _send(command, partner_id, consent_id, _authentication(assertion), sending)


def _authentication(assertion: Path | None) -> dict[str, Any]:
    if assertion is None:
        return {}
    text = read_input(assertion).decode("utf-8", errors="replace").strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["assertion"])
        except (ValueError, KeyError, RecursionError):
            raise CliError(f"{assertion} holds no assertion.", ExitCode.USAGE) from None
    return {"authentication": text}


def _send(command: ConsentCommand, partner_id: str, consent_id: str, fields: dict[str, Any], sending: Sending) -> None:
    settings = load_settings()
    now = datetime.now(UTC)
    named = {
        "partner_id": partner_id,
        "consent_id": consent_id,
        "command_id": sending.command_id or uuid_utils.uuid7().hex,
        "issued_at": now.isoformat(),
    }
    body = encode_json(named | fields)
    type_ = TYPE_OF[command]
    try:
        message: ConsentMessage = decode(CONSENT_MESSAGES[type_], body)
    except DecodeError as error:
        raise CliError(f"{error}; nothing was sent.") from None
    private = read_private_key(sending.key)
    algorithm = algorithm_of(private)
    kid = sending.kid or default_kid(message.partner_id, public_jwk(private), algorithm)
    envelope = Envelope(
        id=message.command_id,
        source=f"/partners/{partner_id}",
        type=type_,
        time=now,
        signature=sign_detached(body, private, kid=kid, algorithm=algorithm, typ=type_),
    )
    record = Outgoing(topic=CONSENT_COMMANDS, key=consent_id.encode(), value=body, headers=write_envelope(envelope))
    told = run(_publish(settings, record, message, sending))
    _print(message, told, sending)


async def _publish(
    settings: Settings, record: Outgoing, message: ConsentMessage, sending: Sending
) -> dict[str, Any] | None:
    sender = partner_principal(message.partner_id)
    async with AsyncExitStack() as stack:
        reader = None
        if sending.wait:
            # Before it is sent, or its event would be missed.
            reader = await stack.enter_async_context(
                open_reader(kafka(settings, sender), events_topic(message.partner_id), at_end=True)
            )
        publisher = await stack.enter_async_context(open_publisher(settings, sender))
        await publisher.publish([record])
        return None if reader is None else await _follow(reader, message, sending.timeout)


async def _follow(reader: TopicReader, message: ConsentMessage, seconds: float) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(seconds):
            async for records in reader.follow():
                for record in records:
                    if (told := _told(record, message)) is not None:
                        return told
    except TimeoutError:
        pass
    return None


def _told(record: Record, message: ConsentMessage) -> dict[str, Any] | None:
    try:
        type_ = read_envelope(record.headers).type
        if type_ not in _TELLS:
            return None
        body: dict[str, Any] = json.loads(record.value)
    except (EnvelopeError, ValueError):
        return None
    ours = (body.get("consent_id"), body.get("command_id")) == (message.consent_id, message.command_id)
    return {"type": type_, **body} if ours else None


def _print(message: ConsentMessage, told: dict[str, Any] | None, sending: Sending) -> None:
    if sending.json_:
        print_json({"consent_id": message.consent_id, "command_id": message.command_id, "event": told})
    elif told is None:
        say(f"Sent as command {message.command_id}.")
    elif told["type"] == EventType.CONSENT_REFUSED:
        say("Refused: {code} {text}.".format(**told["reason"]))
    else:
        same = "" if told["type"] == EventType.CONSENT_CHANGED else " already"
        say(f"Consent {message.consent_id} is {told['status']}{same} (version {told['version']}).")
        if told["in_flight"]:
            say(f"{len(told['in_flight'])} payments were already on their way: {', '.join(told['in_flight'])}")
    if sending.wait and told is None:
        raise CliError(f"Nothing was told within {sending.timeout:g} s.", ExitCode.UNAVAILABLE, hint=SILENCE_HINT)
    if told is not None and told["type"] == EventType.CONSENT_REFUSED:
        raise typer.Exit(ExitCode.FAILED)
