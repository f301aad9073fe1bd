"""The base of every table of a network's file."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

_SECONDS_MAX: Final = 7 * 86_400
"""A time that is longer is as good as one without end, and written by mistake: in milliseconds, say."""

Seconds = Annotated[float, Field(gt=0, le=_SECONDS_MAX)]
SecondsOrNone = Annotated[float, Field(ge=0, le=_SECONDS_MAX)]
"""0 where there is to be no such time."""


class Section(BaseModel):
    """Frozen, closed, and silent about its input when it refuses it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, validate_default=True
    )
