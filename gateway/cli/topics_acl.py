"""``mypay topics acl``: who may do what on the brokers, for Kafka's tools, compared with the cluster, applied."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.app.addresses import kafka_address
from gateway.app.kafka import password_file, read_password
from gateway.app.settings import Settings
from gateway.cli.arguments import OnlyPartnersOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    kafka,
    load_settings,
    postgres_dsn,
    print_json,
    run,
    say,
)
from gateway.messaging.access import AccessReport, ensure_access, scram_users, set_passwords
from gateway.messaging.settings import KafkaSettings
from gateway.network.iso8583.config import load_networks
from gateway.sealing.files import write_secret_file
from gateway.views.affiliates import AffiliatesView
from gateway.views.partners import PartnersView
from gateway.views.recipients import RecipientsView
from schemas.access import Acl, Quota, acls, partner_acls, quotas, shell_script
from schemas.principals import ADMIN, Principal, Role, principals

_PASSWORD_BYTES: Final = 32


def command(
    print_: Annotated[
        bool, typer.Option("--print", help="Print a script of kafka-acls.sh and kafka-configs.sh.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Add the rules, quotas and SCRAM users that are missing.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="With --apply: remove rules of our principals and topics that are in no table."),
    ] = False,
    renew: Annotated[
        list[str] | None,
        typer.Option(metavar="PRINCIPAL", help="With --apply: give these users new passwords, and their files."),
    ] = None,
    partner: OnlyPartnersOption = None,
    json_: Json = False,
) -> None:
    """Compare the cluster's access rules with the topic table; the exit code is 0 when all is as it should be, else 1.

    Runs as mypay-admin, who is one of the brokers' super.users. Where MYPAY_KAFKA_CREDENTIALS_DIR is set and users log
    in with SCRAM, --apply makes the users that are missing, with new passwords in files of that folder.
    """
    if prune and (partner or not apply):
        raise CliError("--prune goes with --apply, and not with --partner.", ExitCode.USAGE)
    if renew and not apply:
        raise CliError("--renew goes with --apply.", ExitCode.USAGE)
    if print_ and apply:
        raise CliError("Give either --print or --apply.", ExitCode.USAGE)
    settings = load_settings()
    partners = partner or run(_partners(settings))
    networks = list(load_networks(settings.networks_dir))
    recipients = [] if partner else run(_recipients(settings))
    affiliates = [] if partner else run(_affiliates(settings))
    rules, limits = _rules(partners, networks, recipients, affiliates)
    if print_:
        typer.echo(shell_script(rules, limits), nl=False)
        return
    cluster = kafka(settings, ADMIN)
    everybody = principals(partners=partners, networks=networks, recipients=recipients, affiliates=affiliates)
    names = [p.name for p in everybody]
    if strangers := set(renew or ()) - {*names, ADMIN}:
        raise CliError(f"No principal is called {', '.join(sorted(strangers))}.", ExitCode.NOT_FOUND)
    made = run(make_users(cluster, _credentials(settings), names)) if apply else []
    report = run(ensure_access(cluster, rules, limits, apply=apply, prune=prune, whole=not partner))
    if renew:
        # Last: this very command may have the administrator's old one.
        run(renew_passwords(cluster, _credentials(settings), renew))
        made += renew
    _tell(report, made, json_=json_)
    if not report.as_it_should_be:
        raise typer.Exit(ExitCode.FAILED)


async def wanted_access(settings: Settings) -> tuple[list[Acl], list[Quota]]:
    """Rules and quotas for everybody who is registered and every configured network."""
    partners, recipients, affiliates = (
        await _partners(settings),
        await _recipients(settings),
        await _affiliates(settings),
    )
    return _rules(partners, list(load_networks(settings.networks_dir)), recipients, affiliates)


def _rules(
    partners: Sequence[str], networks: Sequence[str], recipients: Sequence[str], affiliates: Sequence[str]
) -> tuple[list[Acl], list[Quota]]:
    rules = acls(partners=partners, networks=networks, recipients=recipients, affiliates=affiliates)
    return list(rules), quotas(partners=partners, recipients=recipients, affiliates=affiliates)


async def grant_partner(settings: Settings, partner_id: str) -> list[str]:
    """Rules, quota and SCRAM user of one partner; returns the users made. Nothing where the cluster is not secured."""
    cluster = kafka(settings, ADMIN)
    if cluster.security_protocol == "PLAINTEXT":
        return []
    made = await make_users(cluster, _credentials(settings), [Principal(Role.PARTNER, partner_id).name])
    await ensure_access(cluster, partner_acls(partner_id), quotas(partners=[partner_id]), apply=True, whole=False)
    return made


async def make_users(cluster: KafkaSettings, credentials: Path | None, names: Sequence[str]) -> list[str]:
    """Make those SCRAM users that the cluster has not, each with its password file; returns their names.

    A file that is there already is what the user gets: a user that was lost comes back with the password it had.
    """
    if (
        credentials is None
        or cluster.sasl_mechanism != "SCRAM-SHA-512"
        or not cluster.security_protocol.startswith("SASL")
    ):
        return []
    present = await scram_users(cluster)
    missing = [name for name in names if name not in present]
    passwords: dict[str, str] = {}
    for name in missing:
        path = password_file(credentials, name)
        if not path.exists():
            write_secret_file(path, secrets.token_urlsafe(_PASSWORD_BYTES).encode() + b"\n")
        passwords[name] = read_password(credentials, name).get_secret_value()
    await set_passwords(cluster, passwords)
    return missing


async def renew_passwords(cluster: KafkaSettings, credentials: Path | None, names: Sequence[str]) -> None:
    """Give SCRAM users new passwords. What is connected stays so until the brokers ask again, or the process does.

    The new password is on disk before the cluster has it, in ``<principal>.password.new``: a run that is killed between
    the two leaves both.

    Raises:
        CliError: no folder of passwords is known.
    """
    if credentials is None:
        raise CliError("MYPAY_KAFKA_CREDENTIALS_DIR names no folder for the new passwords.", ExitCode.USAGE)
    for name in names:
        path = password_file(credentials, name)
        coming = path.with_name(f"{path.name}.new")
        coming.unlink(missing_ok=True)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        write_secret_file(coming, password.encode() + b"\n")
        await set_passwords(cluster, {name: password})
        coming.replace(path)


def _credentials(settings: Settings) -> Path | None:
    at = kafka_address(settings)
    return None if at is None else at.credentials


async def _partners(settings: Settings) -> list[str]:
    async with PartnersView.opened(postgres_dsn(settings)) as registered:
        return [p.partner_id for p in await registered.all()]


async def _recipients(settings: Settings) -> list[str]:
    async with RecipientsView.opened(postgres_dsn(settings)) as view:
        return [r.org_code for r in await view.all()]


async def _affiliates(settings: Settings) -> list[str]:
    async with AffiliatesView.opened(postgres_dsn(settings)) as view:
        return [a.affiliate_id for a in await view.all()]


def _tell(report: AccessReport, users: Sequence[str], *, json_: bool) -> None:
    if json_:
        print_json({"report": report, "users": users})
        return
    for user in users:
        typer.echo(f"user      {user}")
    for kind in ("added", "removed", "missing", "extra", "differing"):
        for line in getattr(report, kind):
            typer.echo(f"{kind:<9} {line}")
    for line in report.open_to_others:
        typer.echo(f"open      {line}: reaches what is ours; remove it if it should not")
    counts = ", ".join(f"{len(getattr(report, k))} {k}" for k in ("added", "removed", "missing", "extra"))
    say(f"{report.present} rules were there; {counts}.")
