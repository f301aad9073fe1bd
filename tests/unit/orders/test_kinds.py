"""The kinds of messages on ``mypay.orders``: all that the contract names, each taken by one, each in its place."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from gateway.identity.door import Authentic, Door
from gateway.orders.intake import OrderIntake
from gateway.orders.kinds import AnyKind, Kind, OvertakenError, Precedence, bring_to_end, settle
from schemas.orders import PaymentOrder
from schemas.reasons import Reason, ReasonCode
from schemas.topics import ORDERS, TOPICS
from tests.support.builders import numbered_order, order_record
from tests.support.domain_samples import NOW
from tests.support.rig import Rig

TYPE = "kr.mypay.test.v1"


class Noted(Kind[PaymentOrder, list[str]]):
    """Notes its steps; its first ``overtaken`` writes come too late."""

    def __init__(
        self, type_: str, steps: list[str], *, precedence: Precedence = Precedence.AFTERWARDS, overtaken: int = 0
    ) -> None:
        self.models = {type_: PaymentOrder}
        self.precedence = precedence
        self.steps = steps
        self.overtaken = overtaken

    def _note(self, step: str, work: Sequence[str]) -> None:
        self.steps.append(f"{self.precedence.name.lower()} {step} {' '.join(work)}")

    async def prepare(self, messages: Sequence[Authentic[PaymentOrder]], now: datetime) -> list[str]:
        work = [str(m.message.order_id) for m in messages]
        self._note("prepared", work)
        return work

    async def judge(self, work: list[str], now: datetime) -> list[str]:
        self._note("judged", work)
        return work

    async def write(self, work: list[str], now: datetime) -> list[str]:
        self._note("written", work)
        if self.overtaken:
            self.overtaken -= 1
            raise OvertakenError
        return work

    async def hand_on(self, work: list[str]) -> None:
        self._note("handed on", work)


def intake(rig: Rig, *kinds: AnyKind) -> OrderIntake:
    return OrderIntake(
        kinds,
        store=rig.store,
        keys=rig.keys,
        verifier=rig.verifier,
        dead_letters=rig.dead_letters,
        observer=rig.observer,
        clock=rig.clock,
    )


def test_whatever_the_contract_lets_partners_send_is_taken_by_one_kind() -> None:
    [topic] = [t for t in TOPICS if t.name == ORDERS]
    received = [(type_, model) for kind in Rig().initiation.kinds for type_, model in kind.models.items()]
    assert dict(received) == topic.messages
    assert len(received) == len(topic.messages)


def test_one_type_cannot_be_of_two_kinds() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match=TYPE):
        intake(rig, Noted(TYPE, []), Noted(TYPE, []))


def test_one_kind_is_written_first_and_one_before_it_is_handed_on() -> None:
    turns = Counter(kind.precedence for kind in Rig().initiation.kinds)
    assert turns[Precedence.ORDERS] == turns[Precedence.CANCELLATIONS] == 1


# --- steps ---


def message(number: int) -> Any:
    rig = Rig()
    door = Door(verifier=rig.verifier, models={TYPE: PaymentOrder})
    return door.read(order_record(numbered_order(number), offset=number, type_=TYPE), NOW)


async def test_what_was_overtaken_is_judged_anew_and_prepared_once() -> None:
    steps: list[str] = []
    work = await settle(Noted(TYPE, steps, overtaken=2), [message(1)], NOW)
    assert [s.split()[1] for s in steps] == ["prepared", *["judged", "written"] * 3]
    assert work == ["order-1"]


@pytest.mark.parametrize(
    ("at_once", "together"),
    [
        (None, [["order-1", "order-2", "order-3"]]),
        (2, [["order-1", "order-2"], ["order-3"]]),
        (1, [["order-1"], ["order-2"], ["order-3"]]),
    ],
)
async def test_as_many_are_brought_to_their_ends_together_as_the_kind_says(
    at_once: int | None, together: list[list[str]]
) -> None:
    steps: list[str] = []
    kind = Noted(TYPE, steps)
    kind.at_once = at_once
    await bring_to_end(kind, [message(n) for n in (1, 2, 3)], NOW)
    handed_on = [s.split("handed on ")[1].split() for s in steps if "handed on" in s]
    assert handed_on == together
    assert steps.index(f"afterwards handed on {' '.join(together[0])}") == 3


async def test_orders_and_then_cancellations_are_written_before_orders_are_handed_on_and_the_rest_follows() -> None:
    rig = Rig()
    steps: list[str] = []
    kinds = [
        Noted(f"kr.mypay.{precedence.name.lower()}.v1", steps, precedence=precedence)
        for precedence in sorted(Precedence, reverse=True)
    ]
    batch = [
        order_record(numbered_order(n), offset=n, type_=type_)
        for n, kind in enumerate(kinds, 1)
        for type_ in kind.models
    ]
    await intake(rig, *kinds).take(batch)
    assert [s.rpartition(" ")[0] for s in steps if "prepared" not in s and "judged" not in s] == [
        "orders written",
        "cancellations written",
        "orders handed on",
        "cancellations handed on",
        "afterwards written",
        "afterwards handed on",
    ]


# --- what a kind need not say ---


async def test_a_kind_that_says_nothing_of_it_has_accepted_nothing_before() -> None:
    rig = Rig()
    record = order_record(numbered_order(1), offset=1, type_=TYPE, signature="over")
    rig.verifier.refused["over"] = Reason(code=ReasonCode.DS0D, text="signing key is valid no more")
    steps: list[str] = []
    await intake(rig, Noted(TYPE, steps)).take([record])
    assert steps == []
    assert [p.record for p in rig.dead_letters.parked] == [record]


async def test_a_fault_of_a_kind_that_has_no_answer_of_its_own_names_the_records_place() -> None:
    rig = Rig()
    faulty = order_record(b"{}", offset=4, key=b"consent-1", type_=TYPE)
    await intake(rig, Noted(TYPE, [])).take([faulty])
    [event] = rig.events()
    assert (event.event_type, event.key) == ("kr.mypay.order.refused.v1", "mypay.orders/0/4")
    assert b'"order_id":"mypay.orders/0/4"' in event.body
