"""Writes down again what a restored database has forgotten, batch by batch.

Each batch is one transaction under the locks that intents take. What stands already is left as it is, so all of it can
be cut and run again at any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from msgspec import Struct, structs

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.exemption import exempt_window
from gateway.consents.rules.limits import UsageKey, WindowKey
from gateway.consents.store import UsageChange
from gateway.payments.proofs import uses_of
from gateway.payments.restoring.rules import (
    AFTER_ASKING,
    AFTER_SENT,
    AMBIGUOUS,
    NEVER_SENT,
    Told,
    UnplacedError,
    catch_up,
    forgotten_purchase,
    forgotten_refund,
)
from gateway.payments.rules.intent import OrderOrRefund
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.store import ExecutionUnit, lock_or_find
from gateway.payments.transitions import apply_changes, payment_events
from schemas.primitives import NetworkId

NOT_HANDED_ON: Final = "it was handed to execution before what was read: run this again with a greater --margin"


class HandedOn(Struct, frozen=True, gc=False):
    """A record of an execution's topic.

    Attributes:
        judged_at: when it was handed on.
        place: the record's topic, partition and offset.
    """

    received: OrderOrRefund
    network_id: NetworkId
    judged_at: datetime
    place: str

    @property
    def key(self) -> PaymentKey:
        """Of the payment that it can have."""
        return self.received.key


def ambiguous(handed_on: Iterable[HandedOn]) -> Mapping[PaymentKey, Sequence[str]]:
    """Payments that were handed to several networks, or with several contents → where; what came twice is one."""
    seen: dict[PaymentKey, dict[tuple[NetworkId, bytes], str]] = {}
    for one in handed_on:
        seen.setdefault(one.key, {}).setdefault((one.network_id, one.received.digest), one.place)
    return {key: list(places.values()) for key, places in seen.items() if len(places) > 1}


@dataclass(slots=True)
class Found:
    """What was found again.

    Attributes:
        again: payments that stand again, as they were told of; in_doubt: those that nobody was told of.
        caught_up: payments that stood at an earlier state than was told.
        unplaced: payments of which what was told does not fit what is there, each with why: for people.
    """

    again: list[PaymentKey] = field(default_factory=list)
    in_doubt: list[PaymentKey] = field(default_factory=list)
    caught_up: list[PaymentKey] = field(default_factory=list)
    unplaced: dict[PaymentKey, str] = field(default_factory=dict)

    def add(self, other: "Found") -> None:
        """Count another batch."""
        self.again += other.again
        self.in_doubt += other.in_doubt
        self.caught_up += other.caught_up
        self.unplaced |= other.unplaced


async def find_again(
    uow: ExecutionUnit,
    batch: Sequence[HandedOn],
    told: dict[PaymentKey, Told],
    *,
    terminals: tuple[str, ...],
    now: datetime,
    several: Mapping[PaymentKey, Sequence[str]] = MappingProxyType({}),
) -> Found:
    """Write down the payments of a batch that the database does not know.

    A record that does not fit what was told is passed over: it is not the payment's.

    Args:
        uow: the transaction.
        batch: of one network, in the order of its topic.
        told: of any payment.
        terminals: the network's.
        now: the moment.
        several: of all networks, as :func:`ambiguous` finds them: where nobody was told which was sent, people decide.
    """
    consents = await uow.consents.lock(sorted({one.received.consent_key for one in batch}))
    originals = {o.received.original_key for o in batch if not isinstance(o.received, ReceivedOrder)}
    standing = dict(await lock_or_find(uow.payments, sorted({*(one.key for one in batch), *originals})))
    proven = await _Proven.read(uow, consents)
    found, new, due = Found(), list[Payment](), list[Payment]()
    for one in batch:
        first = standing.get(one.key)
        if first is not None and not _waits(one.received, first):
            continue
        known = told.get(one.key)
        if known is not None and not known.fits(one.received, one.network_id):
            continue
        try:
            if one.key in several and (known is None or not (known.was_sent or known.ended_unsent)):
                raise UnplacedError(f"{AMBIGUOUS}: {', '.join(several[one.key])}")
            payment = _rebuilt(one, standing, consents, known, terminals, now, proven.exempt(one.received))
        except UnplacedError as error:
            found.unplaced[one.key] = str(error)
            continue
        if first is not None:
            payment = structs.replace(
                payment, version=max(payment.version, first.version + 1), ordered_at=first.ordered_at
            )
        standing[one.key] = payment
        proven.stands(one.received, payment)
        (new if first is None else due).append(payment)
    await _write(uow, new, due)
    await proven.write(uow)
    written = [*new, *due]
    found.in_doubt = [p.key for p in written if p.state is PaymentState.UNKNOWN]
    found.again = [p.key for p in written if p.state is not PaymentState.UNKNOWN]
    await _go_on(uow, [p for p in written if p.state is PaymentState.SENT], told, now)
    return found


@dataclass(slots=True)
class _Proven:
    """Proofs and exemptions of a batch: a proof that was used is used up, and an exemption is the smaller for it.

    Of an order without a proof nobody knows any more whether one was asked for. It counts in the exemption that its
    consent has: a proof is then asked for sooner, never later.
    """

    consents: Mapping[ConsentKey, Consent]
    at: dict[ConsentKey, datetime]
    marked: dict[datetime, list[ConsentKey]] = field(default_factory=dict)
    used: list[ReceivedOrder] = field(default_factory=list)

    @classmethod
    async def read(cls, uow: ExecutionUnit, consents: Mapping[ConsentKey, Consent]) -> "_Proven":
        exempting = sorted(k for k, c in consents.items() if c.terms.payment and c.terms.payment.low_value_exemption)
        return cls(consents, dict(await uow.authentication.authenticated_at(exempting)) if exempting else {})

    def exempt(self, received: OrderOrRefund) -> WindowKey | None:
        """The window that an order without a proof counts in."""
        consent = self.consents.get(received.consent_key)
        if not isinstance(received, ReceivedOrder) or received.assertion is not None or received.proven:
            return None
        terms = consent.terms.payment if consent is not None else None
        exemption = terms.low_value_exemption if terms is not None else None
        amount = received.order.amount
        if consent is None or exemption is None or amount.currency != exemption.max_amount.currency:
            return None
        if amount.minor > exemption.max_amount.minor:
            return None
        return exempt_window(consent.terms, self.at.get(received.consent_key))

    def stands(self, received: OrderOrRefund, payment: Payment) -> None:
        """The payment of the order stands again."""
        if not isinstance(received, ReceivedOrder) or received.assertion is None:
            return
        self.used.append(received)
        consent = self.consents.get(received.consent_key)
        if payment.state not in NEVER_SENT and consent is not None and exempt_window(consent.terms, None):
            self.at[received.consent_key] = payment.decided_at
            self.marked.setdefault(payment.decided_at, []).append(received.consent_key)

    async def write(self, uow: ExecutionUnit) -> None:
        """Use the proofs up, and note from when exemptions count."""
        uses = list(uses_of(self.used).values())
        if uses:
            await uow.authentication.use(uses)
        for at, keys in sorted(self.marked.items()):
            await uow.authentication.mark_authenticated(sorted(set(keys)), now=at)


def _waits(received: OrderOrRefund, first: Payment) -> bool:
    """True if this is the order of a payment that waits for its day here, and may have been sent on it."""
    is_due = isinstance(received, ReceivedOrder) and received.is_due
    return is_due and first.state is PaymentState.SCHEDULED and first.digest_is(received.digest)


def _rebuilt(
    one: HandedOn,
    standing: dict[PaymentKey, Payment],
    consents: Mapping[ConsentKey, Consent],
    told: Told | None,
    terminals: tuple[str, ...],
    now: datetime,
    exempt: WindowKey | None,
) -> Payment:
    received = one.received
    if isinstance(received, ReceivedOrder):
        consent = consents.get(received.consent_key)
        return forgotten_purchase(
            received, consent, told, one.network_id, terminals, judged_at=one.judged_at, now=now, exempt=exempt
        )
    original = standing.get(received.original_key)
    if original is None:
        raise UnplacedError("the payment that it refunds is not there: read further back")
    return forgotten_refund(received, original, told, terminals, judged_at=one.judged_at, now=now)


async def _write(uow: ExecutionUnit, new: Sequence[Payment], due: Sequence[Payment]) -> None:
    await uow.payments.add(new)
    await uow.payments.begin_scheduled(due)
    counting = [p for p in (*new, *due) if p.state not in NEVER_SENT]
    usage: dict[UsageKey, list[int]] = {}
    for payment in counting:
        for window in payment.windows:
            sums = usage.setdefault((payment.partner_id, payment.consent_id, window), [0, 0])
            sums[0] += payment.amount_minor
            sums[1] += 1
    await uow.consents.add_usage([UsageChange(key, *sums) for key, sums in usage.items()])
    # How these ended was told.
    await uow.outbox.append(payment_events(counting))


async def _go_on(uow: ExecutionUnit, sent: Sequence[Payment], told: dict[PaymentKey, Told], now: datetime) -> None:
    changes = [change for p in sent if (change := _change(p.key, AFTER_SENT[told[p.key].state], told[p.key]))]
    await apply_changes(uow, changes, now=now, locked={p.key: p for p in sent})


def _change(key: PaymentKey, kind: PaymentEventKind | None, told: Told) -> Change | None:
    if kind is None:
        return None
    return Change(key, kind, reason=told.last.reason, approval_code=told.last.approval_code)


async def catch_up_with(uow: ExecutionUnit, told: Sequence[Told], *, now: datetime) -> Found:
    """Bring payments that stand at an earlier state than was told up to it; versions go on after those that were told.

    Nothing is done to a payment that does not exist; one that was told as sent is named. So is one that waits for its
    day here and was told as sent: it would be handed on once more.
    """
    locked = await lock_or_find(uow.payments, sorted(t.key for t in told))
    waiting = {t.key for t in told if t.key in locked and _waits_though_sent(locked[t.key], t)}
    behind = {
        t.key: t
        for t in told
        if t.key in locked.keys() - waiting and locked[t.key].version < t.last.version and not locked[t.key].is_archived
    }
    ahead = {key: structs.replace(locked[key], version=t.last.version) for key, t in behind.items()}
    await uow.payments.update(list(ahead.values()))
    asked = [k for k, t in behind.items() if ahead[k].state is PaymentState.UNKNOWN and t.state in AFTER_ASKING]
    open_ = await uow.inquiries.take_away(sorted(asked), now=now)
    kinds = {key: catch_up(ahead[key].state, t.state, inquiry_open=key in open_) for key, t in behind.items()}
    changes = [change for key, t in behind.items() if (change := _change(key, kinds[key], t))]
    await apply_changes(uow, changes, now=now, locked=ahead)
    missing = [t.key for t in told if t.was_sent and (t.key not in locked or t.key in waiting)]
    return Found(caught_up=sorted(behind), unplaced=dict.fromkeys(missing, NOT_HANDED_ON))


def _waits_though_sent(here: Payment, told: Told) -> bool:
    return here.state is PaymentState.SCHEDULED and told.was_sent and catch_up(here.state, told.state) is None
