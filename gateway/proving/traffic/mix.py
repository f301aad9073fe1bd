"""The mix of orders: what is sent, in which order, and how each record must end. Follows from the seed alone.

Every entry is one record on the orders topic. ``kind`` names a row of :data:`KINDS`, which tells people what it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from random import Random
from typing import Final, NamedTuple

from gateway.proving.books.evidence import Ending
from gateway.proving.counterparts.idp.provider import Group
from gateway.proving.traffic.cast import DAY_AMOUNT_KRW, DAY_COUNT, KRW_PER_PAYMENT_MAX, STORY, Cast, Customer, Role
from gateway.proving.traffic.identities import EXEMPT_COUNT, EXEMPT_KRW, GROUPS, PROOF_FREE, needs_proof
from gateway.proving.traffic.shops import BLOCKED, CLOSED, FOOD_SHOPS, OPEN_SHOPS, OTHER_SHOPS, Shop
from gateway.proving.traffic.spoiling import SPOILS

ORDERS_MIN: Final = 150
"""Below this the mix cannot hold one of each kind."""


@unique
class Wave(StrEnum):
    """When a record is sent."""

    MAIN = "main"
    STORY = "story"  # of a few customers, one by one, between their commands on consents
    SILENT_BOOKED = "silent_booked"  # the network books and does not answer
    SILENT_LOST = "silent_lost"  # the network neither books nor answers
    LATE = "late"  # the network answers after the gateway has given up
    REVOKED = "revoked"  # after the consents were revoked
    RETURNED = "returned"  # at the end: what is cancelled, and what is given back of earlier payments
    LEAVING = "leaving"  # after the day: around the moment at which a customer revokes everything


class Kind(NamedTuple):
    """One kind of record.

    Attributes:
        share: of all records, in parts of ten thousand; the rest are plain payments.
        ends: endings that are right.
        told: in plain words.
    """

    share: int
    ends: frozenset[Ending]
    told: str


def _only(*endings: Ending) -> frozenset[Ending]:
    return frozenset(endings)


_S, _R, _D = _only(Ending.SETTLED), _only(Ending.REJECTED), _only(Ending.DEAD_LETTER)
# A machine that stalls may send some of these only after the network woke up again.
_REVERSED: Final = _only(Ending.REVERSED, Ending.SETTLED)

KINDS: Final[Mapping[str, Kind]] = {
    "payment": Kind(0, _S, "paid, cleared and settled"),
    "paid_financial": Kind(0, _S, "paid with a proof of the financial group's identity provider, at either group"),
    "paid_telecom": Kind(0, _S, "paid with a proof of the telecom group's identity provider, at either group"),
    "exempt": Kind(0, _S, "paid without a proof, by the consent's low-value exemption"),
    "story_paid": Kind(0, _S, "paid under a consent granted a moment before (the story below)"),
    "declined": Kind(600, _only(Ending.DECLINED), "declined by the network"),
    "repeated": Kind(150, _R, "the same order sent twice: answered again, paid once"),
    "id_reused": Kind(70, _R, "an order id used again for another amount"),
    "tampered": Kind(80, _D, "amount changed after signing"),
    "foreign_key": Kind(30, _D, "signed with another partner's key"),
    "unknown_key": Kind(30, _D, "signed with a key nobody registered"),
    "alg_none": Kind(30, _D, 'a signature of "alg": "none"'),
    "unsigned": Kind(30, _D, "not signed at all"),
    "other_typ": Kind(20, _D, "a signature made for another kind of message"),
    "payee_not_allowed": Kind(50, _R, "a shop that the consent does not allow"),
    "payee_blocked": Kind(30, _R, "a shop that the consent blocks"),
    "payee_unknown": Kind(30, _R, "a shop that nobody knows"),
    "payee_closed": Kind(20, _R, "a shop that has closed"),
    "over_payment": Kind(80, _R, "over the limit per payment"),
    "over_day_amount": Kind(60, _R, "over the daily amount"),
    "over_day_count": Kind(40, _R, "over the daily number of payments"),
    "used_up": Kind(30, _R, "second use of a single-use consent"),
    "currency": Kind(20, _R, "a currency that the consent does not allow"),
    "proof_missing": Kind(60, _R, "no proof where one is asked for"),
    "proof_other_amount": Kind(40, _R, "a proof that was made for another amount"),
    "proof_replayed": Kind(40, _R, "a proof whose id (jti) another payment has used"),
    "proof_expired": Kind(30, _R, "a proof that has expired"),
    "proof_weak": Kind(30, _R, "a proof of too low a level"),
    "proof_other_person": Kind(30, _R, "somebody else's proof"),
    "exempt_used_up": Kind(30, _R, "no proof, and the exemption is used up"),
    "story_limit": Kind(0, _R, "over the daily limit of that consent"),
    "story_revoked": Kind(0, _R, "under that consent, revoked by its customer"),
    "expired": Kind(50, _R, "past its expiry"),
    "future": Kind(20, _R, "issued in the future"),
    "valid_too_long": Kind(20, _R, "valid for more than a day"),
    "dated_today": Kind(40, _S, "for a day, which is today: paid at once"),
    "dated_before": Kind(20, _R, "for a day before its issue"),
    "dated_too_far": Kind(20, _R, "for a day that is more than a year away"),
    "no_consent": Kind(30, _R, "under a consent that does not exist"),
    "stolen_card": Kind(30, _R, "under a consent over another customer's card"),
    "card_withdrawn": Kind(20, _R, "with a card that its customer lets the partner use no longer"),
    "suspended": Kind(30, _R, "under a suspended consent"),
    "consent_over": Kind(30, _R, "under a consent that has ended"),
    "revoked": Kind(60, _R, "under a consent that was revoked a moment before"),
    "malformed": Kind(100, _D, "bytes that are no order, and that nobody signed"),
    "faulty": Kind(100, _R, "signed, and with a fault: the partner is told which field"),
    "odd_headers": Kind(20, _S, "signed, and with headers that are wrong and decide nothing"),
    "cancelled": Kind(40, _only(Ending.REVERSED), "cancelled after its approval: reversed at the network"),
    "cancelled_first": Kind(20, _R, "cancelled before it came: never sent"),
    "refund_part": Kind(0, _S, "a part of an earlier payment given back"),
    "refund_over": Kind(30, _R, "more given back than what was left of the payment"),
    "silent_booked": Kind(60, _REVERSED, "the network booked it and fell silent: asked, found and kept; or undone"),
    "silent_lost": Kind(60, _REVERSED, "the network never saw it, and was silent: reversed to be certain"),
    "leaving_paid": Kind(0, _S, "by the customer who will revoke everything"),
    "leaving_open": Kind(0, _S, "by that customer, and cleared only after the revocation: settled, and not shared"),
    "leaving_race": Kind(0, _only(Ending.SETTLED, Ending.REJECTED), "by that customer, around the revocation"),
    "leaving_late": Kind(0, _R, "by that customer, after the revocation"),
    "late": Kind(30, _REVERSED, "approved too late: kept where the network was asked; or undone"),
}

_SILENT_MAX: Final = 120
"""Records of one kind of silence: below a network's window, so that all of them are under way at once."""

_SILENT: Final = (Wave.SILENT_BOOKED, Wave.SILENT_LOST, Wave.LATE)

DECLINES: Final[Mapping[str, str]] = {"051": "51", "061": "61", "065": "65", "041": "41", "091": "91", "005": "05"}
"""Trailing digits of an amount → the DE39 that the simulated network answers. No other amount of the mix ends so."""

PAID: Final[frozenset[str]] = frozenset(("payment", *(f"paid_{group}" for group in GROUPS)))
"""Kinds of ordinary good orders; which of them one is follows from its amount and the provider that is asked."""

_WITHOUT_PROOF: Final = frozenset(("proof_missing", "exempt", "exempt_used_up"))

_REFUND_PARTS: Final = 2
"""Refunds of each payment that is refunded, a quarter of it each, before one that is too large."""

_STORY_KRW: Final = (60_000, 55_000, 60_000, 60_000)
_STORY_KINDS: Final = ("story_paid", "story_paid", "story_limit", "story_revoked")
"""One customer's orders: two that fit, one over either limit, and one after the consent's end."""

_LEAVING_KRW: Final = 480_000
_LEAVING: Final[Mapping[str, int]] = {"leaving_paid": 4, "leaving_open": 1, "leaving_race": 8, "leaving_late": 2}

NO_SHOP: Final = "m-no-such-shop"
NO_CONSENT: Final = "c-no-such-consent"


@dataclass(frozen=True, slots=True)
class Planned:
    """One record to send.

    Attributes:
        kind: a row of :data:`KINDS`.
        order_id: of its own, but for ``repeated`` (the very bytes of the order's first record) and ``id_reused``.
        spoil: which of the ways that :data:`gateway.proving.traffic.spoiling.SPOILS` has for its kind.
        proof: the group whose identity provider proves that the customer wants it; None: nobody does.
        jti_of: the order whose proof's id is used again.
        refund_of: the order whose payment this one refunds; None: it is no refund.
    """

    kind: str
    wave: Wave
    partner_id: str
    order_id: str
    consent_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    spoil: str | None = None
    proof: Group | None = None
    jti_of: str | None = None
    refund_of: str | None = None

    @property
    def ends(self) -> frozenset[Ending]:
        """Endings that are right."""
        return KINDS[self.kind].ends


def counts_of(orders: int) -> dict[str, int]:
    """How many records of each kind but plain payments a run of ``orders`` has.

    Raises:
        ValueError: fewer than :data:`ORDERS_MIN`.
    """
    if orders < ORDERS_MIN:
        raise ValueError(f"the mix needs at least {ORDERS_MIN} orders")
    counts = {name: max(1, orders * kind.share // 10_000) for name, kind in KINDS.items() if kind.share}
    for wave in _SILENT:
        counts[wave.value] = min(max(3, counts[wave.value]), _SILENT_MAX)
    counts["refund_part"] = _REFUND_PARTS * counts["refund_over"]
    counts["exempt"] = counts["exempt_used_up"] * (EXEMPT_COUNT + 1)
    for kind in _STORY_KINDS:
        counts[kind] = len(STORY) * _STORY_KINDS.count(kind)
    return counts | dict(_LEAVING)


def roles_for(orders: int) -> dict[Role, int]:
    """How many customers of each role such a run needs."""
    counts = counts_of(orders)
    return {
        Role.PLAIN: max(40, orders // 15),
        Role.FOOD_ONLY: max(5, orders // 200),
        Role.DAY_AMOUNT: counts["over_day_amount"],
        Role.DAY_COUNT: counts["over_day_count"],
        Role.SINGLE_USE: counts["used_up"],
        Role.THIEF: 4,
        Role.UNTRUSTED: 2,
        Role.SUSPENDED: 3,
        Role.EXPIRED: 3,
        Role.REVOKED: max(1, counts["revoked"] // 3),
        Role.EXEMPT: counts["exempt_used_up"],
        **dict.fromkeys((*STORY, Role.LEAVER), 1),
    }


def plan(orders: int, cast: Cast, seed: int) -> list[Planned]:
    """Plan exactly ``orders`` records, wave after wave; records of one consent keep their order.

    Args:
        orders: at least :data:`ORDERS_MIN`.
        cast: with the customers that :func:`roles_for` tells.
        seed: the same seed and customers give the same plan.
    """
    return _Planner(orders, cast, seed).run()


class _Planner:
    def __init__(self, orders: int, cast: Cast, seed: int) -> None:
        self._orders = orders
        self._counts = counts_of(orders)
        self._cast = cast
        self._random = Random(f"mix/{seed}")  # noqa: S311 - reproducible on purpose
        self._seed = seed
        self._number = 0
        self._by_role = {role: cast.of(role) for role in Role}

    def run(self) -> list[Planned]:
        bought = [self._payment() for _ in range(self._counts["refund_over"])]
        later = [
            *self._story(),
            *(self._payment(wave.value, wave=wave) for wave in _SILENT for _ in range(self._counts[wave.value])),
            *(self._under(Role.REVOKED, "revoked", n, wave=Wave.REVOKED) for n in range(self._counts["revoked"])),
            *self._returned(bought),
            *(self._leaving(k, Wave.LEAVING) for k, n in _LEAVING.items() if k != "leaving_paid" for _ in range(n)),
        ]
        spent = [self._leaving("leaving_paid", Wave.MAIN) for _ in range(_LEAVING["leaving_paid"])]
        groups = [*self._scenes(), *self._repetitions(), *([p] for p in (*self._singles(), *bought, *spent))]
        room = self._orders - len(later) - sum(map(len, groups))
        groups.extend([self._payment()] for _ in range(room))
        return [self._with_proof(p) for p in (*self._shuffled(groups), *later)]

    def _with_proof(self, planned: Planned) -> Planned:
        """The record with a proof of either group's provider, if it needs one and is not about having none."""
        is_free = planned.kind in _WITHOUT_PROOF or planned.refund_of is not None
        if planned.proof or is_free or not needs_proof(planned.amount_minor, planned.currency):
            return planned
        group = self._random.choice(GROUPS)
        return replace(planned, proof=group, kind=f"paid_{group}" if planned.kind == "payment" else planned.kind)

    def _returned(self, bought: Sequence[Planned]) -> Iterator[Planned]:
        """Orders that are cancelled, and refunds of what was bought: two that fit, and one over what they leave."""
        for kind in ("cancelled_first", "cancelled"):
            yield from (self._payment(kind, wave=Wave.RETURNED) for _ in range(self._counts[kind]))
        for original in bought:
            # Whole hundreds of won and quarters of a dollar, as all amounts that are not to be declined.
            unit = 25 if original.currency == "USD" else 100
            part = unit * (original.amount_minor // (4 * unit))
            left = original.amount_minor - _REFUND_PARTS * part
            for kind, minor in [*[("refund_part", part)] * _REFUND_PARTS, ("refund_over", left + unit)]:
                yield replace(
                    original,
                    kind=kind,
                    wave=Wave.RETURNED,
                    order_id=self._next_id(),
                    amount_minor=minor,
                    refund_of=original.order_id,
                )

    def _story(self) -> Iterator[Planned]:
        """Each customer's orders: first with a proof of the one group's provider, then of the other's, and so on."""
        for role in STORY:
            for n, (kind, krw) in enumerate(zip(_STORY_KINDS, _STORY_KRW, strict=True)):
                yield replace(self._under(role, kind, 0, krw=krw, wave=Wave.STORY), proof=GROUPS[n % 2])

    def _leaving(self, kind: str, wave: Wave) -> Planned:
        return self._under(Role.LEAVER, kind, 0, krw=_LEAVING_KRW, wave=wave)

    def _shuffled(self, groups: list[list[Planned]]) -> list[Planned]:
        """All records in random order, but those of one group in the group's."""
        placed: list[tuple[float, int, Planned]] = []
        for number, group in enumerate(groups):
            moments = sorted(self._random.random() for _ in group)
            placed.extend((moment, number, record) for moment, record in zip(moments, group, strict=True))
        placed.sort(key=lambda item: item[:2])
        return [record for _, _, record in placed]

    def _scenes(self) -> Iterator[list[Planned]]:
        """Payments that fill a limit, and one more that does not fit.

        Of one scene all are for one shop and amount: they go to one network, one after the other.
        """
        part = DAY_AMOUNT_KRW * 2 // 5
        for n in range(self._counts["over_day_amount"]):
            yield self._alike(self._under(Role.DAY_AMOUNT, "", n, krw=part), [*["payment"] * 2, "over_day_amount"])
        for n in range(self._counts["over_day_count"]):
            yield self._alike(self._under(Role.DAY_COUNT, "", n), [*["payment"] * DAY_COUNT, "over_day_count"])
        for n in range(self._counts["used_up"]):
            yield self._alike(self._under(Role.SINGLE_USE, "", n), ["payment", "used_up"])
        for n in range(self._counts["exempt_used_up"]):
            # A proof in between starts the exemption anew.
            kinds = [*["exempt"] * EXEMPT_COUNT, "exempt_used_up", "payment", "exempt"]
            yield self._alike(self._under(Role.EXEMPT, "", n, krw=EXEMPT_KRW), kinds)
        for _ in range(self._counts["proof_replayed"]):
            first = replace(self._dear(), proof=(group := self._random.choice(GROUPS)), kind=f"paid_{group}")
            again = replace(first, kind="proof_replayed", order_id=self._next_id(), jti_of=first.order_id)
            yield [first, again]

    def _alike(self, order: Planned, kinds: Sequence[str]) -> list[Planned]:
        return [replace(order, kind=kind, order_id=self._next_id()) for kind in kinds]

    def _repetitions(self) -> Iterator[list[Planned]]:
        """Orders whose id comes twice."""
        for _ in range(self._counts["repeated"]):
            first = self._payment()
            yield [first, replace(first, kind="repeated")]
        for _ in range(self._counts["id_reused"]):
            first = self._payment()
            yield [first, replace(first, kind="id_reused", amount_minor=first.amount_minor + 1000)]

    def _singles(self) -> Iterator[Planned]:
        for kind, make in self._single_kinds().items():
            for n in range(self._counts[kind]):
                planned = replace(make(n), kind=kind)
                ways = sorted(SPOILS.get(kind, ()))
                yield replace(planned, spoil=ways[n % len(ways)]) if ways else planned

    def _single_kinds(self) -> Mapping[str, Callable[[int], Planned]]:
        suffixes = sorted(DECLINES)
        plain = ("tampered", "foreign_key", "unknown_key", "alg_none", "unsigned", "other_typ", *SPOILS)
        times = ("expired", "future", "valid_too_long", "dated_today", "dated_before", "dated_too_far")
        proofs = ("proof_missing", "proof_other_amount", "proof_expired", "proof_weak", "proof_other_person")

        def declined(n: int) -> Planned:
            planned = self._payment()
            thousands = 1000 * self._random.randrange(3, 90)
            return replace(planned, currency="KRW", amount_minor=thousands + int(suffixes[n % len(suffixes)]))

        def over_limit(_: int) -> Planned:
            won = KRW_PER_PAYMENT_MAX + 100 * self._random.randrange(1, 5000)
            return replace(self._payment(), currency="KRW", amount_minor=won)

        return {
            **{kind: lambda _: self._payment() for kind in (*plain, *times)},
            "declined": declined,
            "over_payment": over_limit,
            "payee_not_allowed": lambda n: self._under(Role.FOOD_ONLY, "", n, shop=self._random.choice(OTHER_SHOPS)),
            "payee_blocked": lambda _: replace(self._payment(), merchant_id=BLOCKED),
            "payee_unknown": lambda _: replace(self._payment(), merchant_id=NO_SHOP),
            "payee_closed": lambda _: replace(self._payment(), merchant_id=CLOSED),
            **{kind: lambda _: self._dear() for kind in proofs},
            "currency": lambda _: replace(self._payment(), currency="EUR", amount_minor=2500),
            "no_consent": lambda n: replace(self._payment(), consent_id=f"{NO_CONSENT}-{n}"),
            "stolen_card": lambda n: self._under(Role.THIEF, "", n),
            "card_withdrawn": lambda n: self._under(Role.UNTRUSTED, "", n),
            "suspended": lambda n: self._under(Role.SUSPENDED, "", n),
            "consent_over": lambda n: self._under(Role.EXPIRED, "", n),
        }

    def _payment(self, kind: str = "payment", *, wave: Wave = Wave.MAIN) -> Planned:
        """A good order of some customer."""
        role = Role.FOOD_ONLY if self._random.random() < 0.05 else Role.PLAIN
        customer = self._random.choice(self._by_role[role])
        shop = self._random.choice(FOOD_SHOPS if role is Role.FOOD_ONLY else OPEN_SHOPS)
        return self._order(customer, kind, shop, wave, dollars=self._random.random() < 0.06)

    def _dear(self) -> Planned:
        """A good order that needs a proof."""
        hundreds = self._random.randrange(PROOF_FREE["KRW"] // 100 + 1, KRW_PER_PAYMENT_MAX // 100)
        return replace(self._payment(), currency="KRW", amount_minor=100 * hundreds)

    def _under(
        self,
        role: Role,
        kind: str,
        n: int,
        *,
        krw: int | None = None,
        shop: Shop | None = None,
        wave: Wave = Wave.MAIN,
    ) -> Planned:
        """An order of the n-th customer of a role (they are taken in turn)."""
        customers = self._by_role[role]
        planned = self._order(customers[n % len(customers)], kind, shop or self._random.choice(OPEN_SHOPS), wave)
        return planned if krw is None else replace(planned, amount_minor=krw)

    def _order(self, customer: Customer, kind: str, shop: Shop, wave: Wave, *, dollars: bool = False) -> Planned:
        won = 100 * self._random.randrange(shop.won_min, shop.won_max + 1)
        return Planned(
            kind=kind,
            wave=wave,
            partner_id=customer.terms.partner_id,
            order_id=self._next_id(),
            consent_id=customer.terms.consent_id,
            merchant_id=shop.merchant_id,
            # Quarters of a dollar, hundreds of won: no amount ends like one that is to be declined.
            amount_minor=25 * self._random.randrange(8, 1200) if dollars else won,
            currency="USD" if dollars else "KRW",
        )

    def _next_id(self) -> str:
        self._number += 1
        return f"o{self._seed}-{self._number:07d}"
