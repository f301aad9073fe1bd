"""What stages report: counters, gauges and hops as metrics, notes and steps as log lines."""

import ast
from collections import defaultdict
from uuid import NAMESPACE_DNS, UUID, uuid5

import pytest
from prometheus_client import CollectorRegistry, Histogram

from gateway.observability.metrics import HOP_SECONDS, LEVELS, SPANS
from gateway.observability.observer import LOGGED_FIELDS, PARTNERS_MAX, StageObserver
from gateway.observability.series import SERIES_MAX, Gauges
from gateway.sealing.redaction import redact
from tests.support.guides import ROOT
from tests.support.logs import PAN, Logs


def changes(registry: CollectorRegistry, state: str, reason: str = "") -> float | None:
    labels = {"stage": "execution", "network": "kcard", "state": state, "reason": reason}
    return registry.get_sample_value("mypay_payment_changes_total", labels)


def test_counts_add_up_by_what_was_reported(observer: StageObserver, registry: CollectorRegistry) -> None:
    assert changes(registry, "declined") == 0
    observer.count("execution", "declined", reason="AM04", n=3)
    observer.count("execution", "declined", reason="AM04")
    observer.count("execution", "declined", reason="51")
    observer.count("execution", "approved", n=0)
    observer.count("payment", "declined", reason="AM04")
    observer.count("payment", "rejected", reason="AC06", network="other")
    assert changes(registry, "declined", "AM04") == 4
    assert changes(registry, "declined", "51") == 1
    assert changes(registry, "approved") == 0
    of = {"state": "declined", "reason": "AM04", "network": "kcard"}
    assert registry.get_sample_value("mypay_payments_total", of) == 1
    of = {"state": "rejected", "reason": "AC06", "network": "other"}
    assert registry.get_sample_value("mypay_payments_total", of) == 1


def test_batches_spans_and_levels_are_in_base_units(observer: StageObserver, registry: CollectorRegistry) -> None:
    observer.batch("execution", size=300, seconds=0.02)
    observer.delay("order_to_result", 0.3)
    observer.level("network_open", 1)
    observer.level("network_open", 0)
    assert registry.get_sample_value("mypay_batch_size_sum", {"stage": "execution"}) == 300
    assert registry.get_sample_value("mypay_batch_seconds_bucket", {"stage": "execution", "le": "0.025"}) == 1
    assert registry.get_sample_value("mypay_batch_seconds_bucket", {"stage": "execution", "le": "0.01"}) == 0
    assert registry.get_sample_value("mypay_order_to_result_seconds_sum", {"network": "kcard"}) == 0.3
    assert registry.get_sample_value("mypay_network_open", {"network": "kcard"}) == 0


def test_a_batch_of_hops_counts_as_its_payments_one_by_one(
    observer: StageObserver, registry: CollectorRegistry
) -> None:
    alone = Histogram("alone", "One by one.", buckets=HOP_SECONDS.buckets, registry=registry)
    took = [0.0, 0.001, 0.0011, 0.02, 0.02, 59.0, 60.0, 61.0, 1e6, -0.5]
    observer.hops("intent_to_result", took)
    observer.hops("intent_to_result", [])
    observer.hops("change_to_event", [1.0])
    for one in took:
        alone.observe(one)
    hop = {"hop": "intent_to_result"}
    for bound in (*map(str, HOP_SECONDS.buckets), "+Inf"):
        told = registry.get_sample_value("mypay_hop_seconds_bucket", {**hop, "le": bound})
        assert told == registry.get_sample_value("alone_bucket", {"le": bound}), bound
    for what in ("sum", "count"):
        told = registry.get_sample_value(f"mypay_hop_seconds_{what}", hop)
        assert told == pytest.approx(registry.get_sample_value(f"alone_{what}"))


def test_a_batch_of_spans_counts_as_its_payments_one_by_one(
    observer: StageObserver, registry: CollectorRegistry
) -> None:
    took = [0.0, 0.01, 0.3, 0.3, 60.0, 86400.0, 1e6]
    observer.spans("order_to_result", took)
    observer.spans("order_to_result", [])
    for one in took:
        observer.delay("network_exchange", one)
    buckets = SPANS["order_to_result"].buckets
    for what in ("sum", "count", *(f"bucket {bound}" for bound in (*map(str, buckets), "+Inf"))):
        name, _, bound = what.partition(" ")
        labels = {"network": "kcard", **({"le": bound} if bound else {})}
        together, alone = (
            registry.get_sample_value(f"mypay_{span}_seconds_{name}", labels)
            for span in ("order_to_result", "network_exchange")
        )
        assert together == alone is not None, what


@pytest.mark.parametrize("label", ["a b", "안녕", "x" * 61, PAN + " 1", "{}", "a\nb"])
def test_a_label_that_is_no_name_is_counted_as_other(
    observer: StageObserver, registry: CollectorRegistry, label: str
) -> None:
    observer.count("execution", "declined", reason=label)
    observer.hops(label, [1.0])
    observer.level("network_link_up", 1.0, link=label)
    observer.batch(label, size=1, seconds=1.0)
    assert changes(registry, "declined", "other") == 1
    assert registry.get_sample_value("mypay_hop_seconds_count", {"hop": "other"}) == 1
    assert registry.get_sample_value("mypay_network_link_up", {"network": "kcard", "link": "other"}) == 1
    assert registry.get_sample_value("mypay_batch_size_count", {"stage": "other"}) == 1


@pytest.mark.parametrize(
    "label",
    ["<1d", "1-7d", "30d+", "127.0.0.1:8583#0", "mypay-initiation:waiting", "kr.mypay.payment-order.v1", "7-30d"],
)
def test_what_the_gateway_itself_calls_things_is_a_label(registry: CollectorRegistry, label: str) -> None:
    observer = StageObserver(registry, stage="schedule")
    observer.level("breaks_open", 1, network="bcard", kind="duplicate", age=label)
    told = registry.get_sample_value("mypay_breaks_open", {"network": "bcard", "kind": "duplicate", "age": label})
    assert told == 1


@pytest.mark.parametrize("name", ["never_heard_of", "안녕"])
def test_what_no_table_knows_is_counted_as_untold(
    observer: StageObserver, registry: CollectorRegistry, name: str
) -> None:
    observer.count(name, "x")
    observer.count("execution", name)
    observer.delay(name, 1.0)
    observer.level(name, 1.0)
    told = {
        s.labels["stage"]: s.value
        for f in registry.collect()
        for s in f.samples
        if s.name == "mypay_reports_untold_total"
    }
    stage = name if name.isascii() else "other"
    assert told == {"untold": 0, stage: 3, "execution": 1}


def test_series_are_bounded(observer: StageObserver, registry: CollectorRegistry) -> None:
    for n in range(SERIES_MAX + 50):
        for _ in range(2):
            observer.count("execution", "declined", reason=f"r{n}")
            observer.hops(f"h{n}", [1.0])
            observer.level("network_link_up", 1.0, link=f"l{n}")
            observer.batch(f"b{n}", size=1, seconds=1.0)
    for family in registry.collect():
        sets = {tuple(sorted(pair for pair in s.labels.items() if pair[0] != "le")) for s in family.samples}
        assert len(sets) <= SERIES_MAX + 1


def test_partners_are_counted_apart_and_those_beyond_the_bound_together(
    observer: StageObserver, registry: CollectorRegistry
) -> None:
    for number in range(PARTNERS_MAX + 5):
        observer.count("partner", "approved", reason=f"partner-{number}", n=2)
    observer.count("partner", "refused", reason="partner-0")
    observer.count("partner", "refused", reason=f"partner-{PARTNERS_MAX}")
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "mypay_partner_orders_total":
                found[sample.labels["partner"]][sample.labels["outcome"]] = sample.value
    assert len(found) == PARTNERS_MAX + 1
    assert found["partner-0"] == {"approved": 2, "refused": 1}
    assert found["other"] == {"approved": 10, "refused": 1}


def test_a_gauge_goes_when_its_source_is_away_or_says_so(registry: CollectorRegistry) -> None:
    now = [0.0]
    row = LEVELS["payments_open"]
    assert row.fresh_s is not None
    gauges = Gauges(row, monotonic=lambda: now[0])
    gauges.set(("sent", "kcard"), 3)
    gauges.set(("unknown", "kcard"), 1)
    gauges.ask(("reversing", "kcard"), lambda: None)
    now[0] = row.fresh_s
    gauges.set(("unknown", "kcard"), 2)
    assert [(s.labels["state"], s.value) for s in gauges.family().samples] == [("sent", 3), ("unknown", 2)]
    now[0] += 0.1
    assert [(s.labels["state"], s.value) for s in gauges.family().samples] == [("unknown", 2)]
    gauges.set(("unknown", "kcard"), None)
    assert gauges.family().samples == []


def test_a_note_carries_its_ids(observer: StageObserver, logs: Logs) -> None:
    payment_id = uuid5(NAMESPACE_DNS, "1")
    observer.note("incident", level="error", payment_id=payment_id, network_id="kcard", stan=123456, reason=None)
    [line] = logs.lines
    assert line.pop("timestamp")
    assert line == {
        "event": "incident",
        "level": "error",
        "process": "execution",
        "payment_id": str(payment_id),
        "network_id": "kcard",
        "stan": 123456,
    }


def test_unknown_fields_are_dropped_and_counted(
    observer: StageObserver, logs: Logs, registry: CollectorRegistry
) -> None:
    observer.note("x", customer_name="Kim", pan=PAN, payee="secret", partner_id="acme")
    assert "Kim" not in logs.text
    assert PAN not in logs.text
    assert "secret" not in logs.text
    assert logs.lines[0]["partner_id"] == "acme"
    assert registry.get_sample_value("mypay_log_fields_dropped_total") == 1


def test_every_field_that_is_noted_is_one_that_may_be_logged() -> None:
    dropped = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {keyword.arg}"
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and "observer" in ast.unparse(call.func).rpartition(".")[0].lower()
        for keyword in call.keywords
        if isinstance(call.func, ast.Attribute) and call.func.attr in {"note", "step"}
        if keyword.arg not in {None, "level", "routine"} and keyword.arg not in LOGGED_FIELDS
    ]
    assert not dropped


def test_no_field_for_personal_data_is_known() -> None:
    assert not LOGGED_FIELDS & {
        "pan",
        "card",
        "funding_token",
        "customer_id",
        "body",
        "value",
        "headers",
        "name",
        "key",
    }


def test_card_numbers_in_known_fields_are_masked(observer: StageObserver, logs: Logs) -> None:
    observer.note("x", order_id=PAN, reference="4111 1111 1111 1111", stan=int(PAN))
    assert PAN not in logs.text
    assert logs.lines[0]["order_id"] == "411111XXXXXX1111"
    assert logs.lines[0]["stan"] == "411111XXXXXX1111"


def test_payment_ids_are_always_shown_whole(observer: StageObserver, logs: Logs) -> None:
    ids = [uuid5(NAMESPACE_DNS, str(n)) for n in range(400)]
    assert any(redact(str(i)) != str(i) for i in ids)
    for payment_id in ids:
        observer.note("x", payment_id=payment_id)
    assert [line["payment_id"] for line in logs.lines] == [str(i) for i in ids]


def test_only_our_own_kind_of_id_is_spared(observer: StageObserver, logs: Logs) -> None:
    spelt = UUID("41111111-1111-1111-9000-000000000000")
    assert redact(str(spelt)) != str(spelt)
    observer.note("x", payment_id=spelt, order_id=str(spelt))
    assert "41111111-1111-1111" not in logs.text


def test_addresses_of_hosts_are_always_shown_whole(observer: StageObserver, logs: Logs) -> None:
    links = [f"{host}:{port}#0" for host in ("127.0.0.1", "10.250.199.209") for port in range(30_000, 30_100)]
    assert sum(redact(link) != link for link in links) > 10
    for link in links:
        observer.note("link", link=link, address=f"{link[:-2]}/mypay")
    assert [line["link"] for line in logs.lines] == links
    assert [line["address"] for line in logs.lines] == [f"{link[:-2]}/mypay" for link in links]


@pytest.mark.parametrize(
    "spelt",
    [
        PAN,
        "4111.1111.1111.1111",
        "4111.1111.1111.1111:1#0",
        "4111:1111:1111:1111#0",
        "[4111:1111:1111:1111::]:1#0",
        "127.0.0.1:4111111111111111#0",
        "127.0.0.1:8583#4111111111111111",
        "127.0.0.1:8583/4111111111111111",
        "041.111.111.111:11111#11",
    ],
)
def test_no_card_number_passes_as_an_address(observer: StageObserver, logs: Logs, spelt: str) -> None:
    observer.note("link", link=spelt, address=spelt, reason="127.0.0.1:8583#0")
    assert {logs.lines[0]["link"], logs.lines[0]["address"]} == {redact(spelt)} != {spelt}
    # Somebody else's text is none of ours, however it looks.
    observer.note("x", order_id="41.111.111.111:11111#11")
    assert logs.lines[1]["order_id"] != "41.111.111.111:11111#11"


@pytest.mark.parametrize("every", [False, True])
def test_routine_steps_are_logged_where_every_step_is_asked_for(
    registry: CollectorRegistry, logs: Logs, *, every: bool
) -> None:
    observer = StageObserver(registry, stage="execution", every_step=every)
    payment_id = uuid5(NAMESPACE_DNS, "1")
    observer.step("payment_unknown", routine=False, payment_id=payment_id, partner_id="acme", network_id="kcard")
    observer.step("payment_approved", routine=True, payment_id=payment_id)
    assert [line["event"] for line in logs.lines] == ["payment_unknown", *(["payment_approved"] if every else [])]
    line = logs.lines[0]
    assert (line["payment_id"], line["partner_id"], line["network_id"]) == (str(payment_id), "acme", "kcard")
    assert (line["level"], line["process"]) == ("info", "execution")


def test_an_unknown_level_is_an_error(observer: StageObserver, logs: Logs) -> None:
    observer.note("x", level="loud")
    assert logs.lines[0]["level"] == "error"
