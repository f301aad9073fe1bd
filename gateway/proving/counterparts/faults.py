"""What goes wrong with one message: drawn before it is judged, from a seeded stream in order of arrival."""

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from gateway.proving.counterparts.config import Faults, MessageClass, Silence


class Plan(NamedTuple):
    """The faults of one message.

    Attributes:
        names: the faults drawn, as they are counted.
        applies: the ledger judges the message.
        answers: an answer leaves.
        closes: the link is closed, after the commit where there is one.
    """

    names: tuple[str, ...]
    applies: bool = True
    answers: bool = True
    closes: bool = False
    late_ms: int = 0
    duplicate_answer: bool = False
    other_link: bool = False
    garbled: bool = False
    wrong_amount: bool = False
    wrong_rrn: bool = False
    unlisted: bool = False
    noisy: bool = False


_SILENT_APPLY: Final = Plan(("silence",), answers=False)
_SILENT_IGNORE: Final = Plan(("silence",), applies=False, answers=False)
_ENDINGS: Final = (
    Plan(("drop_before_apply",), applies=False, answers=False),
    Plan(("close_before_apply",), applies=False, answers=False, closes=True),
    Plan(("drop_after_apply",), answers=False),
    Plan(("close_after_apply",), answers=False, closes=True),
)
_OF_ANSWER: Final = (
    "late",
    "duplicate_answer",
    "other_link",
    "garbled",
    "wrong_amount",
    "wrong_rrn",
    "unlisted",
    "noisy",
)
_RATES: Final = tuple(plan.names[0] for plan in _ENDINGS) + _OF_ANSWER


def is_faultless(faults: Faults) -> bool:
    """Tell whether no message can draw a fault."""
    return faults.silence is Silence.OFF and not any(getattr(faults, name) for name in _RATES)


def draw(faults: Faults, stream: Random, message_class: MessageClass) -> Plan | None:
    """Return the faults of the next message, or None when nothing goes wrong.

    Silence wins over all; of the faults that leave no answer the first wins; those of the answer combine.
    """
    if message_class not in faults.classes:
        return None
    if faults.silence is not Silence.OFF:
        return _SILENT_APPLY if faults.silence is Silence.APPLY else _SILENT_IGNORE
    for plan in _ENDINGS:
        if _happens(getattr(faults, plan.names[0]), stream):
            return plan
    names = tuple(name for name in _OF_ANSWER if _happens(getattr(faults, name), stream))
    if not names:
        return None
    late_ms = faults.late_ms if "late" in names else 0
    return Plan(names, late_ms=late_ms, **{name: True for name in names if name != "late"})


def _happens(rate: float, stream: Random) -> bool:
    return rate > 0 and stream.random() < rate


UNLISTED: Final = ("06", "20", "76", "78", "98", "N7")
"""Codes that no table of ISO 8583:1987 gives a meaning for a payment."""

_PLACE: Final = b"#" * 9
_NOISE: Final = "승인".encode("euc-kr") + b"\x1c\t\x00\xff\x9f"


def with_noise(answer: dict[int, str], encode: Callable[[dict[int, str]], bytes]) -> bytes:
    """Return an answer that tells all it should, beside texts that nobody can read."""
    body = encode({**answer, 12: "240000", 63: _PLACE.decode()})
    return body.replace(_PLACE, _NOISE)


def garble(body: bytes, stream: Random) -> bytes:
    """Return a body that no decoder takes: its bitmap overwritten, or its last byte cut off."""
    if stream.random() < 0.5:
        return body[:-1]
    return body[:4] + b"\xff" * (len(body) - 4)
