"""The schema of the chart's values: Helm refuses a word that is none of them, and a value of another kind."""

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.app.stages import STAGES

_OPEN: Final = frozenset(
    {"networks", "issuers", "settings", "resources", "nodeSelector", "annotations", "labels", "clearingKeys", "keys"}
)
"""Values whose keys are the reader's own."""

_SETTING: Final = {"type": ["string", "number", "boolean"]}


def values_schema(values: Mapping[str, Any]) -> str:
    """The schema that the values have as they come, with every stage as they have ``default``."""
    schema = _of(values)
    stages = schema["properties"]["stages"]["properties"]
    every = stages["default"]["properties"]
    schema["properties"]["stages"]["properties"] = {
        name: _closed(every | stages.get(name, {}).get("properties", {}))
        for name in ("default", *(stage.name for stage in STAGES))
    }
    # Helm hands it to every chart that is a part of another.
    schema["properties"]["global"] = {"type": "object"}
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#"} | schema, indent=2) + "\n"


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


_KINDS: Final[Mapping[type, str]] = {bool: "boolean", int: "integer", str: "string", list: "array"}


def _of(value: object, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {"type": _KINDS[type(value)]}
    if name == "settings":
        return {"type": "object", "propertyNames": {"pattern": "^[A-Z]"}, "additionalProperties": _SETTING}
    if name in _OPEN:
        return {"type": "object"}
    return _closed({key: _of(each, key) for key, each in value.items()})
