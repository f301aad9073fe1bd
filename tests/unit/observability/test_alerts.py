"""Each alert fires where it should, and is quiet where it nearly should; each has a runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli.docs.monitoring import FILES
from gateway.observability.alert_faults import FAULTS
from gateway.observability.alerts import ALERTS, OBJECTIVES, RUNBOOKS
from gateway.observability.metric import Kind
from gateway.observability.metrics import METRICS
from tests.integration import test_live_alerts, test_live_faults
from tests.support.guides import ROOT
from tests.support.live_alerts import named
from tests.unit.observability.alert_samples import OPTIONAL_STAGES, SAMPLES, SLOW, STANDING_STILL, Sample

NAMES = [alert.name for alert in ALERTS]
ORDER = ["mypay-objectives", "mypay-alerts"]
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]


def written(rules: list[str], samples: dict[str, Sample], step: str) -> str:
    """promtool's own tests, in JSON, which is YAML."""
    groups = []
    for name, sample in samples.items():
        for series, value in ((sample.fires, 1), (sample.quiet, 0)):
            expr = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0 or vector(0)'
            groups.append(
                {
                    "interval": step,
                    "name": f"{name} {'fires' if value else 'is quiet'}",
                    "input_series": [{"series": s, "values": v} for s, v in series.items()],
                    "promql_expr_test": [
                        {
                            "expr": expr,
                            "eval_time": f"{sample.minutes}m",
                            "exp_samples": [{"labels": "{}", "value": value}],
                        }
                    ],
                }
            )
    return json.dumps({"rule_files": rules, "evaluation_interval": step, "group_eval_order": ORDER, "tests": groups})


def promtool(*arguments: object) -> "subprocess.CompletedProcess[str]":
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: Debian has it in the package prometheus")
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)


def checked(tmp_path: Path, samples: dict[str, Sample], step: str = "1m") -> "subprocess.CompletedProcess[str]":
    rules = [str(ROOT / name) for name in FILES if name.endswith(".yaml")]
    (tmp_path / "tests.json").write_text(written(rules, samples, step), encoding="utf-8")
    return promtool("test", "rules", tmp_path / "tests.json")


def test_the_files_are_what_prometheus_takes() -> None:
    for name in FILES:
        if name.endswith(".yaml"):
            told = promtool("check", "rules", ROOT / name)
            assert told.returncode == 0, told.stdout + told.stderr
    told = promtool("check", "config", "--syntax-only", ROOT / "deploy/prometheus/prometheus.yml")
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("step", ["1m", "30m"])
def test_each_alert_fires_where_it_should_and_is_quiet_where_it_nearly_should(tmp_path: Path, step: str) -> None:
    assert sorted(SAMPLES) == sorted(NAMES)
    # Those over days are looked at every half an hour: a minute of promtool's takes its time.
    samples = {name: sample for name, sample in SAMPLES.items() if (sample.minutes >= SLOW) == (step == "30m")}
    told = checked(tmp_path, samples, step)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("stage", OPTIONAL_STAGES)
def test_a_stage_that_need_not_run_is_missed_where_it_ran(tmp_path: Path, stage: str) -> None:
    told = checked(tmp_path, {"ProcessMissing": OPTIONAL_STAGES[stage]})
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_sequencer_that_leads_and_stands_still_is_told(tmp_path: Path) -> None:
    told = checked(tmp_path, {"DisclosureLate": STANDING_STILL})
    assert told.returncode == 0, told.stdout + told.stderr


def test_an_alert_that_does_not_as_its_sample_says_is_found(tmp_path: Path) -> None:
    fires, quiet, minutes = SAMPLES["EventsLate"]
    told = checked(tmp_path, {"EventsLate": Sample(quiet, fires, minutes)})
    assert told.returncode != 0
    assert "FAILED" in told.stdout + told.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_each_alert_has_a_runbook_with_its_four_parts(alert: object) -> None:
    name = alert.name  # type: ignore[attr-defined]
    text = (ROOT / RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    assert all(len(part.strip()) > 20 for part in re.split(r"^## \w+$", text, flags=re.MULTILINE)[1:])


def test_each_alert_was_fired_on_a_gateway_at_work() -> None:
    fired = set(named(test_live_alerts, test_live_faults))
    assert fired == set(NAMES)
    assert list(FAULTS) == NAMES


def test_there_is_no_runbook_without_an_alert() -> None:
    assert sorted(path.stem for path in (ROOT / RUNBOOKS).iterdir()) == sorted(NAMES)


def test_alerts_look_at_metrics_that_are_served() -> None:
    served = {m.name for m in METRICS}
    served |= {f"{m.name}_{part}" for m in METRICS if m.kind is Kind.HISTOGRAM for part in ("bucket", "count")}
    texts = [a.expr for a in ALERTS] + [text for o in OBJECTIVES for text in (o.good, o.total)]
    named = {name for text in texts for name in re.findall(r"\bmypay_\w+", text)}
    assert len(named) > 30
    assert named <= served
    assert len(set(NAMES)) == len(NAMES)
