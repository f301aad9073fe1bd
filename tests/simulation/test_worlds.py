"""Simulated worlds: no promise is broken in thousands of them, and what they did is worth the name."""

import os

import pytest
from typer.testing import CliRunner

from gateway.cli.prove import app
from gateway.cli.prove.simulate import show_failure
from gateway.proving.simulation.bugs import MUTANTS
from gateway.proving.simulation.faults import Fault
from gateway.proving.simulation.hunting import BUDGET
from gateway.proving.simulation.runner import Summary, replay, run_seeds, workers
from gateway.proving.simulation.world import hands_over, simulate

SEEDS = BUDGET
"""As many as a planted bug may take to be found; the rarest of them shows within a tenth of that."""

SEEDS_OF_DATA = 10_000
"""Of these all that hand customers' data over: what is counted in an aggregate comes together in few of them."""

STEPS = {
    "new → rejected",
    "new → sent",
    "sent → approved",
    "sent → declined",
    "sent → unknown",
    "sent → rejected",
    "unknown → unknown",
    "unknown → approved",
    "unknown → declined",
    "unknown → reversed",
    "approved → settled",
    "approved → reversing",
    "reversing → reversed",
    "new → scheduled",
    "scheduled → sent",
    "scheduled → rejected",
    "scheduled → reversed",
}
"""What payments must have gone through somewhere."""

SEEN = {
    "execution: taken_over",
    "execution: repeated",
    "execution: order_id_taken",
    "late_answer: undone",
    "late_answer: approved",
    "inquiry: approved",
    "inquiry: declined",
    "reversal: reversed",
    "consents: revoke partner",
    "consents: expire time",
    "settlement: break reversed_but_cleared",
    "cancellation: accepted not_sent",
    "cancellation: accepted cancelled",
    "cancellation: accepted reversing",
    "cancellation: accepted once_known",
    "refund: dispatched",
    "refund: rejected",
    "schedule: occurrence",
    "initiation: bulk_accepted",
    "relay: unparked",
    "execution: rejected DS15",
    "initiation: rejected DS0H",
    "consents: amend customer",
    "consents: resume customer",
    "execution: failed DefectError",
    "portability: accepted",
    "portability: repeated",
    "portability: refused AG01",
    "portability: refused AM05",
    "portability: delivered",
    "portability: voided",
    "portability: restarted",
    "portability: lost",
    "schedule: export_begun",
    "schedule: transmission_stopped",
    "sharing: shared",
    "sharing: erase_notice",
    "sharing: erased",
    "sharing: dead_letter DS19",
    "marketing: granted",
    "marketing: withdrawn",
    "marketing: use_counted",
    "marketing: use_refused",
    "marketing: aggregate_published",
}
"""What stages must have counted somewhere."""


@pytest.mark.timeout(1800)
def test_no_promise_is_broken_in_thousands_of_worlds() -> None:
    jobs = os.cpu_count() or 1
    summary = Summary()
    for some in (
        run_seeds(0, SEEDS, jobs=jobs),
        run_seeds(SEEDS, SEEDS_OF_DATA - SEEDS, jobs=jobs, of_data=True),
    ):
        told = Summary()
        for told in some:
            if told.violations:
                break
        summary.merge(told)
    assert not summary.failures, [(f.seed, f.violations[0]) for f in summary.failures]
    assert summary.seeds > SEEDS + (SEEDS_OF_DATA - SEEDS) // 10
    assert {fault for fault in Fault if not summary.faults[fault]} == set()
    assert STEPS - summary.seen.keys() == set()
    assert SEEN - summary.seen.keys() == set()
    assert {"settled", "reversed", "declined", "rejected", "refused", "parked"} <= summary.endings.keys()


def test_a_seed_is_the_same_world_in_every_process() -> None:
    seeds = range(1_000_000, 1_000_010)
    digests = []
    for _ in range(2):
        with workers(1) as pool:
            digests.append([outcome.digest for outcome in pool.map(simulate, seeds)])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(seeds)


def test_worlds_of_data_can_be_run_alone() -> None:
    seeds = range(2_000_000, 2_000_020)
    *_, summary = run_seeds(seeds[0], len(seeds), jobs=1, of_data=True)
    assert 0 < summary.seeds == sum(map(hands_over, seeds)) < len(seeds)


def test_writing_a_world_down_does_not_change_it() -> None:
    with workers(1) as pool:
        plain = pool.submit(simulate, 3).result()
    traced = replay(3)
    assert traced.digest == plain.digest
    assert any("commit of" in line for line in traced.trace or ())


def test_a_broken_promise_is_told_with_its_seed_and_the_way_back(capsys: pytest.CaptureFixture[str]) -> None:
    with MUTANTS["outbox-row-dropped"].plant():
        seed, outcome = next((n, o) for n in range(100) if (o := simulate(n)).violations)
    show_failure(outcome)
    told = capsys.readouterr().out
    assert "events are transitions: payment of" in told
    assert f"replay it: mypay prove simulate --seed {seed}" in told


def test_the_command_ends_with_a_line_for_machines() -> None:
    done = CliRunner().invoke(app, ["simulate", "--seeds", "5", "--jobs", "1"])
    assert done.exit_code == 0
    last = done.stdout.splitlines()[-1]
    assert last.startswith("simulate: seeds=5 faults=")
    assert last.endswith(" violations=0")
