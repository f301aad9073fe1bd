"""Dispatched records: execution takes what the gateway itself wrote for this network, to the byte, and nothing else."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from gateway.base.errors import StoreUnavailableError
from gateway.identity.assurance import Assertion
from gateway.identity.rules import link_of
from gateway.messaging.records import Record
from gateway.payments.dispatch import JUDGED_HEADER, MARK_HEADER, Dispatch, UntrustedRecordError
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.sealing.mac import HmacMarks
from gateway.sealing.sealing import MasterKeys, Purpose
from schemas.codec import encode
from schemas.envelope import EnvelopeError
from schemas.orders import OCCURRENCE_TYPE, ORDER_TYPE
from schemas.primitives import ConsentId, CustomerId, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.refunds import REFUND_TYPE
from tests.support.builders import (
    DISPATCH,
    NETWORK,
    NOW,
    as_record,
    dispatched_record,
    later,
    numbered_order,
    order_record,
)
from tests.support.consents import ISSUER, SUBJECT, FakeIdentities
from tests.support.domain_samples import consent, krw
from tests.support.instructions import dispatched_refund, refund
from tests.support.rig import Rig
from tests.unit.orders.test_scheduled_service import ProvingRig, proven

HERE, OTHER = NetworkId(NETWORK), NetworkId("net-b")
FOREIGN = Dispatch(HmacMarks(MasterKeys({"20260101": bytes([7] * 32)}), Purpose.DISPATCH_MARK))
UNKNOWN = Dispatch(HmacMarks(MasterKeys({"20990101": bytes(32)}), Purpose.DISPATCH_MARK))


def with_header(record: Record, name: str, value: bytes) -> Record:
    return replace(record, headers=tuple((n, value if n == name else v) for n, v in record.headers))


def at(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def header(record: Record, name: str) -> bytes:
    return dict(record.headers)[name]


# --- what was judged comes through ---


def test_what_was_judged_of_an_order_comes_through_as_it_was() -> None:
    identities = FakeIdentities()
    placed = numbered_order(1)
    token = identities.issue(link_of(placed), now=NOW, not_before=later(-1), methods=("pin", "hwk"))  # type: ignore[arg-type]
    proof = identities.made[0]
    placed = placed.model_copy(update={"authentication": token})
    body = encode(placed)
    taken = ReceivedOrder(
        order=placed,
        digest=sha256(body).digest(),
        ordered_at=later(-3),
        reference="mypay.orders/0/7#2",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        assertion=proof,
        signature="ey..sig",
    )
    read = DISPATCH.read(as_record(DISPATCH.order(taken, body, HERE, later(1.25))), HERE)
    # The proof's own bytes were read: what they said goes on, and that they were made for this very order.
    bare = numbered_order(1)
    assert read.order() == replace(taken, order=bare, assertion=replace(proof, link=bare))
    assert read.order().key == taken.key
    assert (read.body, read.judged.judged_at, read.judged.type, read.is_refund) == (
        body,
        later(1.25),
        ORDER_TYPE,
        False,
    )


def test_nothing_of_an_order_is_read_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    record = dispatched_record(numbered_order(1))
    monkeypatch.setattr("gateway.payments.dispatch.decode", None)
    monkeypatch.setattr("schemas.orders.payment_id_of", None)
    read = DISPATCH.read(record, HERE).order()
    assert (read.order, read.order.amount.minor) == (numbered_order(1), 10_000)
    assert read.key == ("partner-1", UUID("ad3332ee-b4d7-5352-8803-e9682c7fcae0"))


FIRST = [
    *(1, ORDER_TYPE, "DIGEST", 1, 2_250_000, "mypay.orders/0/7", "ey..sig", "00-trace", None),
    ["https://idp", "kid-0", "sub", ["mypay"], "jti", "loa", ["pin"], 10, None, 20_000_000, 5],
]


def in_first_form(record: Record, facts: object) -> Record:
    """The record with a header as the gateway's first version wrote it."""
    headers = [*record.headers[:-2], (JUDGED_HEADER, json.dumps(facts, separators=(",", ":")).encode())]
    flat = [part for name, value in headers for part in (name.encode(), value)]
    mark = DISPATCH._marks.mark([NETWORK.encode(), record.key, record.value, *flat])
    return replace(record, headers=(*headers, (MARK_HEADER, mark)))


@pytest.mark.parametrize("due", [None, "proven", "unproven"])
@pytest.mark.parametrize("with_proof", [True, False])
def test_a_record_of_the_first_version_is_understood(due: str | None, with_proof: bool) -> None:
    placed = numbered_order(1)
    digest = sha256(b"x")
    facts = [*FIRST[:2], digest.hexdigest(), *FIRST[3:8], due, FIRST[9] if with_proof else None]
    read = DISPATCH.read(in_first_form(dispatched_record(placed), facts), HERE)
    proof = Assertion(
        *("https://idp", "sub", ("mypay",)),
        *(at(10), None, at(20_000_000), at(5)),
        *("jti", "loa", ("pin",), placed, "kid-0"),
    )
    expected = ReceivedOrder(
        *(placed, digest.digest(), at(1), "mypay.orders/0/7", "00-trace"),
        assertion=proof if with_proof else None,
        signature="ey..sig",
        is_due=due is not None,
        proven=due == "proven",
    )
    assert (read.order(), read.judged.judged_at) == (expected, at(2_250_000))


async def test_a_refund_and_an_order_of_the_first_version_are_paid() -> None:
    rig = Rig()
    order_facts = [*FIRST[:2], sha256(encode(numbered_order(1))).hexdigest(), *FIRST[3:6], "good", None, None, None]
    await rig.execute([in_first_form(dispatched_record(numbered_order(1)), order_facts)])
    sent = dispatched_refund(refund(1), 1)
    refund_facts = [1, REFUND_TYPE, *order_facts[2:5], "mypay.orders/0/8", *order_facts[6:]]
    await rig.execute([in_first_form(sent, refund_facts)])
    assert rig.states() == {"order-1": "approved", "refund-1": "approved"}


@pytest.mark.parametrize("was_proven", [True, False])
def test_an_order_that_waited_comes_through_with_its_mark(was_proven: bool) -> None:
    placed = numbered_order(1)
    waited = ScheduledOrder(
        key=("partner-1", placed.payment_id),  # type: ignore[arg-type]
        due_at=NOW,
        expires_at=placed.expires_at,
        order_type=OCCURRENCE_TYPE,
        body=encode(placed),
        signature="ey..sig",
        proven=was_proven,
        reference="mypay.orders/0/7",
        ordered_at=later(-3),
    )
    taken = DISPATCH.read(as_record(DISPATCH.due(waited, placed, HERE, NOW)), HERE).order()
    assert (taken.is_due, taken.proven, taken.assertion) == (True, was_proven, None)
    assert (taken.digest, taken.ordered_at) == (sha256(waited.body).digest(), later(-3))


def test_an_order_whose_proof_was_refused_or_made_for_another_is_never_written() -> None:
    identities = FakeIdentities()
    identities.issue(link_of(numbered_order(2)), now=NOW)  # type: ignore[arg-type]
    refused = Reason(code=ReasonCode.DS17, text="no")
    for proof in (identities.made[0], refused):
        placed = numbered_order(1)
        taken = ReceivedOrder(placed, b"", NOW, "mypay.orders/0/7", assertion=proof)
        with pytest.raises(AssertionError, match="does not hold"):
            DISPATCH.order(taken, encode(placed), HERE, NOW)


# --- what nobody of the gateway wrote is nothing ---


GOOD, ANOTHER = dispatched_record(numbered_order(1)), dispatched_record(numbered_order(2, amount=krw(999)))


def written_for(network_id: NetworkId, by: Dispatch, good: Record) -> Record:
    taken = DISPATCH.read(good, HERE).order()
    return replace(as_record(by.order(taken, good.value, network_id, NOW)), topic=good.topic)


FORGED: dict[str, tuple[str, Record]] = {
    "a partner's own record": ("no_mark", order_record(numbered_order(1), topic=GOOD.topic)),
    "no headers": ("no_mark", replace(GOOD, headers=())),
    "without its mark": ("no_mark", replace(GOOD, headers=GOOD.headers[:-1])),
    "its mark is not the last": (
        "no_mark",
        replace(GOOD, headers=(*GOOD.headers[:-2], GOOD.headers[-1], GOOD.headers[-2])),
    ),
    "an empty mark": ("wrong", with_header(GOOD, MARK_HEADER, b"")),
    "a mark without a value": ("wrong", with_header(GOOD, MARK_HEADER, None)),  # type: ignore[arg-type]
    "another's mark on this body": ("wrong", with_header(GOOD, MARK_HEADER, header(ANOTHER, MARK_HEADER))),
    "another's facts and mark on this body": ("wrong", replace(ANOTHER, value=GOOD.value)),
    "other facts": ("wrong", with_header(GOOD, JUDGED_HEADER, header(ANOTHER, JUDGED_HEADER))),
    "another key of the record": ("wrong", replace(GOOD, key=b"consent-2")),
    "no key": ("wrong", replace(GOOD, key=None)),
    "a header more": ("wrong", replace(GOOD, headers=(("x", b"1"), *GOOD.headers))),
    "a header less": ("wrong", replace(GOOD, headers=GOOD.headers[1:])),
    "for another network": ("wrong", written_for(OTHER, DISPATCH, GOOD)),
    "under another key with the same id": ("wrong", written_for(HERE, FOREIGN, GOOD)),
    "under an unknown key": ("unknown_key", written_for(HERE, UNKNOWN, GOOD)),
}
"""What somebody may put on the topic, and why it is not believed."""


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_record_is_parked_counted_never_told_and_never_paid(kind: str) -> None:
    rig = Rig()
    why, record = FORGED[kind]
    honest = dispatched_record(numbered_order(3), offset=3)
    await rig.execute([record, honest])
    assert rig.states() == {"order-3": "approved"}
    assert len(rig.host.received) == 1
    assert [e.key for e in rig.events()] == [str(rig.payment(3).payment_id)] * 2
    (parked,) = rig.dead_letters.parked
    assert (parked.stage, parked.record) == ("execution", record)
    assert isinstance(parked.error, UntrustedRecordError)
    assert rig.observer.counts["execution", "untrusted", why] == 1
    assert rig.observer.counted("execution", "incident") == 1
    assert rig.database.refusals.rows == {}


async def test_a_forged_refund_gives_nothing_back() -> None:
    rig = Rig()
    await rig.execute([dispatched_record(numbered_order(1))])
    good = dispatched_refund(refund(1), 1)
    bigger = replace(good, value=encode(refund(1, 9_000)))
    await rig.execute([bigger])
    assert rig.states() == {"order-1": "approved"}
    await rig.execute([good])
    assert rig.states() == {"order-1": "approved", "refund-1": "approved"}


async def test_what_is_marked_but_in_another_form_is_parked_too() -> None:
    rig = Rig()
    good = dispatched_record(numbered_order(1))
    for facts in (
        b"[2]",
        b"[1]",
        b"[3" + header(good, JUDGED_HEADER)[2:],
        header(good, JUDGED_HEADER).replace(b"[2,", b'["2",', 1),
        header(good, JUDGED_HEADER).replace(b'"KRW"', b"410", 1),
        b"{",
        b"",
        b"\xff",
        b'[1,"x"]',
        header(good, JUDGED_HEADER).replace(b"order.v1", b"other.v1"),
    ):
        headers = [*good.headers[:-2], (JUDGED_HEADER, facts)]
        flat = [part for name, value in headers for part in (name.encode(), value)]
        mark = DISPATCH._marks.mark([NETWORK.encode(), good.key, good.value, *flat])
        with pytest.raises(EnvelopeError, match=JUDGED_HEADER):
            DISPATCH.read(replace(good, headers=(*headers, (MARK_HEADER, mark))), HERE)
        await rig.execute([replace(good, headers=(*headers, (MARK_HEADER, mark)))])
    assert rig.states() == {}
    assert len(rig.dead_letters.parked) == 10


# --- what comes again, and what has changed since ---


async def test_an_old_record_that_comes_again_does_nothing() -> None:
    rig = Rig()
    paid = dispatched_record(numbered_order(1))
    stale = dispatched_record(numbered_order(2), offset=2)
    await rig.execute([paid])
    rig.clock.set(later(86_400))
    await rig.execute([paid, paid, stale])
    assert rig.states() == {"order-1": "approved", "order-2": "rejected"}
    assert len(rig.host.received) == 1


@pytest.mark.parametrize("code", [ReasonCode.DS0C, ReasonCode.DS0E])
async def test_a_key_that_is_disabled_or_not_registered_any_more_is_refused(code: ReasonCode) -> None:
    rig = Rig()
    rig.verifier.refused["good"] = Reason(code=code, text="no")
    await rig.execute([dispatched_record(numbered_order(1))])
    assert (rig.states(), rig.told(), rig.host.received) == ({}, ["order.refused"], [])


async def test_a_key_that_was_registered_a_moment_ago_is_looked_up_once_more() -> None:
    rig = Rig()
    rig.verifier.refused["good"] = Reason(code=ReasonCode.DS0E, text="no")
    read = rig.keys.refresh_if_stale

    async def refresh() -> bool:
        rig.verifier.refused.clear()
        return await read()

    rig.keys.refresh_if_stale = refresh  # type: ignore[method-assign]
    await rig.execute([dispatched_record(numbered_order(1)), dispatched_record(numbered_order(2), offset=2)])
    assert rig.states() == {"order-1": "approved", "order-2": "approved"}
    assert rig.faults.places.count("keys.refresh") == 1


async def executed_after(rig: Rig, place: str, records: Sequence[Record], meanwhile: Callable[[], object]) -> None:
    """Execute a batch, and let something happen while it waits at a place."""
    rig.faults.hold(place)
    executing = asyncio.create_task(rig.execute(records))
    await rig.faults.reached(place)
    meanwhile()
    if place == "consents.lock":
        rig.faults.plan(place, StoreUnavailableError("canceling statement due to lock timeout"))
    rig.faults.open(place)
    await executing


# For places at a network that may be away for hours, and for a database that undoes the first attempt.
WAITS = ("network.reserve", "consents.lock")


@pytest.mark.parametrize("place", WAITS)
async def test_a_key_that_is_disabled_while_a_batch_waits_sends_nothing(place: str) -> None:
    rig = Rig()
    await rig.execute([dispatched_record(numbered_order(1))])
    waiting = [dispatched_record(numbered_order(2), offset=2), dispatched_refund(refund(1), 3)]
    stolen = Reason(code=ReasonCode.DS0C, text="disabled")
    await executed_after(rig, place, waiting, lambda: rig.verifier.refused.update(good=stolen))
    assert (rig.states(), rig.told().count("order.refused")) == ({"order-1": "approved"}, 2)
    assert (len(rig.host.received), rig.network.reserved) == (1, 0)


@pytest.mark.parametrize("place", WAITS)
async def test_a_providers_key_that_is_revoked_while_a_batch_waits_proves_nothing(place: str) -> None:
    rig = ProvingRig()
    await rig.initiation.take([order_record(proven(rig, numbered_order(1)))])
    waiting = rig.kafka.records(f"mypay.dispatch.{NETWORK}")
    await executed_after(rig, place, waiting, lambda: rig.identities.revoked.add("kid-0"))
    assert (rig.states(), rig.host.received) == ({"order-1": "rejected"}, [])


async def test_a_key_that_counts_no_more_uses_up_no_proof() -> None:
    rig = ProvingRig()
    await rig.initiation.take([order_record(proven(rig, numbered_order(1)))])
    rig.verifier.refused["good"] = Reason(code=ReasonCode.DS0C, text="disabled")
    await rig.execute(rig.kafka.records(f"mypay.dispatch.{NETWORK}"))
    assert (rig.states(), rig.told()) == ({}, ["order.refused"])
    assert rig.database.used_assertions.rows == {}


@pytest.mark.parametrize(("revoke", "state"), [(False, "approved"), (True, "rejected")])
async def test_a_proof_is_not_read_again_but_its_key_is_looked_at(revoke: bool, state: str) -> None:
    rig = ProvingRig()
    await rig.initiation.take([order_record(proven(rig, numbered_order(1)))])
    verified = rig.identities.verify
    rig.identities.verify = None  # type: ignore[method-assign, assignment]
    if revoke:
        rig.identities.revoked.add("kid-0")
    await rig.execute(rig.kafka.records(f"mypay.dispatch.{NETWORK}"))
    assert rig.states() == {"order-1": state}
    assert verified is not None


async def test_a_proof_stays_judged_under_the_lock() -> None:
    """What is marked is what was verified, not what was decided: links and times count as they stand then."""
    rig = ProvingRig()
    await rig.initiation.take([order_record(proven(rig, numbered_order(1)))])
    rig.database.identity_links.rows[ISSUER, SUBJECT] = CustomerId("somebody-else")
    await rig.execute(rig.kafka.records(f"mypay.dispatch.{NETWORK}"))
    assert rig.states() == {"order-1": "rejected"}


async def test_an_invented_proof_under_an_unknown_key_is_not_paid() -> None:
    """As an attacker did it who could write to the topic: a record as it was believed before it had to be marked."""
    rig = ProvingRig()
    invented: dict[str, Any] = {"amount": krw(900_000), "authentication": "e30.e30.c2ln"}
    rig.database.put_consent(consent(consent_id=ConsentId("consent-1")))
    record = order_record(numbered_order(1, **invented), signature="nobody..knows", topic=f"mypay.dispatch.{NETWORK}")
    await rig.execute([record])
    assert (rig.states(), rig.told(), rig.host.received) == ({}, [], [])
