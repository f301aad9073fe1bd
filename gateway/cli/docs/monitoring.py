"""Prometheus' rules and Grafana's dashboards as files, made from the code's tables."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.observability.alerts import ALERTS, OBJECTIVES, RUNBOOKS, WINDOWS, recorded

_HEAD: Final = "# Made by `mypay docs generate` from gateway/observability/alerts.py.\n"


def alerts() -> str:
    """The alerts, as Prometheus reads them."""
    return _HEAD + "groups:\n- name: mypay-alerts\n  rules:\n" + "".join(_alert_lines())


def rules() -> str:
    """What is recorded for them."""
    return _HEAD + "groups:\n- name: mypay-objectives\n  rules:\n" + "".join(_rule_lines())


def _alert_lines() -> Iterator[str]:
    for alert in ALERTS:
        yield f"  - alert: {alert.name}\n    expr: {json.dumps(alert.expr)}\n"
        if alert.for_s:
            yield f"    for: {alert.for_s}s\n"
        yield f"    labels:\n      severity: {alert.severity}\n"
        yield f"    annotations:\n      summary: {json.dumps(alert.summary)}\n"
        yield f"      runbook_url: {json.dumps(f'{RUNBOOKS}/{alert.runbook}')}\n"


def _rule_lines() -> Iterator[str]:
    for objective in OBJECTIVES:
        for window in WINDOWS:
            name, expr = recorded(objective, window)
            yield f"  - record: {name}\n    expr: {json.dumps(expr)}\n    labels:\n      slo: {objective.name}\n"


FILES: Final[Mapping[str, Callable[[], str]]] = {
    "deploy/prometheus/alerts.yaml": alerts,
    "deploy/prometheus/rules.yaml": rules,
}
"""By path from the project's root, what is in them."""
