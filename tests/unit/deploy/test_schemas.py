"""Manifests and the compose file against schemas: Kubernetes' own, those of operators' kinds, and Compose's."""

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.support.deployment_tools import SCHEMAS, pinned
from tests.support.deployments import CHART, DEPLOY, EVERYTHING, OTHERWISE, document, manifests, needs_helm

VERSIONS = pinned()["kubernetes"]["schemas"]
"""The oldest server that the chart takes comes first."""

needs_schemas = pytest.mark.skipif(
    not all((SCHEMAS / v).is_dir() for v in VERSIONS),
    reason="Kubernetes' schemas are not there: `make tools` gets them",
)
OPERATORS: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("operators.schema.yaml").read_text())
CRDS = os.environ.get("CRDS")


def rendered() -> list[dict[str, Any]]:
    return [m for given in (None, EVERYTHING, OTHERWISE) for m in manifests(given)]


def examples() -> list[dict[str, Any]]:
    return [m for p in sorted((DEPLOY / "examples").glob("*.yaml")) for m in yaml.safe_load_all(p.read_text())]


def is_kubernetes(manifest: Mapping[str, Any]) -> bool:
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


def errors_of(validator: jsonschema.protocols.Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


# --- Kubernetes -------------------------------------------------------------------------------------------------------


@cache
def definitions(version: str) -> "Registry[Any]":
    whole = json.loads((SCHEMAS / version / "_definitions.json").read_text())
    at = Resource.from_contents(whole, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry()
    return registry.with_resource("https://kubernetes.io/api/_definitions.json", at)


@cache
def kubernetes(version: str, kind: str, api: str) -> jsonschema.protocols.Validator:
    group, _, name = api.rpartition("/")
    file = SCHEMAS / version / "-".join(p for p in (kind.lower(), group.partition(".")[0], name) if p)
    schema = json.loads(file.with_name(f"{file.name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=definitions(version))


def errors_in(version: str, manifest: Mapping[str, Any]) -> list[str]:
    return errors_of(kubernetes(version, manifest["kind"], manifest["apiVersion"]), manifest)


@needs_helm
@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_chart_renders_is_of_kubernetes_schemas(version: str) -> None:
    ours = [m for m in rendered() if is_kubernetes(m)]
    kinds = {"ConfigMap", "CronJob", "Deployment", "Ingress", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    assert {m["kind"] for m in ours} == kinds | {"ServiceAccount"}
    wrong = {(m["kind"], m["metadata"]["name"]): errors for m in ours if (errors := errors_in(version, m))}
    assert wrong == {}


@needs_helm
@needs_schemas
@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_field_of_any_kind_is_seen(version: str) -> None:
    for manifest in {m["kind"]: m for m in rendered() if is_kubernetes(m)}.values():
        place = next((manifest[part] for part in ("spec", "data") if isinstance(manifest.get(part), dict)), manifest)
        place["replica"] = 2
        assert errors_in(version, manifest), manifest["kind"]


@needs_helm
@needs_schemas
def test_a_wrong_field_deep_within_is_seen() -> None:
    [deployment] = [m for m in manifests() if m["metadata"]["name"] == "mypay-relay" and m["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert errors_in(VERSIONS[-1], deployment) == []
    for planted in (
        {"readinesProbe": {}},
        {"ports": [{"containerPort": "9100"}]},
        {"securityContext": {"readOnly": 1}},
    ):
        broken = deepcopy(deployment)
        broken["spec"]["template"]["spec"]["containers"] = [container | planted]
        assert errors_in(VERSIONS[-1], broken), planted


def test_the_oldest_schemas_are_of_the_oldest_server_that_the_chart_takes() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"


# --- operators' kinds -------------------------------------------------------------------------------------------------


WITHIN_ONE_OF = ("oneOf", "anyOf", "allOf", "not")
"""What stands there narrows, and names no fields: Kubernetes prunes none by it."""


def strict(schema: Any) -> Any:
    """No field but those that are named."""
    if isinstance(schema, dict):
        closed = {key: value if key in WITHIN_ONE_OF else strict(value) for key, value in schema.items()}
        is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
        return closed if "properties" not in schema or is_open else closed | {"additionalProperties": False}
    return [strict(each) for each in schema] if isinstance(schema, list) else schema


def written(kind: str) -> jsonschema.protocols.Validator:
    table = OPERATORS[kind]
    whole = {
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": table["apiVersion"]},
            "kind": {"const": kind},
            "metadata": {"type": "object", "additionalProperties": True, "required": ["name"]},
            "spec": table["spec"],
        },
    }
    return jsonschema.Draft202012Validator(strict(whole))


def of_operators() -> list[dict[str, Any]]:
    return [m for m in (*rendered(), *examples()) if not is_kubernetes(m)]


def wrong_in(found: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    return {(m["kind"], m["metadata"]["name"]): e for m in found if (e := errors_of(written(m["kind"]), m))}


def test_the_examples_are_of_operators_kinds() -> None:
    found = examples()
    assert {m["kind"] for m in found} == {"Cluster", "Kafka", "KafkaNodePool", "KafkaUser"}
    assert wrong_in(found) == {}


@needs_helm
def test_what_the_chart_renders_for_operators_is_of_their_kinds() -> None:
    found = [m for m in rendered() if not is_kubernetes(m)]
    assert {m["kind"] for m in found} | {m["kind"] for m in examples()} == set(OPERATORS)
    assert wrong_in(found) == {}


@needs_helm
@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_a_wrong_field_or_version_of_an_operators_kind_is_seen(kind: str) -> None:
    manifest = next(m for m in of_operators() if m["kind"] == kind)
    assert errors_of(written(kind), manifest) == []
    assert errors_of(written(kind), manifest | {"spec": manifest["spec"] | {"replica": 2}})
    assert errors_of(written(kind), manifest | {"apiVersion": manifest["apiVersion"] + "beta9"})
    first = next(iter(OPERATORS[kind]["spec"]["required"]))
    assert errors_of(written(kind), manifest | {"spec": {k: v for k, v in manifest["spec"].items() if k != first}})


@needs_helm
@pytest.mark.skipif(CRDS is None, reason="CRDS names no folder with operators' own definitions")
def test_what_is_written_for_operators_is_of_their_own_definitions() -> None:
    assert CRDS is not None
    found: dict[tuple[str, str], Any] = {}
    for path in Path(CRDS).rglob("*.y*ml"):
        for crd in yaml.safe_load_all(path.read_text()):
            if isinstance(crd, dict) and crd.get("kind") == "CustomResourceDefinition":
                spec = crd["spec"]
                for version in spec["versions"]:
                    schema = strict(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    for manifest in of_operators():
        schema = found[manifest["apiVersion"], manifest["kind"]]
        errors = errors_of(jsonschema.Draft202012Validator(schema), manifest)
        assert errors == [], (manifest["kind"], manifest["metadata"]["name"])


# --- Compose ----------------------------------------------------------------------------------------------------------

COMPOSE = jsonschema.Draft202012Validator(
    strict(yaml.safe_load(Path(__file__).with_name("compose.schema.yaml").read_text()))
)


def test_the_compose_file_is_of_its_schema_and_names_only_what_is_there() -> None:
    composed = document("compose.yaml")
    assert errors_of(COMPOSE, composed) == []
    for name, service in composed["services"].items():
        named = {v["source"] for v in service.get("volumes", []) if v["type"] == "volume"}
        assert named <= composed["volumes"].keys(), name
        assert set(service.get("depends_on", ())) <= composed["services"].keys(), name


@pytest.mark.parametrize(
    "planted",
    [
        {"healthcheck": {"tests": ["CMD", "true"]}},
        {"healthcheck": {"test": ["CMD", "true"], "interval": "10"}},
        {"depends_on": {"kafka": {"condition": "service_running"}}},
        {"volumes": [{"type": "volume", "source": "keys", "target": "/keys", "subpath": "cards"}]},
        {"environment": {"A": ["b"]}},
        {"restart": "sometimes"},
        {"readonly": True},
    ],
    ids=str,
)
def test_a_wrong_word_of_the_compose_file_is_seen(planted: dict[str, Any]) -> None:
    composed = document("compose.yaml")
    composed["services"]["relay"] |= planted
    assert errors_of(COMPOSE, composed)
