"""What every part of the spec shares: strict, frozen models that refuse unknown fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class SpecModel(BaseModel):
    """Strict (a boolean is no integer), frozen, and closed to unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    """Turn ``90``, ``"90s"``, ``"15m"``, ``"6h"`` or ``"2d"`` into seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9})([smhd])", value.strip())
        if match is None:
            raise ValueError("write a duration as a number and a unit, such as 90s, 15m, 6h or 2d")
        return int(match[1]) * _UNITS[match[2]]
    return value


Duration = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str), Field(ge=1)]
"""Seconds; also accepted as text with a unit (``"6h"``)."""

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]
"""A tag or a metadata key: letters, digits and ``._:/-``."""
