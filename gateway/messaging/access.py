"""Making the cluster's access rules, quotas and SCRAM users what the table says, and telling where they differ.

Running it twice changes nothing the second time. What is there besides the table is told, and taken away only when
that is asked for: it may be an operator's decision.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, for_code
from aiokafka.protocol.admin import DescribeAclsRequest, DescribeClientQuotasRequest

from gateway.base.errors import UnansweredError
from gateway.messaging.administration import administration, unanswered
from gateway.messaging.probe import denied
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.wire import (
    SCRAM_SHA_512,
    create_acls,
    delete_acls,
    describe_scram_users,
    set_quotas,
    set_scram_passwords,
)
from schemas.access import Acl, Operation, Pattern, Quota, Resource
from schemas.principals import PREFIX
from schemas.topics import TOPIC_PREFIX

_ANY: Final = 1
_ALLOW: Final = 3
_EVERYWHERE: Final = "*"
_RESOURCES: Final = {2: Resource.TOPIC, 3: Resource.GROUP, 4: Resource.CLUSTER, 5: Resource.TRANSACTIONAL_ID}
_BEGINNINGS: Final = {Resource.TOPIC: TOPIC_PREFIX, Resource.GROUP: PREFIX, Resource.TRANSACTIONAL_ID: PREFIX}
"""How our names of each kind begin."""
_PATTERNS: Final = {3: Pattern.LITERAL, 4: Pattern.PREFIXED}
_OPERATIONS: Final = {
    3: Operation.READ,
    4: Operation.WRITE,
    5: Operation.CREATE,
    7: Operation.ALTER,
    8: Operation.DESCRIBE,
    10: Operation.DESCRIBE_CONFIGS,
    11: Operation.ALTER_CONFIGS,
}
_NAMES: Final[Mapping[str, Mapping[int, str]]] = {
    "resource": {**_RESOURCES, 6: "delegation-token", 7: "user"},
    "pattern": _PATTERNS,
    "operation": {**_OPERATIONS, 2: "All", 6: "Delete", 9: "ClusterAction", 12: "IdempotentWrite"},
}
_SECURITY_DISABLED: Final = 54

SCRAM_ITERATIONS: Final = 8192
"""Twice the least that Kafka takes; a generated password of 256 bits needs none of them."""

_Wire = tuple[int, str, int, str, str, int, int]
"""A rule as the protocol has it: resource type, name, pattern, principal, host, operation, permission."""


class AccessError(UnansweredError):
    """The cluster cannot be reached or refused a change; the text says which."""


class NotSecuredError(Exception):
    """The cluster answers, and has no access rules: it lets everybody do everything."""


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What was found and done; every rule and quota in words.

    Attributes:
        present: rules that were there already.
        added: made now; missing: not made, for nothing was to be changed.
        extra: of our principals or on our topics and groups, and in no table.
        removed: of those, taken away now.
        open_to_others: rules of others that reach our topics or groups, by a wildcard or a short prefix. Never removed.
        differing: quotas that have another value than the table's. Never changed: an operator may have chosen it.
    """

    present: int
    added: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    open_to_others: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    @property
    def as_it_should_be(self) -> bool:
        """Nothing is missing, nothing is too much."""
        return not (self.missing or self.extra or self.open_to_others)


async def ensure_access(
    settings: KafkaSettings,
    rules: Collection[Acl],
    quotas: Sequence[Quota],
    *,
    apply: bool,
    prune: bool = False,
    whole: bool = True,
) -> AccessReport:
    """Compare rules and quotas with the cluster's; with ``apply`` add what is missing, with ``prune`` remove extras.

    ``whole``: the rules are all that there should be; else others' are neither told nor removed.

    Raises:
        AccessError, NotSecuredError, KafkaDeniedError: see there.
    """
    async with _administration(settings) as client:
        wanted = {_wire(rule) for rule in rules}
        found = await _rules(client)
        missing = sorted(wanted - found)
        extra = sorted(r for r in found - wanted if _ours(r)) if whole else []
        others = sorted(r for r in found - wanted if not _ours(r) and _reaches_us(r)) if whole else []
        if apply and missing:
            await _create(client, missing)
        if prune and extra:
            await _delete(client, extra)
        unset, differing = await _quota_differences(client, quotas)
        if apply and unset:
            await _set_quotas(client, unset)
        told = (*map(_told, missing), *(f"quota of {user}: {_values(values)}" for user, values in unset.items()))
        return AccessReport(
            present=len(wanted & found),
            added=told if apply else (),
            missing=() if apply else told,
            extra=() if prune else tuple(map(_told, extra)),
            removed=tuple(map(_told, extra)) if prune else (),
            open_to_others=tuple(map(_told, others)),
            differing=differing,
        )


async def scram_users(settings: KafkaSettings) -> frozenset[str]:
    """Names of all users that have a SCRAM-SHA-512 password.

    Raises:
        AccessError, NotSecuredError, KafkaDeniedError: see there.
    """
    async with _administration(settings) as client:
        response = await _send(client, describe_scram_users())
        _check(response.error_code, "tell its users")
        return frozenset(
            user
            for user, error_code, _, infos, _ in response.results
            if not error_code and any(mechanism == SCRAM_SHA_512 for mechanism, *_ in infos)
        )


async def set_passwords(settings: KafkaSettings, passwords: Mapping[str, str]) -> None:
    """Make SCRAM-SHA-512 users, or give those that are there another password. The passwords themselves are not sent.

    Raises:
        AccessError, NotSecuredError, KafkaDeniedError: see there.
    """
    if not passwords:
        return
    users = []
    for user, password in passwords.items():
        salt = secrets.token_bytes(32)
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, SCRAM_ITERATIONS)
        users.append((user, SCRAM_ITERATIONS, salt, salted))
    async with _administration(settings) as client:
        response = await _send(client, set_scram_passwords(users))
        for user, error_code, *_ in response.results:
            _check(error_code, f"make the user {user}")


@asynccontextmanager
async def _administration(settings: KafkaSettings) -> AsyncIterator[Any]:
    try:
        async with administration(settings) as client:
            yield client
    except (KafkaError, TimeoutError, OSError) as error:
        if (told := await denied(settings, error)) is not None:
            raise told from error
        raise AccessError(unanswered(error)) from error


async def _send(client: Any, request: Any) -> Any:
    # Brokers hand what changes the cluster on to their controller.
    return await client._send_request(request)  # noqa: SLF001 - aiokafka has no public way to send a request of one's own


def _check(error_code: int, what: str) -> None:
    if error_code == _SECURITY_DISABLED:
        raise NotSecuredError("the cluster has no authorizer: it lets everybody do everything (authorizer.class.name)")
    failure = for_code(error_code)
    if failure is ClusterAuthorizationFailedError:
        raise failure
    if error_code:
        raise AccessError(f"Kafka did not {what}: {failure.__name__}")


# --- rules ------------------------------------------------------------------------------------------------------------


def _wire(rule: Acl) -> _Wire:
    return (
        _number(_RESOURCES, rule.resource),
        rule.name,
        _number(_PATTERNS, rule.pattern),
        rule.principal,
        _EVERYWHERE,
        _number(_OPERATIONS, rule.operation),
        _ALLOW,
    )


def _number(names: Mapping[int, str], name: str) -> int:
    return next(number for number, other in names.items() if other == name)


def _told(rule: _Wire) -> str:
    resource, name, pattern, principal, host, operation, permission = rule
    words = (
        principal,
        "may" if permission == _ALLOW else "may not",
        _NAMES["operation"].get(operation, f"operation {operation}"),
        _NAMES["resource"].get(resource, f"resource {resource}"),
        name + ("…" if _PATTERNS.get(pattern) is Pattern.PREFIXED else ""),
    )
    return " ".join(words) + ("" if host == _EVERYWHERE else f" from {host}")


def _ours(rule: _Wire) -> bool:
    """A rule of one of our principals, or on what has our names."""
    resource, name, _, principal, *_ = rule
    beginning = _beginning(resource)
    return principal.startswith(f"User:{PREFIX}") or (beginning is not None and name.startswith(beginning))


def _reaches_us(rule: _Wire) -> bool:
    """A rule of others that covers names of ours: every name, or a prefix of our prefix."""
    resource, name, pattern, *_ = rule
    beginning = _beginning(resource)
    if beginning is None:
        return False
    return name == _EVERYWHERE or (_PATTERNS.get(pattern) is Pattern.PREFIXED and beginning.startswith(name))


def _beginning(resource: int) -> str | None:
    kind = _RESOURCES.get(resource)
    return None if kind is None else _BEGINNINGS.get(kind)


async def _rules(client: Any) -> set[_Wire]:
    response = await _send(client, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
    _check(response.error_code, "tell its access rules")
    return {
        (resource, name, pattern, principal, host, operation, permission)
        for resource, name, pattern, entries in response.resources
        for principal, host, operation, permission in entries
    }


async def _create(client: Any, rules: Sequence[_Wire]) -> None:
    response = await _send(client, create_acls(rules))
    for rule, (error_code, _) in zip(rules, response.creation_responses, strict=True):
        _check(error_code, f"make the rule “{_told(rule)}”")


async def _delete(client: Any, rules: Sequence[_Wire]) -> None:
    response = await _send(client, delete_acls(rules))
    for rule, (error_code, *_) in zip(rules, response.filter_responses, strict=True):
        _check(error_code, f"remove the rule “{_told(rule)}”")


# --- quotas -----------------------------------------------------------------------------------------------------------


async def _quota_differences(
    client: Any, quotas: Sequence[Quota]
) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """What no quota says yet, by user; and where one says something else."""
    if not quotas:
        return {}, ()
    # Match type 2: every user that has a quota of its own.
    response = await _send(client, DescribeClientQuotasRequest([("user", 2, None)], strict=True))
    _check(response.error_code, "tell its quotas")
    found: dict[str, dict[str, float]] = {
        entity[0][1]: dict(values) for entity, values in response.entries if entity[0][1] is not None
    }
    unset: dict[str, dict[str, float]] = {}
    differing: list[str] = []
    for quota in quotas:
        present = found.get(quota.user, {})
        if lacking := {name: value for name, value in quota.values().items() if name not in present}:
            unset[quota.user] = lacking
        other = {n: v for n, v in present.items() if quota.values().get(n, v) != v}
        if other:
            differing.append(f"quota of {quota.user} is {_values(other)}, the table's {_values(quota.values())}")
    return unset, tuple(differing)


async def _set_quotas(client: Any, unset: Mapping[str, Mapping[str, float]]) -> None:
    await _send_quotas(client, "user", unset)


async def limit_clients(settings: KafkaSettings, quotas: Iterable[Quota]) -> None:
    """Set quotas by client id, on a cluster that asks nobody for a user: there it is whatever a client says.

    Raises:
        AccessError, NotSecuredError, KafkaDeniedError: see there.
    """
    async with _administration(settings) as client:
        await _send_quotas(client, "client-id", {q.user: q.values() for q in quotas})


async def _send_quotas(
    client: Any, kind: Literal["user", "client-id"], quotas: Mapping[str, Mapping[str, float]]
) -> None:
    response = await _send(client, set_quotas(kind, quotas))
    for error_code, _, entity in response.entries:
        _check(error_code, f"set the quota of {entity[0][1]}")


def _values(values: Mapping[str, float] | Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in dict(values).items())
