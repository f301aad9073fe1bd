"""What partners, customers and operators do in one world: drawn from the seed before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from functools import lru_cache
from random import Random
from typing import Any, Final

from gateway.adapters.memory.host import MemoryHost
from gateway.domain.consent import Merchant
from gateway.domain.exchange import Acceptor
from gateway.domain.execution import UnknownPolicy
from gateway.ports import Outgoing
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_AMEND_TYPE,
    CONSENT_RESUME_TYPE,
    CONSENT_REVOKE_TYPE,
    CONSENT_SUSPEND_TYPE,
    ConsentAmendment,
    ConsentInstruction,
)
from schemas.consents import ConsentTerms, PaymentPurpose, Period, PeriodLimit
from schemas.envelope import Envelope, write_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import (
    ConsentId,
    CustomerId,
    FundingToken,
    MerchantId,
    Money,
    NetworkId,
    OrderId,
    PartnerId,
)
from schemas.topics import CONSENT_COMMANDS, ORDERS

PARTNER: Final = PartnerId("partner-1")
NETWORK: Final = NetworkId("net-a")
TERMINAL: Final = "GW000001"
TOKEN: Final = FundingToken("token-1")
PAN: Final = "4111111111111111"
JUNK: Final = b"junk"
TAMPERED: Final = "tampered"
TRAFFIC_S: Final = 8.0
"""Orders and commands come within the first seconds; the rest of a world is their ending."""

_NOON: Final = datetime(2025, 5, 17, 3, 4, 5, tzinfo=UTC)
_BEFORE_MIDNIGHT: Final = datetime(2025, 5, 17, 14, 59, 57, tzinfo=UTC)
"""Three seconds before Seoul's midnight: daily limits begin anew while payments are in flight."""


@unique
class Kind(StrEnum):
    """What a produced record of ``mypay.orders`` is."""

    ORDER = "order"
    FORGED = "forged"
    JUNK = "junk"


@unique
class Act(StrEnum):
    """What is done to a consent."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RESUME = "resume"
    AMEND = "amend"


@dataclass(frozen=True, slots=True)
class Produced:
    """One record that a partner writes. ``again``: it was sent before, byte for byte."""

    at: float
    kind: Kind
    record: Outgoing
    order_id: str | None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One change of a consent; ``record`` is None where an operator makes it."""

    at: float
    act: Act
    consent_id: str
    record: Outgoing | None


@dataclass(slots=True)
class Script:
    """One world's input.

    Attributes:
        epoch: wall time at virtual second 0.
        decline_amounts: minor units that the host declines.
        unknown_policy, in_order: of the network.
    """

    epoch: datetime
    unknown_policy: UnknownPolicy
    in_order: bool
    consents: list[ConsentTerms] = field(default_factory=list)
    produced: list[Produced] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    decline_amounts: frozenset[int] = frozenset()


def merchant() -> Merchant:
    """The one merchant."""
    return Merchant(
        MerchantId("merchant-1"), Acceptor("ACCEPTOR1", "Shop Seoul KR", "5411"), frozenset({NETWORK}), active=True
    )


def new_host() -> MemoryHost:
    """The network's host, its books empty."""
    return MemoryHost()


def write_script(rng: Random) -> Script:
    """Draw one world's input."""
    script = Script(
        rng.choice((_NOON, _NOON, _BEFORE_MIDNIGHT)),
        rng.choice((UnknownPolicy.INQUIRE, UnknownPolicy.REVERSE)),
        rng.random() < 0.3,
    )
    script.consents = [
        terms(number, rng.randrange(_SHAPES), rng.choice((0, 0, 0, rng.randrange(2, 9))), script.epoch)
        for number in range(rng.randrange(1, 4))
    ]
    amounts = [rng.randrange(1_000, 9_999) for _ in range(4)]
    script.decline_amounts = frozenset(a for a in amounts if rng.random() < 0.25)
    _write_orders(script, rng, amounts)
    _write_commands(script, rng)
    return script


def _write_orders(script: Script, rng: Random, amounts: Sequence[int]) -> None:
    count = min(40, 5 + int(rng.expovariate(1 / 7)))
    burst = rng.choice((0.5, 3.0, TRAFFIC_S))
    made: list[Produced] = []
    for number in range(count):
        at = rng.uniform(0.0, burst)
        draw = rng.random()
        if draw < 0.08 and made:
            earlier = rng.choice(made)
            made.append(Produced(earlier.at + at, earlier.kind, earlier.record, earlier.order_id, again=True))
            continue
        # Most payments are under one consent: its lock and its limits are what they meet at.
        consent_id = script.consents[0 if rng.random() < 0.7 else -1].consent_id
        order_id = f"order-{number}"
        if draw < 0.14 and made:
            order_id = rng.choice(made).order_id or order_id
        elif draw < 0.16:
            consent_id = ConsentId("nobody")
        expires_s = rng.uniform(0.1, 3.0) if draw > 0.93 else 300.0
        order = PaymentOrder(
            partner_id=PARTNER,
            order_id=OrderId(order_id),
            consent_id=consent_id,
            merchant_id=MerchantId("merchant-1"),
            amount=_krw(rng.choice(amounts)),
            issued_at=script.epoch - timedelta(seconds=1),
            expires_at=script.epoch + timedelta(seconds=at + expires_s),
        )
        kind = Kind.FORGED if 0.16 <= draw < 0.19 else Kind.JUNK if 0.19 <= draw < 0.21 else Kind.ORDER
        made.append(_produced(at, kind, order))
    script.produced = sorted(made, key=lambda p: p.at)


def _produced(at: float, kind: Kind, order: PaymentOrder) -> Produced:
    signature = TAMPERED if kind is Kind.FORGED else "good"
    envelope = Envelope(f"ce-{order.order_id}", "/partner", ORDER_TYPE, order.issued_at, signature=signature)
    value = JUNK if kind is Kind.JUNK else encode(order)
    record = Outgoing(ORDERS, order.consent_id.encode(), value, write_envelope(envelope))
    return Produced(at, kind, record, None if kind is Kind.JUNK else order.order_id)


_ACT_TYPES: Final = {
    Act.REVOKE: CONSENT_REVOKE_TYPE,
    Act.SUSPEND: CONSENT_SUSPEND_TYPE,
    Act.RESUME: CONSENT_RESUME_TYPE,
    Act.AMEND: CONSENT_AMEND_TYPE,
}


def _write_commands(script: Script, rng: Random) -> None:
    for of in script.consents:
        if rng.random() < 0.4:
            continue
        at = rng.uniform(0.0, TRAFFIC_S / 2)
        for number in range(rng.randrange(1, 4)):
            act = rng.choice((Act.REVOKE, Act.SUSPEND, Act.SUSPEND, Act.RESUME, Act.RESUME, Act.AMEND))
            by_operator = act is not Act.AMEND and rng.random() < 0.3
            record = None if by_operator else _command(script, of, act, f"command-{number}", rng)
            script.commands.append(Command(at, act, of.consent_id, record))
            at += rng.expovariate(0.7)
    script.commands.sort(key=lambda c: c.at)


def _command(script: Script, of: ConsentTerms, act: Act, command_id: str, rng: Random) -> Outgoing:
    told: dict[str, Any] = {
        "partner_id": PARTNER,
        "consent_id": of.consent_id,
        "command_id": command_id,
        "issued_at": script.epoch,
    }
    message: ConsentAmendment | ConsentInstruction
    if act is Act.AMEND:
        number = script.consents.index(of)
        until = 0 if of.valid_until - script.epoch > timedelta(hours=1) else 9
        message = ConsentAmendment(**told, terms=terms(number, rng.randrange(_SHAPES), until, script.epoch))
    else:
        message = ConsentInstruction(**told)
    envelope = Envelope(f"ce-{command_id}", "/partner", _ACT_TYPES[act], script.epoch, signature="good")
    return Outgoing(CONSENT_COMMANDS, of.consent_id.encode(), encode(message), write_envelope(envelope))


def _krw(minor: int) -> Money:
    return Money.of(minor, "KRW")


_SHAPES: Final = 6
"""Kinds of terms: from no limit at all to a single use."""


@lru_cache(maxsize=1024)
def terms(number: int, shape: int, until_s: int, epoch: datetime) -> ConsentTerms:
    """Terms of the ``number``-th consent; ``until_s``: it ends then, or long after if 0. One object for equal terms."""
    daily = PeriodLimit(period=Period.DAY, max_amount=_krw(22_000))
    few = PeriodLimit(period=Period.DAY, max_count=3)
    purposes: tuple[dict[str, Any], ...] = (
        {},
        {"period_limits": (daily,)},
        {"period_limits": (daily, few)},
        {"lifetime_amounts": (_krw(30_000),)},
        {"lifetime_count": 4, "period_limits": (daily,)},
        {"single_use": True},
    )
    return ConsentTerms(
        consent_id=ConsentId(f"consent-{number}"),
        partner_id=PARTNER,
        customer_id=CustomerId("customer-1"),
        valid_from=epoch - timedelta(days=40),
        valid_until=epoch + (timedelta(seconds=until_s) if until_s else timedelta(days=400)),
        payment=PaymentPurpose(funding_token=TOKEN, max_per_payment=(_krw(50_000),), **purposes[shape]),
    )
