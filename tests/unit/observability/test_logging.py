"""The way of every log line, libraries' too: redacted, cut, held back where it repeats itself, and one format."""

import asyncio
import logging
import sys
import threading
import warnings
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.observability.logging import REPEATS_MAX, TEXT_CHARS_MAX, RepeatFilter
from tests.support.logs import PAN, Logs, configured


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
