"""Who takes part in a run: partners of both groups with their keys, and customers with cards and consents.

Everything but the keys follows from the seed. Card numbers are made up, valid by their check digit, and live in memory
only until the vault has sealed them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from random import Random
from string import ascii_lowercase
from typing import Any, Final, Literal

from gateway.client import Signer
from gateway.directory.funding import token_use
from gateway.identity.jose.jwk import PrivateKey, generate_key
from gateway.network.exchange import CardData
from gateway.proving.traffic.identities import EXEMPT_COUNT, EXEMPT_KRW, Identities
from gateway.proving.traffic.receivers import ALL, KINDS_OF_AGREEMENT, Receivers, agreeing
from gateway.proving.traffic.shops import BLOCKED, FOOD_CATEGORIES
from schemas.consents import (
    Alignment,
    ConsentTerms,
    LowValueExemption,
    Payees,
    PaymentPurpose,
    Period,
    PeriodLimit,
)
from schemas.primitives import ConsentId, CustomerId, FundingToken, MerchantId, Money, PartnerId

KRW_PER_PAYMENT_MAX: Final = 500_000
USD_PER_PAYMENT_MAX_MINOR: Final = 40_000

DAY_AMOUNT_KRW: Final = 50_000
"""Daily limit of the consents that are made to run into it."""

DAY_COUNT: Final = 2
"""Daily number of payments of the consents that are made to run into it."""

_TEST_BIN: Final = "970000"
"""Nobody's: ISO/IEC 7812 numbers that begin with 9 go on with a country's code, and 700 is none."""


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner with its signing key."""

    partner_id: PartnerId
    name: str
    home_group: Literal["financial", "telecom"]
    algorithm: Literal["ES256", "Ed25519"]
    private_key: PrivateKey = field(repr=False)
    jwk: Mapping[str, Any] = field(repr=False)

    @property
    def kid(self) -> str:
        """The registered key's id."""
        return f"{self.partner_id}-2026-1"

    @property
    def signer(self) -> Signer:
        """What it signs with."""
        return Signer(self.private_key, self.kid)


@unique
class Role(StrEnum):
    """What a consent is for in the mix."""

    PLAIN = "plain"  # anyone may be paid, limits far away
    FOOD_ONLY = "food_only"  # only restaurants and cafés
    DAY_AMOUNT = "day_amount"  # a small daily amount
    DAY_COUNT = "day_count"  # a small daily number
    SINGLE_USE = "single_use"
    SUSPENDED = "suspended"
    EXPIRED = "expired"
    REVOKED = "revoked"  # revoked while the run goes on
    EXEMPT = "exempt"  # a few small payments need no proof
    THIEF = "thief"  # of a consent that names another customer's card
    UNTRUSTED = "untrusted"  # who no longer lets the partner use the card
    STORY_AMOUNT = "story_amount"  # requested, granted and revoked while the run goes on; a daily amount
    STORY_COUNT = "story_count"  # likewise; a daily number
    LEAVER = "leaver"  # permits everything that there is to permit, and revokes all of it at once


STORY: Final = (Role.STORY_AMOUNT, Role.STORY_COUNT)
"""Customers whose consents are made while the run goes on."""

STORY_DAY_KRW: Final = 120_000
STORY_DAY_COUNT: Final = 2


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer with one card and one consent."""

    terms: ConsentTerms
    role: Role
    card: CardData = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody. ``customers`` of one role keep their order; ``identities`` know all of them.

    Attributes:
        receivers: who is given customers' data; None: nobody.
    """

    partners: tuple[Partner, ...]
    customers: tuple[Customer, ...]
    identities: Identities = field(default_factory=Identities, repr=False, compare=False)
    receivers: Receivers | None = field(default=None, repr=False, compare=False)

    def of(self, role: Role) -> list[Customer]:
        """The customers of one role."""
        return [c for c in self.customers if c.role is role]

    def partner(self, partner_id: str) -> Partner:
        """The partner with that id."""
        return next(p for p in self.partners if p.partner_id == partner_id)


_PARTNERS: Final[tuple[tuple[str, str, Literal["financial", "telecom"], Literal["ES256", "Ed25519"]], ...]] = (
    ("hanbit-bank", "Hanbit Bank", "financial", "ES256"),
    ("narae-telecom", "Narae Telecom", "telecom", "ES256"),
    ("saem-card", "Saem Card", "financial", "Ed25519"),
    ("bada-mobile", "Bada Mobile", "telecom", "Ed25519"),
)


def make_partners(count: int = len(_PARTNERS)) -> tuple[Partner, ...]:
    """The first partners of the list, each with a fresh key: 1 and 2 sign with ES256, 3 and 4 with Ed25519."""
    partners = []
    for partner_id, name, group, algorithm in _PARTNERS[:count]:
        private_key, jwk = generate_key(algorithm)
        partners.append(Partner(PartnerId(partner_id), name, group, algorithm, private_key, jwk))
    return tuple(partners)


def make_cast(
    roles: Mapping[Role, int],
    *,
    partners: tuple[Partner, ...],
    now: datetime,
    seed: int,
    receivers: Receivers | None = None,
) -> Cast:
    """Make as many customers of each role as asked for, dealt out to the partners in turn.

    With ``receivers`` customers permit these to be given their data, each as its kind of agreement says.
    """
    random = Random(f"cast/{seed}")  # noqa: S311 - reproducible on purpose
    wanted = [role for role in Role for _ in range(roles.get(role, 0))]
    customers: list[Customer] = []
    for number, role in enumerate(wanted):
        partner_id = partners[number % len(partners)].partner_id
        # The hardest case: a card that this very partner may use, for another customer.
        token = _first_token(customers, partner_id) if role is Role.THIEF else _token(random)
        terms = _terms(number, role, partner_id, token, now)
        if receivers is not None:
            terms = _agreeing(terms, role, number // len(partners), now)
        customers.append(Customer(terms, role, _card(random, number)))
    return Cast(partners, tuple(customers), receivers=receivers)


def _agreeing(terms: ConsentTerms, role: Role, turn: int, now: datetime) -> ConsentTerms:
    match role:
        case Role.PLAIN:
            return agreeing(terms, KINDS_OF_AGREEMENT[turn % len(KINDS_OF_AGREEMENT)], now)
        case Role.LEAVER:
            return agreeing(terms, ALL, now)
        case _:
            return terms


def _first_token(customers: Iterable[Customer], partner_id: PartnerId) -> FundingToken:
    tokens = (use.token for c in customers if (use := token_use(c.terms)) and use.partner_id == partner_id)
    return next(tokens)


def _token(random: Random) -> FundingToken:
    """An id of the form that the gateway makes; reproducible, as the rest is."""
    return FundingToken("".join(random.choices(ascii_lowercase, k=28)))


def _terms(number: int, role: Role, partner_id: PartnerId, token: FundingToken, now: datetime) -> ConsentTerms:
    # Sixty days back: no calendar window of today is cut short. A whole second: consent-aligned windows begin with it,
    # one minute ago by the time of day, so that none ends while the run goes on.
    start = (now - timedelta(days=60, minutes=1)).replace(microsecond=0)
    end = now - timedelta(days=1) if role is Role.EXPIRED else now + timedelta(days=300)
    return ConsentTerms(
        consent_id=ConsentId(f"c-{number:06d}"),
        partner_id=partner_id,
        customer_id=CustomerId(f"u-{number:06d}"),
        valid_from=start,
        valid_until=end,
        payment=PaymentPurpose(
            funding_token=token,
            payees=Payees(
                allow_categories=FOOD_CATEGORIES if role is Role.FOOD_ONLY else (),
                block_merchants=(MerchantId(BLOCKED),),
            ),
            max_per_payment=(Money.of(KRW_PER_PAYMENT_MAX, "KRW"), Money.of(USD_PER_PAYMENT_MAX_MINOR, "USD")),
            period_limits=tuple(_limits(role)),
            single_use=role is Role.SINGLE_USE,
            low_value_exemption=_EXEMPTION if role is Role.EXEMPT else None,
        ),
    )


_EXEMPTION: Final = LowValueExemption(
    max_amount=Money.of(EXEMPT_KRW, "KRW"), max_count=EXEMPT_COUNT, max_sum=Money.of(EXEMPT_KRW * EXEMPT_COUNT, "KRW")
)


def _limits(role: Role) -> Iterator[PeriodLimit]:
    yield PeriodLimit(period=Period.MONTH, max_amount=Money.of(900_000_000, "KRW"))
    yield PeriodLimit(period=Period.MONTH, max_amount=Money.of(90_000_000, "USD"))
    match role:
        case Role.DAY_AMOUNT:
            most = Money.of(DAY_AMOUNT_KRW, "KRW")
            yield PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_amount=most)
        case Role.DAY_COUNT:
            yield PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=DAY_COUNT)
        case Role.STORY_AMOUNT:
            most = Money.of(STORY_DAY_KRW, "KRW")
            yield PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_amount=most)
        case Role.STORY_COUNT:
            yield PeriodLimit(period=Period.DAY, alignment=Alignment.CONSENT, max_count=STORY_DAY_COUNT)
        case _:
            yield PeriodLimit(period=Period.WEEK, max_count=100_000)


def _card(random: Random, number: int) -> CardData:
    body = f"{_TEST_BIN}{number % 100:02d}{random.randrange(10**7):07d}"
    return CardData(pan=body + luhn_digit(body), expiry=f"{random.randrange(28, 33)}{random.randrange(1, 13):02d}")


def luhn_digit(body: str) -> str:
    """The check digit (ISO/IEC 7812-1 annex B) that makes ``body`` a valid card number."""
    total = 0
    for place, digit in enumerate(map(int, reversed(body))):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)
