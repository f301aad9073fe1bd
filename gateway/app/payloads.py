"""What a proposal would write, in lines that a second person reads before they approve it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

ITEMS_MAX: Final = 100
"""Of a longer list so many are shown, and how many more there are."""


def facts_of(payload: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values of a payload; nested ones have a dotted name. A certificate is there as its digest already.

    A JWK is shown as its thumbprint (RFC 7638), which its owner can tell over the telephone.
    """
    return list(_facts("", payload))


def _facts(name: str, value: object) -> Iterator[tuple[str, str]]:
    match value:
        case None:
            return
        case Mapping() if "kty" in value:
            yield f"{name} (thumbprint)", _thumbprint(value)
        case Mapping():
            for key, inner in value.items():
                yield from _facts(f"{name}.{key}" if name else str(key), inner)
        case list() | tuple():
            yield from _items(name, value)
        case _:
            yield name, str(value)


def _items(name: str, values: Sequence[object]) -> Iterator[tuple[str, str]]:
    more = len(values) - ITEMS_MAX
    if any(isinstance(v, Mapping | list | tuple) for v in values):
        for number, inner in enumerate(values[:ITEMS_MAX], 1):
            yield from _facts(f"{name}.{number}", inner)
        if more > 0:
            yield name, f"… and {more} more"
        return
    shown = ", ".join(map(str, values[:ITEMS_MAX]))
    yield name, f"{shown} … and {more} more" if more > 0 else shown


def _thumbprint(jwk: Mapping[str, object]) -> str:
    try:
        return str(JWKRegistry.import_key(dict(jwk)).thumbprint())  # type: ignore[arg-type]
    except (JoseError, ValueError, TypeError, KeyError):
        return "not a valid key"
