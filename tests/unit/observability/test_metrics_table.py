"""The table of metrics is one that Prometheus, and people, can work with."""

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.database.roles import Role
from gateway.observability.metric import ANY, ANY_STAGE, CounterMetric, GaugeMetric, HistogramMetric, Kind, Source
from gateway.observability.metrics import COUNTED, METRICS, STAGES_OF, known_reports, label_values, reported_as
from gateway.observability.observer import StageObserver
from gateway.settlement.rules import BreakKind
from streams.__main__ import STAGES as RUN

STAGES = (*RUN, "console")


def page(stage: str, *networks: str) -> str:
    registry = CollectorRegistry()
    observer = StageObserver(registry, stage=stage, network="", networks=networks)
    for row in METRICS:
        if isinstance(row, GaugeMetric) and (ANY in row.processes or stage in row.processes):
            observer.level(row.name.removeprefix("mypay_"), 1, **dict.fromkeys(row.labels, "x"))
    for hop in ("order_to_dispatch", "change_to_event"):
        observer.hops(hop, [0.1])
    observer.batch(stage, size=1, seconds=0.1)
    return generate_latest(registry).decode()


@pytest.mark.parametrize("stage", STAGES)
def test_promtool_finds_nothing_to_complain_about(stage: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: Debian has it in the package prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page(stage, "bcard", "kcard"), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_names_say_what_kind_they_are() -> None:
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    for row in METRICS:
        assert row.name.startswith("mypay_")
        assert (row.kind is Kind.COUNTER) == row.name.endswith("_total"), row.name
        assert row.name.endswith("_seconds") == (row.unit == "seconds") or row.name.endswith("_timestamp_seconds")
        if isinstance(row, HistogramMetric):
            assert list(row.buckets) == sorted(row.buckets)


@pytest.mark.parametrize("row", [row for row in METRICS if isinstance(row, CounterMetric)], ids=lambda row: row.name)
def test_each_report_is_counted_apart_and_can_be_read_back(row: CounterMetric) -> None:
    reports = [
        ("execution" if stage == ANY_STAGE else stage, outcome)
        for stage, outcomes in row.outcomes.items()
        for outcome in outcomes
    ]
    series = set()
    for stage, outcome in reports:
        labels = dict(zip(row.labels, label_values(row, stage, outcome, "why", "net"), strict=True))
        series.add(tuple(labels.items()))
        reason = "why" if {Source.REASON, Source.PARTNER} & set(row.labels.values()) else ""
        assert reported_as(row, labels) == (stage, outcome, reason)
    assert len(series) == len(reports)


def test_each_pair_of_stage_and_outcome_is_in_one_row() -> None:
    pairs = [
        (stage, outcome)
        for row in METRICS
        if isinstance(row, CounterMetric)
        for stage, outcomes in row.outcomes.items()
        for outcome in outcomes
    ]
    assert sorted(pairs) == sorted(COUNTED)


def test_every_series_that_is_known_is_there_at_0_and_every_row_has_a_process() -> None:
    begun = {row.name for stage in STAGES for row, *_ in known_reports(stage)}
    assert [r.name for r in METRICS if isinstance(r, CounterMetric) and r.name not in begun] == []
    served = page("execution", "kcard")
    assert 'mypay_payments_total{network="kcard",reason="AM04",state="declined"} 0.0' in served
    assert 'mypay_incidents_total{stage="reversal"} 0.0' in served
    for reason in ("AB05", "AB07", "MS03"):
        labels = f'network="kcard",reason="{reason}",stage="execution",state="unknown"'
        assert f"mypay_payment_changes_total{{{labels}}} 0.0" in served
    assert "mypay_order_to_result_seconds_count" in served
    assert "_created" not in served
    assert "mypay_shares_total" not in served


def test_stages_and_processes_are_the_real_ones() -> None:
    assert sorted(STAGES_OF) == sorted(STAGES)
    for row in METRICS:
        if isinstance(row, GaugeMetric | HistogramMetric):
            assert row.processes
            assert set(row.processes) <= {*STAGES, ANY}
    assert set(STAGES) <= {role.value for role in Role}


READ_ELSEWHERE = {
    *("mypay_dependency_up", "mypay_payments_open", "mypay_payment_oldest_seconds", "mypay_consumer_lag_seconds"),
    *("mypay_outbox_oldest_seconds", "mypay_erasures_overdue", "mypay_disclosure_lag_seconds", "mypay_network_open"),
    *("mypay_breaks_open", "mypay_clearing_age_seconds", "mypay_key_registry_age_seconds", "mypay_exports_open"),
}


def test_a_gauge_that_others_must_answer_for_does_not_outlive_their_answers() -> None:
    lasting = {row.name for row in METRICS if isinstance(row, GaugeMetric) and row.fresh_s is None}
    assert lasting & READ_ELSEWHERE == set()
    # The pauses between two looks at them are a few seconds.
    assert all(row.fresh_s >= 20 for row in METRICS if isinstance(row, GaugeMetric) and row.fresh_s is not None)


def test_every_kind_of_break_has_its_series() -> None:
    (row,) = (row for row in METRICS if row.name == "mypay_breaks_total")
    assert isinstance(row, CounterMetric)
    assert sorted(row.reasons["break"]) == sorted(BreakKind)
