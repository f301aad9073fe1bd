"""What operators see of the topics that stages read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.app import backlogs as module
from gateway.app.backlogs import BacklogView, queues
from gateway.app.dead_letters import operators_kafka
from gateway.app.stages import STAGES
from gateway.base.process import SilentObserver
from schemas.topics import ERASURES, OFFER_USES, ORDERS, PORTABILITY_REQUESTS, WAITING_ORDERS
from tests.support.console import settings_of


def test_every_topic_of_a_stage_is_looked_at_in_the_group_that_reads_it() -> None:
    found = {(q.stage, q.topic): (q.group, q.network) for q in queues(["bcard", "kcard"])}
    assert found == {
        ("initiation", ORDERS): ("mypay-initiation", ""),
        ("initiation", WAITING_ORDERS): ("mypay-initiation:waiting", ""),
        ("consents", "mypay.consents.commands"): ("mypay-consents", ""),
        ("execution", "mypay.dispatch.bcard"): ("mypay-execution-bcard", "bcard"),
        ("execution", "mypay.dispatch.kcard"): ("mypay-execution-kcard", "kcard"),
        ("settlement", "mypay.clearing.bcard"): ("mypay-settlement", "bcard"),
        ("settlement", "mypay.clearing.kcard"): ("mypay-settlement", "kcard"),
        ("portability", PORTABILITY_REQUESTS): ("mypay-portability", ""),
        ("sharing", ERASURES): ("mypay-sharing", ""),
        ("marketing", OFFER_USES): ("mypay-marketing", ""),
    }
    reading = {s.name for s in STAGES if s.topics()}
    assert {stage for stage, _ in found} == reading


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({(ORDERS, 0): 3, (ORDERS, 2): 4, ("mypay.dispatch.bcard", 1): 9}, {ORDERS: 7, "mypay.dispatch.bcard": 9}),
        ({}, {}),
        (None, None),
    ],
)
async def test_partitions_are_summed_and_what_nobody_knows_is_not_told_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Mapping[tuple[str, int], int] | None, told: Any
) -> None:
    class Looked:
        def __init__(self, *_: object) -> None: ...

        async def of(self, waited: Sequence[tuple[str, str]]) -> Mapping[tuple[str, int], int] | None:
            assert ("mypay.dispatch.bcard", "mypay-execution-bcard") in waited
            return found

    monkeypatch.setattr(module, "Backlogs", Looked)
    kafka = operators_kafka(settings_of("postgresql://x", tmp_path), client_id="x")
    seen = await BacklogView(kafka, SilentObserver(), ["bcard"]).look()
    assert (seen and {b.queue.topic: b.records for b in seen if b.records}) == (told if told != {} else {})
    assert seen is None or len(seen) == len(queues(["bcard"]))
