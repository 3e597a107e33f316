"""What pydantic says of a body's errors, in words for whoever wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel

_KEYS = ("name", "architecture", "id")
"""Of a model that is mostly known by one of its fields, that field."""
_SHOWN = 64
"""Characters of what was written."""


def message(found: Mapping[str, Any], location: Sequence[str | int], model: type[BaseModel] | None) -> str:
    """One of pydantic's errors as a sentence; ``location`` leads to it from ``model``, if that is known."""
    kind, said = str(found["type"]), str(found["msg"]).removeprefix("Value error, ")
    if model is None:
        return said
    match kind:
        case "extra_forbidden":
            known = {name for each in _models_at(model, location[:-1]) for name in each.model_fields}
            return f"there is no such field{_near(str(location[-1])[:_SHOWN], known)}"
        case "union_tag_invalid":
            names = _names(_models_at(model, location))
            tag = str(found["ctx"]["tag"])[:_SHOWN]
            return f"nothing here is called {tag!r}{_near(tag, names)}"
        case "union_tag_not_found":
            return _without_name(found["input"], _names(_models_at(model, location)))
        case "model_type" | "model_attributes_type":
            return _no_mapping(found["input"], _models_at(model, location))
    return said


def _without_name(given: Any, names: list[str]) -> str:
    meant = next((key for key in given if key in names), None) if isinstance(given, Mapping) else None
    if meant is not None:
        return f"write {{name: {meant}, ...}}, with its fields beside the name"
    return f"the name is missing; add name, one of {', '.join(names)}"


def _no_mapping(given: Any, models: list[type[BaseModel]]) -> str:
    fields = {name for each in models for name in each.model_fields}
    key = next((name for name in _KEYS if name in fields), None)
    if isinstance(given, str) and key is not None and given.isprintable() and len(given) <= _SHOWN:
        return f"write {{{key}: {given}}}"
    return f"write its fields as a mapping, such as {{{key or min(fields, default='name')}: ...}}"


def _near(given: str, names: Sequence[str] | set[str]) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(given, known, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known)}" if known else ""


def _names(models: list[type[BaseModel]]) -> list[str]:
    """What the models of a union are called by: the literals of their ``name``."""
    return [str(value) for each in models if "name" in each.model_fields for value in _literals(each)]


def _literals(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["name"].annotation)


def _models_at(model: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The models that may stand at a place; a step that is no field is the tag of a union, which may be a name."""
    models = [model]
    for step in location:
        fields = [each.model_fields[step] for each in models if step in each.model_fields]
        if fields:
            models = list(dict.fromkeys(inner for each in fields for inner in _models_in(each.annotation)))
        else:
            models = [each for each in models if step in _names([each])] or models
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a union, of a list's items, of what is annotated."""
    if isinstance(annotation, type) and not isinstance(annotation, UnionType) and not get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for inner in get_args(annotation):
        yield from _models_in(inner)
