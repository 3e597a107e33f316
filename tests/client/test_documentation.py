"""What the documentation shows works: its specs are valid, its commands and programs run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stillhouse.spec import JobSpec
from stillhouse.spec.review import review
from tests.harness import TREE, Service, service

PAGES = [TREE / "README.md", *sorted((TREE / "docs").rglob("*.md"))]
NOT_HERE = ("make ", "stillhouse serve", "export STILLHOUSE_", ". .venv", "stillhouse submit examples/mnist.yaml")
"""Setting up, and what takes minutes: `make demo` runs the former, `examples/mnist.yaml` is measured by hand."""


def snippets(language: str) -> list[tuple[Path, str]]:
    return [
        (page, block)
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_spec_shown_is_a_valid_one() -> None:
    specs = [yaml.safe_load(block) for _, block in snippets("yaml")]
    specs += [yaml.safe_load(path.read_text()) for path in sorted((TREE / "examples").glob("*.yaml"))]
    assert len(specs) >= 3
    for spec in specs:
        assert review(JobSpec.model_validate(spec)).errors == []


def test_the_error_that_is_shown_is_the_one_that_comes() -> None:
    ((_, shown),) = [found for found in snippets("text") if "layers/2" in found[1]]
    layers = [{"name": "conv", "channels": 8}, {"name": "relu"}, {"name": "linear"}]
    spec = JobSpec.model_validate(
        {"dataset": {"id": "digits"}, "student": {"layers": layers}, "method": {"name": "none"}}
    )
    (error,) = review(spec).errors
    assert f"{error.pointer}: {error.message}" == shown.strip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("documented") / "data") as started:
        yield started


def surroundings(running: Service) -> dict[str, str]:
    """A person's shell on the machine of `serve`, with the virtual environment active."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "STILLHOUSE_DATA_DIR": str(running.data_dir)}


@pytest.mark.slow
def test_the_tutorial_runs(running: Service, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(TREE / "examples")
    blocks = [block for page, block in snippets("sh") if page.name == "tutorial.md"]
    commands = [line for block in blocks for line in block.splitlines() if not line.startswith(NOT_HERE)]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=surroundings(running), check=True, timeout=300)
    assert (tmp_path / "digits" / "student.safetensors").is_file()


@pytest.mark.slow
def test_every_program_shown_runs(running: Service, tmp_path: Path) -> None:
    programs = snippets("python")
    assert programs
    for _, program in programs:
        small = program.replace('"student": {', '"training": {"epochs": 1}, "student": {')
        subprocess.run([sys.executable, "-c", small], cwd=tmp_path, env=surroundings(running), check=True, timeout=300)
