"""``mypay consent …``: the operator's side of consents."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.adapters.postgres.inspect import StoredConsent, open_inspector
from gateway.adapters.postgres.registry import open_registry
from gateway.adapters.postgres.store import PostgresStore
from gateway.bootstrap import SystemClock
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
)
from gateway.domain.consent import ConsentCommand
from gateway.domain.limits import SEOUL, Usage, Window
from gateway.services.consents import ConsentChanged, change_consent_status
from gateway.settings import Settings
from schemas.codec import DecodeError, decode
from schemas.consents import ConsentStatus, ConsentTerms
from schemas.primitives import ConsentId, PartnerId

app = typer.Typer(help="Customers' consents and what is used of their limits.", no_args_is_help=True)

_REASON_CHARS_MAX: Final = 200

Reason = Annotated[str | None, typer.Option(help="Told to the partner as it is; no personal data.")]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Consent terms as JSON, or JSON lines; - reads standard input.")],
    json_: Json = False,
) -> None:
    """Store consents as authorised (AUTH): for consents that the customer has given elsewhere. All of them or none."""
    settings = load_settings()
    terms = [_terms(line, body) for line, body in read_documents(file)]
    if len({(t.partner_id, t.consent_id) for t in terms}) < len(terms):
        raise CliError("The file names one consent twice; nothing was added.")

    async def write() -> None:
        async with open_registry(postgres_dsn(settings)) as registry, registry.transaction():
            added = await registry.add_consents([(t, ConsentStatus.AUTH) for t in terms])
            if there := [t for t in terms if (t.partner_id, t.consent_id) not in added]:
                names = ", ".join(f"{t.partner_id}/{t.consent_id}" for t in there[:5])
                raise CliError(f"{len(there)} of them exist already ({names}); nothing was added.")

    run(write())
    if json_:
        print_json({"added": [{"partner_id": t.partner_id, "consent_id": t.consent_id} for t in terms]})
    else:
        say(f"{len(terms)} consents added.")


@app.command()
def show(consent: ConsentArgument, partner: SomePartnerOption = None, json_: Json = False) -> None:
    """Show one consent with its terms."""
    found = run(_find(load_settings(), consent, partner))
    if json_:
        print_json(found)
        return
    rows: list[tuple[str, object]] = [
        ("partner", found.partner_id),
        ("customer", found.customer_id),
        ("status", f"{found.status} (version {found.version})"),
        ("since", found.status_changed_at),
        ("valid from", found.terms.valid_from),
        ("valid until", found.terms.valid_until),
        *_purposes(found.terms),
    ]
    print_table(f"Consent {found.consent_id}", ("", ""), rows)


@app.command("list")
def list_(
    partner: SomePartnerOption = None,
    status: Annotated[ConsentStatus | None, typer.Option(help="In this status alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    json_: Json = False,
) -> None:
    """Show consents."""
    settings = load_settings()

    async def read() -> list[StoredConsent]:
        async with open_inspector(postgres_dsn(settings)) as inspector:
            return await inspector.consents(partner_id=partner, status=status, limit=limit)

    found = run(read())
    if json_:
        print_json(found)
        return
    columns = ("partner", "consent", "customer", "status", "since", "valid until")
    rows = [
        (c.partner_id, c.consent_id, c.customer_id, c.status, c.status_changed_at, c.terms.valid_until) for c in found
    ]
    print_table("Consents", columns, rows)


@app.command()
def revoke(consent: ConsentArgument, partner: PartnerOption, reason: Reason = None, json_: Json = False) -> None:
    """End a consent for ever. Once this returns no further payment under it can be sent."""
    _change(consent, partner, ConsentCommand.REVOKE, reason, json_=json_)


@app.command()
def suspend(consent: ConsentArgument, partner: PartnerOption, reason: Reason = None, json_: Json = False) -> None:
    """Let no payment be sent under a consent until it is resumed."""
    _change(consent, partner, ConsentCommand.SUSPEND, reason, json_=json_)


@app.command()
def resume(consent: ConsentArgument, partner: PartnerOption, reason: Reason = None, json_: Json = False) -> None:
    """Let payments be sent again under a suspended consent."""
    _change(consent, partner, ConsentCommand.RESUME, reason, json_=json_)


@app.command()
def usage(consent: ConsentArgument, partner: SomePartnerOption = None, json_: Json = False) -> None:
    """Show each limit: its maximum, what is used and reserved, what is left, and when it begins anew."""
    settings = load_settings()

    async def read() -> tuple[StoredConsent, list[tuple[Window, Usage]]]:
        found = await _find(settings, consent, partner)
        async with open_inspector(postgres_dsn(settings)) as inspector:
            return found, await inspector.usage(found, datetime.now(UTC))

    found, windows = run(read())
    if json_:
        print_json([_window_json(w, u) for w, u in windows])
        return
    columns = ("limit", "maximum", "used", "reserved", "left", "begins anew")
    rows = [_window_row(w, u) for w, u in windows]
    title = f"Limits of consent {found.consent_id} ({found.status})"
    print_table(title, columns, rows, right=("maximum", "used", "reserved", "left"))


def _change(consent: str, partner: str, command: ConsentCommand, reason: str | None, *, json_: bool) -> None:
    if reason is not None and len(reason) > _REASON_CHARS_MAX:
        raise CliError(f"A reason has at most {_REASON_CHARS_MAX} characters.", ExitCode.USAGE)
    settings = load_settings()

    async def write() -> ConsentChanged:
        store = PostgresStore(postgres_dsn(settings), pool_size=1, name="mypay-cli")
        await store.start()
        try:
            key = (PartnerId(partner), ConsentId(consent))
            return await change_consent_status(store, SystemClock(), key, command, reason=reason)
        finally:
            await store.stop()

    changed = run(write())
    if json_:
        print_json(changed)
        return
    say(f"Consent {consent} is {changed.status} (was {changed.before}).")
    if changed.in_flight:
        say(f"{len(changed.in_flight)} payments were already on their way: {', '.join(map(str, changed.in_flight))}")


async def _find(settings: Settings, consent: str, partner: str | None) -> StoredConsent:
    async with open_inspector(postgres_dsn(settings)) as inspector:
        found = await inspector.consent(consent, partner_id=partner)
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
        if pay.single_use:
            rows.append(("single use", True))
    if terms.portability:
        rows.append(("hands data to", terms.portability.recipients))
    if terms.sharing:
        rows.append(("shares data with", terms.sharing.affiliates))
    return rows


def _window_row(window: Window, used: Usage) -> tuple[object, ...]:
    if window.max_minor is not None and window.currency is not None:
        amounts = (window.max_minor, used.consumed_minor, used.reserved_minor)
        left = window.max_minor - used.consumed_minor - used.reserved_minor
        cells = [money(n, window.currency) for n in (*amounts, max(0, left))]
    else:
        most = window.max_count or 0
        counts = (most, used.consumed_count, used.reserved_count)
        cells = [f"{n:,}" for n in (*counts, max(0, most - used.consumed_count - used.reserved_count))]
    # Windows turn at midnights of Seoul.
    anew = f"{window.ends_at.astimezone(SEOUL):%Y-%m-%d %H:%M} {SEOUL}" if window.ends_at else "never"
    return (window.key.limit_key, *cells, anew)


def _window_json(window: Window, used: Usage) -> dict[str, Any]:
    by_amount = window.max_minor is not None
    return {
        "limit": window.key.limit_key,
        "starts_at": window.key.starts_at,
        "ends_at": window.ends_at,
        "currency": window.currency,
        "max": window.max_minor if by_amount else window.max_count,
        "used": used.consumed_minor if by_amount else used.consumed_count,
        "reserved": used.reserved_minor if by_amount else used.reserved_count,
    }
