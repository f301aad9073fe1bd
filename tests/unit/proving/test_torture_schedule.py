"""The schedule of a torture run: from the seed alone, every kind again and again, and all of it within the run."""

from collections import Counter

from gateway.proving.torture.strikes import ROWS, Aim, Kind, each_once, is_execution, schedule

STAGES = (
    *("initiation", "initiation 2", "execution bcard", "execution bcard 2", "execution kcard", "execution kcard 2"),
    *("relay", "relay 2", "settlement", "consents", "schedule"),
)
NETWORKS = ("bcard", "kcard")


def test_the_same_seed_gives_the_same_strikes_and_another_one_others() -> None:
    first = schedule(1, seconds=60, stages=STAGES, networks=NETWORKS)
    assert first == schedule(1, seconds=60, stages=STAGES, networks=NETWORKS)
    assert first != schedule(2, seconds=60, stages=STAGES, networks=NETWORKS)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    shorter = schedule(1, seconds=60, stages=STAGES, networks=NETWORKS)
    assert schedule(1, seconds=600, stages=STAGES, networks=NETWORKS)[: len(shorter)] == shorter


def test_ten_minutes_hold_every_kind_many_times_and_every_stage_is_killed() -> None:
    strikes = schedule(1, seconds=600, stages=STAGES, networks=NETWORKS)
    kinds = Counter(s.kind for s in strikes)
    assert set(kinds) == set(Kind)
    assert min(kinds.values()) >= 8
    assert {s.target for s in strikes if s.kind is Kind.KILL} == set(STAGES)
    assert [s.at_s for s in strikes] == sorted(s.at_s for s in strikes)
    assert max(s.at_s for s in strikes) < 600


def test_strikes_fit_their_rows() -> None:
    targets = {
        Aim.STAGE: set(STAGES),
        Aim.EXECUTION: {s for s in STAGES if is_execution(s)},
        Aim.NETWORK: set(NETWORKS),
        Aim.SERVER: {""},
        Aim.ORDERS: {""},
    }
    for strike in schedule(3, seconds=600, stages=STAGES, networks=NETWORKS):
        shortest, longest = ROWS[strike.kind].lasts_s
        assert shortest <= strike.lasts_s <= longest
        assert strike.target in targets[ROWS[strike.kind].aim]


def test_the_short_form_holds_every_kind_but_the_longest_and_kills_every_stage() -> None:
    strikes = each_once(stages=STAGES, networks=NETWORKS, gap_s=0.4)
    assert {s.kind for s in strikes} == set(Kind) - {Kind.FREEZE_LONG}
    assert [s.target for s in strikes if s.kind is Kind.KILL] == [
        *(s for s in STAGES if is_execution(s)),
        *(s for s in STAGES if not is_execution(s)),
    ]
    assert {s.target for s in strikes if ROWS[s.kind].aim is Aim.NETWORK} == set(NETWORKS)
