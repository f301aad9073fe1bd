"""``mypay recipient …``: who may be handed customers' data, and the keys that it is encrypted to."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey

from gateway.app.operations import grant_recipient
from gateway.app.registries import open_registries, take_from_recipient
from gateway.app.settings import Settings
from gateway.cli.arguments import ActingPartnerOption, key_id
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    read_input,
    run,
    say,
    there,
)
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.identity.jose.jwk import KeyFormatError
from gateway.messaging.topics_admin import ensure_topics
from gateway.portability.sealed import import_recipient_key
from gateway.sealing.files import write_secret_file
from gateway.views.recipients import RecipientsView, RegisteredRecipient
from schemas.codec import parse_strictly
from schemas.primitives import PartnerId
from schemas.principals import ADMIN
from schemas.topics import concrete_topics, exports_topic

app = typer.Typer(no_args_is_help=True)
keys = typer.Typer(help="A recipient's public keys.", no_args_is_help=True)
app.add_typer(keys, name="key")


def _org_code(text: str) -> str:
    if len(text) != 10 or not text.isascii() or not text.isalnum() or text != text.upper():
        raise typer.BadParameter("an org code has 10 capital letters and digits")
    return text


OrgArgument = Annotated[str, typer.Argument(parser=_org_code, metavar="ORG_CODE", help="The recipient's org code.")]
OrgOption = Annotated[str, typer.Option("--recipient", parser=_org_code, metavar="ORG_CODE", help="Whose data.")]
Jwk = Annotated[
    Path, typer.Option(help="Its public key as a JWK: P-256 or X25519; - reads standard input.", callback=there)
]
Kid = Annotated[str | None, typer.Option(parser=key_id, metavar="KID", help="Default: of its thumbprint.")]


def _subject(*, org_code: str, **_: Any) -> str:
    return org_code


GivenKey = tuple[dict[str, str], str]
"""A public key's JWK, and its id."""


def _read_key(org_code: OrgArgument, jwk: Jwk, kid: Kid = None) -> GivenKey:
    try:
        read = parse_strictly(read_input(jwk))
        if not isinstance(read, dict):
            raise KeyFormatError("the file holds no JWK")
        key = import_recipient_key(read)
    except (ValueError, KeyFormatError) as error:
        raise CliError(f"{jwk}: {error}.", ExitCode.USAGE) from None
    return key.as_dict(private=False), kid or recipient_kid(org_code, key)


def _given(
    org_code: OrgArgument,
    jwk: Jwk,
    kid: Kid = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Its client certificate (PEM).", dir_okay=False, callback=there)
    ] = None,
) -> tuple[GivenKey, str | None]:
    return _read_key(org_code, jwk, kid), _given_certificate(certificate)


@app.command()
@operated("recipient add", _subject, reads=_given)
def add(
    org_code: OrgArgument,
    name: Annotated[str, typer.Option(help="Name for people.")],
    read: tuple[GivenKey, str | None],
    partner: ActingPartnerOption = None,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Create the topic of its exports.")] = True,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register a recipient with a first key, and create the topic of its exports.

    Without the topic, make it before anything is exported (`mypay topics apply`): exports would wait for it.
    Where two people are needed it is registered at once, and has key and certificate when another operator has approved
    them.
    """
    settings = load_settings()
    (public, key), fingerprint = read
    payload: dict[str, Any] = {"org_code": org_code, "kid": key, "jwk": public}
    if fingerprint is not None:
        payload["certificate_sha256"] = fingerprint
    waits = needs_two(settings, propose=propose)

    async def write() -> None:
        # Topic first: one too many does no harm, while a recipient without one would hold up its exports.
        if topics:
            of_all = concrete_topics(partners=[], networks=[], recipients=[org_code])
            wanted = [t for t in of_all if t.name == exports_topic(org_code)]
            cluster = kafka(settings, ADMIN)
            await ensure_topics(cluster, wanted, replication_factor=settings.kafka_replication_factor, apply=True)
        async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
            known = PartnerId(partner) if partner else None
            if not await registries.recipients.add(org_code, name, partner_id=known):
                raise CliError(f"Recipient {org_code} is already registered.")
            if not waits:
                await grant_recipient(registries, payload)

    run(write())
    told, proposed = f"It has key {key}.", None
    if waits:
        told, proposed = carry_out(settings, "recipient.add", f"{org_code} {key}", payload, propose=True)
    if json_:
        fields = {"org_code": org_code, "kid": key, "topic": exports_topic(org_code)}
        print_json(fields | ({"proposal_id": proposed} if proposed else {}))
    else:
        say(f"Recipient {org_code} is registered; its exports go to {exports_topic(org_code)}. {told}")


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every recipient."""
    found = run(_all(load_settings()))
    if json_:
        print_json(found)
        return
    rows = [(r.org_code, r.name, r.partner_id, r.active, ", ".join(r.kids), r.created_at) for r in found]
    print_table("Recipients", ("org code", "name", "partner", "active", "keys", "registered"), rows)


async def _all(settings: Settings) -> list[RegisteredRecipient]:
    async with RecipientsView.opened(postgres_dsn(settings)) as recipients:
        return await recipients.all()


@app.command()
@operated("recipient disable", _subject)
def disable(org_code: OrgArgument) -> None:
    """Hand a recipient nothing more: what is on its way becomes void."""
    dsn = postgres_dsn(load_settings())
    if not run(take_from_recipient(dsn, lambda r: r.set_active(org_code, active=False))):
        raise CliError(f"There is no recipient {org_code}.", ExitCode.NOT_FOUND)
    say(f"Recipient {org_code} is disabled.")


@app.command()
@operated("recipient enable", _subject)
def enable(org_code: OrgArgument, propose: Propose = False) -> None:
    """Hand a disabled recipient data again."""
    told, _ = carry_out(load_settings(), "recipient.enable", org_code, {"org_code": org_code}, propose=propose)
    say(told)


def _given_certificate(
    file: Annotated[
        Path | None, typer.Option("--file", help="Its new client certificate (PEM).", callback=there)
    ] = None,
) -> str | None:
    return None if file is None else _fingerprint(read_input(file))


@app.command()
@operated("recipient certificate", _subject, reads=_given_certificate)
def certificate(
    org_code: OrgArgument,
    read: str | None = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="It has none: the API refuses it.")] = False,
    propose: Propose = False,
) -> None:
    """Change the certificate that a recipient shows to the API; the one before is refused from now on."""
    if (read is None) is not withdraw:
        raise CliError("Give either --file or --withdraw.", ExitCode.USAGE)
    settings = load_settings()
    if read is not None:
        payload = {"org_code": org_code, "certificate_sha256": read}
        subject = f"{org_code} {read[:16]}"
        told, _ = carry_out(settings, "recipient.certificate", subject, payload, propose=propose)
        say(told)
        return

    if not run(take_from_recipient(postgres_dsn(settings), lambda r: r.set_certificate(org_code, None))):
        raise CliError(f"There is no recipient {org_code}.", ExitCode.NOT_FOUND)
    say(f"Recipient {org_code} has no certificate.")


@keys.command("add")
@operated("recipient key add", _subject, reads=_read_key)
def add_key(
    org_code: OrgArgument,
    read: GivenKey,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register another key: exports are encrypted to it from now on, and one that is on its way begins anew."""
    public, key = read
    payload = {"org_code": org_code, "kid": key, "jwk": public}
    told, proposed = carry_out(load_settings(), "recipient.key.add", f"{org_code} {key}", payload, propose=propose)
    if json_:
        print_json({"org_code": org_code, "kid": key} | ({"proposal_id": proposed} if proposed else {}))
    else:
        say(told)


@keys.command("disable")
@operated("recipient key disable", lambda *, org_code, kid, **_: f"{org_code} {kid}")
def disable_key(org_code: OrgArgument, kid: Annotated[str, typer.Argument(parser=key_id, metavar="KID")]) -> None:
    """Disable a key for ever, under each id that it has: nothing more is encrypted to it."""
    dsn, now = postgres_dsn(load_settings()), datetime.now(UTC)
    if run(take_from_recipient(dsn, lambda r: r.disable_key(org_code, kid, now=now))) is None:
        raise CliError(f"Recipient {org_code} has no key {kid}.", ExitCode.NOT_FOUND)
    say(f"Key {kid} is disabled.")


@keys.command("generate")
def generate(
    out: Annotated[Path, typer.Option(help="New file for the private key (JWK, mode 0600).", dir_okay=False)],
    public: Annotated[Path, typer.Option(help="File for the public key (JWK).", dir_okay=False)],
) -> None:
    """Make a key pair as a recipient would: to be handed data, and to open it."""
    made = ECKey.generate_key("P-256", {"use": "enc"})
    write_secret_file(out, json.dumps(made.as_dict(private=True)).encode())
    try:
        public.write_text(json.dumps(made.as_dict(private=False)))
    except BaseException:
        # A private half alone is of no use, and would be in the way of the next run.
        out.unlink(missing_ok=True)
        raise
    say(f"The private key is in {out}, the public one in {public}.")


def recipient_kid(org_code: str, key: Any) -> str:
    """The id of a recipient's key unless it was registered with another."""
    return f"{org_code}-{key.thumbprint()[:16]}"


def _fingerprint(pem: bytes) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CliError("This is no certificate in PEM.", ExitCode.USAGE) from None
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
