"""``mypay trace PAYMENT``: everything that happened to one payment, in order."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from gateway.app.settings import Settings
from gateway.cli.archive import archive_folder, parquet_files
from gateway.cli.arguments import SomePartnerOption
from gateway.cli.common import (
    CliError,
    ExitCode,
    Json,
    load_settings,
    money,
    money_json,
    postgres_dsn,
    print_json,
    print_table,
    run,
    say,
    shown,
)
from gateway.database.roles import Role
from gateway.payments.archive.service import ArchiveFileError
from gateway.payments.rules.payment import Payment
from gateway.views.archive import ArchivedPayment, ArchiveView, facts_of
from gateway.views.payments import PaymentFacts, PaymentsView, StoredRefusal
from gateway.views.story import missing_events, refusal_step, steps_of
from schemas.primitives import payment_id_of


def command(
    payment: Annotated[str, typer.Argument(metavar="PAYMENT", help="Payment id, or PARTNER/ORDER.")],
    partner: SomePartnerOption = None,
    refusals: Annotated[
        bool, typer.Option("--refusals", help="Look for refused orders under the same order id too (slower).")
    ] = False,
    json_: Json = False,
) -> None:
    """Tell the whole story of one payment in order, with the time between its steps."""
    settings = load_settings()
    facts, refused, archived = run(_look_up(settings, payment, partner, refusals=refusals))
    if archived is not None:
        facts, where = _from_archive(settings, archived)
    steps = [*(steps_of(facts) if facts else ()), *map(refusal_step, refused)]
    steps.sort(key=lambda s: s.at)
    if json_:
        story = {"payment": facts and _payment_json(facts.payment), "steps": steps}
        print_json(story if archived is None else {**story, "archived": where})
        return
    if facts:
        print_table(f"Payment {facts.payment.payment_id}", ("", ""), _summary(facts.payment))
    before: datetime | None = None
    rows: list[tuple[object, ...]] = []
    for step in steps:
        rows.append((shown(step.at), _since(before, step.at), step.what, step.detail, step.source))
        before = step.at
    print_table("Story", ("time", "after", "what", "detail", "from"), rows, right=("after",))
    if archived is not None:
        say(f"It is in the archive: {where['file']}, SHA-256 {where['sha256']}.")
        if where["problem"]:
            say(f"{where['problem']}: only what the database keeps of it is told.")
        return
    if facts and (missing := missing_events(facts)):
        say(f"{missing} of its events are no longer in the outbox; the steps come from the other books.")


async def _look_up(
    settings: Settings, name: str, partner: str | None, *, refusals: bool
) -> tuple[PaymentFacts | None, list[StoredRefusal], ArchivedPayment | None]:
    partner_id, order_id, payment_id = read_name(name, partner)
    dsn = postgres_dsn(settings, Role.READONLY)
    async with PaymentsView.opened(dsn) as payments, ArchiveView.opened(dsn) as archive:
        found = await payments.find(payment_id, partner_id=partner_id)
        # Looked for there second: what moves meanwhile moves there.
        archived = [] if found else await archive.find(payment_id, partner_id=partner_id)
        if not found and not archived and (partner_id is None or order_id is None):
            raise CliError(f"There is no payment {payment_id}.", ExitCode.NOT_FOUND)
        facts = await payments.facts(found[0]) if found else None
        if archived:
            partner_id, order_id = archived[0].payment.partner_id, archived[0].payment.order_id
        look = refusals or (facts is None and not archived)
        refused = await _refused(payments, facts, partner_id, order_id) if look else []
    if facts is None and not refused and not archived:
        raise CliError(
            f"Partner {partner_id} has no payment and no refused order {order_id}.",
            ExitCode.NOT_FOUND,
            hint="An order that could not be read is among `mypay dead-letter list`.",
        )
    return facts, refused, archived[0] if archived else None


def _from_archive(settings: Settings, archived: ArchivedPayment) -> tuple[PaymentFacts, dict[str, str | None]]:
    """What the file says where it can be read, or else what the database keeps; and where the file is."""
    payment, file = archived.payment, archived.file
    where: dict[str, str | None] = {
        "file": str(archive_folder(settings) / file.name),
        "sha256": (file.sha256 or b"").hex(),
        "problem": None,
    }
    try:
        files = parquet_files(settings)
        record = files.find(file.name, file.sha256 or b"", payment.key)
        if record is not None:
            return facts_of(record), where
        where["problem"] = f"{where['file']} has no record of it"
    except (CliError, ArchiveFileError) as error:
        where["problem"] = str(error)
    return PaymentFacts(payment, (), (), (), ()), where


def read_name(name: str, partner: str | None) -> tuple[str | None, str | None, UUID]:
    """Partner, order and payment id of ``PARTNER/ORDER`` or of a payment id, as far as it says them."""
    partner_id, slash, order_id = name.partition("/")
    if slash:
        return partner_id, order_id, payment_id_of(partner_id, order_id)
    try:
        return partner, None, UUID(name)
    except ValueError:
        raise CliError("PAYMENT is a payment id (a UUID) or PARTNER/ORDER.", ExitCode.USAGE) from None


async def _refused(
    payments: PaymentsView, facts: PaymentFacts | None, partner_id: str | None, order_id: str | None
) -> list[StoredRefusal]:
    if facts is not None:
        partner_id, order_id = facts.payment.partner_id, facts.payment.order_id
    return [] if partner_id is None or order_id is None else await payments.refusals(partner_id, order_id)


# --- printing ---------------------------------------------------------------------------------------------------------


def _since(before: datetime | None, at: datetime) -> str:
    if before is None:
        return ""
    seconds = (at - before).total_seconds()
    return f"+{seconds * 1000:,.1f} ms" if abs(seconds) < 10 else f"+{seconds:,.1f} s"


def _summary(p: Payment) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("state", f"{p.state} (version {p.version})"),
        ("amount", f"{p.operation} {money(p.amount_minor, p.currency)}"),
        ("order", f"{p.partner_id}/{p.order_id}"),
        ("consent", f"{p.consent_id} (version {p.consent_version})"),
        ("merchant", p.merchant_id),
    ]
    if p.original_payment_id is not None:
        rows.append(("refund of", p.original_payment_id))
    if p.reason:
        rows.append(("reason", f"{p.reason.code} {p.reason.text}"))
    if p.trace and p.network_id:
        trace = p.trace
        rows += [
            ("network", p.network_id),
            ("trace", f"terminal {trace.terminal_id}  STAN {trace.stan:06d}  RRN {trace.rrn}"),
            ("transmitted", f"{trace.transmitted_at:%m%d%H%M%S} (DE7, UTC)"),
        ]
    if p.windows:
        rows.append(("counts in", ", ".join(w.limit_key for w in p.windows)))
    if p.traceparent:
        rows.append(("traceparent", p.traceparent))
    return rows


def _payment_json(p: Payment) -> dict[str, Any]:
    return {
        "payment_id": p.payment_id,
        "partner_id": p.partner_id,
        "order_id": p.order_id,
        "consent_id": p.consent_id,
        "merchant_id": p.merchant_id,
        "operation": p.operation,
        "original_payment_id": p.original_payment_id,
        "amount": money_json(p.amount_minor, p.currency),
        "state": p.state,
        "version": p.version,
        "reason": p.reason,
        "network_id": p.network_id,
        "trace": p.trace,
        "approval_code": p.approval_code,
        "ordered_at": p.ordered_at,
        "decided_at": p.decided_at,
        "changed_at": p.changed_at,
    }
