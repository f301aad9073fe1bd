"""``mypay portability …``: hand customers' data to recipients that they name; look at it before; verify it after."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from joserfc.jwk import ECKey, OKPKey

from gateway.app.portability import create_missing_receipt_key, receipt_key
from gateway.app.settings import Settings
from gateway.cli.arguments import ConsentArgument, SomePartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    read_documents,
    read_input,
    run,
    say,
    say_if_cut,
)
from gateway.cli.consent_sending import Assertion, authentication
from gateway.cli.grouping import grouped
from gateway.cli.recipient import OrgOption, recipient_kid
from gateway.cli.registered import of_partner
from gateway.cli.sending import Key, Sending, fail_in_silence, read_message, read_one, send
from gateway.database.roles import Role
from gateway.messaging.reader import open_reader
from gateway.portability.verifying import ExportReader, ExportRefusedError
from gateway.sealing.files import read_secret_file, write_secret_file
from gateway.views.consents import ConsentsView
from gateway.views.recipients import RecipientsView, ToldExport
from schemas.codec import encode_json
from schemas.consents import ConsentTerms
from schemas.envelope import EnvelopeError, read_envelope
from schemas.events import EventType
from schemas.portability import PORTABILITY_REQUEST_TYPE, PortabilityRequest, request_digest
from schemas.principals import Principal
from schemas.principals import Role as KafkaRole
from schemas.topics import exports_topic

app = typer.Typer(no_args_is_help=True)

RequestFile = Annotated[Path, typer.Argument(help="The request as JSON; - reads standard input.")]


@dataclass(frozen=True, slots=True)
class RequestSending(Sending):
    """The options of a transmission request."""


@app.command()
@grouped
def request(file: RequestFile, key: Key, assertion: Assertion = None, *, sending: RequestSending) -> None:
    """Sign and send a transmission request; with --wait up to its delivery."""
    body = encode_json(read_one(file) | authentication(assertion))
    message = read_message(PortabilityRequest, body)
    told = send(body, message, key, sending, type_=PORTABILITY_REQUEST_TYPE)
    if sending.json_:
        print_json({"request_id": message.request_id, "event": told})
    elif told is None:
        say(f"Sent as request {message.request_id}.")
    elif "reason" in told:
        say("{status}: {code} {text}.".format(status=told["status"].capitalize(), **told["reason"]))
    else:
        say(f"Request {message.request_id} is {told['status']}: {told.get('records', 0)} records.")
    fail_in_silence(told, sending)
    if told is not None and told["type"] != EventType.PORTABILITY_DELIVERED:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def digest(file: RequestFile) -> None:
    """Print the digest of a request, which the customer authenticates."""
    [(_, document), *_] = read_documents(file)
    read_message(PortabilityRequest, document)
    typer.echo(request_digest(document))


@app.command("list")
def list_(
    partner: SomePartnerOption = None,
    consent: Annotated[str | None, typer.Option(help="Under this consent alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show exports, the newest first."""
    settings = load_settings()

    async def read() -> list[ToldExport]:
        dsn = postgres_dsn(settings, Role.READONLY)
        async with RecipientsView.opened(dsn) as view:
            found = await view.exports(partner_id=partner, consent_id=consent, limit=limit)
        return await of_partner(dsn, partner, found)

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    columns = ("partner", "request", "number", "consent", "recipient", "state", "attempt", "as of", "reason")
    rows = [
        (
            *(e.partner_id, e.request_id, e.number, e.consent_id, e.rcv_org_code),
            *(e.state, e.attempt, e.snapshot_at, e.reason_text),
        )
        for e in found
    ]
    print_table("Exports", columns, rows)


@app.command()
def preview(
    consent: ConsentArgument, recipient: OrgOption, partner: SomePartnerOption = None, json_: Json = False
) -> None:
    """Show exactly what would leave for a recipient now: every record, or with --json all of them."""
    lists = run(_gathered(load_settings(), consent, partner, recipient))
    if json_:
        print_json(lists)
        return
    for name, rows in lists.items():
        columns = sorted({member for row in rows for member in row})
        shown = [tuple(json.dumps(row[c], ensure_ascii=False) if c in row else "" for c in columns) for row in rows]
        print_table(f"{name}: {len(rows)}", columns, shown)


@app.command()
def export(
    consent: ConsentArgument,
    recipient: OrgOption,
    to: Annotated[Path, typer.Option(help="New file (JSON, mode 0600).", dir_okay=False)],
    partner: SomePartnerOption = None,
) -> None:
    """Write the same as a file, for the customer themselves."""
    lists = run(_gathered(load_settings(), consent, partner, recipient))
    write_secret_file(to, encode_json(lists))
    say(f"{sum(map(len, lists.values()))} records are in {to}.")


@app.command()
def verify(
    recipient: OrgOption,
    key: Annotated[list[Path], typer.Option(help="The recipient's private key (JWK); may be repeated.")],
    gateway_key: Annotated[Path, typer.Option(help="The gateway's public key for receipts (JWK).")],
    to: Annotated[Path | None, typer.Option(help="New file for what was opened (JSON, mode 0600).")] = None,
    json_: Json = False,
) -> None:
    """As a recipient: open every export that is whole, check counts, digests and receipt; tell what is void."""
    settings = load_settings()
    reader = ExportReader(
        private_keys=dict(_private_key(recipient, path) for path in key),
        receipt_key=_key_of(read_input(gateway_key), gateway_key),
        org_code=recipient,
    )
    problems = run(_read_exports(settings, recipient, reader))
    if to is not None:
        write_secret_file(to, encode_json([dict(w.lists) for w in reader.whole.values()]))
    told: dict[str, Any] = {
        "whole": [w.manifest for w in reader.whole.values()],
        "void": [{"export_id": e, "attempt": a, "reason": why} for (e, a), why in sorted(reader.void.items())],
        "open": [{"export_id": e, "attempt": a} for e, a in reader.open_attempts],
        "problems": problems,
    }
    if json_:
        print_json(told)
    else:
        for opened in reader.whole.values():
            counts = ", ".join(f"{n} {name}" for name, n in sorted(opened.manifest.counts.items()))
            say(f"Export {opened.manifest.export_id} is whole, and holds: {counts}.")
        say(f"{len(reader.void)} attempts are void, {len(reader.open_attempts)} are not whole yet.")
        for problem in problems:
            say(f"Refused: {problem}.")
    if problems:
        raise typer.Exit(ExitCode.FAILED)


@app.command("receipt-key")
def show_receipt_key(
    create: Annotated[bool, typer.Option("--create", help="Make one where there is none.")] = False,
) -> None:
    """Print the public key that receipts are checked with, as a JWK."""
    settings = load_settings()
    if create:
        create_missing_receipt_key(settings)
    found = receipt_key(settings)
    typer.echo(json.dumps({**found.key.as_dict(private=False), "kid": found.kid}))


async def _read_exports(settings: Settings, org_code: str, reader: ExportReader) -> list[str]:
    problems: list[str] = []
    principal = Principal(KafkaRole.RECIPIENT, org_code).name
    async with open_reader(kafka(settings, principal), exports_topic(org_code)) as topic:
        async for record in topic.read_all():
            try:
                reader.take(read_envelope(record.headers).type, record.value)
            except (EnvelopeError, ExportRefusedError) as error:
                problems.append(str(error))
    return problems


async def _gathered(
    settings: Settings, consent: str, partner: str | None, org_code: str
) -> dict[str, list[dict[str, object]]]:
    gathered: dict[str, list[dict[str, object]]] = {}
    async for rows in _pieces(settings, consent, partner, org_code):
        for name, found in rows.items():
            gathered.setdefault(name, []).extend(found)
    return gathered


async def _pieces(
    settings: Settings, consent: str, partner: str | None, org_code: str
) -> AsyncIterator[dict[str, list[dict[str, object]]]]:
    terms = await _terms(settings, consent, partner)
    async with RecipientsView.opened(postgres_dsn(settings, Role.READONLY)) as view:
        try:
            async for piece in view.pieces(terms, org_code):
                yield piece.rows
        except ValueError as error:
            raise CliError(f"{error}.", ExitCode.FAILED) from None


async def _terms(settings: Settings, consent: str, partner: str | None) -> ConsentTerms:
    async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
        found = await consents.find(consent, partner_id=partner)
    if len(found) != 1:
        many = "Several partners have" if found else "There is no"
        raise CliError(f"{many} consent {consent}.", ExitCode.NOT_FOUND, hint="Add --partner." if found else "")
    return found[0].terms


_KINDS: Final[Mapping[str, type[ECKey] | type[OKPKey]]] = {"EC": ECKey, "OKP": OKPKey}


def _key_of(data: bytes, path: Path) -> Any:
    try:
        jwk = json.loads(data)
        return _KINDS[jwk["kty"]].import_key(jwk)
    except (ValueError, KeyError, TypeError):
        raise CliError(f"{path} holds no key as a JWK.", ExitCode.USAGE) from None


def _private_key(org_code: str, path: Path) -> tuple[str, Any]:
    key = _key_of(read_secret_file(path), path)
    return str(key.as_dict().get("kid") or recipient_kid(org_code, key)), key
