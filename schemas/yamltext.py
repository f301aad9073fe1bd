"""Write plain data as YAML 1.2 for people to read: block style, keys in the order given."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# Text that no YAML reader takes for anything but this text; everything else is quoted as JSON, which YAML contains.
_PLAIN: Final = re.compile(r"[A-Za-z$/][A-Za-z0-9$/._-]*(?: [A-Za-z0-9(][A-Za-z0-9$/().,_-]*)*")
_WORDS: Final = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))


def to_yaml(value: object) -> str:
    """Return the document, ending in a newline.

    Args:
        value: mappings with text keys, sequences, text, whole numbers, booleans and None.

    Raises:
        TypeError: anything else.
    """
    return "\n".join(_block(value, "")) + "\n"


def _block(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_text(str(key))}:", item, indent + "  ")
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            lines = list(_block(item, indent + "  "))
            # The first line of an item stands behind its dash.
            yield f"{indent}- {lines[0].lstrip()}"
            yield from lines[1:]
    else:
        yield indent + _scalar(value)


def _entry(head: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value and _fits_a_literal(value):
        yield f"{head} |-"
        yield from (f"{indent}{line}".rstrip() for line in value.split("\n"))
    elif isinstance(value, Mapping | list | tuple) and value:
        yield head
        yield from _block(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _fits_a_literal(text: str) -> bool:
    lines = text.split("\n")
    return bool(lines[0].strip()) and lines[0][0] != " " and bool(lines[-1]) and all(x.isprintable() for x in lines)


def _scalar(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case bool() | int() | None:
            return json.dumps(value)
        case Mapping() if not value:
            return "{}"
        case list() | tuple() if not value:
            return "[]"
        case _:
            raise TypeError(f"{type(value).__name__} has no YAML form here")


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)
