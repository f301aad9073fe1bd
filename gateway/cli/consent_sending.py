"""Commands on consents as a partner sends them: signed, on Kafka, and followed to what became of them."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uuid_utils

from gateway.cli.common import CliError, ExitCode, print_json, read_documents, read_input, say
from gateway.cli.sending import Sending, fail_in_silence, read_message, send
from gateway.consents.commands import COMMANDS
from gateway.consents.rules.consent import ConsentCommand
from schemas.codec import encode_json
from schemas.consent_commands import CONSENT_MESSAGES, ConsentMessage
from schemas.consents import ConsentTerms, Purpose
from schemas.events import EventType

TYPE_OF: Final = {command: type_ for type_, command in COMMANDS.items()}

Assertion = Annotated[
    Path | None,
    typer.Option(help="The customer's assertion, or an identity provider's JSON with it; - reads standard input."),
]
Purposes = Annotated[
    list[Purpose] | None,
    typer.Option("--purpose", help="One of the consent's purposes, may be repeated; default: all."),
]
CommandId = Annotated[str | None, typer.Option("--command-id", metavar="ID", help="Default: a new one.")]


@dataclass(frozen=True, slots=True)
class ConsentSending(Sending):
    """The options of every command that sends a command on a consent."""

    command_id: CommandId = None


def read_terms(file: Path) -> tuple[bytes, ConsentTerms]:
    """Read one document with terms.

    Raises:
        CliError: it cannot be read, or holds something else.
    """
    documents = read_documents(file)
    if len(documents) > 1:
        raise CliError("The file holds more than one document; give one consent's terms.", ExitCode.USAGE)
    document = documents[0][1]
    return document, read_message(ConsentTerms, document)


def send_terms(
    command: ConsentCommand,
    file: Path,
    assertion: Path | None,
    key: Path,
    sending: ConsentSending,
    purposes: list[Purpose] | None = None,
) -> None:
    """Send a request or an amendment, the terms exactly as the file has them."""
    document, terms = read_terms(file)
    fields = {"terms": json.loads(document)}
    _send(
        command,
        terms.partner_id,
        terms.consent_id,
        fields | _named(purposes) | authentication(assertion),
        key,
        sending,
    )


def send_instruction(
    command: ConsentCommand,
    partner_id: str,
    consent_id: str,
    assertion: Path | None,
    key: Path,
    sending: ConsentSending,
    purposes: list[Purpose] | None = None,
) -> None:
    """Send any other command."""
    _send(command, partner_id, consent_id, _named(purposes) | authentication(assertion), key, sending)


def _named(purposes: list[Purpose] | None) -> dict[str, Any]:
    return {"purposes": purposes} if purposes else {}


def authentication(assertion: Path | None) -> dict[str, Any]:
    """The member of a message that carries the customer's proof, where there is one.

    Raises:
        CliError: the file holds none.
    """
    if assertion is None:
        return {}
    text = read_input(assertion).decode("utf-8", errors="replace").strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["assertion"])
        except (ValueError, KeyError, RecursionError):
            raise CliError(f"{assertion} holds no assertion.", ExitCode.USAGE) from None
    return {"authentication": text}


def _send(
    command: ConsentCommand,
    partner_id: str,
    consent_id: str,
    fields: dict[str, Any],
    key: Path,
    sending: ConsentSending,
) -> None:
    named = {
        "partner_id": partner_id,
        "consent_id": consent_id,
        "command_id": sending.command_id or uuid_utils.uuid7().hex,
        "issued_at": datetime.now(UTC).isoformat(),
    }
    body = encode_json(named | fields)
    type_ = TYPE_OF[command]
    message: ConsentMessage = read_message(CONSENT_MESSAGES[type_], body)
    _print(message, send(body, message, key, sending, type_=type_), sending)


def _print(message: ConsentMessage, told: dict[str, Any] | None, sending: ConsentSending) -> None:
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
    fail_in_silence(told, sending)
    if told is not None and told["type"] == EventType.CONSENT_REFUSED:
        raise typer.Exit(ExitCode.FAILED)
