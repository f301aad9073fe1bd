"""What may go wrong in one world, how often, and when: all of it drawn from the seed.

Each world has a mix of its own: a fault that always happens hides those that need quiet around them.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum, unique
from random import Random
from typing import Final


@unique
class Fault(StrEnum):
    """Everything that can be caused."""

    # at the boundaries of the ports
    CRASH = "worker crashed"
    DELAY = "call delayed"
    FREEZE = "worker frozen"
    STORE_UNAVAILABLE = "store unavailable"
    STORE_CONFLICT = "transaction lost a race"
    COMMIT_UNKNOWN = "commit's outcome unknown"
    PUBLISH_FAILED = "publication failed"
    PUBLISH_PARTIAL = "publication failed half-way"
    PUBLISH_UNCONFIRMED = "publication not confirmed"
    COMMIT_LOST = "offset commit lost"
    RELAY_DEPOSED = "relay lost its lead"
    DEFECT = "error that nobody expects"
    MEANWHILE = "what permits it changed meanwhile"
    # in Kafka
    REDELIVERED = "records redelivered"
    DUPLICATED = "order sent twice"
    REBALANCED = "partitions moved"
    # on the way to the network and back
    NOT_SENT = "request not sent"
    SLOW_LINK = "request slow to leave"
    REQUEST_LOST = "request lost"
    REQUEST_LATE = "request late at the host"
    ANSWER_LOST = "answer lost"
    ANSWER_LATE = "answer late"
    ANSWER_TWICE = "answer came twice"
    ANSWER_ELSEWHERE = "answer on another link"
    OTHER_AMOUNT = "answer with another amount"
    OTHER_RRN = "answer with another RRN"
    UNCLEAR_CODE = "host does not know either"
    UNLISTED_CODE = "answer with a code of no known meaning"
    UNREADABLE = "answer that cannot be read"
    OWN_TIME = "answer with a time of the host's own, or without its terminal"
    STALE_ANSWER = "answer of another day under the same numbers"
    LINK_CUT = "links cut"
    # around it all
    STOPPED = "worker told to stop"
    STORE_DOWN = "store down for a while"
    KAFKA_DOWN = "Kafka down for a while"
    TOPIC_CLOSED = "partner's topic closed for a while"
    KEY_DISABLED = "partner's key disabled"
    CLOCK_SKEWED = "clock skewed"
    CONSENT_REVOKED = "consent revoked"
    CONSENT_SUSPENDED = "consent suspended"
    CONSENT_RESUMED = "consent resumed"
    CONSENT_AMENDED = "consent amended"
    CONSENT_EXPIRED = "consent expired"
    FOREIGN_TOKEN = "consent over a foreign card"  # noqa: S105 - no password
    TOKEN_WITHDRAWN = "permission for a card withdrawn"  # noqa: S105 - no password
    TOKEN_ALLOWED = "permission for a card given back"  # noqa: S105 - no password
    CLEARED_EARLY = "cleared while in flight"
    FALSE_PROOF = "false proof shown"
    DISPATCH_FORGED = "record forged for execution"
    CLEARING_CORRECTED = "clearing corrected"
    FALSE_REQUEST = "request for data that nothing permits"
    RECIPIENT_KEY_CHANGED = "recipient's key changed"
    CONFIRMATION_LOST = "erasure never confirmed"
    CONFIRMATION_LATE = "erasure confirmed late"
    CONFIRMATION_AGAIN = "erasure confirmed again"
    CONFIRMATION_FORGED = "erasure confirmed by another"
    FALSE_USE = "use of an offer that is none"


BOUNDARY: Final = {
    Fault.CRASH: 0.002,
    Fault.DELAY: 0.06,
    Fault.FREEZE: 0.0006,
    Fault.STORE_UNAVAILABLE: 0.006,
    Fault.STORE_CONFLICT: 0.005,
    Fault.COMMIT_UNKNOWN: 0.05,
    Fault.PUBLISH_FAILED: 0.05,
    Fault.PUBLISH_PARTIAL: 0.02,
    Fault.PUBLISH_UNCONFIRMED: 0.05,
    Fault.COMMIT_LOST: 0.05,
    Fault.RELAY_DEPOSED: 0.01,
    Fault.DEFECT: 0.02,
    Fault.MEANWHILE: 0.04,
    Fault.REDELIVERED: 0.04,
}
"""Usual chance per boundary at which the fault is possible."""

WIRE: Final = {
    Fault.NOT_SENT: 0.03,
    Fault.SLOW_LINK: 0.05,
    Fault.REQUEST_LOST: 0.05,
    Fault.REQUEST_LATE: 0.05,
    Fault.ANSWER_LOST: 0.06,
    Fault.ANSWER_LATE: 0.06,
    Fault.ANSWER_TWICE: 0.05,
    Fault.ANSWER_ELSEWHERE: 0.03,
    Fault.OTHER_AMOUNT: 0.02,
    Fault.OTHER_RRN: 0.02,
    Fault.UNCLEAR_CODE: 0.03,
    Fault.UNLISTED_CODE: 0.03,
    Fault.UNREADABLE: 0.02,
    Fault.OWN_TIME: 0.5,
    Fault.STALE_ANSWER: 0.03,
}
"""Usual chance per request."""


Chances = tuple[float, list[tuple[float, Fault]]]


@dataclass
class Faults:
    """One world's faults: the chances drawn for it, and what was caused so far.

    Attributes:
        on: False once the world is to come to rest.
        outage: what lasts for a while now.
        steps: calls of ports so far.
        chances: of each place where something is called: all faults' sum, and each with the upper end of its share.
        journal: where a traced world writes everything down.
        log: (time, what, where) of every fault, in order.
    """

    rng: Random
    journal: list[str] | None = None
    on: bool = True
    outage: Fault | None = None
    steps: int = 0
    chances: dict[str, Chances] = field(default_factory=dict)
    rates: dict[Fault, float] = field(default_factory=dict)
    log: list[tuple[float, Fault, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng
        strength = rng.choice((0.3, 1.0, 1.0, 2.0))
        for table in (BOUNDARY, WIRE):
            for fault, usual in table.items():
                # A third of the kinds is absent from a world; now and then one is frequent.
                self.rates[fault] = 0.0 if rng.random() < 0.35 else usual * strength * rng.choice((0.5, 1.0, 3.0))

    def stop(self) -> None:
        """Cause no more."""
        self.on = False

    def note(self, at: float, fault: Fault, where: str) -> None:
        """Remember that a fault was caused."""
        self.log.append((at, fault, where))
        if self.journal is not None:
            self.journal.append(f"{at:9.4f} ! {fault}: {where}")

    def chance(self, fault: Fault) -> bool:
        """Draw whether it happens now."""
        rate = self.rates[fault]
        return rate > 0.0 and self.on and self.rng.random() < rate

    def counts(self) -> Counter[Fault]:
        """Faults caused by kind."""
        return Counter(fault for _, fault, _ in self.log)
