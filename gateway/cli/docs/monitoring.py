"""Prometheus' rules and Grafana's dashboards as files, made from the code's tables."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from gateway.observability.alerts import ALERTS, OBJECTIVES, RUNBOOKS, WINDOWS, recorded
from gateway.observability.dashboards import DASHBOARDS, Dashboard

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


def dashboard(one: Dashboard) -> str:
    """One dashboard, as Grafana reads it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": n + 1,
            "type": "timeseries",
            "title": panel.title,
            "datasource": source,
            "gridPos": {"x": 12 * (n % 2), "y": 8 * (n // 2), "w": 12, "h": 8},
            "fieldConfig": {
                "defaults": {"unit": panel.unit, **({"min": 0} if panel.above_zero else {})},
                "overrides": [],
            },
            "targets": [
                {"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend, "datasource": source}
                for i, (expr, legend) in enumerate(panel.series)
            ],
        }
        for n, panel in enumerate(one.panels)
    ]
    told = {
        "uid": f"mypay-{one.name}",
        "title": f"My-Payment: {one.title}",
        "tags": ["mypay"],
        "timezone": "browser",
        "schemaVersion": 38,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                *(
                    {"name": name, "type": "query", "datasource": source, "query": listing, "refresh": 2, "sort": 1}
                    for name, listing in one.chosen.items()
                ),
            ]
        },
        "panels": panels,
    }
    return json.dumps(told, indent=1) + "\n"


FILES: Final[Mapping[str, Callable[[], str]]] = {
    "deploy/prometheus/alerts.yaml": alerts,
    "deploy/prometheus/rules.yaml": rules,
    **{f"deploy/grafana/dashboards/{one.name}.json": partial(dashboard, one) for one in DASHBOARDS},
}
"""By path from the project's root, what is in them."""
