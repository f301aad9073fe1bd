"""Who may do what at the console: every route, every guarded action, in two tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from gateway.directory.console_roles import ConsoleRole
from gateway.settlement.resolutions import Resolution

RANK: Final[Mapping[ConsoleRole, int]] = {
    ConsoleRole.VIEWER: 0,
    ConsoleRole.OPERATOR: 1,
    ConsoleRole.APPROVER: 2,
}
"""A role may do what those of a lower rank may."""

VIEWER, OPERATOR, APPROVER = ConsoleRole


@dataclass(frozen=True, slots=True)
class Route:
    """One address.

    Attributes:
        needs: the least role; None: anybody, also who is not signed in.
        is_use: whoever asks for it does something; False: a page asks by itself, whether or not anybody looks at it.
    """

    method: str
    path: str
    name: str
    needs: ConsoleRole | None
    is_use: bool = True


ROUTES: Final = (
    Route("GET", "/healthz", "healthz", None),
    Route("GET", "/static/{file}", "static", None),
    Route("GET", "/sign-in", "sign_in_form", None),
    Route("POST", "/sign-in", "sign_in", None),
    Route("GET", "/oidc/start", "oidc_start", None),
    Route("GET", "/oidc/callback", "oidc_callback", None),
    Route("POST", "/language", "language", None),
    Route("POST", "/sign-out", "sign_out", VIEWER),
    Route("GET", "/", "overview", VIEWER),
    Route("GET", "/live", "live", VIEWER, is_use=False),
    Route("GET", "/payments", "payments", VIEWER),
    # What is looked for may be a customer's id: it is in no address, and so in no log and no history.
    Route("POST", "/payments", "search", VIEWER),
    Route("GET", "/payments/{partner}/{payment}", "payment", VIEWER),
    Route("GET", "/consents/{partner}/{consent}", "consent", VIEWER),
    Route("GET", "/networks", "networks", VIEWER),
    Route("GET", "/exceptions", "exceptions", VIEWER),
    # Also with personal content masked, what nobody could read may hold anything.
    Route("GET", "/dead-letters", "dead_letters", OPERATOR),
    Route("GET", "/expiry", "expiry", VIEWER),
    # What was done, and is proposed, names customers.
    Route("GET", "/approvals", "approvals", OPERATOR),
    Route("GET", "/actions/{kind}", "action_form", OPERATOR),
    Route("POST", "/actions/{kind}", "action", OPERATOR),
)
"""Every address that the console answers."""


POLLED: Final = frozenset(r.name for r in ROUTES if not r.is_use)


@unique
class Kind(StrEnum):
    """A guarded action, as its address has it."""

    NETWORK_PAUSE = "network-pause"
    NETWORK_RESUME = "network-resume"
    CONSENT_SUSPEND = "consent-suspend"
    CONSENT_REVOKE = "consent-revoke"
    CONSENT_RESUME = "consent-resume"
    DEAD_LETTER_REPLAY = "dead-letter-replay"
    PAYMENT_INQUIRE = "payment-inquire"
    ERASURE_REMIND = "erasure-remind"
    BREAK_RESOLVE = "break-resolve"
    PROPOSAL_APPROVE = "proposal-approve"
    PROPOSAL_REJECT = "proposal-reject"


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a guarded action asks for.

    Attributes:
        command: its name in the record of what operators did; the same as the command line's.
        operation: what is proposed, where a second person must approve it: rights are given, or money may move.
        fields: what names its subject.
        title, consequence: what it is, and what happens, in words.
        choices: value → words of what its form also asks for, as :data:`CHOICE`; empty where it asks for nothing.
    """

    needs: ConsoleRole
    command: str
    fields: tuple[str, ...]
    title: str
    consequence: str
    operation: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)


CHOICE: Final = "choice"

RESOLUTIONS: Final[Mapping[str, str]] = {
    Resolution.SETTLED_ELSEWHERE.value: "The money was moved by hand, outside the gateway",
    Resolution.DISPUTED.value: "The network was told, and deals with it",
    Resolution.WRITTEN_OFF.value: "Somebody bears the difference",
}

GUARDED: Final[Mapping[Kind, Guarded]] = {
    Kind.NETWORK_PAUSE: Guarded(
        OPERATOR,
        "network pause",
        ("network_id",),
        "Pause network",
        "Within two seconds nothing new is sent there. What was sent is settled; new orders wait, or go elsewhere.",
    ),
    Kind.NETWORK_RESUME: Guarded(
        OPERATOR,
        "network resume",
        ("network_id",),
        "Resume network",
        "What has waited is paid. Another person must approve this.",
        "network.resume",
    ),
    Kind.CONSENT_SUSPEND: Guarded(
        OPERATOR,
        "consent suspend",
        ("partner_id", "consent_id"),
        "Suspend consent",
        "No payment begins under it until it is resumed. Its partner is told, with your reason.",
    ),
    Kind.CONSENT_REVOKE: Guarded(
        OPERATOR,
        "consent revoke",
        ("partner_id", "consent_id"),
        "Revoke consent",
        "It ends for ever, with every purpose. Its partner is told, with your reason.",
    ),
    Kind.CONSENT_RESUME: Guarded(
        OPERATOR,
        "consent resume",
        ("partner_id", "consent_id"),
        "Resume consent",
        "Payments may begin under it again. Another person must approve this.",
        "consent.resume",
    ),
    Kind.DEAD_LETTER_REPLAY: Guarded(
        OPERATOR,
        "dead-letter replay",
        ("reference",),
        "Send again",
        "The original goes where it came from, and every check is made again. Another person must approve this.",
        "dead-letter.replay",
    ),
    Kind.PAYMENT_INQUIRE: Guarded(
        OPERATOR,
        "payment inquire",
        ("partner_id", "payment_id"),
        "Ask the network now",
        "The network is asked what became of it, and not when it is next due. A reversal is sent again.",
    ),
    Kind.ERASURE_REMIND: Guarded(
        OPERATOR,
        "sharing remind",
        ("notice_id",),
        "Remind the affiliate",
        "The erase notice is sent to it again, as an event of its own.",
    ),
    Kind.BREAK_RESOLVE: Guarded(
        OPERATOR,
        "clearing resolve",
        ("record",),
        "Resolve break",
        "It is open no more. Nothing is booked: say where the money is. Another person must approve this.",
        "break.resolve",
        RESOLUTIONS,
    ),
    Kind.PROPOSAL_APPROVE: Guarded(
        APPROVER,
        "operators approve",
        ("proposal_id",),
        "Approve",
        "It is done at once. Nobody approves what they proposed themselves.",
    ),
    Kind.PROPOSAL_REJECT: Guarded(
        OPERATOR,
        "operators reject",
        ("proposal_id",),
        "Reject",
        "It is not done. It can be proposed again.",
    ),
}
"""Every guarded action. Each asks for a reason, and is written down before it is done."""


def may(role: ConsoleRole, needs: ConsoleRole | None) -> bool:
    """True if somebody of this role may do what needs that one."""
    return needs is None or RANK[role] >= RANK[needs]
