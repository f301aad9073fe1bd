"""One customer's data on its way, and the end of it: exported, shared and used for offers; then all of it is revoked.

Around the revocation everything that the customer permitted is asked for on and on, so that it has something to stop.
After it nothing may be had any more, and both affiliates erase what they hold and confirm it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from gateway.base.keys import ConsentKey
from gateway.client import signed
from gateway.proving.traffic.cast import Cast, Customer, Partner
from gateway.proving.traffic.mix import Planned
from gateway.proving.traffic.receivers import FAITHFUL, FAITHFUL_WORTH, SENDER, Receivers
from gateway.proving.traffic.sending import Sender
from gateway.proving.traffic.story import Step, Until
from gateway.proving.world.receiving import AffiliateBook, Receiving
from gateway.proving.world.watching import RESULTS, Watch
from schemas.assertions import ConsentLink, LinkedCommand, PortabilityLink
from schemas.codec import encode
from schemas.consent_commands import CONSENT_REVOKE_TYPE, ConsentInstruction, canonical_terms, terms_digest
from schemas.consents import PortabilityPurpose
from schemas.marketing import OfferGranted, OfferUse
from schemas.portability import PortabilityRequest, TargetInfo, request_digest
from schemas.primitives import Money, payment_id_of
from schemas.sharing import ErasureConfirmed

_PAUSE_S: Final = 0.08
"""Between two askings of everything around the revocation: less than each of them takes."""

_POLL_S: Final = 0.05
_WAIT_S: Final = 30.0
_ENDED: Final = frozenset(("delivered", "refused", "voided"))
_REVOKED: Final = "MD01"
_TOO_DEAR: Final = "TKVE"

_HELD: Final = "SELECT affiliate_id, reference FROM share_holder WHERE (partner_id, consent_id) = ($1, $2)"
_OFFER: Final = """
SELECT affiliate_id, offer_id::text AS offer_id FROM offer
WHERE (partner_id, consent_id) = ($1, $2) AND campaign_id = $3
"""
_CONFIRMED: Final = """
SELECT count(*) FROM share_holder WHERE (partner_id, consent_id) = ($1, $2) AND confirmed_at IS NOT NULL
"""


@dataclass(slots=True)
class Left:
    """What was played.

    Attributes:
        key: of the consent that ended.
        references: affiliate → its own name of that consent.
        offer: that the customer had; None: none came.
    """

    key: ConsentKey
    references: dict[str, str] = field(default_factory=dict)
    offer: OfferGranted | None = None
    steps: list[Step] = field(default_factory=list)


class Leaving:
    """Plays it, with the orders that the plan has for this customer.

    Args:
        dsn: where it is looked up how affiliates call this consent.
        send: sends planned orders.
        until: waits, see :data:`gateway.proving.traffic.story.Until`.
    """

    def __init__(
        self,
        cast: Cast,
        customer: Customer,
        *,
        dsn: str,
        sender: Sender,
        watch: Watch,
        receiving: Receiving,
        send: Callable[[list[Planned]], Awaitable[None]],
        until: Until,
    ) -> None:
        self._cast = cast
        self._customer = customer
        self._partner: Partner = cast.partner(customer.terms.partner_id)
        self._dsn = dsn
        self._sender = sender
        self._watch = watch
        self._receiving = receiving
        self._receivers: Receivers = receiving.receivers
        self._send = send
        self._until = until
        at = f"{self._partner.name} ({self._partner.home_group})"
        self._who = f"One revocation ends all: {customer.terms.customer_id} at {at}"
        self._told = watch.overhear(customer.terms.consent_id)
        self._asked: list[str] = []
        self._used: list[str] = []
        self._left = Left((customer.terms.partner_id, customer.terms.consent_id))

    async def play(self, orders: Sequence[Planned], close_cycle: Callable[[], Awaitable[None]]) -> Left:
        """Play it once what the customer paid is settled.

        Args:
            orders: one that stays open, some for around the revocation, some for after it.
            close_cycle: makes the networks clear what is open.
        """
        still_open, racing, late = (
            [p for p in orders if p.kind == kind] for kind in ("leaving_open", "leaving_race", "leaving_late")
        )
        left = self._left
        left.steps = [await self._export(), await self._share()]
        left.offer = offer = await self._offer()
        if offer is None:
            left.steps.append(self._step("offer", f"campaign {FAITHFUL}", "nothing", is_right=False))
            return left
        left.steps += [await self._use(offer), await self._pay("pay", still_open, "approved")]
        left.steps.append(await self._race(offer, racing, close_cycle))
        left.steps.append(await self._pay("pay again", late, "rejected", _REVOKED))
        left.steps += [await self._export_again(), await self._use_again(offer)]
        left.steps += [await self._erase(), await self._withdrawn(offer)]
        return left

    # --- exports ---

    async def _export(self) -> Step:
        [event] = await self._ended([await self._ask()])
        await self._until(lambda: event.get("export_id") in self._receiving.exports.whole)
        opened = self._receiving.exports.whole.get(str(event.get("export_id")))
        if opened is None:
            return self._step("export", "a transmission request", _words("export", event), is_right=False)
        told = f"{sum(opened.manifest.counts.values())} records in {len(opened.manifest.chunks)} chunks"
        name = self._receivers.recipient.name
        return self._step(
            "export",
            f"a transmission request for all, proof of the {self._partner.home_group} group",
            f"delivered: {told}; {name} opened them with its key: digests, counts and receipt hold",
        )

    async def _export_again(self) -> Step:
        [event] = await self._ended([await self._ask()])
        is_right = (event.get("status"), _code(event)) == ("refused", _REVOKED)
        return self._step("export again", "a transmission request", _words("export", event), is_right=is_right)

    async def _ask(self) -> str:
        """Ask for everything; return the request's id."""
        terms = self._customer.terms
        purpose = terms.portability
        if purpose is None:
            raise AssertionError("who leaves has permitted everything")
        request = self._request(purpose)
        link = PortabilityLink(
            partner_id=terms.partner_id,
            request_id=request.request_id,
            consent_id=terms.consent_id,
            rcv_org_code=request.rcv_org_code,
            request_digest=request_digest(encode(request)),
        )
        proof = self._cast.identities.prove(self._partner.home_group, terms.customer_id, link)
        proven = request.model_copy(update={"authentication": proof})
        await self._sender.command(signed(self._partner.signer, proven))
        return request.request_id

    def _request(self, purpose: PortabilityPurpose) -> PortabilityRequest:
        self._asked.append(f"t-{len(self._asked) + 1}")
        return PortabilityRequest(
            partner_id=self._customer.terms.partner_id,
            consent_id=self._customer.terms.consent_id,
            request_id=self._asked[-1],
            issued_at=datetime.now(UTC),
            snd_org_code=SENDER,
            rcv_org_code=self._receivers.recipient.org_code,
            end_date=purpose.end_date,
            purpose=purpose.purpose,
            period=purpose.period,
            target_info=tuple(TargetInfo(scope=s) for s in purpose.scopes),
        )

    async def _ended(self, requests: Sequence[str]) -> list[dict[str, Any]]:
        """How each request ended."""

        def ends() -> list[dict[str, Any]]:
            last = {e["request_id"]: e for e in self._told if "request_id" in e and e["status"] in _ENDED}
            return [last.get(r, {}) for r in requests]

        await self._until(lambda: all(ends()))
        return ends()

    # --- shares ---

    async def _share(self) -> Step:
        """What both affiliates hold of the customer's payments, each by names of its own."""
        books, wanted = self._receiving.books, len(self._receivers.affiliates)
        rows = await self._rows(_HELD, lambda found: len(found) == wanted)
        self._left.references = {r["affiliate_id"]: r["reference"] for r in rows}
        await self._until(lambda: all(books[a].received[ref] for a, ref in self._left.references.items()))
        counts = {a: books[a].received[ref] for a, ref in self._left.references.items()}
        return self._step(
            "share",
            "nothing: shared as it is settled",
            "; ".join(f"{a} has {n} payments" for a, n in sorted(counts.items())) or "nothing",
            is_right=len(counts) == wanted and all(counts.values()),
        )

    async def _erase(self) -> Step:
        """Both affiliates are told to erase, do so, and confirm it under their signatures."""
        books = {a: self._receiving.books[a] for a in self._left.references}
        await self._until(lambda: all(b.notices.get(self._left.references[a]) for a, b in books.items()))
        erased = 0
        for affiliate_id, book in books.items():
            notice = book.notices.get(self._left.references[affiliate_id])
            if notice is not None:
                number = book.erase(notice.consent_ref)
                erased += number
                word = ErasureConfirmed(
                    notice_id=notice.notice_id, affiliate_id=affiliate_id, erased=number, erased_at=datetime.now(UTC)
                )
                await self._sender.command(signed(self._receivers.affiliate(affiliate_id).signer, word))
        [[confirmed]] = await self._rows(_CONFIRMED, lambda found: found[0][0] == len(books))
        return self._step(
            "erase",
            f"{len(books)} erase notices, to those who hold shares",
            f"{erased} payments erased, {confirmed} signed confirmations taken in",
            is_right=confirmed == len(books) == len(self._receivers.affiliates) and erased > 0,
        )

    # --- offers ---

    async def _offer(self) -> OfferGranted | None:
        rows = await self._rows(_OFFER, bool, FAITHFUL)
        if not rows:
            return None
        affiliate, offer_id = rows[0]["affiliate_id"], rows[0]["offer_id"]
        book = self._receiving.books[affiliate]
        await self._until(lambda: offer_id in book.offers)
        return book.offers.get(offer_id)

    async def _use(self, offer: OfferGranted) -> Step:
        """Two uses, one of them told twice, and one that costs more than it may."""
        twice, once, dear = [self._use_of(offer, won) for won in (FAITHFUL_WORTH, 700, FAITHFUL_WORTH + 1)]
        for use in (twice, twice, once, dear):
            await self._tell(use)
        book = self._book(offer)
        await self._until(lambda: all(u.use_id in book.answers for u in (twice, once, dear)))
        answers = [book.answers.get(u.use_id, "none") for u in (twice, once, dear)]
        return self._step(
            "offer",
            f"{offer.affiliate_id} tells uses of its offer: two, one of them twice, and one that is too dear",
            f"{answers.count(None)} counted, refused: {', '.join(a for a in answers if a)}",
            is_right=answers == [None, None, _TOO_DEAR],
        )

    async def _use_again(self, offer: OfferGranted) -> Step:
        use = self._use_of(offer, FAITHFUL_WORTH)
        await self._tell(use)
        book = self._book(offer)
        await self._until(lambda: use.use_id in book.answers)
        answer = book.answers.get(use.use_id)
        return self._step("use again", "a use of the offer", f"refused, {answer}", is_right=answer == _REVOKED)

    async def _withdrawn(self, offer: OfferGranted) -> Step:
        book, offer_id = self._book(offer), str(offer.offer_id)
        await self._until(lambda: offer_id in book.withdrawn)
        ended = book.withdrawn.get(offer_id)
        came_back = f"withdrawn: {ended.cause}" if ended else "nothing"
        return self._step("offer ends", "nothing", came_back, is_right=ended is not None)

    def _use_of(self, offer: OfferGranted, won: int) -> OfferUse:
        self._used.append(f"r-{len(self._used) + 1}")
        return OfferUse(
            use_id=self._used[-1],
            offer_id=offer.offer_id,
            affiliate_id=offer.affiliate_id,
            amount=Money.of(won, "KRW"),
            used_at=datetime.now(UTC),
        )

    async def _tell(self, use: OfferUse) -> None:
        await self._sender.command(signed(self._receivers.affiliate(use.affiliate_id).signer, use))

    def _book(self, offer: OfferGranted) -> AffiliateBook:
        return self._receiving.books[offer.affiliate_id]

    # --- payments, and the end ---

    async def _pay(self, step: str, orders: Sequence[Planned], state: str, code: str | None = None) -> Step:
        told = [self._watch.overhear(str(payment_id_of(p.partner_id, p.order_id))) for p in orders]
        await self._send(list(orders))
        await self._until(lambda: all(any(e.get("state") in RESULTS for e in events) for events in told))
        last = [next((e for e in events if e.get("state") in RESULTS), {}) for events in told]
        return self._step(
            step,
            f"{len(orders)} of {orders[0].amount_minor} {orders[0].currency}",
            ", ".join(sorted({_words("payment", e) for e in last})),
            is_right=all((e.get("state"), _code(e)) == (state, code) for e in last),
        )

    async def _race(
        self, offer: OfferGranted, racing: Sequence[Planned], close_cycle: Callable[[], Awaitable[None]]
    ) -> Step:
        """Ask for everything again and again, and revoke all of it in the middle."""
        requests: list[str] = []
        uses: list[OfferUse] = []
        for number, order in enumerate(racing):
            if number == len(racing) // 2:
                await self._revoke()
                await close_cycle()
            await self._send([order])
            requests.append(await self._ask())
            uses.append(self._use_of(offer, 100))
            await self._tell(uses[-1])
            await asyncio.sleep(_PAUSE_S)
        ends = await self._ended(requests)
        book = self._book(offer)
        await self._until(lambda: all(u.use_id in book.answers for u in uses))
        counted = sum(book.answers.get(u.use_id, "") is None for u in uses)
        delivered = sum(e.get("status") == "delivered" for e in ends)
        event = next((e for e in self._told if e.get("status") == "CANC"), {})
        return self._step(
            "revoke",
            f"everything, with the customer's proof, amid {len(racing)} orders, {len(requests)} transmission requests "
            f"and {len(uses)} uses",
            f"consent {event.get('status')}, by the {event.get('actor')}; up to then {delivered} exports delivered, "
            f"{counted} uses counted",
            is_right=event.get("actor") == "customer",
        )

    async def _revoke(self) -> None:
        terms = self._customer.terms
        link = ConsentLink(
            partner_id=terms.partner_id,
            consent_id=terms.consent_id,
            command=LinkedCommand.REVOKE,
            terms_digest=terms_digest(canonical_terms(encode(terms))),
        )
        message = ConsentInstruction(
            partner_id=terms.partner_id,
            consent_id=terms.consent_id,
            command_id="leave",
            issued_at=datetime.now(UTC),
            authentication=self._cast.identities.prove(self._partner.home_group, terms.customer_id, link),
        )
        await self._sender.command(signed(self._partner.signer, message, type_=CONSENT_REVOKE_TYPE))

    # --- looking ---

    async def _rows(self, sql: str, enough: Callable[[list[Any]], bool], *more: str) -> list[Any]:
        """Rows about the consent, once they are enough; what there is after :data:`_WAIT_S`."""
        connection = await asyncpg.connect(self._dsn)
        try:
            for _ in range(round(_WAIT_S / _POLL_S)):
                found = await connection.fetch(sql, *self._left.key, *more)
                if enough(found):
                    break
                await asyncio.sleep(_POLL_S)
            return list(found)
        finally:
            await connection.close()

    def _step(self, step: str, sent: str, came_back: str, *, is_right: bool = True) -> Step:
        return Step(self._who, step, sent, came_back, is_right)


def _code(event: dict[str, Any]) -> str | None:
    reason = event.get("reason") or {}
    return reason.get("code")


def _words(what: str, event: dict[str, Any]) -> str:
    reason = event.get("reason") or {}
    why = f", {reason['code']}: {reason['text']}" if reason else ""
    return f"{what} {event.get('state') or event.get('status') or 'without an answer'}{why}"
