"""A consent's whole life, as one customer and one partner see it: each command and order, and the event that came back.

Requested and granted with the customer's proof, paid under until a limit is reached, revoked, refused; and a consent
over another customer's card, which is refused. All of it goes through the topics that partners use.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from gateway.client import signed
from gateway.messaging.records import Outgoing
from gateway.proving.books import Checked
from gateway.proving.traffic.cast import STORY_DAY_COUNT, STORY_DAY_KRW, Cast, Customer, Partner, Role
from gateway.proving.traffic.mix import Planned
from gateway.proving.traffic.sending import Sender
from gateway.proving.world.watching import RESULTS, Watch
from schemas.assertions import ConsentLink, LinkedCommand
from schemas.codec import encode
from schemas.consent_commands import (
    CONSENT_GRANT_TYPE,
    CONSENT_REQUEST_TYPE,
    CONSENT_REVOKE_TYPE,
    ConsentInstruction,
    ConsentMessage,
    ConsentRequest,
    canonical_terms,
    terms_digest,
)
from schemas.consents import ConsentTerms
from schemas.primitives import ConsentId, payment_id_of

Until = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Waits until something holds; False if there was no news for too long."""

LIMIT_CODES: Final = {Role.STORY_AMOUNT: "SL14", Role.STORY_COUNT: "SL13"}
_LIMITS: Final = {
    Role.STORY_AMOUNT: f"at most {STORY_DAY_KRW} KRW a day",
    Role.STORY_COUNT: f"at most {STORY_DAY_COUNT} payments a day",
}


class Step(NamedTuple):
    """One step of the story.

    Attributes:
        who: the customer with the partner and its group.
        step: what it is about, in a word.
        sent: the command or order, in plain words.
        came_back: the event, in plain words.
        is_right: it is the event that must come.
    """

    who: str
    step: str
    sent: str
    came_back: str
    is_right: bool


@dataclass(slots=True)
class Teller:
    """Plays the story.

    Attributes:
        send: sends planned orders.
        until: waits, see :data:`Until`.
    """

    cast: Cast
    sender: Sender
    watch: Watch
    send: Callable[[list[Planned]], Awaitable[None]]
    until: Until

    async def tell(self, customer: Customer, orders: Sequence[Planned]) -> list[Step]:
        """Play one customer's story with the orders of the plan: two that fit, one over a limit, one too late."""
        life = _Life(self, customer)
        first, second, beyond, late = orders
        return [
            await life.request(),
            await life.command(CONSENT_GRANT_TYPE, LinkedCommand.GRANT, "AUTH"),
            await life.pay("pay", first, "approved"),
            await life.pay("pay", second, "approved"),
            await life.pay("limit", beyond, "rejected", LIMIT_CODES[customer.role]),
            await life.command(CONSENT_REVOKE_TYPE, LinkedCommand.REVOKE, "CANC"),
            await life.pay("pay again", late, "rejected", "MD01"),
        ]

    async def steal(self, customer: Customer, victim: Customer) -> list[Step]:
        """Play a theft: for a customer of its own the partner asks for a consent over another customer's card."""
        life = _Life(self, with_card_of(customer, victim))
        return [
            await life.request("another customer's card", None, "DS0H"),
            await life.command(CONSENT_GRANT_TYPE, LinkedCommand.GRANT, None, "MD01"),
        ]


class _Life:
    def __init__(self, teller: Teller, customer: Customer) -> None:
        self._teller = teller
        self._customer = customer
        self._partner: Partner = teller.cast.partner(customer.terms.partner_id)
        self._who = (
            f"A consent's life: {customer.terms.customer_id} at {self._partner.name} ({self._partner.home_group})"
        )
        self._digest = ""
        self._number = 0

    async def request(self, sent: str | None = None, status: str | None = "AWAU", code: str | None = None) -> Step:
        terms = self._customer.terms
        message = ConsentRequest(**self._head(), terms=terms)
        self._digest = terms_digest(canonical_terms(encode(message), member="terms"))
        sent = sent or _LIMITS[self._customer.role]
        return await self._command("request", CONSENT_REQUEST_TYPE, message, sent, status, code)

    async def command(self, type_: str, command: LinkedCommand, status: str | None, code: str | None = None) -> Step:
        terms = self._customer.terms
        link = ConsentLink(
            partner_id=terms.partner_id, consent_id=terms.consent_id, command=command, terms_digest=self._digest
        )
        group = self._partner.home_group
        proof = self._teller.cast.identities.prove(group, terms.customer_id, link)
        message = ConsentInstruction(**self._head(), authentication=proof)
        return await self._command(command.value, type_, message, f"proof of the {group} group", status, code)

    async def pay(self, step: str, planned: Planned, state: str, code: str | None = None) -> Step:
        subject = str(payment_id_of(planned.partner_id, planned.order_id))
        told = self._teller.watch.overhear(subject)
        await self._teller.send([planned])
        await self._teller.until(lambda: any(e.get("state") in RESULTS for e in told))
        event = next((e for e in told if e.get("state") in RESULTS), {})
        reason = event.get("reason") or {}
        sent = f"{planned.amount_minor} {planned.currency}, proof of the {planned.proof} group"
        return Step(
            self._who,
            step,
            sent,
            _words("payment", event.get("state"), reason),
            (event.get("state"), reason.get("code")) == (state, code),
        )

    async def _command(
        self, step: str, type_: str, message: ConsentMessage, sent: str, status: str | None, code: str | None
    ) -> Step:
        told = self._teller.watch.overhear(message.consent_id)
        await self._teller.sender.command(signed(self._partner.signer, message, type_=type_))
        await self._teller.until(lambda: any(e.get("command_id") == message.command_id for e in told))
        event = next((e for e in told if e.get("command_id") == message.command_id), {})
        reason = event.get("reason") or {}
        words = _words("consent", event.get("status"), reason, event.get("actor"))
        is_right = bool(event) and (event.get("status"), reason.get("code")) == (status, code)
        return Step(self._who, step, sent, words, is_right)

    def _head(self) -> dict[str, Any]:
        self._number += 1
        terms = self._customer.terms
        return {
            "partner_id": terms.partner_id,
            "consent_id": terms.consent_id,
            "command_id": f"k-{self._number}",
            "issued_at": datetime.now(UTC),
        }


def with_card_of(customer: Customer, victim: Customer) -> Customer:
    """The customer with terms of another consent, which name the victim's card."""
    terms, payment = customer.terms, victim.terms.payment
    if terms.payment is None or payment is None:
        raise AssertionError("everybody of a cast pays")
    stolen = terms.payment.model_copy(update={"funding_token": payment.funding_token})
    consent_id = ConsentId(f"{terms.consent_id}-theft")
    return replace(customer, terms=terms.model_copy(update={"consent_id": consent_id, "payment": stolen}))


def asked_for(partner: Partner, terms: ConsentTerms) -> Outgoing:
    """The partner's request for a consent, without a story around it."""
    request = ConsentRequest(
        partner_id=terms.partner_id,
        consent_id=terms.consent_id,
        command_id="request",
        issued_at=datetime.now(UTC),
        terms=terms,
    )
    return signed(partner.signer, request)


def granted(partner: Partner, terms: ConsentTerms, cast: Cast) -> Outgoing:
    """The grant of such a request, with the customer's proof."""
    digest = terms_digest(canonical_terms(encode(terms)))
    link = ConsentLink(
        partner_id=terms.partner_id,
        consent_id=terms.consent_id,
        command=LinkedCommand.GRANT,
        terms_digest=digest,
    )
    grant = ConsentInstruction(
        partner_id=terms.partner_id,
        consent_id=terms.consent_id,
        command_id="grant",
        issued_at=datetime.now(UTC),
        authentication=cast.identities.prove(partner.home_group, terms.customer_id, link),
    )
    return signed(partner.signer, grant, type_=CONSENT_GRANT_TYPE)


def _words(what: str, state: str | None, reason: dict[str, str], actor: str | None = None) -> str:
    if state is None and not reason:
        return "nothing"
    by = f", by the {actor}" if actor else ""
    why = f", {reason['code']}: {reason['text']}" if reason else ""
    return f"{what} {state or 'refused'}{by}{why}"


def story_is_right(steps: Sequence[Step]) -> Checked:
    """Every command and order of the story brought the event that it must."""
    wrong = tuple(f"{s.who}, {s.step}: {s.came_back}" for s in steps if not s.is_right)
    title = "Commands on consents, and orders around them, brought the events that they must"
    return Checked("story_is_right", title, len(steps), wrong, len(wrong))
