"""Settings are read from the environment or ``.env``. What is spelt like one and is none is told, never passed over."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource

from gateway.app.settings import OTHER_VARIABLES, Settings
from gateway.base.causes import cause_of
from schemas.wording import told


class UnknownSettingError(ValueError):
    """A variable is spelt like a setting, and there is no such setting. Names it, and never shows its value."""


class WrongSettingError(ValueError):
    """A setting's value is none that it can have. Names the setting, and never shows the value."""


def read_settings() -> Settings:
    """Read the environment and ``.env``.

    Raises:
        UnknownSettingError: a ``MYPAY_…`` variable is no setting: a slip in a name must not leave a default standing.
        WrongSettingError: a value is wrong, or ``.env`` cannot be read.
    """
    _check_file(Path(".env"))
    names = {*os.environ, *DotEnvSettingsSource(Settings).env_vars}
    if unknown := unknown_settings(names):
        raise UnknownSettingError("; ".join(unknown))
    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        wrong = (f"MYPAY_{'.'.join(map(str, p['loc'])).upper()}: {told(p)}" for p in problems)
        raise WrongSettingError("; ".join(wrong)) from None


def _check_file(path: Path) -> None:
    """Refuse a file of which a line would be passed over: a quote that is not closed must not leave a default standing.

    Raises:
        WrongSettingError: it is a pipe or no text, or a line of it is none.
    """
    if not path.is_file():
        # It would be read all the same, unchecked, and waited for without end where nobody writes.
        if path.is_fifo():
            raise WrongSettingError(f"{path} cannot be read: it is a pipe, not a file")
        return
    try:
        with path.open(encoding="utf-8") as file:
            wrong = [str(line.original.line) for line in parse_stream(file) if line.error]
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSettingError(f"{path} cannot be read: {cause_of(error)}") from None
    if wrong:
        raise WrongSettingError(f"{path}: no NAME=value with its quotes closed in line {', '.join(wrong)}")


def unknown_settings(names: Iterable[str]) -> list[str]:
    """A sentence for each name that begins as settings do and is none, with what may have been meant."""
    prefix = "MYPAY_"
    known = {*(prefix + field.upper() for field in Settings.model_fields), *OTHER_VARIABLES}
    # As they are read: without regard to case.
    strange = sorted({n.upper() for n in names if n.upper().startswith(prefix)} - known)
    return [_told(name, known) for name in strange]


def _told(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return f"{name} is no setting" + (f": did you mean {close[0]}?" if close else "")
