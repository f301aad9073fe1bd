"""Every use case is put together in one place, for processes, simulated workers and tests alike."""

import re
from collections import defaultdict
from pathlib import Path

import gateway.app.consents
import gateway.app.disclosure
import gateway.app.execution
import gateway.app.initiation
import gateway.app.relay
import gateway.app.schedule
import gateway.app.settlement

ROOT = Path(__file__).parents[3]
STAGES = (
    gateway.app.initiation.InitiationStage,
    gateway.app.execution.ExecutionStage,
    gateway.app.consents.ConsentStage,
    gateway.app.relay.RelayStage,
    gateway.app.settlement.SettlementStage,
    gateway.app.schedule.ScheduleStage,
    gateway.app.disclosure.DisclosureStage,
)

ALONE = {
    "CancellationKind": {"tests/support/races.py", "tests/properties/test_later_lives.py"},
    "FairIntake": {"tests/unit/orders/test_fair_intake.py"},
    "OrderIntake": {"tests/unit/orders/test_kinds.py"},
}
"""What a test of its own puts together for itself, and where."""


def called(text: str) -> set[str]:
    """Names of classes that are called."""
    return set(re.findall(r"(?<!class )\b([A-Z]\w+)\(", text))


def services() -> set[str]:
    """Classes of the rooms that stages are made of."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "gateway" / "app").glob("*.py")]
    ends = ("Service", "Watch", "Kind", "Intake", "Cancellations")
    return {name for text in texts for name in called(text) if name.endswith(ends)}


def test_each_service_is_constructed_in_one_place() -> None:
    wanted = services()
    assert {"OrderIntake", "ExecutionService", "RelayService", "ConsentCommandService", "SettlementService"} <= wanted
    places: defaultdict[str, list[str]] = defaultdict(list)
    for folder in ("gateway", "streams", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            for name in called(path.read_text(encoding="utf-8")):
                if name in wanted and where not in ALONE.get(name, ()):
                    places[name].append(where)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
    assert places.keys() == wanted


def test_every_stage_runs_until_it_is_told_to_stop() -> None:
    assert all(callable(getattr(stage, "run", None)) for stage in STAGES)
