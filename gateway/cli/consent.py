"""``mypay consent …``: consents for operators; with ``--key``, commands on them as a partner sends them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.app.clock import SystemClock
from gateway.app.registries import open_consent_changes, open_registries
from gateway.cli.arguments import ConsentArgument, PartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    postgres_dsn,
    print_json,
    read_documents,
    run,
    say,
    there,
)
from gateway.cli.consent_sending import (
    Assertion,
    ConsentSending,
    Purposes,
    read_terms,
    send_instruction,
    send_terms,
)
from gateway.cli.consent_showing import history, list_, show, usage, uses
from gateway.cli.grouping import grouped
from gateway.cli.operating import operated
from gateway.cli.operations import Propose, carry_out, needs_two
from gateway.cli.sending import Key, SomeKey
from gateway.consents.changing import ConsentChanged, change_consent_status
from gateway.consents.rules.consent import ConsentCommand
from gateway.directory.funding import token_use
from gateway.sealing.redaction import contains_secret
from gateway.views.tokens import TokensView
from schemas.codec import DecodeError, decode
from schemas.consent_commands import canonical_terms, terms_digest
from schemas.consents import ConsentStatus, ConsentTerms, Purpose
from schemas.primitives import ConsentId, PartnerId

app = typer.Typer(no_args_is_help=True)

_REASON_CHARS_MAX: Final = 200

TermsFile = Annotated[Path, typer.Argument(help="The consent's terms as JSON; - reads standard input.")]
Reason = Annotated[str | None, typer.Option(help="Told to the partner as it is; no personal data.")]


def _subject(*, partner: str, consent: str, **_: Any) -> str:
    return f"{partner}/{consent}"


def _by_operator(*, key: Path | None, assertion: Path | None, **_: Any) -> bool:
    # An assertion without a key is a mistake that the command itself tells of.
    return key is None and assertion is None


PROPOSED_MAX: Final = 100
"""Of a longer list a second person would approve what they cannot have read."""


def _read(
    file: Annotated[
        Path, typer.Argument(help="Consent terms as JSON, or JSON lines; - reads standard input.", callback=there)
    ],
) -> list[tuple[ConsentTerms, bytes]]:
    """Each consent's terms, and as they stand in the file."""
    read = [(_terms(line, body), body) for line, body in read_documents(file)]
    if len({(t.partner_id, t.consent_id) for t, _ in read}) < len(read):
        raise CliError("The file names one consent twice; nothing was added.")
    return read


@app.command()
@operated("consent add", lambda *, file, **_: file.name, reads=_read)
def add(read: list[tuple[ConsentTerms, bytes]], propose: Propose = False, json_: Json = False) -> None:
    """Store consents as authorised (AUTH): for consents that the customer has given elsewhere. All of them or none.

    Where two people are needed they are stored as suspended (SUSP), and count when another operator has approved them.
    """
    settings = load_settings()
    waits = needs_two(settings, propose=propose)
    terms, documents = [t for t, _ in read], [body for _, body in read]
    if waits and len(terms) > PROPOSED_MAX:
        raise CliError(f"At most {PROPOSED_MAX} consents can be approved at once: part the file.", ExitCode.USAGE)
    status = ConsentStatus.SUSP if waits else ConsentStatus.AUTH

    async def write() -> None:
        async with open_registries(postgres_dsn(settings)) as registries, registries.transaction():
            added = await registries.consents.add_consents([(t, status) for t in terms], documents=documents)
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
    added = [{"partner_id": t.partner_id, "consent_id": t.consent_id} for t in terms]
    told, proposed = f"{len(terms)} consents added.", None
    if waits:
        whom = f"{terms[0].partner_id} {terms[0].consent_id}" if len(terms) == 1 else f"{len(terms)} consents"
        told, proposed = carry_out(settings, "consent.add", whom, {"consents": added}, propose=True)
    if json_:
        print_json({"added": added} | ({"proposal_id": proposed} if proposed else {}))
    else:
        say(told)


app.command()(show)
app.command("list")(list_)


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


app.command()(usage)
app.command()(history)
app.command()(uses)


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
    if reason is not None and contains_secret(reason.encode(errors="surrogateescape")):
        # What --why says for the record is looked at elsewhere; this goes to the partner as it is.
        raise CliError("The reason holds what looks like a card number or a key: leave it out.", ExitCode.USAGE)


def _terms(line: int, body: bytes) -> ConsentTerms:
    try:
        return decode(ConsentTerms, body)
    except DecodeError as error:
        raise CliError(f"line {line}: {error}; nothing was added.") from None


def _named(purposes: Sequence[Purpose]) -> str:
    return ", ".join(purposes) or "nothing"
