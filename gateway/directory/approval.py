"""Two people: what one operator proposed, and who may let it happen.

A proposal is open until somebody decides it or its time is over. Whoever proposed it may take it back (reject it), but
only another operator may approve it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final
from uuid import UUID

PROPOSAL_LIVES: Final = timedelta(days=7)
"""Past a week nobody remembers what was meant: propose it again."""


@unique
class Phase(StrEnum):
    """Where an operator's action stands. One that has only begun was cut off: look at what it was about.

    UNKNOWN: nobody has answered whether it was done, or how much of it. FAILED: it was refused, or a part of it was.
    """

    BEGUN = "begun"
    DONE = "done"
    PROPOSED = "proposed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@unique
class Decision(StrEnum):
    """How a proposal ended."""

    APPROVED = "approved"
    REJECTED = "rejected"


@unique
class Refused(StrEnum):
    """Why a decision does not count. The first that applies is told."""

    DECIDED = "it has been decided before"
    EXPIRED = "its time is over: propose it again"
    OWN = "whoever proposed it cannot approve it: ask another operator"
    UNLIKE = (
        "one of you has a name of an identity provider's, and the other one of this installation's: nobody can tell "
        "that you are two people; ask an operator who signs in as whoever proposed it did"
    )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed. ``payload``: what will be written, as its kind has it; public data alone.

    Attributes:
        kind: which operation, e.g. ``partner.key.add``.
        subject: whom or what it concerns.
        operator, login: who proposed it, by their own word and by the database's.
        identity: by an identity provider's, where it has named them: see :func:`identity_of`.
        decision, decided_by: None while it is open.
    """

    proposal_id: UUID
    kind: str
    subject: str
    payload: dict[str, object]
    operator: str
    login: str
    why: str
    proposed_at: datetime
    expires_at: datetime
    decision: Decision | None = None
    decided_by: str | None = None
    identity: str | None = None


def identity_of(issuer: str, subject: str) -> str:
    """Who somebody is to an identity provider. It gives a subject to nobody else; a name it may let them choose."""
    return f"{issuer} {subject}"


def _issuer(identity: str | None) -> str | None:
    return identity and identity.partition(" ")[0]


def judge(
    proposal: Proposal, decision: Decision, *, operator: str, identity: str | None, now: datetime
) -> Refused | None:
    """Whether ``operator`` may decide so now: None, or why not. ``identity``: as :attr:`Proposal.identity`.

    Two names are two people only where one and the same has given them: this installation, or one identity provider.
    """
    if proposal.decision is not None:
        return Refused.DECIDED
    if now >= proposal.expires_at:
        return Refused.EXPIRED
    # One person may be known by a name in two spellings: from the setting, and from this machine.
    is_one = operator.casefold() == proposal.operator.casefold()
    if decision is Decision.APPROVED and (is_one or (identity is not None and identity == proposal.identity)):
        return Refused.OWN
    if decision is Decision.APPROVED and _issuer(identity) != _issuer(proposal.identity):
        return Refused.UNLIKE
    return None
