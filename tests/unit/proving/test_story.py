"""A consent's story: what is sent is what partners and customers sign, and only the right events make it right."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.base.process import SilentObserver
from gateway.directory.partners import PartnerKey
from gateway.identity.assurance import Assertion
from gateway.identity.jose.assertion import JwsAssertionVerifier
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import Signed
from gateway.messaging.records import Outgoing
from gateway.proving.memory.keys import MemoryKeySource
from gateway.proving.traffic.cast import STORY, Cast, Role, make_cast, make_partners
from gateway.proving.traffic.mix import Planned, Wave, plan, roles_for
from gateway.proving.traffic.story import LIMIT_CODES, Step, Teller, story_is_right
from gateway.proving.world.watching import Watch
from schemas.assertions import ConsentLink
from schemas.codec import decode
from schemas.consent_commands import CONSENT_MESSAGES, canonical_terms, terms_digest
from schemas.envelope import read_envelope
from schemas.primitives import payment_id_of
from schemas.topics import CONSENT_COMMANDS

STATUSES = {"request": "AWAU", "grant": "AUTH", "revoke": "CANC"}
STEPS = ["request", "grant", "pay", "pay", "limit", "revoke", "pay again"]


@pytest.fixture(scope="module")
def cast() -> Cast:
    return make_cast(roles_for(300), partners=make_partners(), now=datetime.now(UTC), seed=5)


class Gateway:
    """Answers every command and order at once, as the right gateway would; ``answer`` may change an event."""

    def __init__(self, cast: Cast, answer: Callable[[str, dict[str, Any]], dict[str, Any] | None]) -> None:
        self.commands: list[Outgoing] = []
        self.watch = Watch()
        self._answer = answer
        self._limits = {c.terms.consent_id: LIMIT_CODES[c.role] for role in STORY for c in cast.of(role)}
        self.teller = Teller(cast, self, self.watch, self.send, self.until)  # type: ignore[arg-type]

    async def command(self, record: Outgoing) -> None:
        self.commands.append(record)
        word = read_envelope(record.headers).type.split(".")[3]
        body = json.loads(record.value)
        event = {"consent_id": body["consent_id"], "command_id": body["command_id"], "status": STATUSES[word]}
        self._tell("consent.changed", word, event)

    async def send(self, planned: list[Planned]) -> None:
        (order,) = planned
        codes = {"story_limit": self._limits[order.consent_id], "story_revoked": "MD01"}  # type: ignore[index]
        event: dict[str, Any] = {"payment_id": str(payment_id_of(order.partner_id, order.order_id)), "version": 1}
        if order.kind in codes:
            event |= {"state": "rejected", "reason": {"code": codes[order.kind], "text": "because"}}
        else:
            event["state"] = "approved"
        self._tell(f"payment.{event['state']}", order.kind, event)

    async def until(self, holds: Callable[[], bool]) -> bool:
        return holds()

    def _tell(self, kind: str, about: str, event: dict[str, Any]) -> None:
        told = self._answer(about, event)
        if told is not None:
            headers = [("ce_id", b"x"), ("ce_type", f"kr.mypay.{kind}.v1".encode())]
            value = json.dumps(told).encode()
            self.watch.record(SimpleNamespace(topic="mypay.events.x", timestamp=0, headers=headers, value=value))


async def told(
    cast: Cast, answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda _, event: event
) -> tuple[Gateway, list[Step]]:
    gateway = Gateway(cast, answer)
    orders = [p for p in plan(300, cast, 5) if p.wave is Wave.STORY]
    steps: list[Step] = []
    for role in STORY:
        for customer in cast.of(role):
            mine = [p for p in orders if p.consent_id == customer.terms.consent_id]
            steps += await gateway.teller.tell(customer, mine)
    return gateway, steps


async def test_every_step_is_told_and_right(cast: Cast) -> None:
    _, steps = await told(cast)
    assert [s.step for s in steps] == STEPS * len(STORY)
    assert story_is_right(steps).ok
    assert [s.came_back for s in steps][:5] == [
        "consent AWAU",
        "consent AUTH",
        "payment approved",
        "payment approved",
        "payment rejected, SL14: because",
    ]
    assert {s.who.partition("(")[2] for s in steps} == {"financial)", "telecom)"}


async def test_commands_are_signed_by_the_partner_and_proven_for_the_terms(cast: Cast, tmp_path: Path) -> None:
    gateway, _ = await told(cast)
    now = datetime.now(UTC)
    keys = [PartnerKey(p.kid, p.partner_id, p.algorithm, p.jwk, now, None, None) for p in cast.partners]
    signatures = JwsVerifier(MemoryKeySource([p.partner_id for p in cast.partners], keys))
    cast.identities.write(tmp_path)
    trust = CachedTrustTable(tmp_path, SilentObserver())
    await trust.load()
    await trust.stop()
    digests: dict[str, str] = {}
    for record in gateway.commands:
        envelope = read_envelope(record.headers)
        message = decode(CONSENT_MESSAGES[envelope.type], record.value)
        assert (record.topic, record.key) == (CONSENT_COMMANDS, message.consent_id.encode())
        signed = signatures.authenticate(body=record.value, signature=envelope.signature, type_=envelope.type, now=now)
        assert signed == Signed(message.partner_id)
        if hasattr(message, "terms"):
            digests[message.consent_id] = terms_digest(canonical_terms(record.value, member="terms"))
            continue
        assert message.authentication is not None
        proof = JwsAssertionVerifier(trust).verify(message.authentication, now)
        assert isinstance(proof, Assertion)
        assert isinstance(proof.link, ConsentLink)
        assert proof.link.terms_digest == digests[message.consent_id]
        assert proof.link.command == envelope.type.split(".")[3]
    assert len(gateway.commands) == 3 * len(STORY)


WRONG: dict[str, tuple[str, dict[str, Any] | None]] = {
    # what is answered wrongly → what about it
    "the grant is refused": ("grant", {"status": "AWAU", "reason": {"code": "DS0A", "text": "no"}}),
    "the grant is not answered": ("grant", None),
    "the revocation only suspends": ("revoke", {"status": "SUSP"}),
    "a payment over the limit is approved": ("story_limit", {"state": "approved", "reason": None}),
    "it is refused for another limit": ("story_limit", {"reason": {"code": "TKVE", "text": "no"}}),
    "a payment is paid after the end": ("story_revoked", {"state": "approved", "reason": None}),
    "a payment that fits is refused": ("story_paid", {"state": "rejected", "reason": {"code": "DS0A", "text": "no"}}),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_another_event_than_the_right_one_is_told_as_wrong(cast: Cast, wrong: str) -> None:
    about, change = WRONG[wrong]

    def answer(word: str, event: dict[str, Any]) -> dict[str, Any] | None:
        if word != about:
            return event
        return None if change is None else event | change

    _, steps = await told(cast, answer)
    checked = story_is_right(steps)
    assert not checked.ok
    assert checked.looked_at == len(STEPS) * len(STORY)
    assert len(checked.violations) == checked.violation_count


def test_the_roles_of_the_story_are_not_registered_as_granted(cast: Cast) -> None:
    assert set(STORY) == {Role.STORY_AMOUNT, Role.STORY_COUNT}
    assert all(len(cast.of(role)) == 1 for role in STORY)


def test_an_operators_words_about_a_consent_are_no_reason_code() -> None:
    watch = Watch()
    heard = watch.overhear("c-1")
    headers = [("ce_id", b"c-1:1"), ("ce_type", b"kr.mypay.consent.changed.v1")]
    body = {"consent_id": "c-1", "status": "CANC", "change": 1, "reason": "asked by phone"}
    watch.record(SimpleNamespace(topic="t", timestamp=0, headers=headers, value=json.dumps(body).encode()))
    assert heard == [body]
    assert watch.ended == 0


REFUSED = {
    "request": {"status": None, "reason": {"code": "DS0H", "text": "not yours"}},
    "grant": {"status": None, "reason": {"code": "MD01", "text": "none"}},
}


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (REFUSED, [True, True]),
        ({}, [False, False]),  # done, as if it were the customer's own card
        (REFUSED | {"grant": {"status": "AUTH"}}, [True, False]),
        (REFUSED | {"request": {"status": None, "reason": {"code": "MD01", "text": "no"}}}, [False, True]),
    ],
)
async def test_a_theft_is_right_only_where_it_is_refused(
    cast: Cast, answers: dict[str, dict[str, Any]], right: list[bool]
) -> None:
    gateway = Gateway(cast, lambda about, event: event | answers.get(about, {}))
    thief = cast.of(STORY[0])[0]
    victim = next(c for c in cast.of(Role.PLAIN) if c.terms.partner_id == thief.terms.partner_id)
    assert [s.is_right for s in await gateway.teller.steal(thief, victim)] == right
    request, _ = gateway.commands
    asked = decode(CONSENT_MESSAGES[read_envelope(request.headers).type], request.value)
    assert asked.terms.customer_id == thief.terms.customer_id
    assert asked.terms.payment.funding_token == victim.terms.payment.funding_token  # type: ignore[union-attr]
