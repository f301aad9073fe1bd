"""Who may do what on the brokers. The table here is written out by hand, not made from the code."""

import shlex

import pytest

from gateway.cli.common import ExitCode
from gateway.cli.explaining import explain
from gateway.messaging.access import NotSecuredError, _check
from schemas.access import Acl, Operation, Pattern, Resource, acls, partner_acls, quotas, shell_script
from schemas.principals import FAMILIES, Principal, Role, principals
from schemas.topics import TOPICS

PARTNERS, NETWORKS, AFFILIATES = ["shop", "shop-pay"], ["bcard", "kcard"], ["points", "mobile"]

RECIPIENTS = ["A1AAAA0000"]

# R may read, W may write, everything else is denied.
TABLE = """
                           ord cons d.b d.k e.sh e.pay clr sett dead wait roo ask exp sh.p sh.m ers of.p of.m use agg
mypay-partner-shop         W   W    -   -   R    -     -   -    -    -    R   W   -   -    -    -   -    -    -   -
mypay-partner-shop-pay     W   W    -   -   -    R     -   -    -    -    R   W   -   -    -    -   -    -    -   -
mypay-initiation           R   -    W   W   -    -     -   -    W    RW   -   -   -   -    -    -   -    -    -   -
mypay-consents             -   R    -   -   -    -     -   -    W    -    -   -   -   -    -    -   -    -    -   -
mypay-execution-bcard      -   -    R   -   -    -     -   -    W    -    -   -   -   -    -    -   -    -    -   -
mypay-execution-kcard      -   -    -   R   -    -     -   -    W    -    -   -   -   -    -    -   -    -    -   -
mypay-relay                -   -    -   -   W    W     -   W    -    -    W   -   W   W    W    -   W    W    -   W
mypay-settlement           -   -    -   -   -    -     RW  -    W    -    -   -   -   -    -    -   -    -    -   -
mypay-schedule             -   -    W   W   -    -     -   -    -    -    -   -   -   -    -    -   -    -    -   -
mypay-disclosure           -   -    -   -   -    -     -   -    -    -    -   -   -   -    -    -   -    -    -   -
mypay-portability          -   -    -   -   -    -     -   -    W    -    -   R   W   -    -    -   -    -    -   -
mypay-portability_api      -   -    -   -   -    -     -   -    -    -    -   -   -   -    -    -   -    -    -   -
mypay-recipient-A1AAAA0000 -   -    -   -   -    -     -   -    -    -    -   -   R   -    -    -   -    -    -   -
mypay-sharing              -   -    -   -   -    -     -   -    W    -    -   -   -   -    -    R   -    -    -   -
mypay-marketing            -   -    -   -   -    -     -   -    W    -    -   -   -   -    -    -   -    -    R   -
mypay-affiliate-points     -   -    -   -   -    -     -   -    -    -    -   -   -   R    -    W   R    -    W   R
mypay-affiliate-mobile     -   -    -   -   -    -     -   -    -    -    -   -   -   -    R    W   -    R    W   R
mypay-clearing-import      -   -    -   -   -    -     W   -    W    -    -   -   -   -    -    -   -    -    -   -
mypay-finance              -   -    -   -   -    -     -   R    -    -    R   -   -   -    -    -   -    -    -   R
mypay-ops                  W   W    W   W   -    -     W   R    RW   -    R   W   -   -    -    W   -    -    W   R
"""
COLUMNS = {
    "ord": "mypay.orders",
    "cons": "mypay.consents.commands",
    "d.b": "mypay.dispatch.bcard",
    "d.k": "mypay.dispatch.kcard",
    "e.sh": "mypay.events.shop",
    "e.pay": "mypay.events.shop-pay",
    "clr": "mypay.clearing.bcard",
    "sett": "mypay.settlements",
    "dead": "mypay.dead-letter",
    "wait": "mypay.waiting-orders",
    "roo": "mypay.disclosure.roots",
    "ask": "mypay.portability.requests",
    "exp": "mypay.portability.exports.A1AAAA0000",
    "sh.p": "mypay.sharing.points",
    "sh.m": "mypay.sharing.mobile",
    "ers": "mypay.sharing-confirmations",
    "of.p": "mypay.marketing.offers.points",
    "of.m": "mypay.marketing.offers.mobile",
    "use": "mypay.marketing.uses",
    "agg": "mypay.marketing.aggregates",
}
LETTERS = {"R": Operation.READ, "W": Operation.WRITE}


def rules() -> list[Acl]:
    return acls(partners=PARTNERS, networks=NETWORKS, recipients=RECIPIENTS, affiliates=AFFILIATES)


def may(principal: str, operation: Operation, resource: Resource, name: str) -> bool:
    """As the brokers' authorizer decides."""
    return any(
        r.principal == f"User:{principal}"
        and r.operation is operation
        and r.resource is resource
        and (r.name == name if r.pattern is Pattern.LITERAL else name.startswith(r.name))
        for r in rules()
    )


def table() -> list[tuple[str, str, str, bool]]:
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    return [
        (principal, COLUMNS[column], letter, letter in cell)
        for principal, *cells in rows
        for column, cell in zip(header, cells, strict=True)
        for letter in LETTERS
    ]


@pytest.mark.parametrize(("principal", "topic", "letter", "allowed"), table())
def test_topics(principal: str, topic: str, letter: str, *, allowed: bool) -> None:
    assert may(principal, LETTERS[letter], Resource.TOPIC, topic) is allowed


def test_the_table_has_everybody_and_every_topic() -> None:
    everybody = principals(partners=PARTNERS, networks=NETWORKS, recipients=RECIPIENTS, affiliates=AFFILIATES)
    assert {row[0] for row in table()} == {p.name for p in everybody}
    families = {t.name.partition("{")[0] for t in TOPICS}
    assert {f for f in families if any(c.startswith(f) for c in COLUMNS.values())} == families


GROUPS = [
    ("mypay-partner-shop", "mypay-partner-shop", True),
    ("mypay-partner-shop", "mypay-partner-shop:reports", True),
    ("mypay-partner-shop", "mypay-partner-shop-pay", False),
    ("mypay-partner-shop", "mypay-partner-shop-pay:reports", False),
    ("mypay-partner-shop", "mypay-initiation", False),
    ("mypay-partner-shop", "shop", False),
    ("mypay-initiation", "mypay-initiation", True),
    ("mypay-initiation", "mypay-consents", False),
    ("mypay-execution-bcard", "mypay-execution-bcard", True),
    ("mypay-execution-bcard", "mypay-execution-kcard", False),
    ("mypay-settlement", "mypay-settlement", True),
    ("mypay-relay", "mypay-relay", False),  # it reads no topic
    ("mypay-ops", "mypay-initiation", False),
]


@pytest.mark.parametrize(("principal", "group", "allowed"), GROUPS)
def test_groups(principal: str, group: str, *, allowed: bool) -> None:
    assert may(principal, Operation.READ, Resource.GROUP, group) is allowed


TRANSACTIONS = [
    ("mypay-partner-shop", "mypay-partner-shop", True),
    ("mypay-partner-shop", "mypay-partner-shop:orders-0", True),
    ("mypay-partner-shop", "mypay-partner-shop-pay", False),
    ("mypay-partner-shop", "shop", False),
    ("mypay-relay", "mypay-relay", False),
]


@pytest.mark.parametrize(("principal", "transactional_id", "allowed"), TRANSACTIONS)
def test_transactional_ids(principal: str, transactional_id: str, *, allowed: bool) -> None:
    assert may(principal, Operation.WRITE, Resource.TRANSACTIONAL_ID, transactional_id) is allowed


def test_only_ops_and_who_hands_orders_on_see_how_far_other_groups_are() -> None:
    looking = {
        (r.principal, r.name) for r in rules() if (r.resource, r.operation) == (Resource.GROUP, Operation.DESCRIBE)
    }
    assert looking == {
        ("User:mypay-ops", "mypay-"),
        ("User:mypay-initiation", "mypay-execution-"),
        ("User:mypay-schedule", "mypay-execution-"),
    }


def test_nobody_but_ops_makes_topics_nobody_makes_rules_and_no_stage_transactions() -> None:
    making = {Operation.CREATE, Operation.ALTER, Operation.ALTER_CONFIGS}
    assert {r.principal for r in rules() if r.operation in making} == {"User:mypay-ops"}
    assert not [r for r in rules() if r.resource is Resource.CLUSTER and r.operation in making]
    stages = [r for r in rules() if not r.principal.startswith("User:mypay-partner-")]
    assert not [r for r in stages if r.resource is Resource.TRANSACTIONAL_ID]


def test_no_rule_is_for_everybody_or_on_everything() -> None:
    for rule in rules():
        assert rule.principal.startswith("User:mypay-")
        assert rule.resource is Resource.CLUSTER or rule.name.startswith(("mypay.", "mypay-"))


def test_another_partner_changes_nobody_elses_rules() -> None:
    fewer = acls(partners=["shop"], networks=NETWORKS, recipients=RECIPIENTS, affiliates=AFFILIATES)
    before, after = set(fewer), set(rules())
    assert after - before == set(partner_acls("shop-pay"))


@pytest.mark.parametrize("partner", ["initiation", "execution", "ops", "admin"])
def test_no_partner_is_taken_for_a_stage(partner: str) -> None:
    stages = {p.name for p in principals(partners=[], networks=NETWORKS, affiliates=AFFILIATES)} | {"mypay-admin"}
    assert Principal(Role.PARTNER, partner).name not in stages


@pytest.mark.parametrize(("role", "member"), [(Role.RELAY, "x"), (Role.PARTNER, ""), (Role.EXECUTION, "")])
def test_a_principal_has_a_member_where_its_role_has_members(role: Role, member: str) -> None:
    with pytest.raises(ValueError, match="id of its own"):
        _ = Principal(role, member)


@pytest.mark.parametrize("member", ["a'b", "a b", "a:b", "$(id)", "../x", "a\n", "é", "x" * 101])
def test_what_is_no_id_is_nobodys_name(member: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        _ = Principal(Role.PARTNER, member)


def test_the_script_says_every_rule_and_quota() -> None:
    limited = quotas(partners=PARTNERS, recipients=RECIPIENTS, affiliates=AFFILIATES)
    script = shell_script(rules(), limited)
    said: set[tuple[str, ...]] = set()
    limits = []
    for line in script.splitlines():
        words = shlex.split(line) if line.startswith(("acls -", "quota '")) else []
        if words[:2] == ["acls", "--allow-principal"]:
            principal, rest = words[2], words[3:]
            operations = []
            while rest and rest[0] == "--operation":
                operations.append(rest[1])
                rest = rest[2:]
            what = ("cluster", "kafka-cluster", "literal") if rest == ["--cluster"] else (rest[0][2:], rest[1], rest[3])
            said |= {(principal, *what, operation) for operation in operations}
        if words[:1] == ["quota"] and len(words) == 3:
            limits.append(words[1])
    assert said == {(r.principal, r.resource, r.name, r.pattern, r.operation) for r in rules()}
    assert limits == [q.user for q in limited]


def test_everybody_who_comes_from_elsewhere_has_a_quota() -> None:
    everybody = principals(partners=PARTNERS, networks=NETWORKS, recipients=RECIPIENTS, affiliates=AFFILIATES)
    # Of the families execution's alone are the gateway's own.
    outside = {p.name for p in everybody if p.role in FAMILIES and p.role is not Role.EXECUTION}
    assert {q.user for q in quotas(partners=PARTNERS, recipients=RECIPIENTS, affiliates=AFFILIATES)} == outside


def test_a_cluster_that_holds_no_rules_is_not_said_to_be_away() -> None:
    with pytest.raises(NotSecuredError) as told:
        _check(54, "tell its rules")
    explained = explain(told.value)
    assert explained.code == ExitCode.USAGE
    assert "deploy/kafka/README.md" in explained.hint
