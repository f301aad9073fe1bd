"""The published contract, made from the models and the topic table: JSON Schemas (draft 7) and AsyncAPI 3.

What others send is published closed, as it is read: an unknown field is refused. What the gateway emits is published
open, for it may gain optional fields and new codes (``x-extensible-enum`` lists the present ones); a field that has no
value is left out, never null. Field descriptions come from the models' docstrings. The result is a function of the code
alone.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum, unique
from typing import Any, Final

import yaml
from pydantic import BaseModel

from schemas.consents import ConsentTerms
from schemas.envelope import CONTENT_TYPE
from schemas.principals import FAMILIES, Role
from schemas.topics import TOPICS, Topic

ASYNCAPI: Final = "asyncapi.yaml"
DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"

_SCHEMA_FORMAT: Final = "application/schema+json;version=draft-07"
_KAFKA_BINDING: Final = "0.5.0"
_WRITERS_OUTSIDE: Final = frozenset((Role.PARTNER, Role.CLEARING_IMPORT))
"""Who writes what the gateway reads: partners, and networks by way of the clearing import or directly."""

_READERS_OUTSIDE: Final = frozenset((Role.PARTNER, Role.FINANCE, Role.OPS))

_DOCUMENTS: Final[tuple[type[BaseModel], ...]] = (ConsentTerms,)
"""Models that are given to the gateway other than as a message body."""

_ROLE: Final = re.compile(r":[a-z]+:`([^`]+)`")
_ATTRIBUTE: Final = re.compile(r"^(\w+(?:, \w+)*): (.*)$")


@unique
class Direction(StrEnum):
    """Who writes a message; decides what may change without breaking anybody."""

    SENT = "sent"  # by others, read by the gateway
    EMITTED = "emitted"  # by the gateway


def directions() -> dict[str, Direction]:
    """File name of every published schema → who writes what it describes."""
    return {schema_file(model): direction for model, direction in _models().items()}


def schema_file(model: type[BaseModel]) -> str:
    """``PaymentOrder`` → ``payment-order.v1.json``. Another version of a message is another model and file."""
    return f"{_kebab(model.__name__)}.v1.json"


def render() -> dict[str, str]:
    """Make every file: name → text."""
    files = {
        schema_file(model): json.dumps(_schema(model, direction), indent=2, ensure_ascii=False) + "\n"
        for model, direction in _models().items()
    }
    notice = "# Made by `mypay schemas generate` from schemas/; do not edit.\n"
    return {**dict(sorted(files.items())), ASYNCAPI: notice + to_yaml(_asyncapi())}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # has no types
    """Block style for people to read: items indented, double quotes, long texts in one piece, nothing abbreviated."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 - PyYAML's
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's
        return True

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        return '"' if style == "'" else style


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(StrEnum, _represent_text)


def to_yaml(value: object) -> str:
    """Write plain data as YAML, keys in the order given.

    Raises:
        yaml.YAMLError: it holds something else than mappings, lists, texts, numbers, booleans and None.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return text


def _models() -> dict[type[BaseModel], Direction]:
    found: dict[type[BaseModel], Direction] = dict.fromkeys(_DOCUMENTS, Direction.SENT)
    for topic in TOPICS:
        direction = Direction.SENT if _WRITERS_OUTSIDE & set(topic.writers) else Direction.EMITTED
        for model in topic.messages.values():
            # What a partner sent travels on, unchanged, on the gateway's own topics: it stays the partner's.
            found.setdefault(model, direction)
    return found


# --- JSON Schema ------------------------------------------------------------------------------------------------------


def _schema(model: type[BaseModel], direction: Direction) -> dict[str, Any]:
    raw = model.model_json_schema(mode="validation", ref_template="#/definitions/{model}")
    definitions = raw.pop("$defs", {})
    documented = {m.__name__: m for m in _nested(model)}
    schema = {
        "$schema": DRAFT_7,
        "$id": f"urn:mypay:schema:{schema_file(model).removesuffix('.json')}",
        **_tidy(_described(raw, model), direction),
    }
    if definitions:
        schema["definitions"] = {
            name: _tidy(_described(body, documented.get(name)), direction) for name, body in sorted(definitions.items())
        }
    return schema


def _nested(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    pending, seen = [model], set[type[BaseModel]]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        for field in current.model_fields.values():
            pending.extend(_models_in(field.annotation))


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _described(schema: dict[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    """Put the docstring's summary on the object and its attributes' lines on the fields."""
    if model is None:
        if "description" in schema:
            schema["description"] = _plain(schema["description"], None)
        return schema
    summary, attributes = _docstring(model)
    schema = {"title": model.__name__, "description": summary, **schema, "type": "object"}
    schema["description"] = summary
    for name, text in attributes.items():
        if name in schema["properties"]:
            schema["properties"][name]["description"] = text
    return schema


def _docstring(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    head, _, tail = inspect.getdoc(model).partition("\nAttributes:\n")  # type: ignore[union-attr]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(tail).split("\n"):
        match = _ATTRIBUTE.match(line)
        if match:
            names = match[1].split(", ")
            found.update(dict.fromkeys(names, match[2]))
        else:
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    for name in list(found):
        # "status: this; state: that" on one line describes two fields.
        first, *others = re.split(r"; (?=\w+: )", found[name])
        found[name] = first
        for other in others:
            key, _, text = other.partition(": ")
            found[key] = text
    return _plain(head, model), {name: _plain(text, model) for name, text in found.items()}


def _plain(text: str, model: type[BaseModel] | None) -> str:
    """Docstring text for readers without our source: constants by value, one line a paragraph."""
    module = sys.modules[model.__module__] if model else None
    text = _ROLE.sub(lambda m: f"`{getattr(module, m[1], m[1])}`", text).replace("``", "`")
    return "\n\n".join(" ".join(p.split()) for p in re.split(r"\n\s*\n", text.strip()))


def _tidy(value: Any, direction: Direction) -> Any:
    """Drop what only pydantic says: field titles, null as a default; open what the gateway emits."""
    if isinstance(value, list):
        return [_tidy(item, direction) for item in value]
    if not isinstance(value, dict):
        return value
    emitted, out = direction is Direction.EMITTED, dict[str, Any]()
    for key, item in value.items():
        match key:
            case "allOf" | "additionalProperties" if emitted:
                # Rules about what one may write: a reader needs none.
                continue
            case "properties":
                out[key] = {name: _field(field, direction) for name, field in item.items()}
            case "required" if emitted:
                out[key] = [name for name in item if not _may_be_null(value["properties"][name])]
            case "enum" if emitted:
                out["x-extensible-enum"] = item
            case _:
                out[key] = _tidy(item, direction)
    return out


def _may_be_null(field: dict[str, Any]) -> bool:
    return {"type": "null"} in field.get("anyOf", ())


def _field(field: dict[str, Any], direction: Direction) -> dict[str, Any]:
    out: dict[str, Any] = _tidy(field, direction)
    out.pop("title", None)
    if out.get("default", ...) is None:
        del out["default"]
    if direction is Direction.EMITTED and "anyOf" in out:
        branches = [b for b in out.pop("anyOf") if b != {"type": "null"}]
        # Draft 7 ignores what stands beside $ref, so a description needs allOf.
        out = {**branches[0], **out} if len(branches) == 1 else {"anyOf": branches, **out}
    if "$ref" in out and len(out) > 1:
        out = {"allOf": [{"$ref": out.pop("$ref")}], **out}
    return out


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def _asyncapi() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in TOPICS:
        name = _channel_name(topic)
        names = {_message_name(type_): (type_, model) for type_, model in topic.messages.items()}
        for key, (type_, model) in names.items():
            messages.setdefault(key, _message(type_, model, topic))
        channels[name] = _channel(topic, names)
        for action in _actions(topic):
            operations[f"{action}_{name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"Written by: {_parties(topic, topic.writers)}. Read by: {_parties(topic, topic.readers)}.",
            }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:mypay:gateway",
        "info": {
            "title": "My-Payment gateway",
            "version": "1.0.0",
            "description": (
                "Payment orders in, payment events out, over Apache Kafka. CloudEvents 1.0 in binary mode: metadata in"
                " record headers, JSON in the value.\nWhat partners send carries a detached JWS in header `signature`"
                " (RFC 7515 appendix F, RFC 7797), ES256 or Ed25519, over the value's bytes."
            ),
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _channel_name(topic: Topic) -> str:
    return re.sub(r"[.-]", "_", topic.name.removeprefix("mypay.").partition(".{")[0])


def _message_name(type_: str) -> str:
    return type_.removeprefix("kr.mypay.").replace(".", "_").replace("-", "_")


def _actions(topic: Topic) -> tuple[str, ...]:
    """What the gateway does with a topic: it reads what others write, and both writes and reads between its stages."""
    if Role.PARTNER in topic.writers:
        return ("receive",)
    return ("send", "receive") if not _READERS_OUTSIDE.issuperset(topic.readers) else ("send",)


def _parties(topic: Topic, roles: Sequence[Role]) -> str:
    """Who, in words: a family that has a partner's id in its name is that partner's."""
    own = {FAMILIES[r] for r in roles if r in FAMILIES} & set(re.findall(r"\{(\w+)\}", topic.name))
    names = {Role.PARTNER: "that partner alone" if "partner" in own else "partners"}
    return ", ".join(names.get(r, r.replace("-", " ")) for r in roles)


def _channel(topic: Topic, names: Mapping[str, object]) -> dict[str, Any]:
    placeholders = re.findall(r"\{(\w+)\}", topic.name)
    channel: dict[str, Any] = {
        "address": topic.name,
        "description": f"{topic.description} Key: {topic.key}.",
    }
    if names:
        channel["messages"] = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    if placeholders:
        channel["parameters"] = {p: {"description": f"Id of the {p}."} for p in placeholders}
    channel["bindings"] = {
        "kafka": {
            "partitions": topic.partitions,
            "topicConfiguration": {
                "cleanup.policy": ["compact" if topic.compacted else "delete"],
                "retention.ms": topic.retention_ms,
                "max.message.bytes": topic.max_message_bytes,
            },
            "bindingVersion": _KAFKA_BINDING,
        }
    }
    return channel


def _message(type_: str, model: type[BaseModel], topic: Topic) -> dict[str, Any]:
    summary, _ = _docstring(model)
    return {
        "name": type_,
        "title": model.__name__,
        "summary": summary.partition("\n\n")[0],
        "contentType": CONTENT_TYPE,
        "headers": _headers(type_, signed=Role.PARTNER in topic.writers),
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{schema_file(model)}"}},
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": _KAFKA_BINDING}},
    }


def _headers(type_: str, *, signed: bool) -> dict[str, Any]:
    printable = {"type": "string", "minLength": 1, "maxLength": 256}
    headers: dict[str, Any] = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {**printable, "description": "Unique per ce_source; the same when a message is told again."},
        "ce_source": printable,
        "ce_type": {"type": "string", "const": type_},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string", "const": CONTENT_TYPE},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    }
    required = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"]
    if signed:
        headers["signature"] = {
            "type": "string",
            "maxLength": 1024,
            "description": "Detached JWS, `protected..signature`, with members alg, kid, typ (equal to ce_type), "
            'b64 false and crit ["b64"].',
        }
        required.append("signature")
    return {"type": "object", "required": required, "properties": headers}


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
