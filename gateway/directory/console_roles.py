"""Who may use the console, as data: roles, users, sessions."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique


@unique
class ConsoleRole(StrEnum):
    """What somebody may do at the console; each may do what those before it may, but for approving its own."""

    VIEWER = "viewer"  # looks
    OPERATOR = "operator"  # stops things at once, and proposes what lets them go on
    APPROVER = "approver"  # likewise, and decides what others proposed

    def is_above(self, other: "ConsoleRole") -> bool:
        """True if it may do more."""
        return list(ConsoleRole).index(self) > list(ConsoleRole).index(other)


@unique
class SignIn(StrEnum):
    """How an attempt to sign in ended."""

    LET_IN = "let_in"
    REFUSED = "refused"
    TOO_MANY = "too_many"
    SIGNED_OUT = "signed_out"


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """Somebody with a password. ``password_hash``: a PHC string of Argon2id."""

    name: str
    role: ConsoleRole
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user without what proves it."""

    name: str
    role: ConsoleRole
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """Somebody who is signed in.

    Attributes:
        is_local: with a password, and not by an identity provider.
        identity: who they are to that provider (:func:`gateway.directory.approval.identity_of`).
    """

    name: str
    role: ConsoleRole
    is_local: bool
    began_at: datetime
    seen_at: datetime
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """Attempts to sign in that were refused lately: under a name, and from a place.

    Attributes:
        told_name, told_peer: it is written down that there were too many.
    """

    of_name: int
    of_peer: int
    told_name: bool
    told_peer: bool
