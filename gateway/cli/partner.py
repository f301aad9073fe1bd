"""``mypay partner …``: partners, the keys they sign with, and the topics their events go to."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.adapters.crypto.jwk import ALGORITHMS, KeyFormatError, generate_key, import_public, write_private_key
from gateway.adapters.kafka.admin import ensure_topics
from gateway.adapters.postgres.registry import HomeGroup, NewPartner, open_registry
from gateway.cli.arguments import PartnerArgument, key_id
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
)
from gateway.ports import PartnerKey
from gateway.settings import Settings
from schemas.primitives import PartnerId
from schemas.topics import concrete_topics, events_topic

app = typer.Typer(help="Partners and their signing keys.", no_args_is_help=True)
keys = typer.Typer(help="A partner's public keys.", no_args_is_help=True)
app.add_typer(keys, name="key")

_ALGORITHM_OF_CURVE: Final = {"P-256": "ES256", "Ed25519": "Ed25519"}

Group = Annotated[HomeGroup, typer.Option(help="The group that the partner belongs to.")]
Generate = Annotated[
    str | None, typer.Option("--generate-key", metavar="ES256|Ed25519", help="Make a key pair; needs --key-out.")
]
KeyOut = Annotated[Path | None, typer.Option(help="New file (PEM, mode 0600) for the private key.", dir_okay=False)]
Jwk = Annotated[Path | None, typer.Option(help="The partner's public key as JWK; - reads standard input.")]
Kid = Annotated[
    str | None, typer.Option(parser=key_id, metavar="KID", help="Id of the key. Default: from its RFC 7638 thumbprint.")
]


@app.command()
def add(
    partner: PartnerArgument,
    name: Annotated[str, typer.Option(help="Name for people.")],
    group: Group,
    generate: Generate = None,
    key_out: KeyOut = None,
    jwk: Jwk = None,
    kid: Kid = None,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Create the topic of its events.")] = True,
    json_: Json = False,
) -> None:
    """Register a partner, with a first key if one is given or made, and create the topic of its events."""
    settings = load_settings()
    key = _key(PartnerId(partner), generate, key_out, jwk, kid)
    new = NewPartner(PartnerId(partner), name, group)
    try:
        run(_register(settings, new, key, with_topic=topics))
    except BaseException:
        if generate and key_out:
            # Made a moment ago, and registered nowhere.
            key_out.unlink(missing_ok=True)
        raise
    if json_:
        print_json({"partner_id": partner, "kid": key and key.kid, "events_topic": events_topic(partner)})
        return
    say(f"Partner {partner} is registered; its events go to {events_topic(partner)}.")
    say_key(key, key_out)


@app.command("list")
def list_(json_: Json = False) -> None:
    """Show every partner."""
    settings = load_settings()

    async def read() -> list[Any]:
        async with open_registry(postgres_dsn(settings)) as registry:
            return await registry.partners()

    found = run(read())
    if json_:
        print_json(found)
        return
    rows = [(p.partner_id, p.name, p.home_group, p.active, p.live_keys, p.registered_at) for p in found]
    print_table("Partners", ("id", "name", "group", "active", "keys", "registered"), rows, right=("keys",))


@app.command()
def disable(partner: PartnerArgument) -> None:
    """Take no more orders from a partner: in every process within seconds. Payments under way go on."""
    _set_active(PartnerId(partner), active=False)


@app.command()
def enable(partner: PartnerArgument) -> None:
    """Take a disabled partner's orders again."""
    _set_active(PartnerId(partner), active=True)


@keys.command("add")
def add_key(
    partner: PartnerArgument,
    generate: Generate = None,
    key_out: KeyOut = None,
    jwk: Jwk = None,
    kid: Kid = None,
    json_: Json = False,
) -> None:
    """Register another key; the partner may sign with any of its keys."""
    key = register_key(partner, generate, key_out, jwk, kid)
    if json_:
        print_json({"partner_id": partner, "kid": key.kid})
    else:
        say_key(key, key_out)


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
def disable_key(
    partner: PartnerArgument, kid: Annotated[str, typer.Argument(parser=key_id, metavar="KID")], json_: Json = False
) -> None:
    """Disable a key for ever: in every process within seconds."""
    settings = load_settings()

    async def write() -> datetime | None:
        async with open_registry(postgres_dsn(settings)) as registry:
            return await registry.disable_key(PartnerId(partner), kid, now=datetime.now(UTC))

    since = run(write())
    if since is None:
        raise CliError(f"Partner {partner} has no key {kid}.", ExitCode.NOT_FOUND)
    if json_:
        print_json({"partner_id": partner, "kid": kid, "disabled_at": since})
    else:
        say(f"Key {kid} is disabled since {since:%Y-%m-%d %H:%M:%S} UTC.")


def register_key(
    partner: str, generate: str | None, key_out: Path | None, jwk: Path | None, kid: str | None
) -> PartnerKey:
    """Make or read a key and register it; a private key whose registration fails is not left behind."""
    settings = load_settings()
    key = _key(PartnerId(partner), generate, key_out, jwk, kid)
    if key is None:
        raise CliError("Name a key: --jwk FILE, or --generate-key with --key-out.", ExitCode.USAGE)
    try:
        run(_register(settings, None, key, with_topic=False))
    except BaseException:
        if generate and key_out:
            key_out.unlink(missing_ok=True)
        raise
    return key


def read_keys(partner: str) -> list[PartnerKey]:
    """A partner's keys, whatever their state, oldest first."""
    settings = load_settings()

    async def read() -> list[PartnerKey]:
        async with open_registry(postgres_dsn(settings)) as registry:
            return await registry.partner_keys(PartnerId(partner))

    return run(read())


async def _register(settings: Settings, new: NewPartner | None, key: PartnerKey | None, *, with_topic: bool) -> None:
    """Topic first: one too many does no harm, while a partner without one would hold up the relay."""
    if new is not None and with_topic:
        wanted = [
            t for t in concrete_topics(partners=[new.partner_id], networks=[]) if t.name == events_topic(new.partner_id)
        ]
        await ensure_topics(kafka(settings), wanted, replication_factor=settings.kafka_replication_factor, apply=True)
    async with open_registry(postgres_dsn(settings)) as registry, registry.transaction():
        if new is not None and not await registry.add_partners([new]):
            raise CliError(
                f"Partner {new.partner_id} is already registered.", hint="`mypay partner key add` adds keys."
            )
        if key is not None and not await registry.add_keys([key]):
            raise CliError(f"Key id {key.kid} is already in use.", hint="Give another one with --kid.")


def _set_active(partner: PartnerId, *, active: bool) -> None:
    settings = load_settings()

    async def write() -> bool:
        async with open_registry(postgres_dsn(settings)) as registry:
            return await registry.set_partner_active(partner, active=active)

    if not run(write()):
        raise CliError(f"There is no partner {partner}.", ExitCode.NOT_FOUND, hint="`mypay partner list` shows them.")
    say(f"Partner {partner} is {'enabled' if active else 'disabled'}.")


def default_kid(partner_id: str, public: Mapping[str, str], algorithm: str) -> str:
    """The id of a key unless told another: partner and RFC 7638 thumbprint."""
    return f"{partner_id}-{import_public(public, algorithm).thumbprint()[:16]}"


def _key(
    partner: PartnerId, generate: str | None, key_out: Path | None, jwk: Path | None, kid: str | None
) -> PartnerKey | None:
    """The key to register, or None where none was asked for."""
    if generate and jwk:
        raise CliError("Give either --generate-key or --jwk.", ExitCode.USAGE)
    if bool(generate) is not bool(key_out):
        raise CliError("--generate-key and --key-out belong together.", ExitCode.USAGE)
    if generate and key_out:
        if generate not in ALGORITHMS:
            raise CliError("--generate-key takes ES256 or Ed25519.", ExitCode.USAGE)
        algorithm = ALGORITHMS[generate]
        private, public = generate_key(algorithm)
        try:
            write_private_key(key_out, private)
        except FileExistsError:
            raise CliError(f"{key_out} exists; a key is never overwritten.") from None
    elif jwk:
        public, algorithm = _read_jwk(jwk)
    else:
        return None
    return PartnerKey(
        kid=kid or default_kid(partner, public, algorithm),
        partner_id=partner,
        algorithm=algorithm,
        jwk=public,
        valid_from=datetime.now(UTC),
        valid_until=None,
        disabled_at=None,
    )


def _read_jwk(path: Path) -> tuple[dict[str, str], str]:
    try:
        jwk = json.loads(read_input(path))
    except (ValueError, RecursionError):
        raise KeyFormatError("the JWK file is not JSON") from None
    algorithm = _ALGORITHM_OF_CURVE.get(jwk.get("crv", "")) if isinstance(jwk, dict) else None
    if algorithm is None:
        raise KeyFormatError("a signing key must be a JWK of curve P-256 or Ed25519")
    import_public(jwk, algorithm)
    # Nothing but the public members is kept, whatever else stands there.
    return {name: jwk[name] for name in ("kty", "crv", "x", "y") if name in jwk}, algorithm


def say_key(key: PartnerKey | None, key_out: Path | None) -> None:
    """Tell of a registered key, and where its private half is."""
    if key is not None:
        say(f"Key {key.kid} ({key.algorithm}) is registered.")
    if key_out is not None:
        say(f"The private key is in {key_out}; it is nowhere else.")
