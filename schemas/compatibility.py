"""What changed between two versions of a published JSON Schema that could break somebody who relies on the older.

What others send must stay readable: whatever the old schema accepts, the new one accepts. What the gateway emits must
stay understandable: whatever the new schema allows, a reader of the old one knows, unknown fields and codes aside.
A change that is listed here needs a new version of the message, not a new schema of the old one.
"""

from collections.abc import Iterator
from typing import Any, Final

from schemas.publish import Direction

_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_EXACT: Final = ("type", "format", "pattern", "const")
_ENUMS: Final = ("enum", "x-extensible-enum")


def breaking_changes(old: dict[str, Any], new: dict[str, Any], direction: Direction) -> list[str]:
    """Return a sentence for each change that breaks the other side; empty where the new schema may replace the old.

    Args:
        old: the schema that others rely on, as :mod:`schemas.publish` writes it.
        new: the one to take its place.
        direction: who writes the message.
    """
    return list(_Comparison(old, new, direction).nodes(old, new, ""))


class _Comparison:
    def __init__(self, old: dict[str, Any], new: dict[str, Any], direction: Direction) -> None:
        self._old, self._new = old, new
        self._sent = direction is Direction.SENT
        self._seen: set[tuple[int, int]] = set()

    def nodes(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
        old, new = _resolve(old, self._old), _resolve(new, self._new)
        if (id(old), id(new)) in self._seen:
            return
        self._seen.add((id(old), id(new)))
        for word in _EXACT:
            # A missing word permits everything, so what is sent may lose one and what is emitted may gain one.
            looser = new if self._sent else old
            if old.get(word) != new.get(word) and (word in looser or word == "type"):
                yield f"{path or 'the message'}: {word} was {_shown(old, word)}, is {_shown(new, word)}"
        yield from self._bounds(old, new, path)
        yield from self._codes(old, new, path)
        yield from self._fields(old, new, path)
        yield from self._branches(old, new, path)
        if "items" in old and "items" in new:
            yield from self.nodes(old["items"], new["items"], f"{path}[]")

    def _bounds(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
        # The side that must accept the other's values: the new schema for what is sent, the old for what is emitted.
        wide, narrow = (new, old) if self._sent else (old, new)
        for words, sign in ((_LOWER_BOUNDS, 1), (_UPPER_BOUNDS, -1)):
            for word in words:
                if word not in wide:
                    continue
                if word not in narrow or sign * wide[word] > sign * narrow[word]:
                    yield f"{path}: {word} was {_shown(old, word)}, is {_shown(new, word)}"

    def _codes(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
        for word in _ENUMS:
            if word in new and word not in old and word == "enum" and self._sent:
                yield f"{path}: only listed values are accepted now"
            # A code that others may send, or that readers look for, does not disappear within a version.
            if gone := [v for v in old.get(word, ()) if word in new and v not in new[word]]:
                yield f"{path}: {', '.join(map(str, gone))} is no longer among the values"

    def _fields(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        dot = f"{path}." if path else ""
        for name, field in before.items():
            if name not in after:
                yield f"{dot}{name}: field was removed"
            else:
                yield from self.nodes(field, after[name], f"{dot}{name}")
        must, had_to = set(new.get("required", ())), set(old.get("required", ()))
        if self._sent:
            for name in sorted(must - had_to):
                yield f"{dot}{name}: field is required now"
        else:
            for name in sorted((had_to - must) & after.keys()):
                yield f"{dot}{name}: field may be missing now"

    def _branches(self, old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[str]:
        before, after = old.get("anyOf", []), new.get("anyOf", [])
        if len(before) != len(after):
            yield f"{path}: had {len(before) or 1} forms, has {len(after) or 1}"
            return
        for was, now in zip(before, after, strict=True):
            yield from self.nodes(was, now, path)


def _resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = root["definitions"][node["$ref"].rpartition("/")[2]]
        elif len(node.get("allOf", ())) == 1:
            node = node["allOf"][0]
        else:
            return node


def _shown(node: dict[str, Any], word: str) -> str:
    return str(node.get(word, "free"))
