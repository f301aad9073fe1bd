"""The console's pages: each reads what it shows, and shows it."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from aiohttp import web

from gateway.app.networks import NETWORK_REPORT_FRESH_S
from gateway.console.expiry import SOON
from gateway.console.rules import charts
from gateway.console.rules.access import may
from gateway.console.web import SIGNED_IN, Console, form_of, refused, static_file
from gateway.directory.console_roles import ConsoleRole
from gateway.payments.rules.payment import Payment
from gateway.views.archive import ArchivedPayment, ArchiveView
from gateway.views.attention import COUNTED_MAX, AttentionView
from gateway.views.consents import ConsentsView
from gateway.views.disclosures import DisclosuresView
from gateway.views.networks import FollowUps, NetworkPause, NetworksView, OpenOnNetwork, WorkerReport, standing_of
from gateway.views.operator_actions import OperatorActionsView
from gateway.views.payments import PaymentFacts, PaymentsView
from gateway.views.search import FoundConsent, SearchView
from gateway.views.story import missing_events, steps_of
from schemas.events import EventType
from schemas.primitives import payment_id_of

OLD_AFTER: Final = timedelta(minutes=1)
"""An open payment that is older than this is shown as an exception: an answer's time-out and an inquiry have passed."""

STANDS_AFTER: Final = timedelta(seconds=30)
"""Events that wait for Kafka for so long stand still."""

RECENT_EVENTS: Final = 2000
ROWS_MAX: Final = 200
LATEST_MAX: Final = 50
"""Uses of a consent and payments under it on its page: each may be anywhere on the disk."""

_OUTCOMES: Final = (
    ("settled", EventType.PAYMENT_SETTLED),
    ("approved", EventType.PAYMENT_APPROVED),
    ("sent", EventType.PAYMENT_SENT),
    ("declined", EventType.PAYMENT_DECLINED),
    ("rejected", EventType.PAYMENT_REJECTED),
    ("unknown", EventType.PAYMENT_UNKNOWN),
    ("reversing", EventType.PAYMENT_REVERSING),
    ("reversed", EventType.PAYMENT_REVERSED),
)
"""In the order of the bar. A payment that waits for its day is told of days before: it is not among them."""


async def healthz(_console: Console, _request: web.Request) -> web.Response:
    """Whether the process answers."""
    return web.Response(text="ok\n")


async def static(console: Console, request: web.Request) -> web.Response:
    """A file that pages need."""
    found = await asyncio.to_thread(static_file, request.match_info["file"])
    if found is None:
        return refused(console, request, 404, "There is no such page.")
    body, kind = found
    return web.Response(body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "max-age=3600"})


# --- overview ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs somebody. ``href``: where to look."""

    title: str
    count: int
    href: str
    more: bool = False


async def overview(console: Console, request: web.Request) -> web.Response:
    """What needs somebody, and how it runs."""
    return await _overview(console, request, "overview.html")


async def live(console: Console, request: web.Request) -> web.Response:
    """The overview's part that is refreshed."""
    return await _overview(console, request, "live.html")


async def _overview(console: Console, request: web.Request, template: str) -> web.Response:
    now = console.clock.now()
    async with console.database.view(AttentionView) as attention:
        old = await attention.open_payments(before=now - OLD_AFTER, limit=ROWS_MAX)
        breaks = await attention.breaks_by_kind()
        erasures = await attention.overdue_erasures(now=now, limit=ROWS_MAX)
        waiting = await attention.waiting()
        events = await attention.recent_outcomes([kind.value for _, kind in _OUTCOMES], limit=RECENT_EVENTS)
        ending = await attention.expiries(before=now + SOON)
    async with console.database.view(OperatorActionsView) as actions:
        proposals = await actions.waiting(limit=ROWS_MAX)
    standings = await _standings(console)
    acts = may(request[SIGNED_IN].session.role, ConsoleRole.OPERATOR)
    stands = waiting.oldest is not None and now - waiting.oldest > STANDS_AFTER
    needs = [
        # What stops payments first, then what may be lost, then what can wait until morning.
        Need("Networks that are not open", sum(s.word != "open" for s in standings), "/networks"),
        Need("Payments open for too long", len(old), "/exceptions#open", more=len(old) == ROWS_MAX),
        Need("Events that stand still", waiting.rows if stands else 0, "/#events", more=waiting.rows > COUNTED_MAX),
        Need("Dead letters that are open", (console.letters.open or 0) if acts else 0, "/dead-letters"),
        Need("Breaks in clearing", sum(b.breaks for b in breaks), "/exceptions#breaks"),
        Need("Erasures overdue", len(erasures), "/exceptions#erasures", more=len(erasures) == ROWS_MAX),
        Need("Waiting for a second person", proposals if acts else 0, "/approvals", more=proposals == ROWS_MAX),
        Need("Keys that end within a month", len(ending), "/expiry"),
    ]
    is_open = [o for s in standings for o in s.open_payments]
    rates = console.samples.rates()
    return console.page(
        request,
        template,
        needs=[n for n in needs if n.count],
        letters_known=console.letters.open is not None or not acts,
        refreshing=request.query.get("live") != "off",
        rate=rates[-1] if rates else None,
        chart=charts.line(rates),
        open_chart=charts.line([float(s.open) for s in console.samples.kept]),
        open_payments=sum(o.payments for o in is_open),
        oldest=min((o.oldest for o in is_open), default=None),
        waiting=waiting,
        waiting_max=COUNTED_MAX,
        backlogs=console.samples.backlogs,
        outcomes=charts.stacked([(word, events.get(kind.value, 0)) for word, kind in _OUTCOMES]),
        recent_events=RECENT_EVENTS,
        standings=standings,
    )


# --- payments ---------------------------------------------------------------------------------------------------------


async def payments(console: Console, request: web.Request) -> web.StreamResponse:
    """Ask for a payment's or consent's id."""
    return console.page(request, "payments.html", asked="", found=None, consents=[])


async def search(console: Console, request: web.Request) -> web.StreamResponse:
    """Find payments and consents by any id."""
    form = await form_of(request)
    asked = "".join(c for c in form.get("q", "")[:128] if c.isprintable()).strip()
    if not asked:
        return console.page(request, "payments.html", asked="", found=None, consents=[])
    found, consents = await _search(console, request, asked)
    if len(found) == 1 and not consents:
        payment = found[0]
        raise web.HTTPSeeOther(f"/payments/{payment.partner_id}/{payment.payment_id}")
    if not found and not consents and (archived := await _search_archive(console, asked)):
        partner_id, payment_id = archived[0]
        raise web.HTTPSeeOther(f"/payments/{partner_id}/{payment_id}")
    return console.page(request, "payments.html", asked=asked, found=found, consents=consents)


async def _search_archive(console: Console, asked: str) -> list[tuple[str, UUID]]:
    """What is no payment any more may be in the archive, under the ids that follow from partner and order."""
    async with console.database.view(SearchView) as search:
        partners = await search.partners()
        partner, slash, order = asked.partition("/")
        if slash:
            return await search.archived([partner], [payment_id_of(partner, order)])
        try:
            return await search.archived(partners, [UUID(asked)] * len(partners))
        except ValueError:
            return await search.archived(partners, [payment_id_of(p, asked) for p in partners])


async def _search(console: Console, request: web.Request, asked: str) -> tuple[list[Payment], list[FoundConsent]]:
    async with console.database.view(SearchView) as search:
        partners = await search.partners()
        try:
            return await search.by_id(partners, UUID(asked)), []
        except ValueError:
            pass
        partner, slash, order = asked.partition("/")
        if slash:
            return await search.by_order([p for p in partners if p == partner], order), []
        networks = sorted(console.networks)
        found = [*await search.by_order(partners, asked), *await search.by_rrn(networks, asked)]
        consents = await search.consents(partners, asked)
        signed_in = request.get(SIGNED_IN)
        if signed_in and may(signed_in.session.role, ConsoleRole.OPERATOR):
            # Those who may not know whose a consent is cannot ask for it either.
            consents += await search.consents_of_customer(partners, asked)
            consents += await search.consents_of_token(asked)
    unique = {(c.partner_id, c.consent_id): c for c in consents}
    return found, list(unique.values())


async def payment(console: Console, request: web.Request) -> web.Response:
    """One payment's story."""
    partner, named = request.match_info["partner"], request.match_info["payment"]
    try:
        payment_id = UUID(named)
    except ValueError:
        return refused(console, request, 404, "Nothing has this id.")
    if not partner.isprintable():
        return refused(console, request, 404, "Nothing has this id.")
    async with console.database.view(PaymentsView) as view:
        found = await view.find(payment_id, partner_id=partner)
        facts = await view.facts(found[0]) if found else None
    archived: list[ArchivedPayment] = []
    if facts is None:
        # Looked for there second: what moves meanwhile moves there.
        async with console.database.view(ArchiveView) as archive:
            archived = await archive.find(payment_id, partner_id=partner)
        if not archived:
            return refused(console, request, 404, "Nothing has this id.")
        facts = PaymentFacts(archived[0].payment, (), (), (), ())
    async with console.database.view(SearchView) as search:
        refunds = await search.refunds(partner, payment_id)
    return console.page(
        request,
        "payment.html",
        p=facts.payment,
        steps=steps_of(facts),
        missing=0 if archived else missing_events(facts),
        archive=archived[0].file.name if archived else None,
        refunds=refunds,
    )


# --- consents ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitBar:
    """How much of a limit is used. ``percent``: what stands and is in flight."""

    name: str
    used: int
    reserved: int
    most: int
    currency: str | None
    percent: float
    ends_at: datetime | None


async def consent(console: Console, request: web.Request) -> web.Response:
    """One consent: limits, uses, payments, changes."""
    partner, consent_id = request.match_info["partner"], request.match_info["consent"]
    if not (partner + consent_id).isprintable():
        return refused(console, request, 404, "Nothing has this id.")
    async with console.database.view(ConsentsView) as view:
        found = await view.find(consent_id, partner_id=partner)
        if not found:
            return refused(console, request, 404, "Nothing has this id.")
        usage = await view.usage(found[0], console.clock.now())
        history = await view.history(partner, consent_id, limit=ROWS_MAX)
    async with console.database.view(DisclosuresView) as disclosures:
        uses = await disclosures.of_consent(partner, consent_id, limit=LATEST_MAX)
    async with console.database.view(SearchView) as search:
        paid = await search.of_consent(partner, consent_id, limit=LATEST_MAX)
    bars = []
    for window, use in usage:
        by_amount = window.max_minor is not None
        most = (window.max_minor if by_amount else window.max_count) or 0
        used = use.used.taken_minor if by_amount else use.used.taken_count
        reserved = use.reserved.taken_minor if by_amount else use.reserved.taken_count
        currency = window.currency if by_amount else None
        percent = charts.share_of(used + reserved, most)
        bars.append(LimitBar(window.key.limit_key, used, reserved, most, currency, percent, window.ends_at))
    return console.page(
        request,
        "consent.html",
        c=found[0],
        bars=bars,
        uses=uses,
        paid=paid,
        latest_max=LATEST_MAX,
        history=list(reversed(history)),
    )


# --- networks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """A network as it stands. ``word``: open, closed, no worker or paused."""

    network_id: str
    word: str
    reports: tuple[WorkerReport, ...]
    pause: NetworkPause | None
    open_payments: tuple[OpenOnNetwork, ...]
    follow_ups: tuple[FollowUps, ...]

    def count(self, state: str) -> int:
        """Payments in an open state."""
        return sum(o.payments for o in self.open_payments if o.state == state)


async def networks(console: Console, request: web.Request) -> web.Response:
    """Every network: workers, whether its links are up and its breaker closed, what waits."""
    backlogs = console.samples.backlogs
    waits = None if backlogs is None else {b.queue.network: b.records for b in backlogs if b.queue.stage == "execution"}
    return console.page(request, "networks.html", standings=await _standings(console), waits=waits)


async def _standings(console: Console) -> list[Standing]:
    async with console.database.view(NetworksView) as view:
        reports, pauses = await view.reports(), {p.network_id: p for p in await view.pauses()}
        open_payments, follow_ups = await view.open_payments(), await view.follow_ups()
    since = console.clock.now() - timedelta(seconds=NETWORK_REPORT_FRESH_S)
    fresh = [r for r in reports if r.reported_at >= since]
    names = sorted({*console.networks, *pauses, *(r.network_id for r in fresh), *(o.network_id for o in open_payments)})
    found = []
    for name in names:
        own = tuple(r for r in fresh if r.network_id == name)
        found.append(
            Standing(
                name,
                standing_of(own, is_paused=name in pauses),
                own,
                pauses.get(name),
                tuple(o for o in open_payments if o.network_id == name),
                tuple(f for f in follow_ups if f.network_id == name),
            )
        )
    return found


# --- exceptions -------------------------------------------------------------------------------------------------------


async def exceptions(console: Console, request: web.Request) -> web.Response:
    """What is not as it should be."""
    now = console.clock.now()
    async with console.database.view(AttentionView) as attention:
        old = await attention.open_payments(before=now - OLD_AFTER, limit=ROWS_MAX)
        kinds = await attention.breaks_by_kind()
        breaks = await attention.breaks(limit=ROWS_MAX)
        erasures = await attention.overdue_erasures(now=now, limit=ROWS_MAX)
    return console.page(request, "exceptions.html", old=old, kinds=kinds, breaks=breaks, erasures=erasures)


# --- approvals --------------------------------------------------------------------------------------------------------


async def approvals(console: Console, request: web.Request) -> web.Response:
    """What waits for a second person, and what operators did."""
    async with console.database.view(OperatorActionsView) as view:
        waiting = await view.proposals(limit=ROWS_MAX)
        decided = [p for p in await view.proposals(every=True, limit=ROWS_MAX) if p.decision is not None]
        done = await view.actions(operator=None, limit=50)
    return console.page(request, "approvals.html", waiting=waiting, decided=decided[:20], done=done)
