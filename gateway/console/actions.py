"""Guarded actions: confirmed, with a reason, written down before they are done; proposed where money may move.

The rules are the command line's (:mod:`gateway.app.proposals`): whoever proposes cannot approve, at either door.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, assert_never
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from gateway.app.errors import NotConfiguredError, OperationRefusedError
from gateway.app.hurrying import inquire_now, remind
from gateway.app.operating import Action, Actor, NotAnActorError, actor_of, recorded
from gateway.app.proposals import decide, propose
from gateway.app.sending_again import CutOffError, StoppedError
from gateway.base.errors import PublisherUnavailableError, StoreUnavailableError
from gateway.consents.changing import ConsentCommandRefusedError, ConsentUnknownError
from gateway.consents.rules.consent import ConsentCommand
from gateway.console.rules.access import CHOICE, GUARDED, Guarded, Kind, may
from gateway.console.web import SIGNED_IN, Console, form_of, refused
from gateway.directory.approval import Decision, Proposal
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError
from gateway.settlement.resolutions import RecordPlace
from gateway.views.operator_actions import OperatorActionsView
from schemas.primitives import PartnerId, PaymentId

SUBJECT_CHARS_MAX = 200


async def action_form(console: Console, request: web.Request) -> web.Response:
    """Ask whether to do it, and why."""
    return await _form(console, request, request.query, status=200, error="")


async def action(console: Console, request: web.Request) -> web.Response:
    """Do it, or propose it."""
    given = await form_of(request)
    asked = _asked(console, request, given)
    if isinstance(asked, web.Response):
        return asked
    kind, subject = asked
    why = given.get("why", "").strip()
    if not why:
        return await _form(console, request, given, status=400, error="A reason is needed.")
    if GUARDED[kind].choices and given.get(CHOICE) not in GUARDED[kind].choices:
        return await _form(console, request, given, status=400, error="Choose what was done.")
    try:
        session = request[SIGNED_IN].session
        actor = actor_of(session.name, why, None if console.settings.console_oidc_own_names else session.identity)
    except NotAnActorError:
        text = "The reason cannot be kept: too long, not printable, or like a card number or a key."
        return await _form(console, request, given, status=400, error=text)
    return await _carried_out(console, request, kind, subject, actor, given.get(CHOICE, ""))


async def _carried_out(
    console: Console, request: web.Request, kind: Kind, subject: Mapping[str, str], actor: Actor, choice: str
) -> web.Response:
    guarded = GUARDED[kind]
    dsn, whom, told = console.database.operator_dsn, " ".join(subject.values()), ""
    try:
        doing = Action(actor, guarded.command, whom)
    except NotAnActorError:
        return refused(console, request, 400, "What this concerns cannot be kept: it looks like a card number.")
    try:
        async with recorded(dsn, doing) as noted:
            if guarded.operation is not None:
                payload = _payload(kind, subject, actor.why, choice)
                noted.proposed = await propose(dsn, actor, guarded.operation, whom, payload)
            else:
                told = await _do(console, kind, subject, actor)
    except NOT_DONE as error:
        if isinstance(error, StoreUnavailableError) and not doing.has_begun:
            raise
        return _not_done(console, request, error)
    is_proposed = noted.proposed is not None
    outcome = "proposed" if is_proposed else "done"
    console.observer.count("console", f"action_{outcome}")
    console.observer.note("console_action", operator=actor.operator, action=guarded.command, outcome=outcome)
    return console.page(
        request, "done.html", guarded=guarded, subject=subject, told=told, proposed=is_proposed, back=_back(subject)
    )


NOT_DONE: Final = (
    *(KafkaUnavailableError, TopicMissingError, PublisherUnavailableError, StoreUnavailableError, CutOffError),
    *(OperationRefusedError, ConsentUnknownError, ConsentCommandRefusedError, NotConfiguredError),
)
"""How an action ends that is not done, or not known to be."""


def _not_done(console: Console, request: web.Request, error: Exception) -> web.Response:
    detail = f"{error}."
    match error:
        case KafkaUnavailableError() | TopicMissingError() | PublisherUnavailableError():
            # Nothing is decided: what was proposed is open still.
            status, text, detail = 503, "Kafka does not answer. Try again in a moment.", ""
        case StoreUnavailableError():
            status, detail = 503, ""
            text = "The database did not answer whether this was done. Look before you try again."
        case StoppedError():
            status, text = 409, "This was stopped: not all of it was sent."
        case CutOffError():
            status, text = 503, "Not all of it was sent: try again for the rest."
        case _:
            console.observer.count("console", "action_refused")
            status, text, detail = 409, "This was refused.", str(error)
    return refused(console, request, status, text, detail=detail)


async def _do(console: Console, kind: Kind, subject: Mapping[str, str], actor: Actor) -> str:
    database = console.database
    match kind:
        case Kind.NETWORK_PAUSE:
            network = subject["network_id"]
            if network not in console.networks:
                raise OperationRefusedError(f"No network {network} is configured.", missing=True)
            if not await database.pause_network(network, operator=actor.operator, why=actor.why):
                raise OperationRefusedError(f"Network {network} is paused already.")
            return ""
        case Kind.CONSENT_SUSPEND | Kind.CONSENT_REVOKE:
            command = ConsentCommand.SUSPEND if kind is Kind.CONSENT_SUSPEND else ConsentCommand.REVOKE
            return await database.change_consent(
                subject["partner_id"], subject["consent_id"], command, reason=actor.why
            )
        case Kind.PROPOSAL_APPROVE | Kind.PROPOSAL_REJECT:
            proposal = _existing(subject["proposal_id"], "There is no such proposal.")
            decision = Decision.APPROVED if kind is Kind.PROPOSAL_APPROVE else Decision.REJECTED
            _, told = await decide(console.settings, database.operator_dsn, proposal, decision, actor)
            return told
        case Kind.PAYMENT_INQUIRE:
            payment = _existing(subject["payment_id"], "There is no such payment.")
            return await inquire_now(database.operator_dsn, (PartnerId(subject["partner_id"]), PaymentId(payment)))
        case Kind.ERASURE_REMIND:
            notice = _existing(subject["notice_id"], "There is no such erase notice.")
            return await remind(database.operator_dsn, notice)
        case Kind.NETWORK_RESUME | Kind.CONSENT_RESUME | Kind.DEAD_LETTER_REPLAY | Kind.BREAK_RESOLVE:
            raise OperationRefusedError("This is only ever proposed.")
    assert_never(kind)


def _payload(kind: Kind, subject: Mapping[str, str], why: str, choice: str) -> Mapping[str, Any]:
    if kind is Kind.DEAD_LETTER_REPLAY:
        return {"references": [subject["reference"]]}
    if kind is Kind.BREAK_RESOLVE:
        try:
            place = RecordPlace.parse(subject["record"])
        except ValueError:
            raise OperationRefusedError("There is no such record.", missing=True) from None
        return {**asdict(place), "resolution": choice, "reason": why}
    return {**subject, "reason": why} if kind is Kind.CONSENT_RESUME else dict(subject)


async def _form(
    console: Console, request: web.Request, given: Mapping[str, str], *, status: int, error: str
) -> web.Response:
    asked = _asked(console, request, given)
    if isinstance(asked, web.Response):
        return asked
    kind, subject = asked
    proposal = None
    if "proposal_id" in subject:
        # Nobody decides what they have not seen.
        proposal = await _proposal(console, subject["proposal_id"])
        if proposal is None:
            return refused(console, request, 404, "There is no such page.")
    return console.page(
        request,
        "action.html",
        proposal=proposal,
        status=status,
        kind=kind.value,
        guarded=GUARDED[kind],
        subject=subject,
        error=error,
        why=given.get("why", ""),
        choice=given.get(CHOICE, ""),
        back=_back(subject),
    )


async def _proposal(console: Console, text: str) -> Proposal | None:
    if (proposal_id := _uuid(text)) is None:
        return None
    async with console.database.view(OperatorActionsView) as view:
        return await view.proposal(proposal_id)


def _existing(text: str, missing: str) -> UUID:
    if (found := _uuid(text)) is None:
        raise OperationRefusedError(missing, missing=True)
    return found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _asked(
    console: Console, request: web.Request, given: Mapping[str, str]
) -> tuple[Kind, dict[str, str]] | web.Response:
    """Which action, and what it concerns; or why there is none for whoever asks."""
    kind = _kind_of(request)
    if kind is None or (subject := _subject_of(GUARDED[kind], given)) is None:
        return refused(console, request, 404, "There is no such page.")
    if not may(request[SIGNED_IN].session.role, GUARDED[kind].needs):
        return refused(console, request, 403, "Your role does not permit this.")
    return kind, subject


def _kind_of(request: web.Request) -> Kind | None:
    try:
        return Kind(request.match_info["kind"])
    except ValueError:
        return None


def _subject_of(guarded: Guarded, given: Mapping[str, str]) -> dict[str, str] | None:
    """What it concerns; None where something is missing, or is no id."""
    subject = {name: given.get(name, "") for name in guarded.fields}
    good = all(v and len(v) <= SUBJECT_CHARS_MAX and v.isprintable() for v in subject.values())
    return subject if good else None


_PAGES: Final = {
    ("partner_id", "consent_id"): "/consents/{}/{}",
    ("partner_id", "payment_id"): "/payments/{}/{}",
    ("network_id",): "/networks",
    ("record",): "/exceptions#breaks",
    ("notice_id",): "/exceptions#erasures",
    ("reference",): "/dead-letters",
}


def _back(subject: Mapping[str, str]) -> str:
    """The page that shows what it concerns."""
    return _PAGES.get(tuple(subject), "/approvals").format(*(quote(v, safe="") for v in subject.values()))
