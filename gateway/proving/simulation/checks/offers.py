"""What offers were made and used: judged as it commits, and at rest by the affiliates' own books.

Budgets, caps and exclusivity are counted anew here, from the offers and uses that there are.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, StoredUse
from gateway.payments.rules.payment import Payment
from gateway.proving.memory import Database
from gateway.proving.simulation.affiliates import Affiliates
from gateway.proving.simulation.checks.states import Report
from gateway.proving.simulation.checks.told import Remains
from gateway.proving.simulation.script.scene import CUSTOMER, OTHER_CUSTOMER, SHARED_WITH, DataScript, K
from schemas.topics import AGGREGATES, offers_topic

ENDED: Final = "no offer is made or used after its consent's end"
BEYOND: Final = "no offer goes beyond its consent and its campaign"
EXACT: Final = "budgets and caps are exact"
BOOKS: Final = "affiliates and gateway agree about offers"
WITHDRAWN: Final = "an offer ends with what permits it"
COMPLETE: Final = "who may have an offer gets it"
AGGREGATES_HOLD: Final = "an aggregate tells of nobody"

_OPEN: Final = frozenset({"AUTH", "SUSP"})


class OfferAuditor:
    """Looks at every commit: whoever makes or counts holds the locks of what is committed of consents and campaigns."""

    def __init__(self, database: Database, report: Report) -> None:
        self._db = database
        self._report = report

    def committed(self, written: Mapping[str, Mapping[Any, Any]]) -> None:
        """Look at one commit, right before it becomes visible."""
        offers: Mapping[Any, Offer] = written.get("offer", {})
        uses: Mapping[Any, StoredUse] = written.get("offer_use", {})
        every: dict[Any, Offer] = {**self._db.marketing.offers.rows, **offers}
        for key, offer in offers.items():
            if key not in self._db.marketing.offers.rows:
                self._granted(offer, offers)
        for use in uses.values():
            if use.reason is None:
                self._used(use, every.values(), uses)
        for campaign_id, row in written.get("campaign", {}).items():
            self._exact(row, [o for o in every.values() if o.campaign_id == campaign_id])

    def _granted(self, offer: Offer, written: Mapping[Any, Offer]) -> None:
        name = f"offer of {offer.campaign_id} to {offer.customer_id} under {offer.consent_key[1]}"
        consent = self._permitting(offer.consent_key, name)
        campaign = self._db.marketing.campaigns.rows[offer.campaign_id].campaign
        if consent is not None and consent.terms.marketing is not None:
            purpose = consent.terms.marketing
            channels = {c.value for c in purpose.channels} & {c.value for c in campaign.channels}
            mine = consent.terms.customer_id == offer.customer_id and consent.version == offer.consent_version
            if offer.affiliate_id not in purpose.affiliates or not set(offer.channels) <= channels or not mine:
                self._report(BEYOND, f"{name} by {offer.affiliate_id} on {offer.channels}")
            if not offer.granted_at < offer.expires_at <= min(campaign.ends_at, purpose.until):
                self._report(BEYOND, f"{name} until {offer.expires_at}")
        # Those of one commit are made in the order of their campaigns.
        stood = self._db.marketing.offers.rows
        new = [o for o in written.values() if o.key not in stood and o.campaign_id < offer.campaign_id]
        theirs = [o for o in (*stood.values(), *new) if o.customer_id == offer.customer_id]
        groups = {r.campaign_id: r.campaign.exclusive_group for r in self._db.marketing.campaigns.rows.values()}
        group = campaign.exclusive_group
        if group is not None and any(groups[o.campaign_id] == group for o in theirs):
            self._report(EXACT, f"{name}, who has one of {group}")
        # All offers of a world are made within a campaign's days.
        if len(theirs) >= campaign.frequency.offers:
            self._report(EXACT, f"{name} after {len(theirs)} others")
        paid = [
            p
            for p in self._db.payments.rows.values()
            if p.consent_key == offer.consent_key and p.operation.value == "purchase" and p.state.value == "settled"
        ]
        if len(paid) < campaign.segment.payments_min:
            self._report(BEYOND, f"{name}, who has paid {len(paid)} times")

    def _used(self, use: StoredUse, every: Iterable[Offer], uses: Mapping[Any, StoredUse]) -> None:
        name = f"use {use.use_id} of {use.affiliate_id}"
        offer = next((o for o in every if o.offer_id == use.offer_id), None)
        if offer is None or offer.affiliate_id != use.affiliate_id or use.amount_minor > offer.worth_minor:
            self._report(BEYOND, f"{name} counts {use.amount_minor} on {offer and offer.affiliate_id}'s offer")
            return
        self._permitting(offer.consent_key, name)
        counted = [
            u
            for u in {**self._db.marketing.uses.rows, **uses}.values()
            if u.reason is None and u.offer_id == use.offer_id
        ]
        if len(counted) != offer.uses or sum(u.amount_minor for u in counted) != offer.used_minor:
            self._report(EXACT, f"{name}: {len(counted)} are counted, the offer says {offer.uses}")

    def _permitting(self, key: ConsentKey, what: str) -> Consent | None:
        consent = self._db.consents.rows.get(key)
        if consent is None or consent.status.value != "AUTH" or "marketing" in consent.ended:
            status = "missing" if consent is None else f"{consent.status}, without {', '.join(sorted(consent.ended))}"
            self._report(ENDED, f"{what}: {key[1]} is {status}")
            return None
        return consent

    def _exact(self, row: CampaignRow, offers: list[Offer]) -> None:
        budget = row.campaign.budget
        held = sum(o.worth_minor * (o.uses_max - o.uses) for o in offers if o.state.value == "open")
        used = sum(o.used_minor for o in offers)
        count = sum(1 for o in offers if o.uses or o.state.value == "open")
        if (row.offers, row.held_minor, row.used_minor) != (count, held, used):
            stands = (row.offers, row.held_minor, row.used_minor)
            self._report(EXACT, f"{row.campaign_id}: {stands}, its offers say {(count, held, used)}")
        if count > budget.offers or held + used > budget.amount.minor:
            self._report(EXACT, f"{row.campaign_id} is over its budget: {count} offers, {held} held, {used} used")


# --- at rest ---


def check_offers(remains: Remains, affiliates: Affiliates, data: DataScript) -> None:
    """Lay the affiliates' books beside the offers, the uses and the consents."""
    rows = remains.database.marketing.offers.rows
    offers = {o.offer_id: o for o in rows.values()}
    for affiliate in SHARED_WITH:
        _books(remains, affiliate, {i: o for i, o in offers.items() if o.affiliate_id == affiliate}, affiliates)
    for offer in offers.values():
        consent = remains.database.consents.rows[offer.consent_key]
        purpose = consent.terms.marketing
        over = consent.status.value not in _OPEN or "marketing" in consent.ended or purpose is None
        if over and offer.state.value == "open":
            remains.violated(WITHDRAWN, f"{offer.campaign_id} under {offer.consent_key[1]}, which is {consent.status}")
    logged = Counter(e.use.reference for e in remains.database.disclosure_entries if e.use.kind.value == "offer")
    if logged != Counter(str(i) for i in offers):
        remains.violated("every use is logged once", f"{len(offers)} offers, in the disclosure log {dict(logged)}")
    _eligible(remains, data)
    _aggregates(remains)


def _books(remains: Remains, affiliate: str, offers: Mapping[UUID, Offer], affiliates: Affiliates) -> None:
    told = _read(remains, affiliate)
    over = {str(i) for i, o in offers.items() if o.state.value in ("revoked", "expired")}
    uses = {u.use_id: u for u in remains.database.marketing.uses.rows.values() if u.affiliate_id == affiliate}
    counted = {u.use_id for u in uses.values() if u.reason is None}
    for what, stands, read in (
        ("granted", {str(i) for i in offers}, told["offer-granted"]),
        ("withdrawn", over, told["offer-withdrawn"]),
        ("counted", counted, told["use-counted"]),
    ):
        if Counter(stands) != read:
            remains.violated(BOOKS, f"{affiliate} was told of {what} {dict(read)}, there are {sorted(stands)}")
    mine = {use_id: use for (who, use_id), use in affiliates.uses.items() if who == affiliate}
    for use_id in mine.keys() | uses.keys():
        if use_id not in mine or use_id not in uses:
            where = "was told by nobody" if use_id not in mine else "was never answered"
            remains.violated(BOOKS, f"{use_id} of {affiliate} {where}")
        elif (mine[use_id].offer_id, mine[use_id].amount_minor) != (uses[use_id].offer_id, uses[use_id].amount_minor):
            remains.violated(BOOKS, f"{use_id} of {affiliate} is counted as another use")


def _read(remains: Remains, affiliate: str) -> Mapping[str, Counter[str]]:
    """What the affiliate read, each event once: kind → offer, or use → how often."""
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seen: set[bytes] = set()
    for record in remains.kafka.records(offers_topic(affiliate)):
        headers = dict(record.headers)
        if headers["ce_id"] in seen:
            continue
        seen.add(headers["ce_id"])
        body = json.loads(record.value)
        kind = headers["ce_type"].decode().split(".")[3]
        if any(c.encode() in record.value for c in (CUSTOMER, OTHER_CUSTOMER)):
            remains.violated(BEYOND, f"{record.reference} names the customer")
        if kind in ("offer-granted", "use-counted") and told["offer-withdrawn"][body["offer_id"]]:
            remains.violated(WITHDRAWN, f"{record.reference}: {kind} of an offer that was withdrawn")
        told[kind][body.get("use_id", body["offer_id"])] += 1
    return told


def _eligible(remains: Remains, data: DataScript) -> None:
    """Who has paid under a consent that stayed as it was has the offer that is for all."""
    database = remains.database
    had = {o.customer_id for o in database.marketing.offers.rows.values() if o.campaign_id == FOR_ALL}
    row = database.marketing.campaigns.rows[FOR_ALL]
    campaign = next(c for c in data.campaigns if c.campaign_id == FOR_ALL)
    left = campaign.budget.amount.minor - row.held_minor - row.used_minor
    for payment in database.payments.rows.values():
        mark = database.consent_marks.rows.get(payment.consent_key)
        consent = database.consents.rows[payment.consent_key] if mark is not None else None
        if consent is None or mark is None or mark.changes or consent.terms.marketing is None:
            continue
        settled = payment.operation.value == "purchase" and payment.state.value == "settled"
        lasting = (consent.terms.marketing.until - consent.terms.valid_from).days > 100
        if settled and lasting and left >= campaign.offer_cost and consent.terms.customer_id not in had:
            remains.violated(COMPLETE, f"{consent.terms.customer_id} has no offer of {FOR_ALL}")


FOR_ALL: Final = "spring"
"""The campaign that excludes nobody."""


def _aggregates(remains: Remains) -> None:
    database = remains.database
    owners = {key: c.terms.customer_id for key, c in database.consents.rows.items()}
    payments: dict[UUID, Payment] = {p.payment_id: p for p in database.payments.rows.values()}
    tables: Counter[tuple[str, str, int]] = Counter()
    seen: set[bytes] = set()
    for record in remains.kafka.records(AGGREGATES):
        event_id = dict(record.headers)["ce_id"]
        if event_id in seen:
            continue
        seen.add(event_id)
        table = json.loads(record.value)
        name = (table["week"], table["currency"], table["revision"])
        tables[name] += 1
        counted = database.marketing.published.rows.get(name, ())
        for row in counted:
            paid = payments[row.payment_id]
            if owners[paid.consent_key] != row.customer_id or paid.amount_minor != row.amount_minor:
                remains.violated(AGGREGATES_HOLD, f"{name} counts {paid.order_id} as another's")
        for cell in table["cells"]:
            of = [r for r in counted if cell.get("category") in (None, r.category)]
            of = [r for r in of if cell.get("region") in (None, r.region)]
            if cell.get("suppressed"):
                continue
            told = (cell["customers"], cell["payments"], int(cell["amount"]["value"]))
            if told != (len({r.customer_id for r in of}), len(of), sum(r.amount_minor for r in of)) or told[0] < K:
                remains.violated(AGGREGATES_HOLD, f"{name} tells {told} of {len(of)} payments")
    if tables != Counter(database.marketing.published.rows.keys()):
        remains.violated(AGGREGATES_HOLD, f"published {sorted(database.marketing.published.rows)}, told {dict(tables)}")
