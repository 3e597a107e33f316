"""What a process loads: the control plane, the worker and the client live without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stillhouse

TREE = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("app.main", ["torch", "worker", "obstore"]),
        ("app.serve", ["torch", "worker"]),
        ("worker.tasks", ["torch", "fastapi"]),
        ("worker.__main__", ["torch", "fastapi", "obstore"]),
        ("worker.child", ["torch", "sqlalchemy", "celery"]),
        ("worker.train", ["sqlalchemy", "celery", "fastapi"]),
        ("benchmarks.engine.__main__", ["app", "stillhouse", "pydantic", "sklearn", "onnx", "timm", "scipy"]),
        ("stillhouse", ["torch", "fastapi", "sqlalchemy", "celery", "typer", "app", "worker"]),
    ],
)
def test_a_fresh_interpreter_loads_only_what_it_should(module: str, without: list[str]) -> None:
    program = f"import {module}, sys; print([name for name in {without!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], cwd=TREE, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_nobody_commits_outside_the_unit_of_work() -> None:
    for path in [*TREE.glob("app/**/*.py"), *TREE.glob("worker/**/*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
        assert "commit" not in names, path


def test_files_keep_to_their_budget() -> None:
    for folder in ("app", "worker", "stillhouse"):
        for path in TREE.glob(f"{folder}/**/*.py"):
            assert len(path.read_text().splitlines()) <= 250, path


def test_the_surface_of_the_package_is_exact() -> None:
    public = {name for name in vars(stillhouse) if not name.startswith("_")}
    modules = {"assets", "fleet", "projects", "client", "spec", "resources", "cli", "annotations", "student"}
    assert public - modules == set(stillhouse.__all__)
    assert sorted(stillhouse.__all__) == stillhouse.__all__
