"""Who and what there is in every simulated world, and what is drawn for one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from gateway.marketing.rules.campaign import Campaign
from gateway.messaging.records import Outgoing
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.portability.rules.records import StoredRequest
from gateway.proving.simulation.script.showing import Asked, Shown
from schemas.consents import ConsentTerms
from schemas.portability import PortabilityRequest
from schemas.primitives import CustomerId, FundingToken, MerchantId, Money, NetworkId, PartnerId
from schemas.reasons import ReasonCode

PARTNER: Final = PartnerId("partner-1")
NETWORK: Final = NetworkId("net-a")
MERCHANT: Final = MerchantId("merchant-1")
TERMINAL: Final = "GW000001"
TOKEN: Final = FundingToken("token-1")
CUSTOMER: Final = CustomerId("customer-1")
FOREIGN_TOKEN: Final = FundingToken("token-2")
VICTIM: Final = CustomerId("customer-2")
"""The partner may use both tokens; every consent is the first customer's."""

OTHER_TOKEN: Final = FundingToken("token-3")
OTHER_CUSTOMER: Final = CustomerId("customer-3")
"""In some worlds the last consent is a second customer's, with a card of its own."""

SHARED_WITH: Final = ("mobile", "points")
"""Affiliates that every consent lets its payments be shared with."""

GATEWAY_ORG: Final = "MYPAY00000"
RECIPIENT: Final = "A1AAAA0000"
OTHER_RECIPIENT: Final = "B2BBBB0000"
"""Who is registered to receive customers' data; no consent names the second one."""

K: Final = 2
"""The least number of customers behind a number of an aggregate: all that a world has."""

PAN: Final = "4111111111111111"
FOREIGN_PAN: Final = "4111111111111129"
OTHER_PAN: Final = "4111111111111137"
OWN_PANS: Final = frozenset({PAN, OTHER_PAN})
"""Cards that their own customers' consents are over."""

DISABLED_CODE: Final = ReasonCode.DS0C
"""Why a signature is refused whose key was disabled."""

JUNK: Final = b"junk"
SIGNED: Final = "good"
TAMPERED: Final = "tampered"
"""Signatures: one that holds until the partner's key is disabled, and one that never does."""

TRAFFIC_S: Final = 8.0
"""Orders and commands come within the first seconds; the rest of a world is their ending."""

NOON: Final = datetime(2025, 5, 17, 3, 4, 5, tzinfo=UTC)
BEFORE_MIDNIGHT: Final = datetime(2025, 5, 17, 14, 59, 57, tzinfo=UTC)
"""Three seconds before Seoul's midnight: daily limits begin anew and days come while payments are in flight."""
BEFORE_MONDAY: Final = BEFORE_MIDNIGHT + timedelta(days=1)
"""Three seconds before a week of Seoul's is over."""


PARTITIONS: Final = 3
"""Of every topic."""

WAITING_GROUP: Final = "initiation:waiting"
"""Who reads the orders that wait for their turn. Every other group has its stage's name."""

SKEW_MAX_S: Final = 5.0
"""By which a worker's clock may be wrong."""


@unique
class Stage(StrEnum):
    """Kinds of processes."""

    INITIATION = "initiation"
    EXECUTION = "execution"
    CONSENTS = "consents"
    RELAY = "relay"
    SETTLEMENT = "settlement"
    SCHEDULE = "schedule"
    DISCLOSURE = "disclosure"
    SHARING = "sharing"
    PORTABILITY = "portability"
    MARKETING = "marketing"


@unique
class Kind(StrEnum):
    """What a produced record of ``mypay.orders`` is."""

    ORDER = "order"
    REFUND = "refund"
    CANCEL = "cancellation"
    BULK = "bulk"
    STANDING = "standing order"
    FORGED = "forged"
    JUNK = "junk"


@unique
class Act(StrEnum):
    """What is done to a consent."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RESUME = "resume"
    AMEND = "amend"
    STEAL = "steal"  # terms over another customer's card: a new consent's, or an amendment's


@dataclass(frozen=True, slots=True)
class Produced:
    """One record that a partner writes.

    Attributes:
        at: virtual seconds.
        order_id: of an order or a refund; of a cancellation the one that it names; else the bulk's or standing order's.
        items: order ids that a bulk or a standing order may bring.
        again: it was sent before, byte for byte.
    """

    at: float
    kind: Kind
    record: Outgoing
    order_id: str
    items: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One change of a consent; ``record`` is None where an operator makes it."""

    at: float
    act: Act
    consent_id: str
    record: Outgoing | None


@dataclass(frozen=True, slots=True)
class DataRequest:
    """One transmission request that a partner writes.

    Attributes:
        at: virtual seconds.
        shown: of the customer.
        believed: its signature holds.
        right: as it was drawn, it is permitted, and the first of its id; changes of its consent may say otherwise.
    """

    at: float
    record: Outgoing
    request: PortabilityRequest
    shown: Shown
    believed: bool
    right: bool


@dataclass(frozen=True, slots=True)
class DataScript:
    """What becomes of customers' data in a world whose consents have purposes for it.

    Attributes:
        requests: in the order of their times.
        scheduled: requests that were taken a cycle before the world began, and when each is due.
        key_changes: when the recipient has another key.
        campaigns: that run.
    """

    requests: Sequence[DataRequest]
    scheduled: Sequence[StoredRequest]
    key_changes: Sequence[float]
    campaigns: Sequence[Campaign]


OrderShown = tuple[str, str, int]
"""Order id, consent, minor units."""


@dataclass(slots=True)
class Script:
    """One world's input.

    Attributes:
        epoch: wall time at virtual second 0.
        unknown_policy, in_order, cut_over: of the network.
        asked: of customers.
        decline_amounts: minor units that the host declines.
        shown_in: digest of an order's bytes → what came with it.
        shown: what came with an item of a bulk, or with a standing order, by what it brings.
        false_proofs: when something was shown that proves nothing, and what.
        shown_with: (consent, command id) → what came with a command on a consent.
        data: of a world that hands data over and makes offers; most do not.
    """

    epoch: datetime
    unknown_policy: UnknownPolicy
    in_order: bool
    cut_over: CutOver | None
    asked: Asked
    consents: list[ConsentTerms] = field(default_factory=list)
    produced: list[Produced] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    decline_amounts: frozenset[int] = frozenset()
    shown_in: dict[bytes, Shown] = field(default_factory=dict)
    shown: dict[OrderShown, list[Shown]] = field(default_factory=dict)
    false_proofs: list[tuple[float, str]] = field(default_factory=list)
    shown_with: dict[tuple[str, str], Shown] = field(default_factory=dict)
    data: DataScript | None = None


def krw(minor: int) -> Money:
    """An amount."""
    return Money.of(minor, "KRW")
