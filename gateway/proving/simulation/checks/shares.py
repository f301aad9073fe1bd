"""What affiliates were given: judged as it commits, and at rest by the affiliates' own books.

What may be shared is written out anew here: the fields, when nothing may leave, and who must be told to erase.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.proving.memory import Database
from gateway.proving.simulation.checks.states import Report
from gateway.proving.simulation.checks.told import Remains
from gateway.proving.simulation.script.scene import CUSTOMER, OTHER_CUSTOMER, OTHER_TOKEN, SHARED_WITH, TOKEN
from schemas.topics import sharing_topic

ENDED: Final = "nothing is shared after its consent's end"
SCOPE: Final = "no field leaves beyond its scope"
JOINED: Final = "two affiliates cannot join"
ERASED: Final = "what ended must be erased"
CONFIRMED: Final = "erased is what its affiliate has confirmed"
COMPLETE: Final = "what is settled and permitted is shared once"

_FIELDS: Final = {"category", "amount_band", "month"}
"""What the customer agreed to, in every consent of a world."""

_BEYOND: Final = timedelta(days=100)
"""Every consent began 40 days before its world."""

_OPEN: Final = frozenset({"AUTH", "SUSP"})


class ShareAuditor:
    """Looks at every commit: whoever shares holds the consents' locks, so what is committed of them is what counts."""

    def __init__(self, database: Database, report: Report) -> None:
        self._db = database
        self._report = report

    def committed(self, written: Mapping[str, Mapping[Any, Any]]) -> None:
        """Look at the shares of one commit, right before it becomes visible."""
        for (partner_id, payment_id, affiliate), share in written.get("share", {}).items():
            consent = self._db.consents.rows[share.consent_key]
            permitted = consent.status.value == "AUTH" and "sharing" not in consent.ended
            if not permitted or consent.terms.sharing is None or affiliate not in consent.terms.sharing.affiliates:
                self._report(ENDED, f"{payment_id} with {affiliate} under {share.consent_key[1]}: {consent.status}")
            payment = self._db.payments.rows[partner_id, payment_id]
            if payment.operation.value != "purchase" or payment.consent_id != share.consent_key[1]:
                self._report(SCOPE, f"{payment_id} is no purchase under {share.consent_key[1]}")


def check_shares(remains: Remains) -> None:
    """Lay the affiliates' books beside the consents."""
    names: dict[str, str] = {}
    for affiliate in SHARED_WITH:
        shares, notices = _book(remains, affiliate)
        for name in {n for s in shares for n in (s["share_id"], s["customer"], s["consent_ref"])}:
            if names.setdefault(name, affiliate) != affiliate:
                remains.violated(JOINED, f"{name} is a name for {names[name]} and for {affiliate}")
        _told_to_erase(remains, affiliate, shares, notices)
        _complete(remains, affiliate, shares)
    _confirmed(remains)


def _book(remains: Remains, affiliate: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    """What the affiliate read, each event once: shares, and notices by reference."""
    shares, notices, seen = [], Counter[str](), set()
    for record in remains.kafka.records(sharing_topic(affiliate)):
        event_id = dict(record.headers)["ce_id"]
        if event_id in seen:
            continue
        seen.add(event_id)
        if any(secret.encode() in record.value for secret in (CUSTOMER, OTHER_CUSTOMER, TOKEN, OTHER_TOKEN)):
            remains.violated(SCOPE, f"{record.reference} names the customer or the card")
        body = json.loads(record.value)
        if "notice_id" in body:
            notices[body["consent_ref"]] += 1
            continue
        shares.append(body)
        fields = {name for use in body["uses"] for name in use["data"]}
        if fields - _FIELDS:
            remains.violated(SCOPE, f"{record.reference}: {', '.join(sorted(fields - _FIELDS))}")
        if notices[body["consent_ref"]]:
            remains.violated(ERASED, f"{record.reference}: a share after its erase notice")
    return shares, notices


def _told_to_erase(remains: Remains, affiliate: str, shares: list[dict[str, Any]], notices: Counter[str]) -> None:
    by_reference = {
        row.reference: row for row in remains.database.sharing.holders.rows.values() if row.affiliate_id == affiliate
    }
    held = Counter(s["consent_ref"] for s in shares)
    last = {row.key: max(r.round for r in by_reference.values() if r.key == row.key) for row in by_reference.values()}
    for reference in held.keys() | notices.keys():
        row = by_reference[reference]
        consent = remains.database.consents.rows[row.key]
        over = consent.status.value not in _OPEN or "sharing" in consent.ended or row.round < last[row.key]
        # Where its time is over, the notice may come before the consent itself says so.
        owed = (over, True) if _is_short(consent) else (over,)
        if notices[reference] not in owed or not held[reference]:
            text = f"{row.key[1]}, {consent.status}: {held[reference]} shares, {notices[reference]} notices"
            remains.violated(ERASED, f"{affiliate} under {text}")


def _confirmed(remains: Remains) -> None:
    """What counts as erased is what its own affiliate has confirmed, and nothing else; the rest stands open."""
    affiliates = remains.affiliates
    noticed = {r.notice.notice_id: r for r in remains.database.sharing.holders.rows.values() if r.notice is not None}
    for notice_id, holder in noticed.items():
        if (holder.confirmed_at is not None) != (notice_id in affiliates.confirmed):
            stands = "open" if holder.confirmed_at is None else "confirmed"
            remains.violated(CONFIRMED, f"{holder.affiliate_id}'s erasure under {holder.key[1]} stands {stands}")
    for notice_id in (affiliates.confirmed | affiliates.lost) - noticed.keys():
        remains.violated(ERASED, f"{notice_id} was noticed, and is not recorded")


def _complete(remains: Remains, affiliate: str, shares: list[dict[str, Any]]) -> None:
    database = remains.database
    told = Counter(s["share_id"] for s in shares)
    rows = {k[:2]: row for k, row in database.sharing.shares.rows.items() if k[2] == affiliate}
    by_payment: dict[Any, int] = defaultdict(int, {key: told[row.share_id] for key, row in rows.items()})
    if sum(told.values()) != len(rows):
        remains.violated(COMPLETE, f"{affiliate} has {sum(told.values())} shares, {len(rows)} are recorded")
    for key, payment in database.payments.rows.items():
        settled = payment.operation.value == "purchase" and payment.state.value == "settled"
        untouched = _untouched(database, payment.consent_key)
        if by_payment[key] > 1 or (settled and untouched and not by_payment[key]):
            remains.violated(COMPLETE, f"{payment.order_id}: {by_payment[key]} times with {affiliate}")


def _untouched(database: Database, key: ConsentKey) -> bool:
    """True of a consent that permits sharing from before the world began until after its end."""
    mark = database.consent_marks.rows.get(key)
    return mark is not None and mark.changes == 0 and not _is_short(database.consents.rows[key])


def _is_short(consent: Consent) -> bool:
    sharing = consent.terms.sharing
    ends = consent.terms.valid_until if sharing is None else min(sharing.use_until, consent.terms.valid_until)
    return ends - consent.terms.valid_from < _BEYOND
