"""A spec from a YAML or JSON file, with errors that name the field and the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stillhouse.client.errors import StillhouseError
from stillhouse.resources import FieldError
from stillhouse.spec import JobSpec
from stillhouse.spec.pointers import pointer
from stillhouse.spec.wording import message


class SpecFileError(StillhouseError):
    """A spec file that cannot be used."""


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: ``1e-3`` is a number (in YAML 1.1 it is text), and a key is given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(path: Path) -> JobSpec:
    """Raises SpecFileError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise SpecFileError(f"cannot read {path}: {reason}") from error
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecFileError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SpecFileError(f"{path} must hold a job spec: a mapping with dataset, student and so on")
    try:
        return JobSpec.model_validate(content)
    except ValidationError as error:
        found = [
            FieldError(
                pointer=pointer(item["loc"], content, missing=item["type"] == "missing"),
                code=item["type"],
                message=message(item, item["loc"], JobSpec),
            )
            for item in error.errors()
        ]
        raise SpecFileError("\n".join(say(item, path, text) for item in found)) from error


def say(error: FieldError, path: Path, text: str) -> str:
    """``file:line: /pointer: message``."""
    return f"{path}:{_line(error.pointer, text)}: {error.pointer or '/'}: {error.message}"


def _line(pointed: str, text: str) -> int:
    """The line of the node that a pointer leads to, or of the last one on the way that exists."""
    node: Any = yaml.compose(text, Loader=_Loader)
    line = 1
    for step in pointed.split("/")[1:]:
        following = None
        if isinstance(node, yaml.MappingNode):
            following = next(((key, value) for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
            following = (node.value[int(step)], node.value[int(step)])
        if following is None:
            break
        key, node = following
        line = key.start_mark.line + 1
    return line
