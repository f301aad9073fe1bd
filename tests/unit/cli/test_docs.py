"""The guides say what is so: their tables, the commands and settings that they name, the files that they point to."""

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.core import TyperGroup

from gateway.app.settings import OTHER_VARIABLES, Settings
from gateway.app.state_gauges import STATE_LABELS
from gateway.cli import program
from gateway.cli.docs import PAGES
from gateway.cli.docs.docstrings import UntoldError, attribute_docs, headings, markdown
from gateway.cli.docs.monitoring import FILES
from gateway.cli.docs.pages import MarkerError, dead_ends, filled, tables_in
from gateway.cli.docs.tables import TABLES, settings
from gateway.database.roles import Role as DatabaseRole
from gateway.observability.metric import ANY_STAGE, CounterMetric, Kind
from gateway.observability.metrics import COUNTED, HOPS, LEVELS, METRICS, SPANS
from schemas.assertions import Link
from schemas.codec import decode
from schemas.standing import STANDING_CANCEL_TYPE
from schemas.topics import TOPICS
from tests.support.cli import mypay
from tests.support.guides import ROOT, Block, blocks

TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_tables_are_what_the_code_says() -> None:
    assert {page: filled(text, TABLES) for page, text in TEXTS.items()} == TEXTS
    assert sorted(TABLES) == sorted(table for text in TEXTS.values() for table in tables_in(text))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for page, text in {**TEXTS, **{file: made() for file, made in FILES.items()}}.items():
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_table_that_was_changed_by_hand_is_found_and_written_anew(copied: Path) -> None:
    page = copied / "schemas/README.md"
    page.write_text(TEXTS["schemas/README.md"].replace("InsufficientFunds", "EnoughFunds"), encoding="utf-8")
    found = mypay("docs", "check", "--directory", copied, "--json").expect(1)
    assert found.json["drift"] == ["schemas/README.md"]
    assert found.json["missing"] == []
    assert mypay("docs", "generate", "--directory", copied, "--json").expect().json == {
        "written": ["schemas/README.md"]
    }
    assert page.read_text(encoding="utf-8") == TEXTS["schemas/README.md"]
    assert mypay("docs", "check", "--directory", copied, "--json").json["drift"] == []


def test_a_link_that_leads_nowhere_fails_the_check(copied: Path) -> None:
    told = mypay("docs", "check", "--directory", copied).expect(1).err
    assert "points to what is not there: " in told
    assert "gateway/app/" in told
    assert mypay("docs", "check").expect().err.endswith("files are what the code says.\n")


def test_a_table_that_is_in_no_guide_is_found(copied: Path) -> None:
    page = copied / "schemas/README.md"
    page.write_text(TEXTS["schemas/README.md"].replace("generated: reasons", "generated: topics"), encoding="utf-8")
    assert mypay("docs", "check", "--directory", copied, "--json").expect(1).json["missing"] == ["reasons"]


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- generated: nothing -->\n<!-- end -->\n", "there is no table nothing"),
        ("<!-- generated: topics -->\n", "no <!-- end -->"),
        ("<!-- generated: topics -->\n<!-- generated: topics -->\n<!-- end -->\n", "no <!-- end -->"),
    ],
)
def test_a_marker_that_cannot_be_followed_is_told(page: str, told: str) -> None:
    with pytest.raises(MarkerError, match=re.escape(told)):
        filled(page, TABLES)


def test_text_around_a_table_stays() -> None:
    tables: Mapping[str, Callable[[], str]] = {"one": lambda: "| 1 |"}
    once = filled("before\n<!-- generated: one -->\nold\n<!-- end -->\nafter\n", tables)
    assert once == "before\n<!-- generated: one -->\n\n| 1 |\n\n<!-- end -->\nafter\n"
    assert filled(once, tables) == once


def test_every_setting_is_told_once_with_its_default_and_its_choices() -> None:
    rows = [line for line in settings().splitlines() if line.startswith("| `MYPAY_")]
    names = [line.split("`")[1] for line in rows]
    assert sorted(names) == sorted([*(f"MYPAY_{n.upper()}" for n in Settings.model_fields), *OTHER_VARIABLES])
    (level,) = (line for line in rows if "MYPAY_LOG_LEVEL" in line)
    assert "| `info` |" in level
    assert "`debug`, `info`, `warning`, `error`" in level


class Sample:
    """Has texts.

    Attributes are told below themselves.
    """

    # --- first ---
    one: int = 1
    """One, see :class:`gateway.base.Clock` and ``two``:
    a | b."""
    # --- second ---
    two: int = 2
    three = 3
    """Three."""


class Narrower(Sample):
    three = 4
    """Four."""


def test_texts_under_attributes_are_read() -> None:
    assert markdown(":class:`a.B` |") == "`B` \\|"
    assert headings(Sample) == {"one": "first", "two": "second", "three": "second"}
    # Classes of other packages than ours say nothing here: dataclasses and models have bases of libraries.
    assert attribute_docs(Narrower) == {}


def test_an_attribute_without_a_text_is_told() -> None:
    docs = attribute_docs(Settings)
    assert docs["log_level"] == "Lines below it are left out."
    with pytest.raises(UntoldError, match=r"gateway\.app\.settings\.Settings\.model_config has no text"):
        docs["model_config"]


# --- metrics ----------------------------------------------------------------------------------------------------------


@cache
def calls() -> list[ast.Call]:
    files = [f for folder in ("gateway", "streams") for f in (ROOT / folder).rglob("*.py")]
    texts = [f.read_text(encoding="utf-8") for f in files if not f.is_relative_to(ROOT / "gateway/proving")]
    modules = [ast.parse(text) for text in texts if "bserver" in text]
    return [node for module in modules for node in ast.walk(module) if isinstance(node, ast.Call)]


def reported(method: str) -> Iterator[tuple[ast.expr, ...]]:
    """The arguments of every call of an observer's method, and of names that stand for it."""
    for node in calls():
        match node.func:
            case ast.Attribute(attr=name, value=owner) if name == method and "observer" in ast.unparse(owner):
                yield tuple(node.args)
            case ast.Name(id=name) if name == method and len(node.args) > 1:
                yield tuple(node.args)


def shape(expression: ast.expr) -> re.Pattern[str] | None:
    """What a name may be as far as the source says it; None where it says nothing."""
    match expression:
        case ast.Constant(value=str(text)):
            return re.compile(re.escape(text))
        case ast.JoinedStr(values=parts):
            return re.compile("".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in parts))
        case _:
            return None


@pytest.mark.parametrize(
    ("methods", "told"),
    [(["level", "read_at_scrape"], LEVELS), (["delay", "spans"], SPANS), (["hops"], HOPS)],
    ids=["level", "span", "hop"],
)
def test_every_level_span_and_hop_that_is_reported_is_told_and_no_other(
    methods: Sequence[str], told: Mapping[str, str]
) -> None:
    # One call tells whatever the database's view has.
    shapes = [
        shape(told_name)
        for method in methods
        for arguments in reported(method)
        for told_name in (map(ast.Constant, STATE_LABELS) if ast.unparse(arguments[0]) == "gauge" else arguments[:1])
    ]
    assert len(shapes) >= len(HOPS)
    assert None not in shapes
    known = [s for s in shapes if s is not None]
    assert [s.pattern for s in known if not any(s.fullmatch(name) for name in told)] == []
    assert [name for name in told if not any(s.fullmatch(name) for s in known)] == []


def test_every_outcome_that_is_counted_is_told() -> None:
    everybodys = {outcome for stage, outcome in COUNTED if stage == ANY_STAGE}
    anyones = {outcome for _, outcome in COUNTED}
    untold: list[str] = []
    looked_at = 0
    for arguments in reported("count"):
        stage, outcome = (arguments[0], shape(arguments[1])) if len(arguments) > 1 else (None, None)
        if outcome is None:
            continue
        looked_at += 1
        match stage:
            case ast.Constant(value=str(name)) if name != "log":
                told = {outcome for stage, outcome in COUNTED if stage == name} | everybodys
            case _:
                told = anyones
        if not any(outcome.fullmatch(name) for name in told):
            untold.append(f"{ast.unparse(stage)}: {ast.unparse(arguments[1])}" if stage else "")
    assert untold == []
    assert looked_at > 60


def test_every_metric_has_a_text() -> None:
    texts = [
        *(metric.help for metric in METRICS),
        *(
            text
            for row in METRICS
            if isinstance(row, CounterMetric)
            for o in row.outcomes.values()
            for text in o.values()
        ),
        *(text for row in METRICS if not isinstance(row, CounterMetric) for text in row.labels.values()),
    ]
    assert [text for text in texts if not text.endswith(".")] == []


def test_every_metric_that_a_guide_names_is_one() -> None:
    served = {m.name for m in METRICS}
    served |= {f"{m.name}_{part}" for m in METRICS if m.kind is Kind.HISTOGRAM for part in ("bucket", "sum", "count")}
    users = {f"mypay_{role}" for role in (*(r.value for r in DatabaseRole), "owner", "link")}
    named = {(page, name) for page, text in TEXTS.items() for name in re.findall(r"\bmypay_[a-z_]+\b", text)}
    assert len(named) > 20
    assert {(page, name) for page, name in named if name not in served | users} == set()


# --- what is pointed to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_are_named_are_there(page: str) -> None:
    assert dead_ends(page, TEXTS[page], ROOT) == []


@pytest.mark.parametrize(
    ("text", "nowhere"),
    [
        ("[a](other.md)", ["other.md"]),
        ("[a](../README.md#no-such-title)", ["../README.md#no-such-title"]),
        ("[a](#no-such-title)", ["#no-such-title"]),
        ("`gateway/domain/limits.py` and `tests/unit`", ["gateway/domain/limits.py"]),
        ("# It's a title\n[a](#its-a-title) [b](README.md) [c](https://example.org/x) `var/x.pem`", []),
    ],
)
def test_what_leads_nowhere_is_found(text: str, nowhere: list[str]) -> None:
    assert dead_ends("deploy/README.md", text, ROOT) == nowhere


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    known = {*(f"MYPAY_{name.upper()}" for name in Settings.model_fields), *OTHER_VARIABLES}
    assert set(re.findall(r"MYPAY_[A-Z_]*[A-Z]", TEXTS[page])) <= known


def test_the_picture_of_the_rooms_is_what_the_import_rules_say() -> None:
    picture = next(b.text for b in blocks("ARCHITECTURE.md") if b.text.startswith("streams  "))
    drawn = [re.split(r" · ", re.split(r"  +", line.strip())[0]) for line in picture.splitlines() if line[:2] == "  "]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (rooms,) = (c["layers"] for c in contracts if c["name"] == "Rooms inside the gateway")
    assert drawn == [[r.strip(" ()").removeprefix("gateway.") for r in line.split("|")] for line in rooms]


def test_tests_that_are_named_exist() -> None:
    doors = TEXTS["ARCHITECTURE.md"].partition("## Doors")[2].partition("## Tests")[0]
    rows = [
        line.strip("|").split("|") for line in doors.splitlines() if line.startswith("| ") and "| test |" not in line
    ]
    named = {name.strip() for row in rows for name in re.sub("mutants? ?`[^`]*`", "", row[-1]).split(",")}
    files = [f.with_name(f.stem.removeprefix("test_")) for f in (ROOT / "tests").rglob("test_*.py")]
    known = {"/".join(f.parts[-depth:]) for f in files for depth in (1, 2)}
    assert len(named) > 40
    assert named - known - {"", "worlds", "mutant"} == set()


# --- commands ---------------------------------------------------------------------------------------------------------


INLINE = re.compile(r"`(mypay [^`]+)`")


def commands(page: str) -> Iterator[str]:
    """Every command that a page names, in blocks and in text; ``a | b`` in text are two."""
    for block in blocks(page):
        if block.language == "sh":
            text = re.sub(r"\\\n\s*", " ", block.text)
            yield from re.findall(r"(?:^|[\s(])(mypay [^|&;>)#<\n]*)", text)
    for line in INLINE.findall(re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)):
        first, *others = line.split(" | ")
        yield first
        known = known_words(first)
        yield from (f"{known.rpartition(' ')[0]} {other}" for other in others)


def known_words(command: str) -> str:
    """The part of a command that names it."""
    words, node = ["mypay"], loaded(program())
    for word in command.split()[1:]:
        if not isinstance(node, TyperGroup) or word not in node.commands:
            break
        words.append(word)
        node = loaded(node.commands[word])
    return " ".join(words)


def loaded(node: Any) -> Any:
    return node._load() if hasattr(node, "_load") else node


def problem(command: str) -> str:
    """What is wrong with a command: no such name, or no such option; empty if nothing."""
    node = loaded(program())
    for word in shlex.split(command.replace("…", "").replace("'", ""))[1:]:
        if word.startswith("--"):
            options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options | {"--help", "--json"}:
                return f"{command}: no option {word}"
        elif isinstance(node, TyperGroup):
            if word not in node.commands:
                return f"{command}: no command {word}"
            node = loaded(node.commands[word])
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_named_exist(page: str) -> None:
    assert [told for command in commands(page) if (told := problem(command))] == []


def test_a_command_that_is_none_is_found() -> None:
    assert "no command dance" in problem("mypay consent dance C-1")
    assert "no option --loudly" in problem("mypay consent list --loudly")
    assert problem("mypay consent show C-1 --partner shop-pay") == ""
    assert known_words("mypay consent list --json") == "mypay consent list"
    assert sum(1 for page in PAGES for _ in commands(page)) > 100


# --- blocks -----------------------------------------------------------------------------------------------------------


BODIES = [b for page in PAGES for b in blocks(page) if b.language == "json"]
MODELS = {type_: model for topic in TOPICS for type_, model in topic.messages.items()}


@pytest.mark.parametrize("block", BODIES, ids=str)
def test_bodies_are_what_the_contract_takes(block: Block) -> None:
    if block.mark == "link":
        TypeAdapter(Link).validate_json(block.text)
    else:
        decode(MODELS[block.mark.removeprefix("body: ")], block.text.encode())


def test_every_kind_of_message_on_the_orders_topic_but_the_shortest_has_an_example() -> None:
    shown = {b.mark.removeprefix("body: ") for b in BODIES}
    assert set(next(t for t in TOPICS if t.name == "mypay.orders").messages) - shown == {STANDING_CANCEL_TYPE}
