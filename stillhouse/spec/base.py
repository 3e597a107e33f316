"""What every part of the spec shares: strict, frozen models that refuse unknown fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class SpecModel(BaseModel):
    """Strict (a boolean is no integer), frozen, and closed to unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def misfit(field: str, said: str, *, given: object = None, missing: bool = False) -> ValidationError:
    """What a validator of a whole model raises of one of its fields, so that the error points there."""
    error = PydanticCustomError("missing" if missing else "does_not_fit", "{said}", {"said": said})
    return ValidationError.from_exception_data("spec", [InitErrorDetails(type=error, loc=(field,), input=given)])


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    """Turn ``90``, ``"90s"``, ``"15m"``, ``"6h"`` or ``"2d"`` into seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,9})([smhd])", value.strip())
        if match is None:
            raise ValueError("write a duration as a number and a unit, such as 90s, 15m, 6h or 2d")
        return int(match[1]) * _UNITS[match[2]]
    return value


Duration = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str), Field(ge=1, le=10 * 365 * 86400)]
"""Seconds, at most ten years; also accepted as text with a unit (``"6h"``)."""

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""One line of a person's own words: anything but control characters, which no terminal and no database should get."""

_QUEUE = r"[A-Za-z0-9_-]+"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._:/-]*"


def _matching(pattern: str, words: str) -> AfterValidator:
    """Hold a name to a pattern, and say in words what may be."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{value!r} is not made of {words}")
        return value

    return AfterValidator(check)


QueueName = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra={"pattern": f"^{_QUEUE}$"}),
    _matching(_QUEUE, "letters (a to z, A to Z), digits, '_' and '-' alone"),
]
"""A queue: it names a channel of the broker."""

Label = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra={"pattern": f"^{_LABEL}$"}),
    _matching(_LABEL, "letters (a to z, A to Z), digits and '._:/-' alone, a letter or digit first"),
]
"""A tag or a metadata key: letters, digits and ``._:/-``."""
