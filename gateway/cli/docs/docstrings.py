"""What the code says of its own names: the string under an attribute of a class, and the headings between them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

_ROLE: Final = re.compile(r":[a-z]+:`~?([^`]+)`")
_HEADING: Final = re.compile(r"# --- (.+?) -*$")


class UntoldError(ValueError):
    """An attribute that a guide tells of has no text under it."""


class AttributeDocs(dict[str, str]):
    """Attribute → the text under it, as one line of Markdown.

    Looking one up that has none raises UntoldError.
    """

    def __init__(self, owner: type) -> None:
        super().__init__()
        self._owner = owner

    def __missing__(self, name: str) -> str:
        raise UntoldError(f"{self._owner.__module__}.{self._owner.__name__}.{name} has no text under it")


def attribute_docs(owner: type) -> AttributeDocs:
    """Read the texts of a class; of base classes too, the class's own winning. Attributes without one are left out."""
    found = AttributeDocs(owner)
    for base in reversed(owner.__mro__):
        if base.__module__.partition(".")[0] in {"gateway", "schemas"}:
            found.update(_docs_of(base))
    return found


def headings(owner: type) -> dict[str, str]:
    """Attribute → the last line ``# --- heading ---`` above it in the class's source; none where there is none."""
    lines, heading, found = _source(owner).splitlines(), "", dict[str, str]()
    named = {line: name for name, line in _lines(owner)}
    for number, line in enumerate(lines, 1):
        if match := _HEADING.fullmatch(line.strip()):
            heading = match[1]
        elif heading and number in named:
            found[named[number]] = heading
    return found


def markdown(text: str) -> str:
    """A docstring's text as one line of Markdown that may stand in a table."""
    plain = _ROLE.sub(lambda m: f"`{m[1].rpartition('.')[2]}`", text).replace("``", "`")
    return " ".join(plain.split()).replace("|", "\\|")


def _docs_of(owner: type) -> Iterator[tuple[str, str]]:
    body = _class(owner).body
    for statement, following in pairwise(body):
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))) if name := _name(statement):
                yield name, markdown(text)


def _lines(owner: type) -> Iterator[tuple[str, int]]:
    for statement in _class(owner).body:
        if name := _name(statement):
            yield name, statement.lineno


def _name(statement: ast.stmt) -> str | None:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return None


def _class(owner: type) -> ast.ClassDef:
    (found,) = ast.parse(_source(owner)).body
    if not isinstance(found, ast.ClassDef):
        raise TypeError(f"{owner.__name__} is no class")
    return found


def _source(owner: type) -> str:
    return textwrap.dedent(inspect.getsource(owner))
