"""Who may do what on the brokers, made from the topic table: access rules and quotas, as data.

Everything that is not in these rules is denied (``allow.everyone.if.no.acl.found=false``). Some are left out because
others hold them: Read and Write let a principal describe a topic too, and since Kafka 2.8 (KIP-679) whoever may write
to any topic may produce idempotently, so that nobody needs IdempotentWrite. Partners may produce in transactions, under
transactional ids of their own: with another's a producer would fence that one off. No stage has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from schemas.principals import FAMILIES, PREFIX, Principal, Role, principals
from schemas.topics import TOPIC_PREFIX, TOPICS, Topic


@unique
class Resource(StrEnum):
    """What a rule is about, as Kafka's tools name it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"
    CLUSTER = "cluster"


@unique
class Pattern(StrEnum):
    """Whether a rule's name is one resource's, or the beginning of many."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


@unique
class Operation(StrEnum):
    """What a rule allows, as Kafka's tools name it."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    ALTER = "Alter"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"
    ALTER_CONFIGS = "AlterConfigs"


CLUSTER: Final = "kafka-cluster"
"""The name of the one resource of type cluster."""


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One principal may do one thing, from any host."""

    principal: str
    resource: Resource
    name: str
    pattern: Pattern
    operation: Operation


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of one broker a user may take, over a window of a second or so; beyond it the broker makes it wait.

    Attributes:
        user: a principal's name.
        producer_byte_rate, consumer_byte_rate: bytes a second.
        request_percentage: of one thread's time.
    """

    user: str
    producer_byte_rate: int
    consumer_byte_rate: int
    request_percentage: int

    def values(self) -> dict[str, float]:
        """Kafka's name → value."""
        return {
            "producer_byte_rate": float(self.producer_byte_rate),
            "consumer_byte_rate": float(self.consumer_byte_rate),
            "request_percentage": float(self.request_percentage),
        }


OUTSIDER_BYTES_IN: Final = 256 * 1024
"""Some 300 signed orders of 900 bytes a second as they are, or 1,000 that are packed in batches with lz4: what two
cores take in all (`mypay bench`). Of a larger gateway an operator allows partners more: it is per broker, and what one
partner may send should be no more than all of them together can have carried out. What affiliates send is smaller."""

OUTSIDER_BYTES_OUT: Final = 16 * 1024 * 1024
"""A partner reads three or four events for every order, and reads a week's again when it has to."""

OUTSIDER_REQUEST_PERCENTAGE: Final = 50
"""Half of one thread: tiny requests cost time, not bytes."""


def acls(
    *,
    partners: Iterable[str],
    networks: Iterable[str],
    recipients: Iterable[str] = (),
    affiliates: Iterable[str] = (),
) -> list[Acl]:
    """Every rule for the partners, networks, recipients and affiliates that exist, sorted."""
    found: set[Acl] = set()
    for principal in principals(partners=partners, networks=networks, recipients=recipients, affiliates=affiliates):
        found |= _rules(principal)
    return sorted(found)


def partner_acls(partner_id: str) -> list[Acl]:
    """One partner's rules; nobody else's depend on which partners there are."""
    return sorted(_rules(Principal(Role.PARTNER, partner_id)))


def quotas(*, partners: Iterable[str], recipients: Iterable[str] = (), affiliates: Iterable[str] = ()) -> list[Quota]:
    """The quota of everybody who comes from elsewhere; the gateway's own processes have none.

    Of recipients and affiliates, too: all use the brokers that partners' orders go through.
    """
    outsiders = ((Role.PARTNER, partners), (Role.RECIPIENT, recipients), (Role.AFFILIATE, affiliates))
    return [
        Quota(
            user=Principal(role, member).name,
            producer_byte_rate=OUTSIDER_BYTES_IN,
            consumer_byte_rate=OUTSIDER_BYTES_OUT,
            request_percentage=OUTSIDER_REQUEST_PERCENTAGE,
        )
        for role, members in outsiders
        for member in sorted(members)
    ]


def _rules(principal: Principal) -> set[Acl]:
    found: set[Acl] = set()
    reads = False
    for topic in TOPICS:
        name, pattern = _reach(topic, principal)
        if principal.role in topic.writers:
            found.add(Acl(principal.user, Resource.TOPIC, name, pattern, Operation.WRITE))
        if principal.role in topic.readers:
            found.add(Acl(principal.user, Resource.TOPIC, name, pattern, Operation.READ))
            reads = True
    for name, pattern in ((principal.name, Pattern.LITERAL), (f"{principal.name}:", Pattern.PREFIXED)):
        if reads:
            found.add(Acl(principal.user, Resource.GROUP, name, pattern, Operation.READ))
        if principal.role is Role.PARTNER:
            found.add(Acl(principal.user, Resource.TRANSACTIONAL_ID, name, pattern, Operation.WRITE))
    if principal.role in (Role.INITIATION, Role.SCHEDULE):
        # How far execution is behind.
        found.add(Acl(principal.user, Resource.GROUP, f"{PREFIX}execution-", Pattern.PREFIXED, Operation.DESCRIBE))
    if principal.role is Role.OPS:
        found |= _administration(principal)
    return found


def _reach(topic: Topic, principal: Principal) -> tuple[str, Pattern]:
    """The part of a family that is the principal's: its own member where the family has one for it, else all."""
    beginning, brace, rest = topic.name.partition("{")
    if not brace:
        return topic.name, Pattern.LITERAL
    placeholder, _, ending = rest.partition("}")
    if FAMILIES.get(principal.role) == placeholder:
        return f"{beginning}{principal.member}{ending}", Pattern.LITERAL
    return beginning, Pattern.PREFIXED


def _administration(principal: Principal) -> set[Acl]:
    """Topics and their settings; a look at rules, quotas and groups. Rules themselves are the administrator's."""
    topics = (
        Operation.CREATE,
        Operation.ALTER,
        Operation.ALTER_CONFIGS,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
    )
    return {
        *(Acl(principal.user, Resource.TOPIC, TOPIC_PREFIX, Pattern.PREFIXED, o) for o in topics),
        *(
            Acl(principal.user, Resource.CLUSTER, CLUSTER, Pattern.LITERAL, o)
            for o in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)
        ),
        Acl(principal.user, Resource.GROUP, PREFIX, Pattern.PREFIXED, Operation.DESCRIBE),
    }


# --- as Kafka's own tools take it -------------------------------------------------------------------------------------

_HEADER: Final = """\
#!/bin/sh
# Made by `mypay topics acl --print` from schemas/topics.py; do not edit.
# Safe to run again.
# BOOTSTRAP: host:port. COMMAND_CONFIG: properties of a super user. KAFKA_BIN: folder of Kafka's tools.
set -eu
acls() {
  "${KAFKA_BIN:-.}/kafka-acls.sh" --bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG" --add "$@"
}
quota() {
  "${KAFKA_BIN:-.}/kafka-configs.sh" --bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG" \\
    --alter --entity-type users --entity-name "$1" --add-config "$2"
}
"""


def shell_script(rules: Iterable[Acl], limits: Iterable[Quota]) -> str:
    """The rules and quotas as calls of ``kafka-acls.sh`` and ``kafka-configs.sh``."""
    together: dict[tuple[str, Resource, str, Pattern], list[Operation]] = {}
    for rule in rules:
        together.setdefault((rule.principal, rule.resource, rule.name, rule.pattern), []).append(rule.operation)
    lines = [_HEADER.rstrip()]
    before = ""
    for (principal, resource, name, pattern), operations in together.items():
        if principal != before:
            lines.append("")
            before = principal
        what = (
            "--cluster" if resource is Resource.CLUSTER else f"--{resource} '{name}' --resource-pattern-type {pattern}"
        )
        done = " ".join(f"--operation {o}" for o in operations)
        lines.append(f"acls --allow-principal '{principal}' {done} {what}")
    lines.append("")
    for limit in limits:
        values = ",".join(f"{name}={value:.0f}" for name, value in limit.values().items())
        lines.append(f"quota '{limit.user}' '{values}'")
    return "\n".join(lines) + "\n"
