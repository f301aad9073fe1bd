"""The tables of the guides, made from the code: a name, and what renders it as Markdown."""

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import time, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretStr

from gateway.app.settings import OTHER_VARIABLES, Settings
from gateway.cli.docs.docstrings import attribute_docs, headings, markdown
from gateway.network.iso8583.base import Section
from gateway.network.iso8583.config import Address, NetworkConfig
from gateway.observability.alert_faults import FAULTS
from gateway.observability.alerts import ALERTS, OBJECTIVES
from gateway.observability.metric import ANY, ANY_STAGE, CounterMetric, GaugeMetric, HistogramMetric, Metric, Source
from gateway.observability.metrics import METRICS, STAGES_OF, known_reports
from gateway.payments.rules.lifecycle import EVENT_TYPE, STATUS
from gateway.portability.api.rules.codes import CODES_VERSION, MESSAGES, RspCode
from schemas.events import EventType
from schemas.principals import ADMIN, FAMILIES, PREFIX, Role
from schemas.publish import schema_file
from schemas.reasons import PaymentStatus, ReasonCode
from schemas.topics import FOR_EVER, TOPICS, Topic

_STATUS_OF: Final = {EVENT_TYPE[state]: status for state, status in STATUS.items()}
_DAY: Final = timedelta(days=1) // timedelta(milliseconds=1)


def messages() -> str:
    """What partners send, by CloudEvents type."""
    rows = [
        (f"`{type_}`", f"`{topic.name}`", _schema(model), _summary(model))
        for topic in TOPICS
        if Role.PARTNER in topic.writers
        for type_, model in topic.messages.items()
    ]
    return _table(("`ce_type`", "topic", "schema", "what it asks for"), rows)


def events() -> str:
    """What a partner is told, by CloudEvents type."""
    docs = attribute_docs(EventType)
    (told,) = (topic for topic in TOPICS if Role.PARTNER in topic.readers and not topic.compacted)
    rows = [
        (f"`{type_}`", _told_status(EventType(type_)), _schema(model), docs[EventType(type_).name])
        for type_, model in told.messages.items()
    ]
    return _table(("`ce_type`", "ISO 20022", "schema", "meaning"), rows)


def reasons() -> str:
    """Every reason code: its official name, and what it means here."""
    return _table(("code", "ISO 20022 name", "meaning"), _coded(ReasonCode))


def statuses() -> str:
    """Every status of a payment."""
    return _table(("status", "ISO 20022 name", "meaning"), _coded(PaymentStatus))


def rsp_codes() -> str:
    """Every ``rsp_code`` of the portability API."""
    docs = attribute_docs(RspCode)
    rows = [(f"`{code.value}`", MESSAGES[code], docs[code.name]) for code in RspCode]
    return _table((f"`rsp_code` ({CODES_VERSION})", "`rsp_msg`", "meaning"), rows)


def topics() -> str:
    """Every topic."""
    head = ("topic", "what is on it", "record key", "written by", "read by", "partitions", "kept")
    return _table(head, map(_topic, TOPICS))


def principals() -> str:
    """Who speaks to Kafka, and which topics are whose."""

    def named(topics: Iterable[Topic]) -> str:
        return ", ".join(f"`{t.name}`" for t in topics)

    rows = [
        (
            f"`{PREFIX}{role}{f'-{{{FAMILIES[role]}}}' if role in FAMILIES else ''}`",
            named(t for t in TOPICS if role in t.writers),
            named(t for t in TOPICS if role in t.readers),
            _BESIDES.get(role, ""),
        )
        for role in Role
    ]
    rows.append((f"`{ADMIN}`", "", "", "makes users, rules and quotas: a super user of the brokers, in no rule"))
    return _table(("principal", "writes", "reads", "besides"), rows)


_BESIDES: Final[Mapping[Role, str]] = {
    Role.PARTNER: "may produce in transactions; has a quota",
    Role.RECIPIENT: "has a quota",
    Role.AFFILIATE: "has a quota",
    Role.INITIATION: "sees how far execution is behind",
    Role.SCHEDULE: "sees how far execution is behind",
    Role.DISCLOSURE: "looks whether the brokers answer: the relay tells its roots",
    Role.OPS: "makes topics; sees rules, quotas and groups",
}


def settings() -> str:
    """Every setting, a table a group."""
    docs, groups = attribute_docs(Settings), headings(Settings)
    found: dict[str, list[Sequence[str]]] = {}
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{_plain(field.default)}`"
        row = f"`MYPAY_{name.upper()}`", default, _with_choices(docs[name], field.annotation)
        found.setdefault(groups.get(name, "all"), []).append(row)
    found["read by single commands"] = [(f"`{n}`", "", f"`1`: {text}.") for n, text in OTHER_VARIABLES.items()]
    head = ("variable", "default", "meaning")
    return "\n\n".join(f"**{group[0].upper()}{group[1:]}**\n\n{_table(head, rows)}" for group, rows in found.items())


def network() -> str:
    """Every key of a network's file."""
    return _table(("key", "value", "default", "meaning"), _keys(NetworkConfig, ""))


def metrics() -> str:
    """Every metric."""
    rows = [(f"`{m.name}`", m.kind.value, m.unit, _labels(m), _served_by(m), m.help) for m in METRICS]
    return _table(("metric", "type", "unit", "labels", "served by", "what it is"), rows)


def counted() -> str:
    """What the counters count, by the values of their labels."""
    rows = [
        (f"`{row.name}`", _series(row, stage, outcome), text)
        for row in METRICS
        if isinstance(row, CounterMetric)
        for stage, outcomes in row.outcomes.items()
        for outcome, text in outcomes.items()
        if _series(row, stage, outcome)
    ]
    return _table(("metric", "series", "what it counts"), rows)


def alerts() -> str:
    """Every alert."""
    rows = [(f"[{a.name}](runbooks/{a.runbook})", a.severity.value, _lasting(a.for_s), a.summary) for a in ALERTS]
    return _table(("alert", "severity", "for", "what is wrong"), rows)


def faults() -> str:
    """By which fault each alert was seen to fire."""
    rows = []
    for name, told in FAULTS.items():
        fault, _, end = told.partition("; ")
        rows.append((name, fault, end))
    return _table(("alert", "fault", "and then"), rows)


def objectives() -> str:
    """Every objective."""
    return _table(("`slo`", "objective"), [(f"`{o.name}`", o.summary) for o in OBJECTIVES])


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    table.__name__: table
    for table in (
        messages,
        events,
        reasons,
        statuses,
        rsp_codes,
        topics,
        principals,
        settings,
        network,
        metrics,
        counted,
        alerts,
        faults,
        objectives,
    )
}
"""By the name that a guide's marker has."""


# --- rows -------------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("  |", " |") for line in lines)


def _schema(model: type[BaseModel]) -> str:
    name = schema_file(model)
    return f"[{name.partition('.')[0]}](published/{name})"


def _summary(model: type[BaseModel]) -> str:
    return markdown((model.__doc__ or "").partition("\n\n")[0])


def _told_status(event: EventType) -> str:
    if event is EventType.PAYMENT_REPORTED:
        return "as it stands"
    return _STATUS_OF[event].value if event in _STATUS_OF else ""


def _coded(codes: type[Enum]) -> Iterator[Sequence[str]]:
    docs = attribute_docs(codes)
    for code in codes:
        official, _, meaning = docs[code.name].partition(". ")
        yield f"`{code.value}`", official, meaning


def _topic(topic: Topic) -> Sequence[str]:
    writers, readers = (", ".join(roles) for roles in (topic.writers, topic.readers))
    kept = "for ever" if topic.retention_ms == FOR_EVER else f"{topic.retention_ms // _DAY} days"
    return f"`{topic.name}`", markdown(topic.description), topic.key, writers, readers, str(topic.partitions), kept


def _lasting(seconds: int) -> str:
    return f"{seconds} s" if seconds else "at once"


def _served_by(metric: Metric) -> str:
    if isinstance(metric, CounterMetric):
        found = [process for process in STAGES_OF if any(row is metric for row, *_ in known_reports(process))]
        return "all" if len(found) == len(STAGES_OF) else ", ".join(f"`{process}`" for process in found)
    processes = metric.processes if isinstance(metric, GaugeMetric | HistogramMetric) else ()
    return "all" if ANY in processes else ", ".join(f"`{process}`" for process in processes)


def _labels(metric: Metric) -> str:
    if isinstance(metric, CounterMetric):
        return ", ".join(f"`{label}`" for label in metric.labels)
    return "; ".join(f"`{label}`: {text}" for label, text in metric.labels.items())


def _series(row: CounterMetric, stage: str, outcome: str) -> str:
    parts = {Source.STAGE: stage, Source.OUTCOME: outcome.removeprefix(row.prefix)}
    told = [(label, parts[source]) for label, source in row.labels.items() if source in parts]
    return ", ".join(f'`{label}="{value}"`' for label, value in told if value != ANY_STAGE)


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Sequence[str]]:
    docs = attribute_docs(section)
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner, in_table = _section_of(field.annotation)
        if inner is not None and not in_table:
            yield from _keys(inner, f"{key}.")
            continue
        if inner is not None:
            yield from _keys(inner, f"{key}.{_PLACES[name]}.")
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        yield f"`{key}`", _kind(field.annotation), default, _with_choices(docs[name], field.annotation)


_PLACES: Final = {"fields": "N", "response_codes": "XX"}
"""How the key of a table of tables is written: a field's number, a code."""


def _section_of(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The table that a key holds; and True if it holds one by each name."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, Section):
            return part, get_origin(_bare(annotation)) is dict
    return None, False


def _bare(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _parts(annotation: object) -> Iterator[object]:
    bare = _bare(annotation)
    yield bare
    if get_origin(bare) is not Literal:
        for argument in get_args(bare):
            yield from _parts(argument)


_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (frozenset, "list"),
    (tuple, "list"),
    (bool, "true or false"),
    (int, "number"),
    (float, "number"),
    (time, "text"),
    (ZoneInfo, "text"),
    (Path, "path"),
    (str, "text"),
)


def _kind(annotation: object) -> str:
    """What is written in the file, in a word."""
    bare = _bare(annotation)
    if get_origin(bare) is Literal:
        return "text"
    if get_origin(bare) in {Union, types.UnionType}:
        return _kind(next(a for a in get_args(bare) if a is not types.NoneType))
    written = get_origin(bare) or bare
    if isinstance(written, type) and not issubclass(written, Address):
        return next((word for kind, word in _KINDS if issubclass(written, kind)), "text")
    return "text"


def _with_choices(text: str, annotation: object) -> str:
    choices = [value for part in _parts(annotation) if get_origin(part) is Literal for value in get_args(part)]
    named = [c for c in choices if f"`{c}`" not in text]
    return f"{text} One of {', '.join(f'`{c}`' for c in choices)}." if named else text


def _default(value: Any) -> str:
    return "" if value in (None, "", frozenset()) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case SecretStr():
            raise TypeError("a secret has no default")
        case float():
            return f"{value:g}"
        case Enum():
            return str(value.value)
        case _:
            return str(value)
