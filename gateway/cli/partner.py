"""``mypay partner …``: partners, the keys they sign with, and the topics their events go to."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.cli.arguments import NewPartnerArgument, PartnerArgument, ValidUntil, end_of_key, key_id
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
from gateway.cli.registered import of_partner
from gateway.cli.topics_acl import grant_partner
from gateway.client import default_kid
from gateway.directory.partners import HomeGroup, NewPartner, PartnerKey
from gateway.identity.jose.jwk import ALGORITHMS, generate_key, write_private_key
from gateway.messaging.topics_admin import ensure_topics
from gateway.views.partners import PartnersView, RegisteredPartner
from schemas.primitives import PartnerId
from schemas.principals import ADMIN
from schemas.topics import concrete_topics, events_topic

app = typer.Typer(no_args_is_help=True)
keys = typer.Typer(help="A partner's public keys.", no_args_is_help=True)
app.add_typer(keys, name="key")

Group = Annotated[HomeGroup, typer.Option(help="The group that the partner belongs to.")]
KeyAlgorithm = Literal["ES256", "Ed25519", "EdDSA"]

Generate = Annotated[
    KeyAlgorithm | None,
    typer.Option("--generate-key", metavar="ES256|Ed25519", help="Make a key pair; needs --key-out."),
]
KeyOut = Annotated[Path | None, typer.Option(help="New file (PEM, mode 0600) for the private key.", dir_okay=False)]
Jwk = Annotated[
    Path | None,
    typer.Option(
        help="The partner's public key: a JWK, a JWKS of one key, or PEM; - reads standard input.", callback=there
    ),
]
Kid = Annotated[
    str | None,
    typer.Option(
        parser=key_id, metavar="KID", help="Id of the key. Default: the JWK's own, else of its RFC 7638 thumbprint."
    ),
]


def _partner(*, partner: str, **_: Any) -> str:
    return partner


def given_key(jwk: Jwk = None) -> PublicKey | None:
    """The public key that a command is given, if any; raises as :func:`read_public_key`."""
    return None if jwk is None else read_public_key(read_input(jwk))


@app.command()
@operated("partner add", _partner, reads=given_key)
def add(
    partner: NewPartnerArgument,
    name: Annotated[str, typer.Option(help="Name for people.")],
    group: Group,
    generate: Generate = None,
    key_out: KeyOut = None,
    read: PublicKey | None = None,
    kid: Kid = None,
    valid_until: ValidUntil = None,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Create the topic of its events.")] = True,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register a partner, with a first key if one is given or made, and create the topic of its events.

    On a secured cluster (MYPAY_KAFKA_SECURITY_PROTOCOL) also its Kafka user, access rules and quota.
    """
    settings = load_settings()
    key = _key(PartnerId(partner), generate, key_out, read, kid, valid_until)
    new = NewPartner(PartnerId(partner), name, group)
    proposed: UUID | None = None
    try:
        users = run(_register(settings, new, with_topic=topics))
        if key is not None:
            told, proposed = _grant_key(settings, key, propose=propose)
    except BaseException:
        if generate and key_out:
            # Made a moment ago, and registered nowhere.
            key_out.unlink(missing_ok=True)
        raise
    if json_:
        fields = {
            "partner_id": partner,
            "kid": key and key.kid,
            "events_topic": events_topic(partner),
            "kafka_users": users,
        }
        print_json(fields | ({"proposal_id": proposed} if proposed else {}))
        return
    say(f"Partner {partner} is registered; its events go to {events_topic(partner)}.")
    for user in users:
        say(f"Its Kafka user {user} is made; the password is in the folder of Kafka's credentials, and nowhere else.")
    if key is not None:
        say_key(told, key_out)


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every partner."""
    settings = load_settings()

    async def read() -> list[RegisteredPartner]:
        async with PartnersView.opened(postgres_dsn(settings)) as partners:
            return await partners.all()

    found = run(read())
    if json_:
        print_json(found)
        return
    rows = [(p.partner_id, p.name, p.home_group, p.active, p.live_keys, p.registered_at) for p in found]
    print_table("Partners", ("id", "name", "group", "active", "keys", "registered"), rows, right=("keys",))


@app.command()
@operated("partner disable", _partner)
def disable(partner: PartnerArgument) -> None:
    """Take no more orders from a partner: in every process within seconds. Payments under way go on."""
    settings = load_settings()

    async def write() -> bool:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.directory.set_partner_active(PartnerId(partner), active=False)

    if not run(write()):
        raise CliError(f"There is no partner {partner}.", ExitCode.NOT_FOUND, hint="`mypay partner list` shows them.")
    say(f"Partner {partner} is disabled.")


@app.command()
@operated("partner enable", _partner)
def enable(partner: PartnerArgument, propose: Propose = False) -> None:
    """Take a disabled partner's orders again."""
    told, _ = carry_out(load_settings(), "partner.enable", partner, {"partner_id": partner}, propose=propose)
    say(told)


@keys.command("add")
@operated("partner key add", _partner, reads=given_key)
def add_key(
    partner: PartnerArgument,
    generate: Generate = None,
    key_out: KeyOut = None,
    read: PublicKey | None = None,
    kid: Kid = None,
    valid_until: ValidUntil = None,
    propose: Propose = False,
    json_: Json = False,
) -> None:
    """Register another key; the partner may sign with any of its keys."""
    key, told, proposed = register_key(partner, generate, key_out, read, kid, valid_until, propose=propose)
    if json_:
        print_json({"partner_id": partner, "kid": key.kid} | ({"proposal_id": proposed} if proposed else {}))
    else:
        say_key(told, key_out)


@keys.command("list")
def list_keys(partner: PartnerArgument, json_: Json = False) -> None:
    """Show a partner's keys, whatever their state."""
    found = read_keys(partner)
    if json_:
        print_json(found)
        return
    rows = [(k.kid, k.algorithm, k.valid_from, k.valid_until, k.disabled_at) for k in found]
    print_table(f"Keys of {partner}", ("kid", "algorithm", "valid from", "until", "disabled"), rows)


@keys.command("disable")
@operated("partner key disable", lambda *, partner, kid, **_: f"{partner} {kid}")
def disable_key(
    partner: PartnerArgument, kid: Annotated[str, typer.Argument(parser=key_id, metavar="KID")], json_: Json = False
) -> None:
    """Disable a key for ever, under each id that it has: in every process within seconds."""
    settings = load_settings()

    async def write() -> datetime | None:
        async with open_registries(postgres_dsn(settings)) as registries:
            return await registries.directory.disable_key(PartnerId(partner), kid, now=datetime.now(UTC))

    since = run(write())
    if since is None:
        raise CliError(f"Partner {partner} has no key {kid}.", ExitCode.NOT_FOUND)
    if json_:
        print_json({"partner_id": partner, "kid": kid, "disabled_at": since})
    else:
        say(f"Key {kid} is disabled since {since:%Y-%m-%d %H:%M:%S} UTC.")


def register_key(
    partner: str,
    generate: KeyAlgorithm | None,
    key_out: Path | None,
    given: PublicKey | None,
    kid: str | None,
    valid_until: datetime | None,
    *,
    propose: bool,
) -> tuple[PartnerKey, str, UUID | None]:
    """Make a key, or take the given one, and register or propose it. A private key is not left behind where that fails.

    Returns:
        The key, a sentence for people, and the proposal's id if it was only proposed.
    """
    settings = load_settings()
    key = _key(PartnerId(partner), generate, key_out, given, kid, valid_until)
    if key is None:
        raise CliError("Name a key: --jwk FILE, or --generate-key with --key-out.", ExitCode.USAGE)
    try:
        told, proposed = _grant_key(settings, key, propose=propose)
    except BaseException:
        if generate and key_out:
            key_out.unlink(missing_ok=True)
        raise
    return key, told, proposed


def _grant_key(settings: Settings, key: PartnerKey, *, propose: bool) -> tuple[str, UUID | None]:
    subject = f"{key.partner_id} {key.kid}"
    return carry_out(settings, "partner.key.add", subject, key_payload(key), propose=propose)


def read_keys(partner: str) -> list[PartnerKey]:
    """A partner's keys, whatever their state, oldest first.

    Raises:
        CliError: there is no such partner.
    """
    dsn = postgres_dsn(load_settings())

    async def read() -> list[PartnerKey]:
        async with PartnersView.opened(dsn) as partners:
            return await of_partner(dsn, partner, await partners.keys(PartnerId(partner)))

    return run(read())


async def _register(settings: Settings, new: NewPartner, *, with_topic: bool) -> list[str]:
    """Topic first: one too many does no harm, while a partner without one would hold up the relay.

    Returns the Kafka users that were made.
    """
    users: list[str] = []
    if with_topic:
        wanted = [
            t for t in concrete_topics(partners=[new.partner_id], networks=[]) if t.name == events_topic(new.partner_id)
        ]
        cluster = kafka(settings, ADMIN)
        await ensure_topics(cluster, wanted, replication_factor=settings.kafka_replication_factor, apply=True)
        users = await grant_partner(settings, new.partner_id)
    async with open_registries(postgres_dsn(settings)) as registries:
        if not await registries.directory.add_partners([new]):
            raise CliError(
                f"Partner {new.partner_id} is already registered.", hint="`mypay partner key add` adds keys."
            )
    return users


def _key(
    partner: PartnerId,
    generate: KeyAlgorithm | None,
    key_out: Path | None,
    given: PublicKey | None,
    kid: str | None,
    valid_until: datetime | None,
) -> PartnerKey | None:
    """The key to register, or None where none was asked for."""
    now = datetime.now(UTC)
    end = end_of_key(valid_until, now=now)
    if generate and given:
        raise CliError("Give either --generate-key or --jwk.", ExitCode.USAGE)
    if bool(generate) is not bool(key_out):
        raise CliError("--generate-key and --key-out belong together.", ExitCode.USAGE)
    if generate and key_out:
        algorithm = ALGORITHMS[generate]
        private, public = generate_key(algorithm)
        try:
            write_private_key(key_out, private)
        except FileExistsError:
            raise CliError(f"{key_out} exists; a key is never overwritten.") from None
    elif given:
        public, algorithm, own_kid = given
        kid = kid or own_kid
    elif end is not None:
        raise CliError("--valid-until is the end of a key: give --jwk, or --generate-key.", ExitCode.USAGE)
    else:
        return None
    return PartnerKey(
        kid=kid or default_kid(partner, public, algorithm),
        partner_id=partner,
        algorithm=algorithm,
        jwk=public,
        valid_from=now,
        valid_until=end,
        disabled_at=None,
    )


def say_key(told: str, key_out: Path | None) -> None:
    """Tell of a registered or proposed key, and where its private half is."""
    say(told)
    if key_out is not None:
        say(f"The private key is in {key_out}; it is nowhere else.")
