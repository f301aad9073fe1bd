"""deploy/helm/mypay/files: what the chart's templates read: stages, topics, users with their rules, alerts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import yaml

from gateway.app.initiation import WAITING_GROUP
from gateway.app.stages import STAGES, Stage
from gateway.database.roles import RUNNING
from gateway.messaging.topics_admin import topic_configuration
from schemas.access import Acl, Pattern, Resource, acls
from schemas.principals import principals
from schemas.topics import WAITING_ORDERS, Topic, concrete_topics

_MADE: Final = "# Made by `mypay deploy generate` from the code's tables: change those.\n"
_USER: Final = "User:"
_REPLICAS: Final = 3
_LAG: Final = 200
"""Records a worker may have before it: a quarter of a second's work."""


def chart_files(networks: Sequence[str], alerts: Mapping[str, str]) -> dict[str, str]:
    """File → text."""
    topics = concrete_topics(partners=[], networks=networks, recipients=[], affiliates=[])
    return {
        "stages.yaml": _yaml([_stage(s) for s in STAGES]),
        "topics.yaml": _yaml([_topic(t) for t in topics]),
        "users.yaml": _yaml(_users(networks)),
        "database-users.yaml": _yaml([role.user for role in RUNNING]),
        **{name: _MADE + text for name, text in alerts.items()},
    }


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=120)
    return _MADE + text


def _stage(stage: Stage) -> dict[str, Any]:
    reads = stage.topics()
    told: dict[str, Any] = {
        "name": stage.name,
        "what": stage.what,
        "role": stage.role.value,
        "perNetwork": stage.per_network,
        "leads": stage.leads,
        "principal": stage.principal("NETWORK").replace("NETWORK", "{network}"),
        "secrets": [{"variable": f"MYPAY_{s.upper()}", "path": path} for s, path in stage.folders().items()],
        # More workers than partitions would have nothing to do.
        "maxReplicas": max((t.partitions for t in reads), default=2),
        "lag": [
            {"topic": t.name, "group": _group(stage, t), "threshold": _LAG} for t in reads if "{" not in _known(t.name)
        ],
    }
    return told


def _known(topic: str) -> str:
    return topic.replace("{network}", "")


def _group(stage: Stage, topic: Topic) -> str:
    if topic.name == WAITING_ORDERS:
        return WAITING_GROUP
    return stage.principal("NETWORK").replace("NETWORK", "{network}")


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.partitions,
        "replicas": _REPLICAS,
        "config": topic_configuration(topic, _REPLICAS),
    }


def _users(networks: Sequence[str]) -> list[dict[str, Any]]:
    """Of everybody but partners, recipients and affiliates, whom `mypay partner add` makes."""
    rules = acls(partners=[], networks=networks, recipients=[], affiliates=[])
    return [
        {
            "name": principal,
            "acls": _strimzi([r for r in rules if r.principal.removeprefix(_USER) == principal]),
        }
        for principal in sorted(p.name for p in principals(partners=[], networks=networks))
    ]


def _strimzi(rules: Iterable[Acl]) -> list[dict[str, Any]]:
    """Rules as a KafkaUser has them: one entry a resource, with its operations."""
    found: dict[tuple[Resource, str, Pattern], list[str]] = {}
    for rule in sorted(rules):
        found.setdefault((rule.resource, rule.name, rule.pattern), []).append(rule.operation.value)
    return [{"resource": _resource(*key), "operations": operations} for key, operations in found.items()]


def _resource(resource: Resource, name: str, pattern: Pattern) -> dict[str, str]:
    if resource is Resource.CLUSTER:
        return {"type": "cluster"}
    kind = {Resource.TRANSACTIONAL_ID: "transactionalId"}.get(resource, resource.value)
    return {"type": kind, "name": name, "patternType": {Pattern.PREFIXED: "prefix"}.get(pattern, "literal")}
