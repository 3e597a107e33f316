"""docs/faults.md names tests that exist, and all the fault tests there are."""

from __future__ import annotations

import ast
import re

import pytest

from tests.harness import TREE

PAGE = (TREE / "docs" / "faults.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
CASES = 22
"""Of the failure cases of a job's life."""


def functions(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((TREE / path).read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "function"), sorted(set(NAMED)))
def test_a_named_test_exists(path: str, function: str) -> None:
    assert (TREE / path).is_file()
    assert not function or (function.startswith("test_") and function in functions(path))


def test_every_file_of_fault_tests_is_named() -> None:
    files = {file.relative_to(TREE).as_posix() for file in (TREE / "tests" / "faults").glob("test_*.py")}
    assert files <= {path for path, _ in NAMED}


def test_each_failure_case_has_an_answer_and_a_test() -> None:
    rows = {int(number): row for number, row in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, flags=re.MULTILINE)}
    assert list(rows) == list(range(1, CASES + 1))
    assert [number for number, row in rows.items() if not re.search(r"`tests/[\w/]+\.py::test_\w+`", row)] == []
