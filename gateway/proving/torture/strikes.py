"""What strikes a running world, and when: a catalogue of faults, and a schedule that follows from a seed.

The schedule is fixed by the seed; what it hits is not, for the timing of real processes is nobody's to fix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from random import Random
from typing import Final, NamedTuple


@unique
class Kind(StrEnum):
    """One kind of fault. What each does: :data:`ROWS`."""

    KILL = "kill"
    FREEZE = "freeze"
    FREEZE_LONG = "freeze_long"
    TERMINATE = "terminate"
    KAFKA = "kafka"
    POSTGRES = "postgres"
    KAFKA_FROZEN = "kafka_frozen"
    POSTGRES_FROZEN = "postgres_frozen"
    HOST = "host"
    HOST_FROZEN = "host_frozen"
    LINKS_CUT = "links_cut"
    HALF_OPEN = "half_open"
    REQUESTS_SWALLOWED = "requests_swallowed"
    ANSWERS_SWALLOWED = "answers_swallowed"
    REQUESTS_HELD = "requests_held"
    ANSWERS_HELD = "answers_held"
    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"
    CLOSED_BEFORE = "closed_before"
    CLOSED_AFTER = "closed_after"
    LATE = "late"
    TWICE = "twice"
    GARBLED = "garbled"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_RRN = "wrong_rrn"
    OTHER_LINK = "other_link"
    UNLISTED = "unlisted"
    NOISY = "noisy"
    SILENT_BOOKING = "silent_booking"
    SILENT_LOSING = "silent_losing"
    DEAF = "deaf"
    FLOOD = "flood"
    BOMB = "bomb"


@unique
class Aim(StrEnum):
    """What a kind of fault is aimed at."""

    STAGE = "stage"  # any process of the gateway
    EXECUTION = "execution"  # a worker of execution
    SERVER = "server"  # Kafka or PostgreSQL, as the kind says
    NETWORK = "network"  # one card network: its host, or the way to it
    ORDERS = "orders"  # the topic that partners write to


class Row(NamedTuple):
    """One kind of fault.

    Attributes:
        told: in plain words.
        weight: how many of it a round of the schedule has.
        lasts_s: shortest and longest.
        faults: of the simulated host's control interface.
    """

    told: str
    aim: Aim
    weight: int
    lasts_s: tuple[float, float]
    faults: Mapping[str, object] = {}


_ANSWER: Final = ("financial", "reversal", "inquiry")
_BRIEF: Final = (1.0, 6.0)

ROWS: Final[Mapping[Kind, Row]] = {
    Kind.KILL: Row("kill -9 of a stage", Aim.STAGE, 8, (0.1, 6.0)),
    Kind.FREEZE: Row("a stage frozen (SIGSTOP) for seconds", Aim.STAGE, 2, (0.5, 6.0)),
    Kind.FREEZE_LONG: Row("an execution worker frozen beyond takeover", Aim.EXECUTION, 1, (10.0, 20.0)),
    Kind.TERMINATE: Row("a stage told to stop (SIGTERM), started again", Aim.STAGE, 2, (0.1, 3.0)),
    Kind.KAFKA: Row("kill -9 of Kafka", Aim.SERVER, 1, (0.2, 5.0)),
    Kind.POSTGRES: Row("kill -9 of PostgreSQL", Aim.SERVER, 1, (0.2, 5.0)),
    Kind.KAFKA_FROZEN: Row("Kafka frozen (SIGSTOP)", Aim.SERVER, 1, (1.0, 8.0)),
    Kind.POSTGRES_FROZEN: Row("PostgreSQL frozen (SIGSTOP)", Aim.SERVER, 1, (1.0, 8.0)),
    Kind.HOST: Row("kill -9 of a network's host", Aim.NETWORK, 1, (0.2, 4.0)),
    Kind.HOST_FROZEN: Row("a network's host frozen (SIGSTOP)", Aim.NETWORK, 1, (1.0, 8.0)),
    Kind.LINKS_CUT: Row("TCP links cut", Aim.NETWORK, 1, (0.0, 0.0)),
    Kind.HALF_OPEN: Row("half-open links: nothing arrives, nothing ends", Aim.NETWORK, 1, _BRIEF),
    Kind.REQUESTS_SWALLOWED: Row("requests vanish on their way", Aim.NETWORK, 1, _BRIEF),
    Kind.ANSWERS_SWALLOWED: Row("answers vanish on their way", Aim.NETWORK, 1, _BRIEF),
    Kind.REQUESTS_HELD: Row("requests of one link arrive late", Aim.NETWORK, 1, (1.0, 8.0)),
    Kind.ANSWERS_HELD: Row("answers of one link arrive late", Aim.NETWORK, 1, (1.0, 8.0)),
    Kind.LOST_BEFORE: Row(
        "the host loses requests", Aim.NETWORK, 1, _BRIEF, {"drop_before_apply": 0.3, "classes": _ANSWER}
    ),
    Kind.LOST_AFTER: Row("the host loses answers", Aim.NETWORK, 1, _BRIEF, {"drop_after_apply": 0.3}),
    Kind.CLOSED_BEFORE: Row("the host closes links unbooked", Aim.NETWORK, 1, _BRIEF, {"close_before_apply": 0.1}),
    Kind.CLOSED_AFTER: Row("the host closes links after booking", Aim.NETWORK, 1, _BRIEF, {"close_after_apply": 0.1}),
    Kind.LATE: Row("the host answers too late", Aim.NETWORK, 1, _BRIEF, {"late": 0.3, "late_ms": 4500}),
    Kind.TWICE: Row("the host answers twice", Aim.NETWORK, 1, _BRIEF, {"duplicate_answer": 0.3}),
    Kind.GARBLED: Row("answers garbled", Aim.NETWORK, 1, _BRIEF, {"garbled": 0.2}),
    Kind.WRONG_AMOUNT: Row("answers with another amount", Aim.NETWORK, 1, _BRIEF, {"wrong_amount": 0.2}),
    Kind.WRONG_RRN: Row("answers with another RRN", Aim.NETWORK, 1, _BRIEF, {"wrong_rrn": 0.2}),
    Kind.UNLISTED: Row("answers with codes of no known meaning", Aim.NETWORK, 1, _BRIEF, {"unlisted": 0.3}),
    Kind.NOISY: Row("answers with texts that cannot be read", Aim.NETWORK, 1, _BRIEF, {"noisy": 0.5}),
    Kind.OTHER_LINK: Row("answers on another link", Aim.NETWORK, 1, _BRIEF, {"other_link": 0.3}),
    Kind.SILENT_BOOKING: Row("the host books and says nothing", Aim.NETWORK, 1, (2.0, 8.0), {"silence": "apply"}),
    Kind.SILENT_LOSING: Row("the host loses all and says nothing", Aim.NETWORK, 1, (2.0, 8.0), {"silence": "ignore"}),
    Kind.DEAF: Row("sign-on and echo stay unanswered", Aim.NETWORK, 1, _BRIEF, {"ignore_management": True}),
    Kind.FLOOD: Row("a flood of unsigned records under a partner's key id", Aim.ORDERS, 1, (0.0, 0.0)),
    Kind.BOMB: Row("a batch that unpacks without end", Aim.ORDERS, 1, (0.0, 0.0)),
}

KILLS: Final = frozenset((Kind.KILL, Kind.KAFKA, Kind.POSTGRES, Kind.HOST))
"""Kinds that end a process by SIGKILL."""

GAP_S: Final = (0.3, 1.9)
"""Between two strikes: so that several overlap, and work goes on between them."""

_SILENCES: Final = (Kind.DEAF, Kind.SILENT_BOOKING, Kind.SILENT_LOSING, Kind.HOST_FROZEN, Kind.HOST)
"""What leaves nothing for other faults to strike at, the deepest last."""

_EXECUTION_SHARE: Final = 0.6
"""Of the strikes at any stage: where money is decided, they come most often."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault to come.

    Attributes:
        at_s: since the load began.
        target: a stage's name or a network id; empty for servers.
        lasts_s: until it is undone: a process started again or woken up, a fault switched off.
        choice: 0 … 1, for what is only known when it strikes: which link, and how it is cut.
    """

    at_s: float
    kind: Kind
    target: str
    lasts_s: float
    choice: float


def schedule(seed: int, *, seconds: float, stages: Sequence[str], networks: Sequence[str]) -> list[Strike]:
    """Strikes for a run of ``seconds``, in order of time: round after round, each with every kind, well shuffled.

    Args:
        seed: the same one gives the same schedule.
        seconds: nothing strikes after this.
        stages: names of the gateway's processes; workers of execution are ``execution NETWORK …``.
        networks: network ids.
    """
    random = Random(f"torture/{seed}")  # noqa: S311 - reproducible on purpose
    strikes: list[Strike] = []
    at_s = random.uniform(*GAP_S)
    while True:
        for kind in _round(random):
            if at_s >= seconds:
                return strikes
            target = _target(kind, random, stages, networks)
            strikes.append(Strike(at_s, kind, target, random.uniform(*ROWS[kind].lasts_s), random.random()))
            at_s += random.uniform(*GAP_S)


def _round(random: Random) -> list[Kind]:
    kinds = [kind for kind, row in ROWS.items() for _ in range(row.weight)]
    random.shuffle(kinds)
    return kinds


def _target(kind: Kind, random: Random, stages: Sequence[str], networks: Sequence[str]) -> str:
    execution = [s for s in stages if is_execution(s)]
    match ROWS[kind].aim:
        case Aim.STAGE:
            return random.choice(execution if random.random() < _EXECUTION_SHARE else stages)
        case Aim.EXECUTION:
            return random.choice(execution)
        case Aim.NETWORK:
            return random.choice(networks)
        case Aim.SERVER | Aim.ORDERS:
            return ""


def is_execution(stage: str) -> bool:
    """True for a worker of execution."""
    return stage.startswith("execution ")


def each_once(*, stages: Sequence[str], networks: Sequence[str], gap_s: float) -> list[Strike]:
    """A short, fixed schedule: every kind once but the longest, and every stage killed once.

    What strikes the networks comes first, while orders flow; what stops the flow for a while comes last.
    """
    others = [s for s in stages if not is_execution(s)]
    order = [
        (Kind.KAFKA_FROZEN, ""),
        (Kind.POSTGRES_FROZEN, ""),
        (Kind.FLOOD, ""),
        (Kind.BOMB, ""),
        *((k, "") for k in ROWS if ROWS[k].aim is Aim.NETWORK and k not in _SILENCES),
        *((k, "") for k in _SILENCES),
        (Kind.POSTGRES, ""),
        *((Kind.KILL, s) for s in stages if is_execution(s)),
        (Kind.KAFKA, ""),
        *((Kind.KILL, s) for s in others),
        (Kind.TERMINATE, others[0]),
        (Kind.FREEZE, others[-1]),
    ]
    return [
        Strike(
            number * gap_s,
            kind,
            networks[number % len(networks)] if ROWS[kind].aim is Aim.NETWORK else target,
            ROWS[kind].lasts_s[0],
            number % 4 / 4,
        )
        for number, (kind, target) in enumerate(order)
    ]
