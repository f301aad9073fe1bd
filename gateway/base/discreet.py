"""Records that do not show all of what they hold."""

from typing import Any, ClassVar

from msgspec import Struct


class Discreet(Struct, frozen=True, gc=False):
    """A Struct that is shown, in tracebacks and by whoever prints it, without what :attr:`HIDDEN` names.

    Of bytes and texts the length is shown. msgspec's own ``__rich_repr__`` would show
    them even where ``__repr__`` does not.
    """

    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(n, _Hidden(v) if n in self.HIDDEN and v is not None else v) for n, v in values]


class _Hidden:
    def __init__(self, value: object) -> None:
        self._text = f"<{len(value)} hidden>" if isinstance(value, bytes | str) else "<hidden>"

    def __repr__(self) -> str:
        return self._text
