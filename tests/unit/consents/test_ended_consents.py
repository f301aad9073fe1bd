"""What still happens under an ended consent, as an execution worker measures it."""

import asyncio

import pytest

from gateway.consents.changing import change_consent_status
from gateway.consents.ended_watch import KEPT_S, EndedConsentWatch
from gateway.consents.rules.consent import ConsentCommand
from gateway.payments.execution import ExecutionSettings
from tests.support.builders import dispatched_record, later, numbered_order
from tests.support.domain_samples import consent
from tests.support.rig import Rig

KEY = ("partner-1", "consent-1")
SETTLE_S = 20.0


class Watched(Rig):
    watch: EndedConsentWatch


@pytest.fixture
def rig() -> Watched:
    rig = Watched()
    stage = rig.new_stage(answer_timeout_s=SETTLE_S - ExecutionSettings().intent_to_wire_s)
    rig.watch, rig.execution = stage.ended_consents, stage.service
    return rig


async def end(rig: Watched, command: ConsentCommand = ConsentCommand.REVOKE) -> None:
    await change_consent_status(rig.store, rig.clock, KEY, command)  # type: ignore[arg-type]


async def settle(rig: Watched) -> None:
    await rig.watch.look()
    rig.clock.advance(SETTLE_S + KEPT_S)
    await rig.watch.look()


def reported(rig: Watched) -> tuple[float | None, list[float]]:
    """The last intent's distance, and every distance to the wire."""
    wires = [seconds for span, seconds in rig.observer.delays if span == "revoke_to_wire"]
    return rig.observer.levels.get("revoke_to_last_use_seconds{use=intent}"), wires


async def test_the_last_intent_stands_before_the_revocation_and_its_bytes_leave_after_it(rig: Watched) -> None:
    rig.faults.hold("network.leave")
    executing = asyncio.create_task(rig.execute([dispatched_record(numbered_order(1))]))
    await rig.faults.reached("network.leave")
    rig.clock.advance(1.5)
    await end(rig)
    rig.clock.advance(0.25)
    rig.faults.open("network.leave")
    await executing
    await settle(rig)
    intent, wires = reported(rig)
    assert intent == -1.5
    assert wires == [pytest.approx(0.25, abs=0.2)]
    assert rig.observer.counted("execution", "intent_after_end") == 0


async def test_what_was_answered_before_the_end_was_read_is_compared_all_the_same(rig: Watched) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    rig.clock.advance(KEPT_S - 1)
    await end(rig)
    await settle(rig)
    intent, wires = reported(rig)
    assert intent == 1 - KEPT_S
    assert wires == [0.0]


async def test_nothing_is_told_of_an_end_before_its_last_result_can_have_come(rig: Watched) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    await end(rig)
    await rig.watch.look()
    rig.clock.advance(SETTLE_S + KEPT_S - 0.001)
    await rig.watch.look()
    assert reported(rig) == (None, [])
    rig.clock.advance(0.001)
    await rig.watch.look()
    assert reported(rig) == (0.0, [0.0])


async def test_an_intent_after_the_end_would_be_counted_and_told(rig: Watched) -> None:
    await end(rig)
    rig.watch.intended([KEY], later(3))  # type: ignore[list-item]
    await settle(rig)
    assert reported(rig) == (3.0, [])
    assert rig.observer.counted("execution", "intent_after_end") == 1
    assert [(n.event, n.level, n.fields["seconds"]) for n in rig.observer.notes] == [("intent_after_end", "error", 3.0)]


async def test_the_worst_stands(rig: Watched) -> None:
    rig.watch.intended([KEY], later(-2))  # type: ignore[list-item]
    await end(rig)
    await settle(rig)
    rig.database.put_consent(consent())
    rig.watch.intended([KEY], rig.clock.now())  # type: ignore[list-item]
    rig.clock.advance(3)
    await end(rig)
    await settle(rig)
    assert reported(rig)[0] == -2.0


async def test_a_suspended_consent_may_go_on_and_is_not_watched(rig: Watched) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    await end(rig, ConsentCommand.SUSPEND)
    await settle(rig)
    assert reported(rig) == (None, [])


async def test_other_consents_intents_are_not_compared_and_are_forgotten(rig: Watched) -> None:
    rig.database.put_consent(consent(consent_id="other"))
    await rig.execute([dispatched_record(numbered_order(1, consent_id="other"))])
    await rig.watch.look()
    rig.clock.advance(KEPT_S + 1)
    await rig.watch.look()
    await rig.watch.look()
    change = change_consent_status(rig.store, rig.clock, ("partner-1", "other"), ConsentCommand.REVOKE)  # type: ignore[arg-type]
    await change
    await settle(rig)
    assert reported(rig) == (None, [])
