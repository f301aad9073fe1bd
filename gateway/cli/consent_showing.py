"""``mypay consent show | list | usage | history | uses``: consents as they stand, for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.app.settings import Settings
from gateway.cli.arguments import ConsentArgument, SomePartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say_if_cut,
    shown,
)
from gateway.cli.consent_usage import COLUMNS, exempt_windows, window_json, window_row
from gateway.cli.customer import show_uses
from gateway.cli.registered import of_partner
from gateway.consents.rules.limits import Window
from gateway.consents.rules.purposes import in_force
from gateway.consents.rules.records import CommandOutcome, ConsentVersion
from gateway.consents.store import PurposeEndRow
from gateway.database.roles import Role
from gateway.disclosure.rules.entry import Entry
from gateway.views.consents import AskedOfConsent, ConsentsView, StoredConsent, WindowUse
from gateway.views.disclosures import DisclosuresView
from schemas.consents import ConsentStatus, ConsentTerms

UsesLimit = Annotated[int, typer.Option(min=1, max=100_000, help="Uses at most, the latest first.")]


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


def list_(
    partner: SomePartnerOption = None,
    status: Annotated[ConsentStatus | None, typer.Option(help="In this status alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
    json_: Json = False,
) -> None:
    """Show consents."""
    settings = load_settings()

    async def read() -> list[StoredConsent]:
        dsn = postgres_dsn(settings, Role.READONLY)
        async with ConsentsView.opened(dsn) as consents:
            return await of_partner(dsn, partner, await consents.all(partner_id=partner, status=status, limit=limit))

    found = run(read())
    say_if_cut(found, limit)
    if json_:
        print_json([_json(c) for c in found])
        return
    columns = ("partner", "consent", "customer", "status", "since", "valid until")
    rows = [
        (c.partner_id, c.consent_id, c.customer_id, c.status, c.status_changed_at, c.terms.valid_until) for c in found
    ]
    print_table("Consents", columns, rows)


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
    say_if_cut(asked, limit)
    told = [a for a in asked if every or a.outcome is CommandOutcome.DONE]
    if json_:
        print_json(told)
        return
    columns = ("change", "when", "command", "by", "status", "version", "outcome", "reason")
    rows = [(a.change, a.at, a.command, a.actor, a.status, a.version, a.outcome, a.reason) for a in told]
    print_table(f"History of consent {found.consent_id}, stored {shown(found.created_at)}", columns, rows)


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
    say_if_cut(entries, limit)
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


def _version(version: ConsentVersion) -> str:
    proof = version.proof
    signed = f"authenticated at {proof.issuer}, level {proof.level}" if proof else "not authenticated here"
    return f"{shown(version.created_at)}, {signed}\ndigest {version.digest}"
