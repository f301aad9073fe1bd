"""What is deployed, and the chart as Helm renders it. One rendering is enough for all who give the same values."""

import ast
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.app.settings import Settings
from gateway.app.stages import STAGES, Stage
from gateway.network.iso8583.config import load_networks
from tests.support.deployment_tools import HELM as GOT

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CHART: Final = DEPLOY / "helm" / "mypay"
NETWORKS: Final = sorted(load_networks(DEPLOY / "networks"))

HELM: Final = os.environ.get("HELM") or (str(GOT) if GOT.is_file() else shutil.which("helm"))
needs_helm: Final = pytest.mark.skipif(HELM is None, reason="Helm is not installed: `make tools` gets it")

EVERYTHING: Final[Mapping[str, Any]] = {
    "archive": {"enabled": True, "claim": "archive"},
    "autoscaling": {"enabled": True},
    "console": {
        "enabled": True,
        "url": "https://console.example",
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        "proxyAddresses": "10.0.0.0/8",
        "oidc": {"issuer": "https://login.example", "clientSecret": "console-oidc"},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "console-tls"},
    },
    "kafka": {
        "strimzi": {"enabled": True, "partners": ["shop-pay"], "recipients": ["org-1"], "affiliates": ["points"]},
    },
    "monitoring": {"serviceMonitor": True, "prometheusRule": True},
    "tools": {"enabled": True, "kafkaUsers": ["mypay-ops", "mypay-admin"]},
    "stages": {
        "portability-api": {"enabled": True, "tlsSecret": "api-tls"},
        "settlement": {"clearingClaim": "clearing", "clearingKeys": {"bcard": "bcard-seal"}},
    },
    "issuers": {"policy.toml": "a"},
    "networkTlsSecret": "network-tls",
}
"""Values with which the chart renders all that it can."""

_PLACED: Final = {"nodeSelector": {"disk": "fast"}, "tolerations": [{"operator": "Exists"}]}

OTHERWISE: Final[Mapping[str, Any]] = {
    "console": {"enabled": True, "settings": {"MYPAY_LOG_LEVEL": "debug"}, **_PLACED},
    "image": {"repository": "registry.example/mypay-gateway", "tag": "0.1.0@sha256:" + 64 * "0"},
    "imagePullSecrets": [{"name": "registry"}],
    "migration": {"enabled": False},
    "monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"metricsFrom": [], "egress": []},
    "podDisruptionBudget": {"enabled": False},
    "stages": {"default": {"envFromSecrets": ["more"], **_PLACED}, "marketing": {"enabled": False}},
    "tools": {"enabled": True, "keys": {}},
}
"""The other side of what can be turned on or off, with what is empty as it comes."""

RENDERS_S: Final = 60


def processes() -> set[str]:
    """Every stage's, of those that have one a network one each."""
    return {f"{s.name}-{n}" if s.per_network else s.name for s in STAGES for n in (NETWORKS if s.per_network else [""])}


READ_WHERE_SET = {"holidays_file", "issuers_dir", "home"}
"""Files that a process can do without, and what the image itself says."""


def files_read_by(stage: Stage) -> set[str]:
    """Settings of files and folders that the stage's own module names, and of its keys."""
    tree = ast.parse((DEPLOY.parent / "gateway" / "app" / f"{stage.role.value}.py").read_text())
    paths = {name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation)}
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & paths
    return {f"MYPAY_{name.upper()}" for name in (named | set(stage.folders())) - READ_WHERE_SET}


def helm(*arguments: str, given: Mapping[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
    assert HELM is not None
    command = [HELM, *arguments, "-f", "-"]
    # Whoever has a cluster: it is not asked.
    nowhere = {**os.environ, "KUBECONFIG": os.devnull}
    text = json.dumps(given or {})
    return subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=RENDERS_S, env=nowhere
    )


def template(given: Mapping[str, Any] | None = None) -> "subprocess.CompletedProcess[str]":
    return helm("template", "mypay", str(CHART), "--kube-version", "1.31.0", given=given)


@cache
def _rendered(given: str) -> str:
    ran = template(json.loads(given))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _read(given: str) -> list[dict[str, Any]]:
    return [m for m in yaml.load_all(_rendered(given), Loader=_LOADER) if m]


@cache
def _document(path: str) -> Any:
    return yaml.load((DEPLOY / path).read_text(), Loader=_LOADER)


def document(path: str) -> Any:
    """What a file of deploy/ holds; the caller's own, to be changed as it likes."""
    return deepcopy(_document(path))


def manifests(given: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """What is rendered with these values; the caller's own, to be changed as it likes."""
    return deepcopy(_read(json.dumps(given or {}, sort_keys=True)))


def refused(given: Mapping[str, Any]) -> str:
    """Why these values are not rendered."""
    ran = template(given)
    assert ran.returncode != 0, "it was rendered"
    return ran.stderr


def of_kind(found: Iterable[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in found if m["kind"] == kind}


def pod_of(found: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    pod: dict[str, Any] = of_kind(found, "Deployment")[f"mypay-{name}"]["spec"]["template"]["spec"]
    return pod


def mounts(container: Mapping[str, Any]) -> dict[str, str]:
    return {v["name"]: v["mountPath"] for v in container["volumeMounts"]}


def environment(container: Mapping[str, Any]) -> dict[str, str | None]:
    """Setting → value; None where it comes from elsewhere."""
    return {e["name"]: e.get("value") for e in container["env"]}
