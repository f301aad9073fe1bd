"""What a world asks of customers, and what partners show of them."""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Asked(StrEnum):
    """What a world asks of customers."""

    NOTHING = "nothing"
    IMPOSSIBLE = "what nobody can show"
    PROOFS = "proofs"


@unique
class ProofKind(StrEnum):
    """What is shown as a proof."""

    GOOD = "good"
    NONE = "none"
    FOREIGN = "another customer's"
    UNLINKED = "nobody's"
    OTHER_AMOUNT = "for another amount"
    OLD = "old"
    WEAK = "weak"
    STRANGE = "a stranger's"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a partner shows of its customer.

    Attributes:
        jti: id of the proof; two that have the same cannot both count.
    """

    kind: ProofKind
    jti: str = ""


NOTHING_SHOWN: Final = Shown(ProofKind.NONE)
