import asyncio
import contextlib
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

import aiohttp
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.app.state_gauges import BREAK_AGES
from gateway.observability.health import Health, Watchdog, run_checks
from gateway.observability.logging import REPEATS_MAX, TEXT_CHARS_MAX, RepeatFilter, configure_logging
from gateway.observability.metrics import HOP_SECONDS, LEVELS, SPANS
from gateway.observability.observer import LOGGED_FIELDS, StageObserver
from gateway.observability.series import SERIES_MAX, Gauges
from gateway.observability.web import MetricsServer
from gateway.sealing.redaction import redact

PAN = "4111111111111111"


class Logs:
    """What goes to standard output."""

    def __init__(self) -> None:
        self.output = io.StringIO()

    def configure(self, **arguments: Any) -> None:
        with contextlib.redirect_stdout(self.output):
            configure_logging(redact=redact, **arguments)

    @property
    def text(self) -> str:
        return self.output.getvalue()

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@contextlib.contextmanager
def configured() -> Iterator[Logs]:
    root = logging.getLogger()
    before = root.handlers, root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions
    logs = Logs()
    logs.configure()
    try:
        yield logs
    finally:
        root.handlers, root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


@pytest.fixture
def logs() -> Iterator[Logs]:
    with configured() as found:
        yield found


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry, logs: Logs) -> StageObserver:
    return StageObserver(registry, stage="execution", network="kcard")


def changes(registry: CollectorRegistry, state: str, reason: str = "") -> float | None:
    labels = {"stage": "execution", "network": "kcard", "state": state, "reason": reason}
    return registry.get_sample_value("mypay_payment_changes_total", labels)


# --- metrics ----------------------------------------------------------------------------------------------------------


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
    "label", [*BREAK_AGES, "127.0.0.1:8583#0", "mypay-initiation:waiting", "kr.mypay.payment-order.v1", "7-30d"]
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


# --- notes ------------------------------------------------------------------------------------------------------------


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


# --- the pipeline -----------------------------------------------------------------------------------------------------


def test_libraries_go_through_the_same_pipeline(logs: Logs) -> None:
    logging.getLogger("aiokafka.client").warning("broker said %s", PAN)
    logging.getLogger("asyncpg").info("not heard")
    [line] = logs.lines
    assert (line["logger"], line["event"], line["level"]) == (
        "aiokafka.client",
        "broker said 411111XXXXXX1111",
        "warning",
    )


@pytest.mark.parametrize("own", [True, False])
def test_exceptions_show_class_and_place_alone(logs: Logs, *, own: bool) -> None:
    def fail() -> None:
        raise KeyError("row of customer Kim")

    try:
        fail()
    except KeyError:
        if own:
            structlog.get_logger().exception("failed")
        else:
            logging.getLogger("aiokafka").exception("failed", stack_info=True)
    assert "Kim" not in logs.text
    assert "most recent call last" not in logs.text
    assert logs.lines[0]["error"] == "KeyError"
    assert str(logs.lines[0]["at"]).startswith(f"{__name__}:")


@dataclass
class Holder:
    secret: str = "hush"


def test_objects_show_their_class_alone_and_containers_are_searched(logs: Logs) -> None:
    nested: dict[str, object] = {"a": [PAN, {"b": (PAN, 1)}], PAN: Holder()}
    structlog.get_logger().info(
        "x", holder=Holder(), nested=nested, error=ValueError("hush"), data=b"hush", deep=[[[[[1]]]]]
    )
    assert PAN not in logs.text
    assert "hush" not in logs.text
    line = logs.lines[0]
    assert (line["holder"], line["data"], line["error"]) == ("<Holder>", "<bytes>", "<ValueError>")
    assert line["nested"] == {"a": ["411111XXXXXX1111", {"b": ["411111XXXXXX1111", 1]}], "411111XXXXXX1111": "<Holder>"}


@given(st.text(), st.text())
def test_no_text_carries_a_card_number_out(before: str, after: str) -> None:
    with configured() as logs:
        logging.getLogger("mypay").error("%s%s%s", before, PAN, after)
        structlog.get_logger().error(f"{before}{PAN}{after}", order_id=f"{before}{PAN}{after}")
    assert PAN not in logs.text
    assert len(logs.lines) == 2


def test_long_texts_are_cut(logs: Logs) -> None:
    structlog.get_logger().info("x", text="y" * 100_000)
    assert logs.lines[0]["text"] == "y" * TEXT_CHARS_MAX


def test_uncaught_exceptions_and_warnings_are_logged_not_printed(
    logs: Logs, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.excepthook(ValueError, ValueError(PAN), None)
    thread = threading.Thread(target=lambda: int("hush"))
    thread.start()
    thread.join()
    warnings.warn(f"odd {PAN}", stacklevel=1)
    assert capsys.readouterr().err == ""
    assert PAN not in logs.text
    assert "hush" not in logs.text
    assert [(line["event"], line.get("error")) for line in logs.lines[:2]] == [
        ("uncaught", "ValueError"),
        ("uncaught", "ValueError"),
    ]
    assert "odd 411111XXXXXX1111" in str(logs.lines[2]["event"])


def test_a_thread_that_is_cancelled_as_the_process_stops_is_no_error(logs: Logs) -> None:
    def wait_for_a_broker() -> None:
        raise asyncio.CancelledError

    thread = threading.Thread(target=wait_for_a_broker)
    thread.start()
    thread.join()
    assert [(line["event"], line["level"]) for line in logs.lines] == [("thread_cancelled", "info")]


def test_a_wrong_log_call_prints_nothing(logs: Logs, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("aiokafka").warning("%d", "hush")
    assert capsys.readouterr().err == ""
    assert "hush" not in logs.text


def test_debug_lines_of_libraries_stay_unheard_at_every_level(logs: Logs) -> None:
    logs.configure(level="debug")
    structlog.get_logger().debug("ours")
    logging.getLogger("aiokafka.producer.producer").debug("Sending (key=%s value=%s)", "k", "hush")
    assert [line["event"] for line in logs.lines] == ["ours"]


def test_console_format_is_redacted_too(logs: Logs) -> None:
    logs.configure(fmt="console")
    structlog.get_logger().info("for people", order_id=PAN)
    assert "for people" in logs.text
    assert "411111XXXXXX1111" in logs.text
    assert PAN not in logs.text


def test_a_librarys_error_is_a_warning_to_us_and_asyncios_is_one(logs: Logs) -> None:
    for name in ("aiokafka.client", "mode.services", "asyncio", "process"):
        logging.getLogger(name).error("x")
    assert {line["logger"]: line["level"] for line in logs.lines} == {
        "aiokafka.client": "warning",
        "mode.services": "warning",
        "asyncio": "error",
        "process": "error",
    }


# --- repeats ----------------------------------------------------------------------------------------------------------


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, message, arguments, None)


def test_a_library_that_repeats_itself_is_held_back_and_told_of() -> None:
    now = [0.0]
    repeats = RepeatFilter(frozenset({"aiokafka"}), monotonic=lambda: now[0])
    passed = [repeats.filter(record("aiokafka.client", "lost %s", n)) for n in range(100)]
    assert passed.count(True) == REPEATS_MAX
    assert repeats.filter(record("aiokafka.client", "something else"))
    now[0] = 10.0
    later = record("aiokafka.client", "lost %s", 1)
    assert repeats.filter(later)
    assert later.getMessage() == "lost 1 (90 more like this were held back)"


def test_our_own_lines_are_never_held_back() -> None:
    repeats = RepeatFilter(frozenset({"aiokafka"}))
    assert all(repeats.filter(record("gateway", "same")) for _ in range(100))


# --- health -----------------------------------------------------------------------------------------------------------


async def well() -> str | None:
    return None


async def unwell() -> str | None:
    return "no answer"


async def hangs() -> str | None:
    await asyncio.Event().wait()
    return None


async def raises() -> str | None:
    raise OSError(PAN)


async def test_every_check_gets_a_word_whatever_it_does() -> None:
    checks = {"a": well, "b": unwell, "c": hangs, "d": raises}
    words = await run_checks(checks, timeout_s=0.01)
    assert words == {"a": "ok", "b": "no answer", "c": "no word within 0.01 s", "d": "failed: OSError"}


async def test_pages(observer: StageObserver, registry: CollectorRegistry) -> None:
    observer.count("execution", "approved", n=2)
    health = Health(liveness={"progress": well}, readiness={"postgres": well, "kafka": unwell})
    server = MetricsServer(host="127.0.0.1", port=0, registry=registry, health=health)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            async with session.get("/healthz") as answer:
                assert (answer.status, await answer.json()) == (200, {"ok": True, "checks": {"progress": "ok"}})
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.json()) == (
                    503,
                    {"ok": False, "checks": {"postgres": "ok", "kafka": "no answer"}},
                )
            async with session.get("/metrics") as answer:
                assert answer.content_type == "text/plain"
                families = {f.name for f in text_string_to_metric_families(await answer.text())}
                assert "mypay_payments" in families
            async with session.get("/else") as answer:
                assert answer.status == 404
    finally:
        await server.stop()
        await server.stop()


async def test_two_servers_cannot_have_one_port(registry: CollectorRegistry) -> None:
    first = MetricsServer(host="127.0.0.1", port=0, registry=registry, health=Health())
    await first.start()
    second = MetricsServer(host="127.0.0.1", port=first.port, registry=registry, health=Health())
    try:
        with pytest.raises(OSError, match="address"):
            await second.start()
    finally:
        await second.stop()
        await first.stop()


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.waiting = 0
        self.watchdog = Watchdog(stall_after_s=30, waiting=self.lag, monotonic=lambda: self.now)

    async def lag(self) -> int:
        return self.waiting


async def test_a_stage_that_stands_still_with_work_waiting_is_told() -> None:
    stage = Stage()
    stage.waiting = 5
    stage.now = 29.9
    assert await stage.watchdog.check() is None
    stage.now = 30.0
    assert await stage.watchdog.check() == "no progress for 30 s with work waiting"
    stage.watchdog.progress()
    assert await stage.watchdog.check() is None


async def test_an_idle_stage_is_well_and_its_clock_starts_with_the_work() -> None:
    stage = Stage()
    for stage.now in (100.0, 200.0, 300.0):
        assert await stage.watchdog.check() is None
    stage.waiting = 1
    stage.now = 329.0
    assert await stage.watchdog.check() is None
    stage.now = 330.0
    assert await stage.watchdog.check() is not None
