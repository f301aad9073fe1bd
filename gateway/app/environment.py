"""Settings are read from the environment or ``.env``. What is spelt like one and is none is told, never passed over."""

import difflib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Final

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource

from gateway.app.settings import OTHER_VARIABLES, Settings
from gateway.base.causes import cause_of
from schemas.wording import told

_SECONDS_MAX: Final = 366 * 86_400


class UnknownSettingError(ValueError):
    """A variable is spelt like a setting, and there is no such setting. Names it, and never shows its value."""


class WrongSettingError(ValueError):
    """A setting's value is none that it can have. Names the setting, and never shows the value."""


def read_settings() -> Settings:
    """Read the environment and ``.env``.

    Raises:
        UnknownSettingError: a ``MYPAY_…`` variable is no setting: a slip in a name must not leave a default standing.
        WrongSettingError: a value is wrong or an empty path, or ``.env`` cannot be read.
    """
    _check_file(Path(".env"))
    given = {name.upper(): value for name, value in DotEnvSettingsSource(Settings).env_vars.items()}
    given |= {name.upper(): value for name, value in os.environ.items()}
    if unknown := unknown_settings(given):
        raise UnknownSettingError("; ".join(unknown))
    try:
        settings = Settings()
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        wrong = (f"MYPAY_{'.'.join(map(str, p['loc'])).upper()}: {told(p)}" for p in problems)
        raise WrongSettingError("; ".join(wrong)) from None
    _check_paths(settings, given)
    _check_times(settings)
    return settings


def _check_times(settings: Settings) -> None:
    """Refuse a time that is as good as one without end.

    Raises:
        WrongSettingError: one is longer than :data:`_SECONDS_MAX`.
    """
    for field in Settings.model_fields:
        value = getattr(settings, field)
        if field.endswith("_s") and isinstance(value, float) and value > _SECONDS_MAX:
            raise WrongSettingError(f"MYPAY_{field.upper()}: must be at most {_SECONDS_MAX}")


def _check_paths(settings: Settings, given: Mapping[str, str | None]) -> None:
    """Refuse a path of no characters: it is the folder that the process happens to stand in.

    Raises:
        WrongSettingError: one is empty; or something other than a folder is where local state belongs.
    """
    for field in Settings.model_fields:
        name = f"MYPAY_{field.upper()}"
        if isinstance(getattr(settings, field), Path) and given.get(name) == "":
            raise WrongSettingError(f"{name}: is empty: name a path, or leave it out")
    # One that cannot be looked at is told of by whoever needs it: a stage needs none.
    with suppress(OSError):
        if not S_ISDIR(settings.home.stat().st_mode):
            raise WrongSettingError("MYPAY_HOME: is no folder")


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
