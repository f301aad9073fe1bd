"""The base of every table of a network's file."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, closed, and silent about its input when it refuses it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, validate_default=True
    )
