"""deploy/helm/mypay/files: what the chart's templates read: stages, topics, users with their rules, alerts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import yaml

from gateway.app.backlogs import group_of
from gateway.app.stages import STAGES, Stage
from gateway.cli.deploy.console import CONSOLE_COMMAND, CONSOLE_FOLDERS, CONSOLE_PRINCIPAL, CONSOLE_ROLES
from gateway.messaging.topics_admin import topic_configuration
from schemas.access import Acl, Pattern, Resource, acls, quotas
from schemas.principals import FAMILIES, Principal, Role, principals
from schemas.topics import Topic, concrete_topics

_MADE: Final = "# Made by `mypay deploy generate` from the code's tables: change those.\n"
_MEMBER: Final = "MEMBER"
"""A member's id, in whose place the chart puts each of those that its values name."""

_OTHERS: Final = frozenset({Role.PARTNER, Role.RECIPIENT, Role.AFFILIATE})
_REPLICAS: Final = 3
_LAG: Final = 200
"""Records a worker may have before it: a quarter of a second's work."""


def chart_files(alerts: Mapping[str, str]) -> dict[str, str]:
    """File → text."""
    rules = acls(partners=[], networks=[])
    return {
        "stages.yaml": _yaml([_stage(s) for s in STAGES]),
        "console.yaml": _yaml(_console()),
        "topics.yaml": _yaml([_topic(t) for t in concrete_topics(partners=[], networks=[])]),
        "users.yaml": _yaml([_user(p, rules) for p in principals(partners=[], networks=[])]),
        "families.yaml": _yaml({family: _family(family) for family in FAMILIES.values()}),
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
        "principal": _named(stage.principal("NETWORK")),
        "secrets": [{"variable": f"MYPAY_{s.upper()}", "path": path} for s, path in stage.folders().items()],
        # More workers than partitions would have nothing to do.
        "maxReplicas": max((t.partitions for t in reads), default=2),
        "lag": [
            {"topic": t.name, "group": _named(group_of(stage, t.name, "NETWORK")), "threshold": _LAG}
            for t in reads
            if "{" not in _known(t.name)
        ],
    }
    return told


def _console() -> dict[str, Any]:
    return {
        "command": [*CONSOLE_COMMAND],
        "principal": CONSOLE_PRINCIPAL,
        "roles": [role.value for role in CONSOLE_ROLES],
        "secrets": [{"variable": variable, "path": path} for variable, path in CONSOLE_FOLDERS.items()],
    }


def _known(topic: str) -> str:
    return topic.replace("{network}", "")


def _named(name: str) -> str:
    return name.replace("NETWORK", "{network}")


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.partitions,
        "replicas": _REPLICAS,
        "config": topic_configuration(topic, _REPLICAS),
    }


def _user(principal: Principal, rules: Sequence[Acl]) -> dict[str, Any]:
    return {
        "name": principal.name,
        # Others bring no certificate of ours: the operator makes them a password.
        "authentication": "scram-sha-512" if principal.role in _OTHERS else "tls",
        "acls": _strimzi(r for r in rules if r.principal == principal.user),
    }


def _family(family: str) -> dict[str, Any]:
    """What comes with each member of a family, whose id takes the place of ``{member}``."""
    members = {f"{name}s": [_MEMBER] if name == family else [] for name in FAMILIES.values()}
    [user] = [p for p in principals(**members) if p.member]
    told = _user(user, acls(**members))
    for quota in quotas(**{f"{FAMILIES[role]}s": members[f"{FAMILIES[role]}s"] for role in _OTHERS}):
        told["quotas"] = {
            "producerByteRate": quota.producer_byte_rate,
            "consumerByteRate": quota.consumer_byte_rate,
            "requestPercentage": quota.request_percentage,
        }
    topics = [_topic(t) for t in concrete_topics(**members) if _MEMBER in t.name]
    return {"topics": _placed(topics), "user": _placed(told)}


def _placed(value: Any) -> Any:
    """With ``{member}`` where the member stands that was put in for any."""
    match value:
        case dict():
            return {key: _placed(each) for key, each in value.items()}
        case list():
            return [_placed(each) for each in value]
        case str():
            return value.replace(_MEMBER, "{member}")
        case _:
            return value


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
