"""``mypay auth …``: identity providers that the gateway trusts, and which of their customers are which of ours."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from gateway.app.policy import digest_of
from gateway.app.registries import open_registries
from gateway.app.settings import Settings
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import SilentObserver
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
    say_if_cut,
)
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.database.errors import NoTablesError
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.identity.jose.trust_files import read_trust_files
from gateway.identity.store import IdentityLink, IssuerKey
from gateway.views.identities import IdentitiesView
from schemas.primitives import CustomerId, CustomerIdField
from schemas.wording import told

app = typer.Typer(no_args_is_help=True)
links = typer.Typer(help="Identities linked to customers.", no_args_is_help=True)
app.add_typer(links, name="links")
policy = typer.Typer(help="The trust policy: providers, levels, exemptions.", no_args_is_help=True)
app.add_typer(policy, name="policy")

_CUSTOMER: TypeAdapter[CustomerId] = TypeAdapter(CustomerIdField)


def _customer(text: str) -> CustomerId:
    try:
        return _CUSTOMER.validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(told(error.errors(include_input=False)[0])) from None


Issuer = Annotated[str, typer.Argument(metavar="ISSUER", help="The provider's iss, as `mypay auth issuers` shows it.")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="The customer's sub at that provider.")]
Customer = Annotated[CustomerId, typer.Argument(metavar="CUSTOMER", parser=_customer)]
SomeCustomer = Annotated[CustomerId | None, typer.Option("--customer", metavar="CUSTOMER", parser=_customer)]


@app.command()
def issuers(json_: Json = False) -> None:
    """Show the trusted providers with their keys, read now. Running processes read them again by themselves."""
    rows, warning = run(_issuers(load_settings()))
    if json_:
        print_json(rows)
        return
    print_table(
        "Identity providers",
        ("issuer", "group", "keys", "key set"),
        [
            (
                r["issuer"],
                r["group"],
                "\n".join(f"{k['kid']} {k['algorithm']} {k['state']}" for k in r["keys"]),
                r["problem"] or "read",
            )
            for r in rows
        ],
    )
    if warning:
        say(warning)


@app.command("revoke-key")
@operated("auth revoke-key", lambda *, issuer, kid, **_: f"{issuer} {kid}")
def revoke_key(issuer: Issuer, kid: Annotated[str, typer.Argument(metavar="KID")], json_: Json = False) -> None:
    """Revoke a provider's key for ever: within seconds no process accepts what it signed, whatever its key set says."""
    settings = load_settings()
    _must_be_trusted(settings, issuer)
    revoked = run(_revoke(settings, issuer, kid))
    if json_:
        print_json({"issuer": issuer, "kid": kid, "revoked_now": revoked})
    else:
        say(f"Key {kid} of {issuer} is revoked." if revoked else f"Key {kid} of {issuer} was revoked before.")


@links.command("list")
def list_(
    customer: SomeCustomer = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also links that no longer stand.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows at most.")] = 1000,
    json_: Json = False,
) -> None:
    """Show who is linked to whom, and since when."""
    found = run(_links(load_settings(), customer, ended=ended, limit=limit))
    say_if_cut(found, limit)
    if json_:
        print_json(found)
        return
    print_table(
        "Identity links",
        ("customer", "issuer", "subject", "linked", "unlinked"),
        [(i.customer_id, i.issuer, i.subject, i.linked_at, i.unlinked_at) for i in found],
    )


@links.command("add")
@operated("auth links add", lambda *, issuer, customer, **_: f"{customer} at {issuer}")
def add(issuer: Issuer, subject: Subject, customer: Customer, propose: Propose = False, json_: Json = False) -> None:
    """Link an identity to a customer. One customer may have identities at providers of both groups."""
    settings = load_settings()
    _must_be_trusted(settings, issuer)
    payload = {"issuer": issuer, "subject": subject, "customer_id": customer}
    told, proposed = carry_out(settings, "auth.link.add", f"{customer} at {issuer}", payload, propose=propose)
    if json_:
        print_json({**payload, "proposal_id": proposed})
    else:
        say(told)


@links.command("remove")
@operated("auth links remove", lambda *, issuer, **_: issuer)
def remove(issuer: Issuer, subject: Subject, json_: Json = False) -> None:
    """End an identity's link; it stays in the history. Orders that rely on it are refused from now on."""
    customer = run(_remove(load_settings(), issuer, subject))
    if customer is None:
        raise CliError("This identity is not linked.", ExitCode.NOT_FOUND, hint="`mypay auth links list` shows them.")
    if json_:
        print_json({"issuer": issuer, "subject": subject, "customer_id": customer})
    else:
        say(f"The identity is no longer linked to customer {customer}.")


@policy.command("show")
def show_policy(json_: Json = False) -> None:
    """Compare the trust policy here with the one that counts. Processes with another do not start."""
    settings = load_settings()
    here = digest_of(settings)
    applied = run(_applied(settings))
    told = {
        "here": here,
        "asks_for_proofs": not settings.allow_no_proof,
        "counts": applied and applied[0],
        "counts_since": applied and applied[1],
        "same": applied is not None and applied[0] == here,
    }
    if json_:
        print_json(told)
        return
    print_table("Trust policy", ("", ""), [(name.replace("_", " "), value) for name, value in told.items()])


@policy.command("apply")
@operated("auth policy apply", lambda **_: "trust policy")
def apply_policy(propose: Propose = False, json_: Json = False) -> None:
    """Let the trust policy here count: the providers and rules of MYPAY_ISSUERS_DIR, or that no proof is asked for.

    To change it: put the new files on every machine, then run this. Processes that run go on with the old policy until
    then and take the new one up within seconds; one that is started with another than the one that counts does not
    start. What revokes a key counts at once.
    """
    settings = load_settings()
    here = digest_of(settings)
    applied = run(_applied(settings))
    if needs_two(settings, propose=propose) and (applied is None or applied[0] != here):
        payload = {"digest": here, "asks_for_proofs": not settings.allow_no_proof}
        told, proposed = carry_out(settings, "auth.policy.apply", f"trust policy {here[:12]}", payload, propose=True)
        if json_:
            print_json({**payload, "changed": False, "proposal_id": proposed})
        else:
            say(told)
        return
    changed = run(_apply(settings, here))
    if json_:
        print_json({"digest": here, "changed": changed, "asks_for_proofs": not settings.allow_no_proof})
        return
    say(f"The trust policy {here[:12]} counts from now on." if changed else "This trust policy counts already.")
    if settings.allow_no_proof:
        say("It asks for no customer's proof: whoever signs as a partner can pay under any of its consents.")


async def _applied(settings: Settings) -> tuple[str, datetime] | None:
    async with IdentitiesView.opened(postgres_dsn(settings)) as identities:
        return await identities.applied_policy()


async def _apply(settings: Settings, digest: str) -> bool:
    async with open_registries(postgres_dsn(settings)) as registries:
        return await registries.identities.apply_policy(digest)


def _folder(settings: Settings) -> Path:
    if settings.issuers_dir is None:
        raise CliError(
            "No identity providers are configured.",
            ExitCode.USAGE,
            hint="Set MYPAY_ISSUERS_DIR, e.g. to deploy/issuers.",
        )
    return settings.issuers_dir


def _must_be_trusted(settings: Settings, issuer: str) -> None:
    if issuer not in read_trust_files(_folder(settings)).issuers:
        raise CliError(
            f"There is no issuer {issuer} in {_folder(settings)}.",
            ExitCode.NOT_FOUND,
            hint="`mypay auth issuers` shows them.",
        )


async def _issuers(settings: Settings) -> tuple[list[dict[str, Any]], str]:
    revoked, warning = await _revoked(settings)

    async def revocations() -> frozenset[tuple[str, str]]:
        return revoked

    table = CachedTrustTable(_folder(settings), SilentObserver(), revocations=revocations)
    try:
        await table.load()
        now = datetime.now(UTC)
        rows = [
            {
                "issuer": entry.issuer,
                "group": entry.home_group,
                "audience": entry.audience,
                "levels": entry.levels,
                "operations": sorted(o.value for o in entry.operations),
                "keys": [
                    {"kid": k.kid, "algorithm": k.algorithm, "state": _state(k, now)}
                    for k in table.keys_of(entry.issuer)
                ],
                "problem": table.problem(entry.issuer),
            }
            for entry in table.issuers()
        ]
    finally:
        await table.stop()
    return rows, warning


async def _revoked(settings: Settings) -> tuple[frozenset[tuple[str, str]], str]:
    try:
        async with IdentitiesView.opened(postgres_dsn(settings)) as identities:
            return await identities.revoked_keys(), ""
    except (CliError, StoreUnavailableError):
        return frozenset(), "The database cannot be reached: keys that operators revoked are not marked."
    except NoTablesError:
        return frozenset(), "The database has not our tables (`mypay migrate`): no operator has revoked a key."


def _state(key: IssuerKey, now: datetime) -> str:
    if key.revoked:
        return "revoked"
    if key.valid_from is not None and now < key.valid_from:
        return "not yet valid"
    if key.valid_until is not None and now >= key.valid_until:
        return "expired"
    return "valid"


async def _revoke(settings: Settings, issuer: str, kid: str) -> bool:
    async with open_registries(postgres_dsn(settings)) as registries:
        return await registries.identities.revoke_key(issuer, kid, now=datetime.now(UTC))


async def _links(settings: Settings, customer: CustomerId | None, *, ended: bool, limit: int) -> list[IdentityLink]:
    async with IdentitiesView.opened(postgres_dsn(settings)) as identities:
        return await identities.links(customer, ended=ended, limit=limit)


async def _remove(settings: Settings, issuer: str, subject: str) -> CustomerId | None:
    async with open_registries(postgres_dsn(settings)) as registries:
        return await registries.identities.unlink(issuer, subject, now=datetime.now(UTC))
