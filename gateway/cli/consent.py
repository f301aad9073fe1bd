"""``mypay consent …``: consents for operators; with ``--key``, commands on them as a partner sends them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.app.process import SystemClock
from gateway.app.registries import open_consent_changes, open_registries
from gateway.app.settings import Settings
from gateway.cli.arguments import ConsentArgument, PartnerOption, SomePartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    postgres_dsn,
    print_json,
    print_table,
    read_documents,
    run,
    say,
    shown,
)
from gateway.cli.consent_sending import (
    Assertion,
    ConsentSending,
    Purposes,
    read_terms,
    send_instruction,
    send_terms,
)
from gateway.cli.consent_usage import COLUMNS, exempt_windows, window_json, window_row
from gateway.cli.customer import show_uses
from gateway.cli.grouping import grouped
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.cli.sending import Key, SomeKey
from gateway.consents.changing import ConsentChanged, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.consents.rules.limits import Window
from gateway.consents.rules.purposes import in_force
from gateway.consents.rules.records import CommandOutcome, ConsentVersion
from gateway.consents.store import PurposeEndRow
from gateway.database.roles import Role
from gateway.directory.funding import token_use
from gateway.disclosure.rules.entry import Entry
from gateway.views.consents import AskedOfConsent, ConsentsView, StoredConsent, WindowUse
from gateway.views.disclosures import DisclosuresView
from gateway.views.tokens import TokensView
from schemas.codec import DecodeError, decode
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.primitives import ConsentId, PartnerId

app = typer.Typer(help="Customers' consents and what is used of their limits.", no_args_is_help=True)

UsesLimit = Annotated[int, typer.Option(min=1, max=100_000, help="Uses at most, the latest first.")]

_REASON_CHARS_MAX: Final = 200

TermsFile = Annotated[Path, typer.Argument(help="The consent's terms as JSON; - reads standard input.")]
Reason = Annotated[str | None, typer.Option(help="Told to the partner as it is; no personal data.")]


def _subject(*, partner: str, consent: str, **_: Any) -> str:
    return f"{partner}/{consent}"


def _by_operator(*, key: Path | None, assertion: Path | None, **_: Any) -> bool:
    # An assertion without a key is a mistake that the command itself tells of.
    return key is None and assertion is None


@app.command()
@operated("consent add", lambda *, file, **_: file.name)
def add(
    file: Annotated[Path, typer.Argument(help="Consent terms as JSON, or JSON lines; - reads standard input.")],
    json_: Json = False,
) -> None:
    """Store consents as authorised (AUTH): for consents that the customer has given elsewhere. All of them or none."""
    settings = load_settings()
    read = read_documents(file)
    terms, documents = [_terms(line, body) for line, body in read], [body for _, body in read]
    if len({(t.partner_id, t.consent_id) for t in terms}) < len(terms):
        raise CliError("The file names one consent twice; nothing was added.")

    async def write() -> None:
        async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
            added = await registries.consents.add_consents(
                [(t, ConsentStatus.AUTH) for t in terms], documents=documents
            )
            if there := [t for t in terms if (t.partner_id, t.consent_id) not in added]:
                names = ", ".join(f"{t.partner_id}/{t.consent_id}" for t in there[:5])
                raise CliError(f"{len(there)} of them exist already ({names}); nothing was added.")

    async def check() -> None:
        async with TokensView.opened(postgres_dsn(settings)) as tokens:
            uses = [use for t in terms if (use := token_use(t)) is not None]
            usable = await tokens.usable(uses)
        if foreign := [u for u in uses if u not in usable]:
            names = ", ".join(f"{u.token} of {u.customer_id} for {u.partner_id}" for u in foreign[:5])
            raise CliError(
                f"{len(foreign)} funding tokens are none that the customer lets the partner use ({names}); "
                "nothing was added.",
                hint="`mypay token add | allow`",
            )

    run(check())
    run(write())
    if json_:
        print_json({"added": [{"partner_id": t.partner_id, "consent_id": t.consent_id} for t in terms]})
    else:
        say(f"{len(terms)} consents added.")


@app.command()
def show(consent: ConsentArgument, partner: SomePartnerOption = None, json_: Json = False) -> None:
    """Show one consent with its terms."""
    settings = load_settings()

    async def read() -> tuple[StoredConsent, Sequence[ConsentVersion], Sequence[PurposeEndRow]]:
        found = await _find(settings, consent, partner)
        async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
            return found, await consents.versions(found), await consents.purpose_ends(found)

    found, versions, ended = run(read())
    if json_:
        print_json({**_json(found), "versions": [_version_json(v) for v in versions], "purpose_ends": ended})
        return
    rows: list[tuple[str, object]] = [
        ("partner", found.partner_id),
        ("customer", found.customer_id),
        ("status", f"{found.status} (version {found.version})"),
        ("since", found.status_changed_at),
        ("valid from", found.terms.valid_from),
        ("valid until", found.terms.valid_until),
        ("purposes", in_force(found.terms, found.ended_purposes) or "none"),
        *_purposes(found.terms),
        *((f"{e.purpose} {e.how}", f"{shown(e.ended_at)}, version {e.version}") for e in ended),
        *((f"version {v.version}", _version(v)) for v in versions),
    ]
    print_table(f"Consent {found.consent_id}", ("", ""), rows)


@app.command("list")
def list_(
    partner: SomePartnerOption = None,
    status: Annotated[ConsentStatus | None, typer.Option(help="In this status alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show consents."""
    settings = load_settings()

    async def read() -> list[StoredConsent]:
        async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
            return await consents.all(partner_id=partner, status=status, limit=limit)

    found = run(read())
    if json_:
        print_json([_json(c) for c in found])
        return
    columns = ("partner", "consent", "customer", "status", "since", "valid until")
    rows = [
        (c.partner_id, c.consent_id, c.customer_id, c.status, c.status_changed_at, c.terms.valid_until) for c in found
    ]
    print_table("Consents", columns, rows)


@app.command()
def digest(file: TermsFile) -> None:
    """Print the digest of terms, which the customer authenticates: SHA-256 over their canonical JSON (RFC 8785)."""
    document, _ = read_terms(file)
    typer.echo(terms_digest(canonical_terms(document)))


@app.command()
@grouped
def request(
    file: TermsFile,
    key: Key,
    *,
    sending: ConsentSending,
) -> None:
    """Send a partner's request for a new consent: it awaits the customer's authorisation (AWAU)."""
    send_terms(ConsentCommand.REQUEST, file, None, key, sending)


@app.command()
@grouped
def amend(
    file: TermsFile,
    key: Key,
    assertion: Assertion = None,
    purpose: Purposes = None,
    *,
    sending: ConsentSending,
) -> None:
    """Send a partner's new terms for a consent, authenticated by the customer: its next version."""
    send_terms(ConsentCommand.AMEND, file, assertion, key, sending, purpose)


@app.command()
@grouped
def grant(
    consent: ConsentArgument,
    partner: PartnerOption,
    key: Key,
    assertion: Assertion = None,
    purpose: Purposes = None,
    *,
    sending: ConsentSending,
) -> None:
    """Send a partner's grant of a requested consent, authenticated by the customer (AUTH); in part with --purpose."""
    send_instruction(ConsentCommand.GRANT, partner, consent, assertion, key, sending, purpose)


@app.command()
@grouped
def reject(
    consent: ConsentArgument,
    partner: PartnerOption,
    key: Key,
    assertion: Assertion = None,
    *,
    sending: ConsentSending,
) -> None:
    """Send a partner's word that the customer rejected a requested consent (RJCT)."""
    send_instruction(ConsentCommand.REJECT, partner, consent, assertion, key, sending)


@app.command()
@operated("consent revoke", _subject, when=_by_operator)
@grouped
def revoke(
    consent: ConsentArgument,
    partner: PartnerOption,
    reason: Reason = None,
    key: SomeKey = None,
    assertion: Assertion = None,
    purpose: Purposes = None,
    *,
    sending: ConsentSending,
) -> None:
    """End a consent or some of its purposes for ever. As an operator: once this returns nothing follows under it."""
    _change(consent, partner, ConsentCommand.REVOKE, reason, assertion, key, sending, purpose)


@app.command()
@operated("consent suspend", _subject, when=_by_operator)
@grouped
def suspend(
    consent: ConsentArgument,
    partner: PartnerOption,
    reason: Reason = None,
    key: SomeKey = None,
    assertion: Assertion = None,
    *,
    sending: ConsentSending,
) -> None:
    """Let no payment be sent under a consent until it is resumed."""
    _change(consent, partner, ConsentCommand.SUSPEND, reason, assertion, key, sending)


@app.command()
@operated("consent resume", _subject, when=_by_operator)
@grouped
def resume(
    consent: ConsentArgument,
    partner: PartnerOption,
    reason: Reason = None,
    key: SomeKey = None,
    assertion: Assertion = None,
    propose: Propose = False,
    *,
    sending: ConsentSending,
) -> None:
    """Let payments be sent again under a suspended consent."""
    if propose and key is not None:
        raise CliError("--propose is an operator's; a partner's command needs no second person.", ExitCode.USAGE)
    if key is None and assertion is None and needs_two(settings := load_settings(), propose=propose):
        _check_reason(reason)
        payload = {"partner_id": partner, "consent_id": consent, "reason": reason}
        told, proposed = carry_out(settings, "consent.resume", f"{partner}/{consent}", payload, propose=True)
        if sending.json_:
            print_json({"partner_id": partner, "consent_id": consent, "proposal_id": proposed})
        else:
            say(told)
        return
    _change(consent, partner, ConsentCommand.RESUME, reason, assertion, key, sending)


@app.command()
def usage(consent: ConsentArgument, partner: SomePartnerOption = None, json_: Json = False) -> None:
    """Show each limit: its maximum, what is used and reserved, what is left, and when it begins anew."""
    settings = load_settings()

    async def read() -> tuple[StoredConsent, list[tuple[Window, WindowUse]], WindowUse | None]:
        found = await _find(settings, consent, partner)
        async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
            return found, await consents.usage(found, datetime.now(UTC)), await consents.exempt_usage(found)

    found, windows, exempt = run(read())
    windows += exempt_windows(found.terms, exempt)
    if json_:
        print_json([window_json(w, u) for w, u in windows])
        return
    rows = [window_row(w, u) for w, u in windows]
    title = f"Limits of consent {found.consent_id} ({found.status})"
    print_table(title, COLUMNS, rows, right=COLUMNS[1:5], whole=COLUMNS[:1])


@app.command()
def history(
    consent: ConsentArgument,
    partner: SomePartnerOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also commands that changed nothing, and refused ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Commands at most, the oldest first.")] = 1000,
    json_: Json = False,
) -> None:
    """Show every change of a consent: what was done, by whom and when, and how it stood afterwards."""
    settings = load_settings()

    async def read() -> tuple[StoredConsent, list[AskedOfConsent]]:
        found = await _find(settings, consent, partner)
        async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
            return found, await consents.history(found.partner_id, found.consent_id, limit=limit)

    found, asked = run(read())
    told = [a for a in asked if every or a.outcome is CommandOutcome.DONE]
    if json_:
        print_json(told)
        return
    columns = ("change", "when", "command", "by", "status", "version", "outcome", "reason")
    rows = [(a.change, a.at, a.command, a.actor, a.status, a.version, a.outcome, a.reason) for a in told]
    print_table(f"History of consent {found.consent_id}, stored {shown(found.created_at)}", columns, rows)


def _change(
    consent: str,
    partner: str,
    command: ConsentCommand,
    reason: str | None,
    assertion: Path | None,
    key: Path | None,
    sending: ConsentSending,
    purposes: list[Purpose] | None = None,
) -> None:
    """Send it as the partner where there is a key, or else do it as an operator."""
    if key is not None:
        if reason is not None:
            raise CliError("--reason is an operator's word; a partner's command has none.", ExitCode.USAGE)
        send_instruction(command, partner, consent, assertion, key, sending, purposes)
        return
    if assertion is not None:
        raise CliError("--assertion goes with a partner's command: add --key.", ExitCode.USAGE)
    _check_reason(reason)
    settings = load_settings()

    async def write() -> ConsentChanged:
        async with open_consent_changes(postgres_dsn(settings)) as store:
            key = (PartnerId(partner), ConsentId(consent))
            named = tuple(p for p in Purpose if p in purposes) if purposes else None
            return await change_consent_status(store, SystemClock(), key, command, reason=reason, purposes=named)

    changed = run(write())
    if sending.json_:
        print_json(changed)
        return
    say(f"Consent {consent} is {changed.status} (was {changed.before}); in force: {_named(changed.purposes)}.")
    if changed.in_flight:
        say(f"{len(changed.in_flight)} payments were already on their way: {', '.join(map(str, changed.in_flight))}")


def _check_reason(reason: str | None) -> None:
    if reason is not None and len(reason) > _REASON_CHARS_MAX:
        raise CliError(f"A reason has at most {_REASON_CHARS_MAX} characters.", ExitCode.USAGE)


@app.command()
def uses(
    consent: ConsentArgument, partner: SomePartnerOption = None, limit: UsesLimit = 1000, json_: Json = False
) -> None:
    """List every use of a consent, the latest first: what, to whom, why, when, under which version of its terms."""
    settings = load_settings()

    async def read() -> tuple[StoredConsent, list[Entry]]:
        found = await _find(settings, consent, partner)
        async with DisclosuresView.opened(postgres_dsn(settings, Role.READONLY)) as disclosures:
            return found, await disclosures.of_consent(found.partner_id, found.consent_id, limit=limit)

    found, entries = run(read())
    show_uses(f"Uses of consent {found.consent_id}", entries, json_=json_)


async def _find(settings: Settings, consent: str, partner: str | None) -> StoredConsent:
    async with ConsentsView.opened(postgres_dsn(settings, Role.READONLY)) as consents:
        found = await consents.find(consent, partner_id=partner)
    if not found:
        raise CliError(f"There is no consent {consent}.", ExitCode.NOT_FOUND, hint="`mypay consent list` shows them.")
    if len(found) > 1:
        partners = ", ".join(c.partner_id for c in found)
        raise CliError(f"Several partners have a consent {consent}: {partners}.", ExitCode.USAGE, hint="Add --partner.")
    return found[0]


def _terms(line: int, body: bytes) -> ConsentTerms:
    try:
        return decode(ConsentTerms, body)
    except DecodeError as error:
        raise CliError(f"line {line}: {error}; nothing was added.") from None


def _purposes(terms: ConsentTerms) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    if pay := terms.payment:
        rows += [
            ("pays with", pay.funding_token),
            ("per payment", ", ".join(money(m.minor, m.currency) for m in pay.max_per_payment)),
            *(
                (f"per {p.period}", money(p.max_amount.minor, p.max_amount.currency) if p.max_amount else p.max_count)
                for p in pay.period_limits
            ),
        ]
        rows += [
            (name.replace("_", " "), values) for name, values in pay.payees.model_dump(mode="json").items() if values
        ]
        rows += [("in all", money(m.minor, m.currency)) for m in pay.lifetime_amounts]
        if pay.lifetime_count is not None:
            rows.append(("payments in all", pay.lifetime_count))
        if pay.single_use:
            rows.append(("single use", True))
        if low := pay.low_value_exemption:
            most = f"{money(low.max_amount.minor, low.max_amount.currency)} each, {low.max_count} payments"
            rows.append(("without proof", f"{most}, {money(low.max_sum.minor, low.max_sum.currency)} together"))
    if hand := terms.portability:
        how = ", ".join(filter(None, (hand.fnd_cycle, hand.add_cycle))) if hand.is_scheduled else "when asked for"
        flags = [name for name, value in hand if name.startswith("is_consent_") and value]
        rows += [
            ("hands data to", hand.recipients),
            ("data", (*hand.scopes, *flags)),
            ("sent", f"{how}, last on {hand.end_date}; kept until {hand.period}"),
        ]
    if share := terms.sharing:
        rows += [
            ("shares data with", share.affiliates),
            ("for", share.purposes),
            ("fields", share.fields),
            ("used until", share.use_until),
        ]
    if offer := terms.marketing:
        rows += [("offers of", offer.affiliates), ("by", offer.channels), ("offers until", offer.until)]
    return rows


def _json(consent: StoredConsent) -> dict[str, Any]:
    """With the terms as they were sent: only they have the digest that the customer signed."""
    told = asdict(consent) | {"terms": json.loads(consent.sent)}
    del told["sent"]
    return told


def _version_json(version: ConsentVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "terms": json.loads(version.canonical),
        "terms_digest": version.digest,
        "created_at": version.created_at,
        "proof": version.proof,
    }


def _named(purposes: Sequence[Purpose]) -> str:
    return ", ".join(purposes) or "nothing"


def _version(version: ConsentVersion) -> str:
    proof = version.proof
    signed = f"authenticated at {proof.issuer}, level {proof.level}" if proof else "not authenticated here"
    return f"{shown(version.created_at)}, {signed}\ndigest {version.digest}"
