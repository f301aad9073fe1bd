"""Whatever strangers send, searching it takes steps in proportion to its size, up to a bound."""

import importlib
import io
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any

import pytest

import gateway
from gateway.directory.merchant_files import read_merchants
from gateway.messaging.dead_letters import LetterKeys, dead_letter
from gateway.messaging.records import Record
from gateway.sealing.redaction import SCAN_CHARS_MAX, contains_secret, redact
from gateway.sealing.sealing import MasterKeys
from gateway.settlement.format import BAD_LINES_TOLD_MAX, scan

MEGABYTE = 1024 * 1024

WORST = (
    *("9", "1-", "4111111111111112a", "12345678901234567890x", "11111111111a", "123456789012x", '"d":', "-----BEGIN "),
    *("-----BEGIN PRIVATE KEY-----", "\\", "%25", "&amp;", "\\u0034", "%34", "&#52;", "\\x", "a:'", "cvv:'", "cvv:"),
    *(
        "://",
        "://:",
        "@://:",
        "a",
        "Basic ",
        "1" + " " * 64,
        "\u0664",
        "QUFB",
        "%EF%BC%94",
        '"',
        "=",
        "\n",
        "\x00",
        ",",
        "cvv:[",
        'pin={"',
        'pin=["\\"',
    ),
)


def steps(call: Callable[[], object]) -> int:
    """Lines of ours that run once tables that are made only once are there."""
    call()
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if "/gateway/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def filled(unit: str, size: int) -> str:
    return (unit * (size // len(unit.encode()) + 1)).encode()[:size].decode("utf-8", "ignore")


@pytest.mark.parametrize("unit", WORST)
def test_a_megabyte_is_decided_by_its_length(unit: str) -> None:
    data = filled(unit, MEGABYTE)
    assert steps(lambda: contains_secret(data.encode())) < 10
    record = Record("mypay.orders", 0, 1, 0, None, data.encode()[: MEGABYTE - 1000], ())
    keys = LetterKeys(MasterKeys({"1": bytes(32)}))
    # The same few lines whatever the record holds: what is too large is sealed and marked, not searched.
    assert steps(lambda: dead_letter("initiation", record, ValueError(), keys)) < 300
    # Of a text as much is searched as is shown, and a little behind it.
    assert steps(lambda: redact(data, chars_max=1000)) < 400_000


@pytest.mark.parametrize("unit", WORST)
def test_steps_grow_with_the_size_and_no_faster(unit: str) -> None:
    small, large = filled(unit, 2 * 1024), filled(unit, 8 * 1024)
    for search in (lambda t: contains_secret(t.encode()), redact):
        assert steps(lambda s=search: s(large)) <= 5 * steps(lambda s=search: s(small)) + 200  # type: ignore[misc]
    assert len(large) <= SCAN_CHARS_MAX


FILES = (
    "\n",
    ",",
    "D,",
    '"',
    "\x1a",
    " ",
    "x",
    "D,1,purchase,\n",
    "{",
    '{"merchant_id":"a"}\n',
    "\r\n",
    "\u00a0",
    "T,1,1\n",
)
HEADERS = (b"H,bcard,c,2026-01-01,2026-01-01T00:00:00+09:00\n", b"merchant_id,acceptor_id,name_location,mcc,networks\n")


@pytest.mark.parametrize("unit", FILES)
def test_files_of_strangers_are_read_in_steps_that_grow_with_them_and_no_faster(unit: str) -> None:
    def clearing(data: bytes) -> object:
        return scan(io.BytesIO(HEADERS[0] + data))

    def merchants(data: bytes) -> object:
        return read_merchants(HEADERS[1] + data)

    small, large = (filled(unit, size).encode() for size in (16 * 1024, 64 * 1024))
    for read in (clearing, merchants):
        assert steps(lambda r=read: r(large)) <= 5 * steps(lambda r=read: r(small)) + 200  # type: ignore[misc]
    # However many of its lines are none, a few of them are told.
    assert len(scan(io.BytesIO(HEADERS[0] + large)).bad) <= BAD_LINES_TOLD_MAX


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def unbounded(op: Any, args: Any) -> bool:
    return op in (_constants.MAX_REPEAT, _constants.MIN_REPEAT) and args[1] is _constants.MAXREPEAT


def backtracks(parsed: Any, *, inside: bool = False) -> bool:
    """True where an endless repetition stands in another one, or two of them stand side by side."""
    before = False
    for op, args in parsed:
        endless = unbounded(op, args)
        if endless and (inside or before):
            return True
        before = endless
        parts = args if isinstance(args, tuple | list) else ()
        inner = [p for p in parts if isinstance(p, _parser.SubPattern)]
        if op is _constants.BRANCH:
            inner = list(args[1])
        if any(backtracks(p, inside=inside or endless) for p in inner):
            return True
    return False


def test_the_check_of_patterns_knows_a_bad_one() -> None:
    assert backtracks(_parser.parse(r"(a+)+b"))
    assert backtracks(_parser.parse(r"a*a*b"))
    assert backtracks(_parser.parse(r"(?:x|(?:a*b?)*)c"))
    assert not backtracks(_parser.parse(r"a+b{0,64}(?:[^c]{1,9}c){11,}"))


def test_no_pattern_repeats_endlessly_inside_an_endless_repetition() -> None:
    found = dict(patterns())
    assert len(found) > 10
    assert [name for name, p in found.items() if backtracks(_parser.parse(p.pattern, p.flags))] == []
