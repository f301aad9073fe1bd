"""``mypay doctor``: everything that the gateway stands on, looked at from this machine: what is wrong, what to do."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

import typer

from gateway.app.addresses import kafka_address, postgres_address
from gateway.app.belonging import refuse_another
from gateway.app.disclosure import root_signer
from gateway.app.errors import NotConfiguredError
from gateway.app.fitness import look_as
from gateway.app.kafka import kafka_settings
from gateway.app.keys import Ring, load_ring, ring_folder
from gateway.app.policy import digest_of
from gateway.app.portability import receipt_key
from gateway.app.settings import Settings
from gateway.base import build
from gateway.base.errors import StoreUnavailableError
from gateway.cli.common import ExitCode, Json, load_settings, postgres_dsn, print_json, print_table, run, say, shown
from gateway.cli.explaining import explain, is_known
from gateway.cli.topics import wanted_topics
from gateway.cli.topics_acl import wanted_access
from gateway.database.dsn import DsnError, place_of
from gateway.database.roles import Role
from gateway.messaging.access import ensure_access
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicState, TopicStatus, ensure_topics
from gateway.network.iso8583.config import NetworkConfig, load_networks
from gateway.sealing.certificates import CertificateError, ends_at
from gateway.sealing.key_ring import ring_ids
from gateway.views.affiliates import AffiliatesView
from gateway.views.identities import IdentitiesView
from gateway.views.kafka_cluster import KafkaClusterView
from gateway.views.tokens import TokensView
from schemas.principals import ADMIN, Principal
from schemas.principals import Role as Party

_PROBE_S: Final = 5.0
_CLOCK_S: Final = 2.0
"""Orders and proofs are judged by the clock: their tolerances are larger, and partners' clocks are wrong, too."""
_EXPIRES_SOON: Final = timedelta(days=30)


@unique
class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "not looked at"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``detail``: what was found; ``todo``: what to do about it."""

    check: str
    subject: str
    state: State
    detail: str = ""
    todo: str = ""


def command(json_: Json = False) -> None:
    """Look at settings, keys, certificates, Kafka, PostgreSQL and clocks: what is wrong, and what to do.

    Nothing is changed. The exit code is 0 where nothing is wrong (warnings apart), else 1.
    """
    findings = run(_examine())
    if json_:
        print_json([{name: getattr(f, name) for name in Finding.__slots__} for f in findings])
    else:
        rows = [(f.state, f.check, f.subject, f.detail, f.todo) for f in findings]
        print_table("Looked at", ("", "check", "of", "found", "what to do"), rows)
        say(_summary(findings))
    if any(f.state is State.WRONG for f in findings):
        raise typer.Exit(ExitCode.FAILED)


def _summary(findings: Sequence[Finding]) -> str:
    """How many of each state: nobody need look through the table for a line that is wrong."""
    counts = Counter(f.state for f in findings)
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) + "."


async def _examine() -> list[Finding]:
    try:
        settings = load_settings()
    except ValueError as error:
        return [_program(), _wrong("settings", "", error)]
    found = [_program(), Finding("settings", "", State.OK)]
    found += [*_networks(settings), *_keys(settings), *_certificates(settings), *_folders(settings)]
    postgres = await _postgres(settings)
    found += postgres
    is_up = any(f.check == "PostgreSQL" and f.state is State.OK for f in postgres)
    found += await _keys_in_use(settings) if is_up else []
    found += [f async for f in _kafka(settings, is_registry_there=is_up)]
    return [*found, await _policy(settings, is_registry_there=is_up)]


def _program() -> Finding:
    return Finding("program", "mypay", State.OK, build.version())


def _finding(check: str, subject: str, look: Callable[[], object]) -> Finding:
    """Look, and tell the sentence of what is wrong. What the look returns is what was found."""
    try:
        detail = look()
    except Exception as error:
        if not is_known(error):
            raise
        return _wrong(check, subject, error)
    return Finding(check, subject, State.OK, str(detail or ""))


def _wrong(check: str, subject: str, error: Exception) -> Finding:
    """The error's sentence, and what to do."""
    told = explain(error)
    return Finding(check, subject, State.WRONG, str(told), told.hint)


# --- this machine -----------------------------------------------------------------------------------------------------


def _networks(settings: Settings) -> Iterator[Finding]:
    def look() -> str:
        found = load_networks(settings.networks_dir)
        if not found:
            raise NotConfiguredError(f"no card network is configured in {settings.networks_dir} (MYPAY_NETWORKS_DIR)")
        return ", ".join(found)

    yield _finding("networks", str(settings.networks_dir), look)


def _keys(settings: Settings) -> Iterator[Finding]:
    for ring in Ring:
        yield _finding("key", ring.value, lambda ring=ring: _counted(len(load_ring(settings, ring))))  # type: ignore[misc]
    yield _finding("key", "disclosure", lambda: root_signer(settings) and "")
    yield _finding("key", "receipts", lambda: receipt_key(settings) and "")


async def _keys_in_use(settings: Settings) -> list[Finding]:
    """Keys that are not here, and that something stands under: an older folder was put back, or one was emptied."""
    try:
        async with TokensView.opened(postgres_dsn(settings, Role.READONLY)) as tokens:
            cards = await tokens.count_by_key()
        async with AffiliatesView.opened(postgres_dsn(settings, Role.READONLY)) as affiliates:
            named = await affiliates.count_by_key()
    except Exception as error:
        if not is_known(error):
            raise
        return [_wrong("keys in use", "", error)]
    used = (
        (Ring.CARDS, cards, "cards", "their orders are rejected"),
        (Ring.SHARING, named, "shared consents", "what affiliates hold under it cannot be told to be erased"),
    )
    found = []
    for ring, counts, what, meanwhile in used:
        here = ring_ids(folder := ring_folder(settings, ring))
        for key_id in sorted(counts.keys() - set(here)):
            detail = f"{counts[key_id]} {what} are under {key_id}, which is not in {folder}: {meanwhile}"
            found.append(Finding("key", ring.value, State.WRONG, detail, f"Put {key_id}.key back there."))
    return found


def _counted(keys: int) -> str:
    return f"{keys} key{'s' * (keys != 1)}"


def _certificates(settings: Settings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    for subject, path in _certificate_files(settings):
        try:
            ends = ends_at(path)
        except CertificateError as error:
            yield Finding("certificate", subject, State.WRONG, f"{path} {error}", "Put a PEM certificate there.")
            continue
        state = State.WRONG if ends <= now else State.WARNING if ends - now < _EXPIRES_SOON else State.OK
        todo = "" if state is State.OK else "Renew it."
        yield Finding("certificate", subject, state, f"{path} ends at {shown(ends)}", todo)


def _certificate_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    named = ("kafka_ssl_cafile", "kafka_ssl_certfile", "portability_api_certificate_file")
    for name in (*named, "portability_api_clients_file"):
        if (path := getattr(settings, name)) is not None:
            yield f"MYPAY_{name.upper()}", path
    if settings.kafka_credentials_dir is not None:
        for path in sorted(settings.kafka_credentials_dir.glob("*.crt")):
            yield path.stem, path
    for network_id, network in _readable_networks(settings).items():
        if network.tls is not None:
            for part, path in (("ca", network.tls.ca), ("certificate", network.tls.certificate)):
                if path is not None:
                    yield f"network {network_id}, tls.{part}", Path(path)


def _readable_networks(settings: Settings) -> dict[str, NetworkConfig]:
    try:
        return dict(load_networks(settings.networks_dir))
    except Exception as error:
        if not is_known(error):
            raise
        return {}  # told by the check of networks


def _folders(settings: Settings) -> Iterator[Finding]:
    if (inbox := settings.clearing_inbox) is not None:
        usable = inbox.is_dir() and os.access(inbox, os.R_OK | os.X_OK)
        yield Finding(
            "folder",
            "MYPAY_CLEARING_INBOX",
            State.OK if usable else State.WRONG,
            str(inbox),
            "" if usable else "Make it, readable for the user that runs settlement.",
        )


# --- servers ----------------------------------------------------------------------------------------------------------


async def _postgres(settings: Settings) -> list[Finding]:
    """The server once, and what is wrong for each role."""
    result: list[Finding] = []
    roles = [r for r in Role if r is not Role.OWNER]
    # Where people's users alone have an address, as beside containers, the others are looked at where they run.
    here = [r for r in roles if _postgres_place(settings, r)] or roles
    for role in here:
        try:
            found = await look_as(settings, role)
        except StoreUnavailableError as error:
            return [_wrong("PostgreSQL", _postgres_place(settings, role), error)]
        if not result:
            ahead = f"{abs(found.ahead_s):.1f} s {'ahead of' if found.ahead_s > 0 else 'behind'} PostgreSQL's"
            late = abs(found.ahead_s) > _CLOCK_S
            version = "" if found.server_version is None else f"version {found.server_version}"
            result = [
                Finding("PostgreSQL", _postgres_place(settings, role), State.OK, version),
                Finding("clock", "this machine", State.WRONG if late else State.OK, ahead, "Run NTP." if late else ""),
            ]
            if found.newer:
                result.append(
                    Finding("migrations", "", State.WARNING, "the tables are newer than this program", "Upgrade it.")
                )
        problems = "; ".join(found.problems)
        result.append(Finding("database user", role.user, State.WRONG if problems else State.OK, problems))
    elsewhere = "no address of it is set here: look at it where it runs"
    return result + [Finding("database user", r.user, State.SKIPPED, elsewhere) for r in roles if r not in here]


def _postgres_place(settings: Settings, role: Role) -> str:
    try:
        dsn = postgres_address(settings, role)
    except DsnError:
        return ""
    return "" if dsn is None else place_of(dsn)


async def _kafka(settings: Settings, *, is_registry_there: bool) -> AsyncIterator[Finding]:
    at = kafka_address(settings)
    if at is None:
        todo = "Set MYPAY_KAFKA_BOOTSTRAP_SERVERS, or start a local stack with `mypay local up`."
        yield Finding("Kafka", "", State.WRONG, "no address is set, and no local stack runs", todo)
        return
    try:
        cluster = kafka_settings(settings, at, Principal(Party.OPS).name, client_id="mypay-doctor")
    except NotConfiguredError as error:
        yield Finding("Kafka", at.bootstrap_servers, State.WRONG, str(error))
        return
    problem = await KafkaProbe(cluster).problem(timeout_s=_PROBE_S)
    if problem is not None:
        todo = "Is it running, and MYPAY_KAFKA_BOOTSTRAP_SERVERS right? `mypay local status` shows the local one."
        yield Finding("Kafka", at.bootstrap_servers, State.WRONG, problem, todo)
        return
    yield Finding("Kafka", at.bootstrap_servers, State.OK, cluster.security_protocol)
    yield await _belonging(settings, cluster, is_registry_there=is_registry_there)
    if not is_registry_there:
        yield Finding("topics", "", State.SKIPPED, "the database tells which partners have some")
        return
    try:
        topics = await wanted_topics(settings)
        told = await ensure_topics(cluster, topics, replication_factor=settings.kafka_replication_factor, apply=False)
    except Exception as error:
        if not is_known(error):
            raise
        yield _wrong("topics", "", error)
        return
    bad = [t for t in told if t.state in (TopicState.MISSING, TopicState.DIFFERS)]
    for topic in bad:
        todo = _todo(topic)
        yield Finding("topic", topic.name, State.WRONG, "; ".join(topic.differences) or topic.state.value, todo)
    yield Finding("topics", "", State.WRONG if bad else State.OK, f"{len(told) - len(bad)} of {len(told)} are right")
    yield await _access(settings)


async def _belonging(settings: Settings, cluster: KafkaSettings, *, is_registry_there: bool) -> Finding:
    """Whether the database belongs to this Kafka."""
    found = await KafkaProbe(cluster).cluster_id(timeout_s=_PROBE_S)
    if found is None or not is_registry_there:
        return Finding("Kafka's cluster", found or "", State.SKIPPED, "the database tells which one it belongs to")
    try:
        async with KafkaClusterView.opened(postgres_dsn(settings, Role.READONLY)) as view:
            noted = await view.noted()
        if noted is not None:
            refuse_another(noted[0], found)
    except Exception as error:
        if not is_known(error):
            raise
        return _wrong("Kafka's cluster", found, error)
    if noted is None:
        return Finding("Kafka's cluster", found, State.OK, "not noted yet: whatever starts first notes it")
    return Finding("Kafka's cluster", found, State.OK, f"the database's since {shown(noted[1])}")


def _todo(topic: TopicStatus) -> str:
    if topic.state is TopicState.MISSING:
        return "`mypay topics apply` makes it."
    return "`mypay topics apply` sets it." if topic.settles else "An operator decides."


async def _access(settings: Settings) -> Finding:
    at = kafka_address(settings)
    if at is None or at.protocol == "PLAINTEXT":
        return Finding("access rules", "", State.SKIPPED, "Kafka is not secured")
    try:
        cluster = kafka_settings(settings, at, ADMIN, client_id="mypay-doctor")
        rules, limits = await wanted_access(settings)
        report = await ensure_access(cluster, rules, limits, apply=False)
    except Exception as error:
        if not is_known(error):
            raise
        return Finding("access rules", "", State.SKIPPED, f"only {ADMIN} may see them: {explain(error)}")
    wrong = f"{len(report.missing)} missing, {len(report.extra)} too much, {len(report.open_to_others)} open to others"
    if report.as_it_should_be:
        return Finding("access rules", "", State.OK, f"{report.present} are there")
    return Finding("access rules", "", State.WRONG, wrong, "`mypay topics acl` tells which, --apply adds them.")


async def _policy(settings: Settings, *, is_registry_there: bool) -> Finding:
    try:
        here = digest_of(settings)
    except NotConfiguredError as error:
        return Finding("trust policy", "", State.WRONG, str(error))
    if not is_registry_there:
        return Finding("trust policy", here[:12], State.SKIPPED, "the database tells which one counts")
    try:
        async with IdentitiesView.opened(postgres_dsn(settings)) as identities:
            applied = await identities.applied_policy()
    except Exception as error:
        if not is_known(error):
            raise
        return _wrong("trust policy", here[:12], error)
    if applied is not None and applied[0] == here:
        return Finding("trust policy", here[:12], State.OK, f"counts since {shown(applied[1])}")
    counts = "none counts" if applied is None else f"{applied[0][:12]} counts"
    return Finding("trust policy", here[:12], State.WRONG, counts, "`mypay auth policy apply` lets the one here count.")
