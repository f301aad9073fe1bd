"""The auditor: looks at every commit and at every message that leaves, at the moment when it happens.

Its rules are written anew from the promises; it shares no decision with the code that it watches. What it reads are
rows, as an auditor of a database would.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Usage
from gateway.network.exchange import FinancialRequest, NetworkRequest
from gateway.outbox.store import OutboxRow
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.proving.memory import Database, MemoryHost
from gateway.proving.memory.host import trace_key
from gateway.proving.simulation.checks.offers import OfferAuditor
from gateway.proving.simulation.checks.proofs import ProofAuditor
from gateway.proving.simulation.checks.shares import ShareAuditor
from gateway.proving.simulation.checks.states import IN_FLIGHT, STANDING, Report
from gateway.proving.simulation.checks.watching_exports import ExportAuditor
from gateway.proving.simulation.script.scene import OWN_PANS, TOKEN, Script
from schemas.consents import ConsentTerms

NEXT: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"sent", "rejected", "scheduled"}),
    "scheduled": frozenset({"sent", "rejected", "reversed"}),
    "sent": frozenset({"approved", "declined", "unknown", "rejected"}),
    "unknown": frozenset({"reversed", "approved", "declined", "unknown"}),
    "approved": frozenset({"settled", "reversing"}),
    "reversing": frozenset({"reversed"}),
    "settled": frozenset({"approved"}),
}
"""Which states may follow which; none follows any other."""

_POSTED: Final[Mapping[tuple[str, str], str]] = {
    ("sent", "approved"): "authorised",
    ("unknown", "approved"): "authorised",
    ("approved", "settled"): "settled",
    ("reversing", "reversed"): "authorisation_undone",
    ("settled", "approved"): "settlement_undone",
}
"""The one ledger transfer that each step posts; other steps post none."""

_SEOUL: Final = timedelta(hours=9)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment that may be sent: committed at ``at`` (loop time)."""

    at: float
    key: PaymentKey


EXEMPT: Final = "exempt/"
"""Begins the names of windows that payments without a proof count in."""


class Auditor:
    """Watches one world.

    Args:
        report: told (invariant, what is wrong).
        now: loop time.

    Attributes:
        intents: RRN → the intent that may be sent under it.
        states: payment id → every state it went through, in order.
        steps: how often each step of a payment was seen.
        exports: what is seen of exports.
        paid_at: when a payment changed last.
        journal: where a traced world writes everything down.
        withdrawn: the partner may not use its first customer's card now, and whoever believed otherwise has ended.
        key_gone: the partner's key is disabled, and whoever believed otherwise has ended.
    """

    def __init__(
        self,
        database: Database,
        host: MemoryHost,
        report: Report,
        now: Callable[[], float],
        *,
        script: Script,
        wire_bound_s: float,
    ) -> None:
        self._db = database
        self._host = host
        self._report = report
        self._now = now
        self._wire_bound_s = wire_bound_s
        self.intents: dict[str, Intent] = {}
        self.states: dict[str, list[str]] = {}
        self.steps: Counter[str] = Counter()
        self.commits: list[str] = []
        self.journal: list[str] | None = None
        self._proofs = ProofAuditor(database, script, report)
        self._shares = ShareAuditor(database, report)
        self._offers = OfferAuditor(database, report)
        self.exports = ExportAuditor(database, script.data, script.asked, report, now)
        self.paid_at = 0.0
        self.withdrawn = False
        self.key_gone = False
        self._of_consent: dict[ConsentKey, set[PaymentKey]] = {}
        self._left: dict[str, float] = {}
        self._stans: set[tuple[str, int, str]] = set()

    # --- commits ---

    def committed(self, written: Mapping[str, Mapping[Any, Any]], events: Sequence[OutboxRow]) -> None:
        """Look at one commit, right before it becomes visible."""
        payments: Mapping[PaymentKey, Payment] = written.get("payment", {})
        told = _told(events)
        touched: set[ConsentKey] = set()
        for key, payment in payments.items():
            self._step(key, payment, told.pop(str(payment.payment_id), []), written)
            touched.add((payment.partner_id, payment.consent_id))
        for subject in told:
            self._report("events are transitions", f"payment {subject}: an event without a change")
        touched.update((k[0], k[1]) for k in written.get("consent_usage", {}))
        for consent_key, consent in written.get("consent", {}).items():
            self._permission(consent_key, consent)
        for consent in sorted(touched):
            self._usage_exact(consent, written)
        self._proofs.committed(written)
        self._shares.committed(written)
        self._offers.committed(written)
        self.exports.committed(written)
        if payments:
            self.paid_at = self._now()
        if written or events:
            states = " ".join(f"{p.order_id}={p.state}" for p in payments.values())
            self.commits.append(f"{self._now():.6f} {states} {len(events)}")
            if self.journal is not None:
                tables = ", ".join(sorted(written))
                self.journal.append(f"{self._now():9.4f} = commit of {tables}; {len(events)} events; {states}")

    def _step(
        self, key: PaymentKey, payment: Payment, told: list[tuple[int, str]], written: Mapping[str, Mapping[Any, Any]]
    ) -> None:
        before = self._db.payments.rows.get(key)
        name = f"payment of {payment.order_id}"
        first = before.version if before else 0
        state = before.state.value if before else ""
        if [v for v, _ in told] != list(range(first + 1, payment.version + 1)) or (
            told and told[-1][1] != payment.state.value
        ):
            self._report("events are transitions", f"{name}: {state}/{first} → {payment.state}/{payment.version}")
        transfers: list[str] = []
        for _, following in told:
            self._edge(key, name, state, following, written)
            if posted := _POSTED.get((state, following)):
                transfers.append(posted)
            self.steps[f"{state or 'new'} → {following}"] += 1
            self.states.setdefault(str(payment.payment_id), []).append(following)
            if following == "sent":
                self._intent(key, payment, written)
            elif state in IN_FLIGHT:
                self._as_the_network_did(name, payment, following)
            state = following
        posted_now = sorted(kind.value for of, kind, _ in written.get("ledger_transfer", {}) if of == key)
        amounts = {
            row.transfer.amount_minor for (of, *_), row in written.get("ledger_transfer", {}).items() if of == key
        }
        if posted_now != sorted(transfers) or amounts - {payment.amount_minor}:
            self._report("ledger follows the states", f"{name}: {state} with {posted_now}")

    def _edge(
        self, key: PaymentKey, name: str, state: str, following: str, written: Mapping[str, Mapping[Any, Any]]
    ) -> None:
        if following not in NEXT.get(state, ()):
            self._report("states follow their order", f"{name}: {state or 'new'} → {following}")
        row = self._db.reversals.rows.get(key)
        if state == "unknown" and following in STANDING | {"declined"} and row is not None and row.closed_at is None:
            self._report("a queued reversal decides", f"{name}: {following} although it is being reversed")
        if following == "reversed" and state in {"unknown", "reversing"}:
            closing = written.get("reversal", {}).get(key)
            if closing is None or closing.closed_at is None:
                self._report("reversed is confirmed", f"{name}: reversed without the network's word")
        if following == "reversing" and row is None and key not in written.get("reversal", {}):
            self._report("a reversal is queued", f"{name}: {following} with nothing queued")

    def _as_the_network_did(self, name: str, payment: Payment, following: str) -> None:
        """An outcome is the network's: what it has not booked so by now nobody can know."""
        if payment.trace is None:
            return
        entry = self._host.entries.get(trace_key(payment.trace))
        booked = entry.response_code if entry else None
        if (following == "approved" and booked != "00") or (following == "declined" and booked in {None, "00"}):
            self._report("outcomes are the network's", f"{name}: {following}, at the network {booked or 'nothing'}")
        if following == "rejected" and payment.trace.rrn in self._left:
            self._report("outcomes are the network's", f"{name}: withdrawn, though it has left")

    def _intent(self, key: PaymentKey, payment: Payment, written: Mapping[str, Mapping[Any, Any]]) -> None:
        if payment.trace is None:
            self._report("states follow their order", f"payment of {payment.order_id}: sent without trace numbers")
            return
        if payment.trace.rrn in self.intents:
            self._report("trace numbers are used once", f"RRN {payment.trace.rrn} is given to two payments")
        self.intents[payment.trace.rrn] = Intent(self._now(), key)
        if self.key_gone:
            self._report("nothing is sent under a disabled key", f"{payment.order_id} is sent")
        self._card(payment)
        if payment.operation.value != "purchase":
            self._refund_fits(payment, written)
            return
        consent_key = (payment.partner_id, payment.consent_id)
        self._of_consent.setdefault(consent_key, set()).add(key)
        consent = self._db.consents.rows.get(consent_key)
        name = f"payment of {payment.order_id} under {payment.consent_id}"
        if consent is None or consent.status.value != "AUTH" or payment.decided_at >= consent.terms.valid_until:
            status = "missing" if consent is None else f"{consent.status}, until {consent.terms.valid_until:%X}"
            self._report("no intent after a consent's end", f"{name}: the consent is {status}")
        elif "payment" in consent.ended:
            self._report("no intent after a consent's end", f"{name}: the purpose to pay is over")
        elif consent.terms.payment is not None:
            self._proofs.intended(payment, consent, written)
            self._within_limits(name, payment, consent, written)

    def _permission(self, key: ConsentKey, consent: Consent) -> None:
        """No command gives a permission to pay with another customer's card."""
        before = self._db.consents.rows.get(key)
        granted = before is not None and before.status is not consent.status and consent.status.value == "AUTH"
        given = before is None or before.version != consent.version or granted
        if given and not self._is_owned(consent):
            self._report("nobody pays with another's card", f"{key[1]} is {consent.status} over a foreign card")

    def _card(self, payment: Payment) -> None:
        name = f"payment of {payment.order_id} under {payment.consent_id}"
        consent = self._db.consents.rows.get((payment.partner_id, payment.consent_id))
        own = consent is not None and (payment.operation.value != "purchase" or self._is_owned(consent))
        row = self._db.tokens.rows.get(payment.funding_token) if payment.funding_token else None
        if not own or consent is None or row is None or row.customer_id != consent.terms.customer_id:
            self._report("nobody pays with another's card", f"{name}: {payment.funding_token} is another's")
        if self.withdrawn and payment.operation.value == "purchase" and payment.funding_token == TOKEN:
            self._report("no payment after a permission's end", f"{name}: the card was withdrawn")

    def _is_owned(self, consent: Consent) -> bool:
        purpose = consent.terms.payment
        row = self._db.tokens.rows.get(purpose.funding_token) if purpose else None
        return purpose is None or (row is not None and row.customer_id == consent.terms.customer_id)

    def _refund_fits(self, refund: Payment, written: Mapping[str, Mapping[Any, Any]]) -> None:
        now: Mapping[PaymentKey, Payment] = written.get("payment", {})
        every = {**self._db.payments.rows, **now}
        original = next((p for p in every.values() if p.payment_id == refund.original_payment_id), None)
        back = sum(
            p.amount_minor
            for p in every.values()
            if p.original_payment_id == refund.original_payment_id and p.state.value in STANDING | IN_FLIGHT
        )
        if original is None or original.state.value not in {"approved", "settled"} or back > original.amount_minor:
            name = f"{original.order_id}, {original.state}" if original else "nothing"
            self._report("never more is given back", f"{refund.order_id} refunds {name}: {back} in all")

    # --- limits ---

    def _within_limits(
        self, name: str, payment: Payment, consent: Consent, written: Mapping[str, Mapping[Any, Any]]
    ) -> None:
        at = payment.decided_at
        # What passes without a proof is counted beside the limits; invariants.py looks at it.
        counted = {(w.limit_key, w.starts_at) for w in payment.windows if not w.limit_key.startswith(EXEMPT)}
        caps = _caps(consent.terms, at)
        if counted != {(key, start) for key, start, *_ in caps}:
            self._report("limits are exact", f"{name}: counted in {sorted(k for k, _ in counted)}")
        using = [p for p in self._payments(consent_key_of(payment), written) if p.state.value in STANDING | IN_FLIGHT]
        for key, start, minor, count in caps:
            inside = [
                p.amount_minor for p in using if any((w.limit_key, w.starts_at) == (key, start) for w in p.windows)
            ]
            if (minor is not None and sum(inside) > minor) or (count is not None and len(inside) > count):
                self._report("limits hold", f"{name}: {key} is passed by {len(inside)} payments of {sum(inside)}")

    def _usage_exact(self, consent: ConsentKey, written: Mapping[str, Mapping[Any, Any]]) -> None:
        want: dict[tuple[str, datetime], list[int]] = {}
        for payment in self._payments(consent, written):
            if payment.state.value not in IN_FLIGHT | STANDING:
                continue
            for window in payment.windows:
                sums = want.setdefault((window.limit_key, window.starts_at), [0, 0])
                sums[0] += payment.amount_minor
                sums[1] += 1
        rows = dict(written.get("consent_usage", {}))
        keys = {*rows, *(k for k in self._db.usage.rows if (k[0], k[1]) == consent)}
        for key in keys:
            if (key[0], key[1]) != consent:
                continue
            used: Usage = rows.get(key) or self._db.usage.rows[key]
            have = [used.taken_minor, used.taken_count]
            wanted = want.pop((key[2].limit_key, key[2].starts_at), [0, 0])
            if have != wanted:
                self._report("limits are exact", f"{consent[1]} {key[2].limit_key}: {have}, its payments say {wanted}")
        for (limit, _), sums in want.items():
            if any(sums):
                self._report("limits are exact", f"{consent[1]} {limit}: nothing, its payments say {sums}")

    def _payments(self, consent: ConsentKey, written: Mapping[str, Mapping[Any, Any]]) -> Iterable[Payment]:
        now: Mapping[PaymentKey, Payment] = written.get("payment", {})
        for key in self._of_consent.get(consent, ()):
            payment = now.get(key) or self._db.payments.rows.get(key)
            if payment is not None:
                yield payment

    # --- the wire ---

    def left(self, request: NetworkRequest) -> None:
        """Look at a message that leaves."""
        if self.journal is not None:
            self.journal.append(f"{self._now():9.4f} > {type(request).__name__} {request.trace.rrn} leaves")
        if not isinstance(request, FinancialRequest):
            return
        rrn, now = request.trace.rrn, self._now()
        if request.card.pan not in OWN_PANS:
            self._report("nobody pays with another's card", f"0200 {rrn} names the card of another customer")
        intent = self.intents.get(rrn)
        if intent is None:
            self._report("intent before the wire", f"0200 {rrn} leaves without a committed intent")
        elif now - intent.at > self._wire_bound_s:
            self._report("nothing leaves late", f"0200 {rrn} leaves {now - intent.at:.3f} s after its intent")
        if rrn in self._left:
            self._report("sent once", f"0200 {rrn} leaves a second time")
        self._left[rrn] = now
        number = (request.trace.terminal_id, request.trace.stan, f"{request.trace.transmitted_at:%j}")
        if number in self._stans:
            self._report("trace numbers are used once", f"STAN {request.trace.stan} is used twice in a day")
        self._stans.add(number)


def consent_key_of(payment: Payment) -> ConsentKey:
    """Whose limits a payment counts in."""
    return (payment.partner_id, payment.consent_id)


def _told(events: Sequence[OutboxRow]) -> dict[str, list[tuple[int, str]]]:
    """Payment id → (version, state) of each event that tells a new state."""
    told: dict[str, list[tuple[int, str]]] = {}
    for row in events:
        subject, _, version = row.event.event_id.partition(":")
        if row.event.event_type.startswith("kr.mypay.payment.") and version.isdigit():
            told.setdefault(subject, []).append((int(version), row.event.event_type.split(".")[3]))
    return told


def _caps(terms: ConsentTerms, at: datetime) -> list[tuple[str, datetime, int | None, int | None]]:
    """Limit, its window's start, and what it allows, of a world's terms: all in one currency."""
    purpose = terms.payment
    if purpose is None:
        return []
    begun = terms.valid_from
    caps: list[tuple[str, datetime, int | None, int | None]] = []
    if purpose.single_use:
        caps.append(("single-use", begun, None, 1))
    if purpose.lifetime_count is not None:
        caps.append(("lifetime/count", begun, None, purpose.lifetime_count))
    caps.extend((f"lifetime/{m.currency}", begun, m.minor, None) for m in purpose.lifetime_amounts)
    seoul = at + _SEOUL
    today = datetime(seoul.year, seoul.month, seoul.day, tzinfo=UTC) - _SEOUL
    for limit in purpose.period_limits:
        if limit.max_amount is not None:
            caps.append((f"day/calendar/{limit.max_amount.currency}", today, limit.max_amount.minor, None))
        else:
            caps.append(("day/calendar/count", today, None, limit.max_count))
    return caps
