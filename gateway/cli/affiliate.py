"""``mypay affiliate …``: who may be given payments of customers who agree, for which use, and who approved that."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError

from gateway.app.registries import disable_affiliate, open_registries
from gateway.cli.arguments import LegalBasis, ValidUntil, end_of_key, key_id
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
from gateway.cli.operations import Propose, carry_out, key_payload
from gateway.cli.public_keys import PublicKey, read_public_key
from gateway.client import default_kid
from gateway.directory.partners import HomeGroup, PartnerKey
from gateway.messaging.topics_admin import ensure_topics
from gateway.views.affiliates import AffiliatesView, RegisteredAffiliate
from schemas.consents import ScopeName
from schemas.primitives import PartnerId
from schemas.principals import ADMIN
from schemas.sharing import SharingUse
from schemas.topics import concrete_topics, offers_topic, sharing_topic

app = typer.Typer(no_args_is_help=True)
keys = typer.Typer(help="Keys that an affiliate signs its confirmations with.", no_args_is_help=True)
app.add_typer(keys, name="key")

_ID: TypeAdapter[str] = TypeAdapter(ScopeName)


def affiliate_id(text: str) -> str:
    """An affiliate's id, as consents name it."""
    try:
        return _ID.validate_python(text)
    except ValidationError:
        raise typer.BadParameter("an affiliate id has small letters, digits, '.', '_' and '-', up to 64") from None


AffiliateArgument = Annotated[str, typer.Argument(parser=affiliate_id, metavar="AFFILIATE", help="The affiliate's id.")]
UseArgument = Annotated[SharingUse, typer.Argument(help="What the data may be used for.")]
Jwk = Annotated[
    Path,
    typer.Option(help="Its public key: a JWK, a JWKS of one key, or PEM; - reads standard input.", callback=there),
]
Kid = Annotated[
    str | None, typer.Option(parser=key_id, metavar="KID", help="Default: the JWK's, or of its thumbprint.")
]


def _subject(*, affiliate: str, **_: Any) -> str:
    return affiliate


@app.command()
@operated("affiliate add", _subject)
def add(
    affiliate: AffiliateArgument,
    name: Annotated[str, typer.Option(help="Name for people.")],
    group: Annotated[HomeGroup, typer.Option(help="The group that it belongs to.")],
    topics: Annotated[
        bool, typer.Option("--topics/--no-topics", help="Create the topics of its shares and offers.")
    ] = True,
    json_: Json = False,
) -> None:
    """Register an affiliate and create the topics of its shares and offers. No use is approved yet.

    Without the topics, make them before a use is approved (`mypay topics apply`): their events would wait for them.
    """
    settings = load_settings()

    async def write() -> bool:
        # Topic first: one too many does no harm, while an affiliate without one would hold up its shares.
        if topics:
            own = {sharing_topic(affiliate), offers_topic(affiliate)}
            wanted = [t for t in concrete_topics(partners=[], networks=[], affiliates=[affiliate]) if t.name in own]
            cluster = kafka(settings, ADMIN)
            await ensure_topics(cluster, wanted, replication_factor=settings.kafka_replication_factor, apply=True)
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.affiliates.add(affiliate, name, group)

    if not run(write()):
        raise CliError(f"Affiliate {affiliate} is already registered.")
    if json_:
        print_json({"affiliate_id": affiliate, "topic": sharing_topic(affiliate)})
    else:
        say(f"Affiliate {affiliate} is registered; its shares go to {sharing_topic(affiliate)}.")


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every affiliate, with what is approved for it."""
    settings = load_settings()

    async def read() -> list[RegisteredAffiliate]:
        async with AffiliatesView.opened(postgres_dsn(settings)) as affiliates:
            return await affiliates.all()

    found = run(read())
    if json_:
        print_json(found)
        return
    rows = [(a.affiliate_id, a.name, a.home_group, a.active, ", ".join(a.approved), ", ".join(a.kids)) for a in found]
    print_table("Affiliates", ("id", "name", "group", "active", "approved for", "keys"), rows)


@app.command()
@operated("affiliate approve", lambda *, affiliate, use, **_: f"{affiliate} {use}")
def approve(
    affiliate: AffiliateArgument,
    use: UseArgument,
    legal_basis: LegalBasis,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Let an affiliate be given data for one use, of customers who agree to it. Whoever approves is told with it."""
    payload = {"affiliate_id": affiliate, "use": use.value, "legal_basis": legal_basis}
    told, proposed = carry_out(load_settings(), "affiliate.approve", f"{affiliate} {use}", payload, propose=propose)
    _tell(told, payload, proposed, json_=json_)


@app.command()
@operated("affiliate withdraw", lambda *, affiliate, use, **_: f"{affiliate} {use}")
def withdraw(affiliate: AffiliateArgument, use: UseArgument) -> None:
    """Give an affiliate nothing for this use any more."""
    settings = load_settings()

    async def write() -> bool:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.affiliates.withdraw(affiliate, use, now=datetime.now(UTC))

    if not run(write()):
        raise CliError(f"{use} was not approved for {affiliate}.", ExitCode.NOT_FOUND)
    say(f"{affiliate} is given nothing for {use} any more.")


@app.command()
@operated("affiliate disable", _subject)
def disable(affiliate: AffiliateArgument) -> None:
    """Give an affiliate nothing more."""
    settings = load_settings()

    if not run(disable_affiliate(postgres_dsn(settings), affiliate)):
        raise CliError(f"There is no affiliate {affiliate}.", ExitCode.NOT_FOUND)
    say(f"Affiliate {affiliate} is disabled.")


@app.command()
@operated("affiliate enable", _subject)
def enable(affiliate: AffiliateArgument, propose: Propose = False) -> None:
    """Give a disabled affiliate shares again."""
    payload = {"affiliate_id": affiliate}
    told, _ = carry_out(load_settings(), "affiliate.enable", affiliate, payload, propose=propose)
    say(told)


def _given_key(jwk: Jwk) -> PublicKey:
    return read_public_key(read_input(jwk))


@keys.command("add")
@operated("affiliate key add", _subject, reads=_given_key)
def add_key(
    affiliate: AffiliateArgument,
    read: PublicKey,
    kid: Kid = None,
    valid_until: ValidUntil = None,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register a public key: what it signs confirms, in the affiliate's name, that data was erased."""
    now = datetime.now(UTC)
    public, algorithm, own_kid = read
    owner = PartnerId(affiliate)
    key = PartnerKey(
        kid=kid or own_kid or default_kid(owner, public, algorithm),
        partner_id=owner,
        algorithm=algorithm,
        jwk=public,
        valid_from=now,
        valid_until=end_of_key(valid_until, now=now),
        disabled_at=None,
    )
    subject = f"{affiliate} {key.kid}"
    told, proposed = carry_out(load_settings(), "affiliate.key.add", subject, key_payload(key), propose=propose)
    _tell(told, {"affiliate_id": affiliate, "kid": key.kid}, proposed, json_=json_)


@keys.command("disable")
@operated("affiliate key disable", lambda *, affiliate, kid, **_: f"{affiliate} {kid}")
def disable_key(
    affiliate: AffiliateArgument,
    kid: Annotated[str, typer.Argument(parser=key_id, metavar="KID")],
    json_: Json = False,
) -> None:
    """Disable a key for ever, under each id that it has: in every process within seconds."""
    settings = load_settings()

    async def write() -> datetime | None:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.affiliates.disable_key(affiliate, kid, now=datetime.now(UTC))

    since = run(write())
    if since is None:
        raise CliError(f"Affiliate {affiliate} has no key {kid}.", ExitCode.NOT_FOUND)
    if json_:
        print_json({"affiliate_id": affiliate, "kid": kid, "disabled_at": since})
    else:
        say(f"Key {kid} is disabled since {since:%Y-%m-%d %H:%M:%S} UTC.")


def _tell(told: str, fields: dict[str, Any], proposed: UUID | None, *, json_: bool) -> None:
    if json_:
        print_json(fields | ({"proposal_id": proposed} if proposed else {}))
    else:
        say(told)
