"""A batch is decoded and verified once: where something of it must be looked at again, that alone is done again."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from gateway.identity import door
from gateway.identity.assurance import Assertion
from gateway.identity.rules import link_of
from gateway.identity.signing import Signed
from gateway.messaging.records import Record
from schemas.primitives import CustomerId
from schemas.reasons import Reason
from tests.support.builders import dispatched_record, numbered_order, order_record
from tests.support.consents import ISSUER, SUBJECT, ConsentRig, FakeIdentities
from tests.support.domain_samples import consent, krw, terms
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.rig import Rig
from tests.unit.orders.test_bulk_service import bulk, item
from tests.unit.orders.test_bulk_service import record as bulk_record

Counts = Counter[str]


class CountedIdentities(FakeIdentities):
    """Counts how often each proof is verified."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: Counts = Counter()

    def verify(self, token: str, now: datetime) -> Assertion | Reason:
        self.verified[token] += 1
        return super().verify(token, now)


def count_signatures(verifier: Any) -> Counts:
    """How often the signature over each body is verified from now on, by what the body holds first."""
    counts: Counts = Counter()
    authenticate = verifier.authenticate

    def counted(**arguments: Any) -> Signed | Reason:
        counts[arguments["body"]] += 1
        verdict: Signed | Reason = authenticate(**arguments)
        return verdict

    verifier.authenticate = counted
    return counts


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often each body is decoded."""
    counts: Counts = Counter()
    decode = door.decode

    def counted(model: Any, body: bytes, **bounds: Any) -> Any:
        counts[body] += 1  # type: ignore[index]
        return decode(model, body, **bounds)

    monkeypatch.setattr(door, "decode", counted)
    return counts


def new_rig(identities: FakeIdentities) -> Rig:
    rig = Rig()
    rig.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("customer-1")
    rig.initiation = rig.new_initiation(identities=identities)
    return rig


def proven(identities: FakeIdentities, number: int, **fields: Any) -> Record:
    """An order with its customer's proof."""
    bare = numbered_order(number, **fields)
    token = identities.issue(link_of(bare), now=bare.issued_at)  # type: ignore[arg-type]
    return order_record(numbered_order(number, authentication=token, **fields), offset=number)


# --- a sender that nobody knows ---


async def test_of_an_unknown_sender_alone_the_signature_is_looked_at_again(decoded: Counts) -> None:
    identities = CountedIdentities()
    rig = new_rig(identities)
    known = [proven(identities, n) for n in (1, 2, 3)]
    stranger = order_record(numbered_order(4), offset=4, signature="unknown-key")
    signatures = count_signatures(rig.verifier)
    await rig.initiation.take([known[0], stranger, *known[1:]])

    assert rig.faults.places.count("keys.refresh") == 1
    assert signatures == Counter({r.value: 1 for r in known} | {stranger.value: 2})
    assert decoded == Counter(r.value for r in known)
    assert set(identities.verified.values()) == {1}
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 3


async def test_a_sender_that_is_known_by_now_takes_its_place_in_the_batch(decoded: Counts) -> None:
    rig = Rig()
    rig.keys.register(partners=["newcomer"])
    rig.database.put_consent(consent(partner_id="newcomer"))
    records = [
        order_record(numbered_order(1, partner_id="newcomer"), offset=1),
        order_record(numbered_order(2), offset=2),
        order_record(numbered_order(1, partner_id="newcomer", amount=krw(9)), offset=3),
    ]
    await rig.initiation.take(records)
    assert [r.value for r in rig.kafka.records("mypay.dispatch.net-a")] == [r.value for r in records]
    assert decoded == Counter(r.value for r in records)


async def test_of_commands_on_consents_an_unknown_sender_alone_is_looked_at_again(decoded: Counts) -> None:
    rig = ConsentRig()
    known = [rig.request(terms(consent_id=f"consent-{n}")) for n in (1, 2)]
    stranger = rig.request(terms(consent_id="consent-3"), signature="unknown-key")
    await rig.service.take([known[0], stranger, known[1]])
    assert decoded == Counter(r.value for r in known)
    assert len(rig.database.consents.rows) == 2


# --- a provider's key that is newer than what this process knows ---


async def test_of_proofs_those_alone_are_verified_again_that_did_not_hold(decoded: Counts) -> None:
    identities = CountedIdentities()
    rig = new_rig(identities)
    records = [proven(identities, n) for n in (1, 2, 3)]
    identities.hidden = {"a.1.z"}
    await rig.initiation.take(records)
    assert identities.refreshed == 1
    assert identities.verified == Counter({"a.0.z": 1, "a.1.z": 2, "a.2.z": 1})
    assert decoded == Counter(r.value for r in records)
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 3


async def test_of_commands_those_proofs_alone_are_verified_again_that_did_not_hold(decoded: Counts) -> None:
    rig = ConsentRig()
    rig.identities = identities = CountedIdentities()
    rig.service = rig.new_service()
    await rig.service.take([rig.request(terms(consent_id=f"consent-{n}")) for n in (1, 2)])
    decoded.clear()
    grants = [rig.instruction("grant", consent_id=f"consent-{n}") for n in (1, 2)]
    identities.hidden = {"a.0.z"}
    await rig.service.take(grants)
    assert identities.verified == Counter({"a.0.z": 2, "a.1.z": 1})
    assert decoded == Counter(r.value for r in grants)
    assert rig.consent("consent-1").status == rig.consent("consent-2").status == "AUTH"


# --- an id that another worker has written under since ---


async def overtaken(rig: Rig, batch: list[Record], other: Record) -> None:
    """A batch is held before it is written down; meanwhile another order is executed."""
    rig.faults.hold("store.begin", visit=1)
    held = asyncio.create_task(rig.initiation.take(batch))
    await rig.faults.reached("store.begin")
    await rig.execute([other])
    rig.faults.open("store.begin")
    await held


async def test_orders_that_were_overtaken_are_judged_again_and_not_read_again(decoded: Counts) -> None:
    identities = CountedIdentities()
    rig = new_rig(identities)
    batch = [proven(identities, 1), proven(identities, 2, consent_id="nobody"), proven(identities, 3)]
    signatures = count_signatures(rig.verifier)
    await overtaken(rig, batch, dispatched_record(numbered_order(2)))

    assert rig.told() == ["payment.sent", "payment.approved", "order.refused"]
    assert signatures == decoded == Counter(r.value for r in batch)
    assert set(identities.verified.values()) == {1}
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 2


async def test_refunds_that_were_overtaken_are_not_read_again(decoded: Counts) -> None:
    rig = Rig()
    batch = [instruction_record(refund(n), n) for n in (1, 2)]
    signatures = count_signatures(rig.verifier)
    await overtaken(rig, batch, dispatched_record(numbered_order(1)))
    assert signatures == decoded == Counter(r.value for r in batch)
    assert len(rig.kafka.records("mypay.dispatch.net-a")) == 2


async def test_of_a_bulk_that_was_overtaken_no_proof_is_verified_again(decoded: Counts) -> None:
    identities = CountedIdentities()
    rig = new_rig(identities)
    bare = bulk(item(1), item(2))
    tokens = [identities.issue(link_of(bare.order(i)), now=bare.issued_at) for i in bare.items]  # type: ignore[arg-type]
    proofs = [item(n, authentication=token, consent_id="nobody") for n, token in enumerate(tokens, 1)]
    record = bulk_record(bulk(*proofs, item(3, consent_id="nobody")))
    await overtaken(rig, [record], dispatched_record(numbered_order(3)))
    assert set(identities.verified.values()) == {1}
    assert decoded == Counter([record.value])
    [(_, row)] = rig.database.bulks.rows.items()
    assert [r.reason.code for r in row.rejected] == ["MD01", "MD01", "AM05"]


async def test_what_other_kinds_bring_in_one_batch_is_not_read_again_for_one_that_was_overtaken(
    decoded: Counts,
) -> None:
    rig = Rig()
    batch = [
        instruction_record(cancellation(8), 8),
        order_record(numbered_order(2, amount=krw(50_001)), offset=2),
        bulk_record(bulk(item(5))),
        instruction_record(refund(1), 9),
    ]
    await overtaken(rig, batch, dispatched_record(numbered_order(2)))
    assert decoded == Counter(r.value for r in batch)
    assert rig.told().count("cancellation.accepted") == 1
