"""Kafka that asks everybody who they are: every principal tries everything, on a real broker.

What is allowed is the table of `tests/unit/messaging/test_access.py`, written by hand.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteTopicsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic import SecretStr

from gateway.cli.topics_acl import make_users, renew_passwords
from gateway.messaging.access import ensure_access, limit_clients, scram_users, set_passwords
from gateway.messaging.backlog import Backlogs
from gateway.messaging.probe import KafkaDeniedError, KafkaProbe
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from gateway.proving import stack as local
from gateway.proving.stack import secure
from schemas.access import Acl, Operation, Pattern, Quota, Resource, acls, quotas
from schemas.primitives import NetworkId
from schemas.principals import principals
from schemas.topics import concrete_topics, dispatch_topic
from tests.support.secured import Secured, connected, secured_stack
from tests.unit.messaging.test_access import AFFILIATES, GROUPS, NETWORKS, PARTNERS, RECIPIENTS, table

OTHERS: Mapping[str, Any] = {"networks": NETWORKS, "recipients": RECIPIENTS, "affiliates": AFFILIATES}

NONE, TOPIC_EXISTS, MEMBER_ID_REQUIRED = 0, 36, 79
TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, TRANSACTIONAL_ID_DENIED = 29, 30, 31, 53

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    # PostgreSQL decides nothing here: a given one is not started.
    with secured_stack("access", MYPAY_POSTGRES_DSN="postgresql://127.0.0.1:1/none") as made:
        yield made


# --- everybody tries everything ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def everybody(secured: Secured) -> Secured:
    """Users, rules and topics of two partners, two networks, two affiliates and a recipient."""
    admin = secured.as_user("mypay-admin")
    names = [p.name for p in principals(partners=PARTNERS, **OTHERS)]
    assert await make_users(admin, secured.security.credentials, names) == names
    assert await make_users(admin, secured.security.credentials, names) == []
    assert await scram_users(admin) == {*names, "mypay-admin"}
    outside = {"partners": PARTNERS, "recipients": RECIPIENTS, "affiliates": AFFILIATES}
    rules, limits = acls(partners=PARTNERS, **OTHERS), quotas(**outside)
    report = await ensure_access(admin, rules, limits, apply=True)
    assert len(report.added) == len(rules) + len(limits)
    again = await ensure_access(admin, rules, limits, apply=True)
    assert (again.present, again.added, again.extra) == (len(rules), (), ())
    topics = concrete_topics(partners=PARTNERS, **OTHERS)
    # As operations, who may make topics without being a super user.
    made = await ensure_topics(secured.as_user("mypay-ops"), topics, replication_factor=1, apply=True)
    assert {t.state.value for t in made} == {"created"}
    async with connected(admin) as send:
        await until_ready(send, [t.name for t in topics])
    return secured


async def until_ready(send: Callable[[Any], Any], topics: list[str]) -> None:
    """Wait until the broker leads every partition and every group: before that all are turned away alike."""
    groups = [f"ready-{n}" for n in range(100)]
    await send(FindCoordinatorRequest(groups[0], 0))
    async with asyncio.timeout(60):
        while True:
            fetched = await send(FetchRequest(0, 0, 1 << 20, 1, [(t, [(0, 0, 1 << 20)]) for t in topics]))
            errors = {error for _, [(_, error, *_)] in fetched.topics}
            errors |= {(await send(join(g))).error_code for g in groups} - {MEMBER_ID_REQUIRED}
            errors.add((await send(InitProducerIdRequest(None, 60_000))).error_code)
            if errors == {NONE}:
                return
            await asyncio.sleep(0.1)


def join(group: str) -> JoinGroupRequest:
    return JoinGroupRequest(group, 10_000, 10_000, "", None, "consumer", [("range", b"")])


Allowed = Mapping[str, Mapping[str, set[str]]]


def allowed() -> Allowed:
    """Principal → topic → letters, by hand."""
    found: dict[str, dict[str, set[str]]] = {}
    for principal, topic, letter, is_allowed in table():
        letters = found.setdefault(principal, {}).setdefault(topic, set())
        if is_allowed:
            letters.add(letter)
    return found


def batch() -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
    builder.append(0, timestamp=time.time_ns() // 1_000_000, key=b"k", value=b"v", headers=[])
    return bytes(builder.build())


def expected(rights: Mapping[str, set[str]], letter: str) -> dict[str, int]:
    return {topic: NONE if letter in letters else TOPIC_DENIED for topic, letters in rights.items()}


@pytest.mark.parametrize("principal", sorted(allowed()))
async def test_what_each_principal_may_write_read_and_create(everybody: Secured, principal: str) -> None:
    rights = allowed()[principal]
    async with connected(everybody.as_user(principal)) as send:
        await tries_topics(send, principal, rights)
        await tries_the_cluster(send, principal, rights)


async def tries_topics(send: Callable[[Any], Any], principal: str, rights: Mapping[str, set[str]]) -> None:
    record = batch()
    written = await send(ProduceRequest(None, -1, 10_000, [(t, [(0, record)]) for t in rights]))
    assert {topic: error for topic, [(_, error, *_)] in written.topics} == expected(rights, "W")

    fetched = await send(FetchRequest(0, 0, 1 << 20, 1, [(t, [(0, 0, 1 << 20)]) for t in rights]))
    assert {topic: error for topic, [(_, error, *_)] in fetched.topics} == expected(rights, "R")

    names = [*rights, "mypay.events.new", "mypay.new", "foreign"]
    created = await send(CreateTopicsRequest([(n, 1, 1, [], []) for n in names], 10_000, True))
    told = {topic: error for topic, error, *_ in created.topic_errors}
    if principal == "mypay-ops":
        new = {"mypay.events.new": NONE, "mypay.new": NONE, "foreign": TOPIC_DENIED}
        assert told == dict.fromkeys(rights, TOPIC_EXISTS) | new
    else:
        assert told == dict.fromkeys(names, TOPIC_DENIED)
    deleted = await send(DeleteTopicsRequest(list(rights), 10_000))
    assert {error for _, error in deleted.topic_error_codes} == {TOPIC_DENIED}


async def tries_the_cluster(send: Callable[[Any], Any], principal: str, rights: Mapping[str, set[str]]) -> None:
    # Whoever writes anywhere may do so idempotently, with no rule for it.
    writes = any("W" in letters for letters in rights.values())
    idempotent = await send(InitProducerIdRequest(None, 60_000))
    assert idempotent.error_code == (NONE if writes else CLUSTER_DENIED)
    partner = principal.startswith("mypay-partner-")
    own = {principal, f"{principal}:t"} if partner else set()
    for name in (principal, f"{principal}:t", f"{principal}-t", "mypay-partner-other", "t"):
        transactional = await send(InitProducerIdRequest(name, 60_000))
        assert (name, transactional.error_code == TRANSACTIONAL_ID_DENIED) == (name, name not in own)


@pytest.mark.parametrize("principal", sorted(allowed()))
async def test_which_groups_each_principal_may_join(everybody: Secured, principal: str) -> None:
    groups = {group for _, group, _ in GROUPS} | set(allowed())
    reads = any("R" in letters for letters in allowed()[principal].values())
    async with connected(everybody.as_user(principal)) as send:
        for group in sorted(groups | {principal, f"{principal}:x", f"{principal}-x"}):
            answer = await send(join(group))
            own = group == principal or group.startswith(f"{principal}:")
            wanted = MEMBER_ID_REQUIRED if own and reads else GROUP_DENIED
            assert (group, answer.error_code) == (group, wanted)


@pytest.mark.parametrize(
    ("principal", "may"),
    [("mypay-initiation", True), ("mypay-schedule", True), ("mypay-relay", False), ("mypay-partner-shop", False)],
)
async def test_who_hands_orders_on_may_see_how_far_execution_is_behind(
    everybody: Secured, principal: str, may: bool
) -> None:
    topics = {dispatch_topic(NetworkId(n)): f"mypay-execution-{n}" for n in NETWORKS}
    async with connected(everybody.as_user("mypay-initiation")) as send:
        await send(ProduceRequest(None, -1, 10_000, [(t, [(0, batch())]) for t in topics]))
    backlogs = Backlogs(everybody.as_user(principal), RecordingObserver())
    try:
        found = await backlogs.of(list(topics.items()))
        assert {topic for topic, _ in found or {}} == (set(topics) if may else set())
    finally:
        await backlogs.stop()


async def test_a_partner_learns_of_no_other_partner(everybody: Secured) -> None:
    admin = AIOKafkaAdminClient(**everybody.as_user("mypay-partner-shop").client_arguments())
    try:
        await admin.start()
        assert sorted(await admin.list_topics()) == [
            "mypay.consents.commands",
            "mypay.disclosure.roots",
            "mypay.events.shop",
            "mypay.orders",
            "mypay.portability.requests",
        ]
    finally:
        await admin.close()


@pytest.mark.parametrize("principal", ["mypay-ops", "mypay-relay", "mypay-partner-shop"])
async def test_nobody_but_the_administrator_gives_rights(everybody: Secured, principal: str) -> None:
    settings = everybody.as_user(principal)
    more = acls(partners=[*PARTNERS, "third"], **OTHERS)
    with pytest.raises(KafkaDeniedError, match=f"{principal} may not do this"):
        await ensure_access(settings, more, [], apply=True)
    with pytest.raises(KafkaDeniedError, match=f"{principal} may not do this"):
        await set_passwords(settings, {"mypay-ops": "x" * 20})
    look = await ensure_access(everybody.as_user("mypay-ops"), more, quotas(partners=PARTNERS), apply=False)
    assert [line for line in look.missing if "third" not in line] == []


async def test_what_is_too_much_is_told_and_pruned_when_asked(everybody: Secured) -> None:
    admin = everybody.as_user("mypay-admin")
    rules = acls(partners=PARTNERS, **OTHERS)
    third = set(acls(partners=[*PARTNERS, "third"], **OTHERS)) - set(rules)
    on_ours = Acl("User:stranger", Resource.TOPIC, "mypay.orders", Pattern.LITERAL, Operation.READ)
    of_ours = Acl("User:mypay-relay", Resource.TOPIC, "elsewhere", Pattern.LITERAL, Operation.READ)
    wide = Acl("User:other", Resource.TOPIC, "my", Pattern.PREFIXED, Operation.DESCRIBE)
    every = Acl("User:other", Resource.GROUP, "*", Pattern.LITERAL, Operation.DESCRIBE)
    theirs = Acl("User:other", Resource.TOPIC, "theirs", Pattern.LITERAL, Operation.READ)
    await ensure_access(admin, [*rules, *third, on_ours, of_ours, wide, every, theirs], [], apply=True)
    told = await ensure_access(admin, rules, [], apply=True)
    assert not told.as_it_should_be
    assert len(told.extra) == len(third) + 2
    assert set(told.open_to_others) == {"User:other may Describe topic my…", "User:other may Describe group *"}
    pruned = await ensure_access(admin, rules, [], apply=True, prune=True)
    assert set(pruned.removed) == set(told.extra)
    after = await ensure_access(admin, rules, [], apply=False)
    assert after.extra == after.missing == ()
    # What others hold is theirs, also where it reaches us: it is told, never taken away.
    assert after.open_to_others == told.open_to_others
    assert not after.as_it_should_be


async def test_a_partner_that_takes_too_much_is_made_to_wait(everybody: Secured) -> None:
    user = "mypay-partner-shop-pay"
    names = ["producer_byte_rate", "consumer_byte_rate", "request_percentage"]
    admin = everybody.as_user("mypay-admin")
    small = Quota(user, 1_000, 1_000, 50)
    report = await ensure_access(admin, acls(partners=PARTNERS, **OTHERS), [small], apply=True)
    # The table's is there already, and an operator's other choice is never overwritten.
    assert report.added == ()
    assert all(name in report.differing[0] for name in names[:2])

    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000_000)
    builder.append(0, timestamp=time.time_ns() // 1_000_000, key=b"k", value=b"v" * 900_000, headers=[])
    record = bytes(builder.build())
    async with connected(everybody.as_user(user)) as send:
        for _ in range(200):
            told = await send(ProduceRequest(None, -1, 10_000, [("mypay.orders", [(0, record)])]))
            if told.throttle_time_ms:
                break
        else:
            pytest.fail("180 MB were taken without a pause")


async def test_where_nobody_is_asked_for_a_user_a_client_that_sends_too_much_is_made_to_wait(
    everybody: Secured,
) -> None:
    # Operations are under no quota of a user's.
    ops = replace(everybody.as_user("mypay-ops"), client_id="limited")
    await limit_clients(everybody.as_user("mypay-admin"), [Quota("limited", 1_000, 1_000_000, 50)])
    async with connected(ops) as send:
        produce = ProduceRequest(None, -1, 10_000, [("mypay.orders", [(0, batch())])])
        async with asyncio.timeout(60):
            while not (await send(produce)).throttle_time_ms:
                pass


# --- who is let in ----------------------------------------------------------------------------------------------------


async def refused(settings: KafkaSettings) -> bool:
    try:
        async with asyncio.timeout(60), connected(settings):
            return False
    except (KafkaError, ssl.SSLError, OSError, TimeoutError):
        return True


async def test_a_new_password_ends_the_old_one(everybody: Secured) -> None:
    before = everybody.as_user("mypay-finance")
    await renew_passwords(everybody.as_user("mypay-admin"), everybody.security.credentials, ["mypay-finance"])
    # The broker hears of it a moment after the controller has it.
    async with asyncio.timeout(60):
        while not await refused(before):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.1)
    assert not await refused(everybody.as_user("mypay-finance"))
    await renew_passwords(everybody.as_user("mypay-admin"), everybody.security.credentials, ["mypay-admin"])
    async with asyncio.timeout(60):
        while await refused(everybody.as_user("mypay-admin")):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.1)
    assert list(everybody.security.credentials.glob("*.new")) == []


async def test_a_certificate_says_who_one_is_as_a_password_does(everybody: Secured) -> None:
    for principal in ("mypay-relay", "mypay-partner-shop"):
        rights = allowed()[principal]
        async with connected(everybody.by_certificate(principal)) as send:
            await tries_topics(send, principal, rights)


async def test_nobody_comes_in_without_saying_who(everybody: Secured, tmp_path: Path) -> None:
    good = everybody.as_user("mypay-relay")
    assert not await refused(good)
    stranger = Secured(
        "x", "", local.KafkaSecurity(tmp_path / "tls" / "ca.crt", tmp_path / "credentials", "127.0.0.1:1")
    )
    secure.make(tmp_path)
    ways = {
        "wrong password": replace(good, password=SecretStr("wrong")),
        "another's password": replace(good, username="mypay-ops"),
        "no user": replace(good, username="nobody"),
        "no TLS": KafkaSettings(
            good.bootstrap_servers, "SASL_PLAINTEXT", username=good.username, password=good.password
        ),
        "nothing": KafkaSettings(good.bootstrap_servers),
        "no password, TLS": KafkaSettings(good.bootstrap_servers, "SSL", ssl_cafile=good.ssl_cafile),
        "no certificate": KafkaSettings(everybody.security.mutual, "SSL", ssl_cafile=good.ssl_cafile),
        "an unknown authority's broker": replace(good, ssl_cafile=stranger.security.cafile),
        "another authority's certificate": replace(
            stranger.by_certificate("mypay-ops"),
            bootstrap_servers=everybody.security.mutual,
            ssl_cafile=good.ssl_cafile,
        ),
    }
    assert {name for name, way in ways.items() if not await refused(way)} == set()
    told = {name: await KafkaProbe(way).problem(timeout_s=60) for name, way in ways.items()}
    assert told["wrong password"] == "the password of user mypay-relay is not accepted"
    assert "certificate is not trusted" in (told["an unknown authority's broker"] or "")
    assert await KafkaProbe(good).problem(timeout_s=60) is None
