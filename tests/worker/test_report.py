"""The report's page: every line can be seen and told apart."""

from __future__ import annotations

import re
from typing import Any

from worker.report import render

FIGURES = {"top1": 0.9, "top1_deviation": None, "top5": 1.0, "loss": 0.3, "bytes": 2048}
FIGURES |= {"parameters": 10, "flops": 100, "latency_ms": 0.1}


def history(epochs: int) -> dict[str, Any]:
    rows = [{"epoch": epoch, "train/top1": 0.5, "train/loss": 1 / epoch} for epoch in range(1, epochs + 1)]
    return {"history": rows}


def report(phases: dict[str, int], seeds: list[int]) -> dict[str, Any]:
    return {
        "name": "page",
        "method": "kd",
        "spec": {"dataset": {"id": "digits"}},
        "environment": {"seeds": seeds},
        "result": {"teacher": None, "student": FIGURES, "control": None, "verdict": "Better.", "agreement": None},
        "splits": {"test": 100},
        "selection": "last",
        "generations": [],
        "phases": {name: history(epochs) for name, epochs in phases.items()},
        "canaries": [],
    }


def test_lines_of_one_colour_are_told_apart_and_one_epoch_is_a_dot() -> None:
    phases = {"teacher": 1, "student-0": 3, "control-0": 3, "student-1": 3, "student-2": 3}
    page = render(report(phases, [0, 1, 2]))
    (chart, _) = re.findall(r"<h2>train.*?</p>", page, re.DOTALL)
    drawn = re.findall(r'<polyline class="(\w+)" stroke-dasharray="([^"]+)" [^>]*><title>([\w-]+)<', chart)
    assert [label for _, _, label in drawn] == list(phases)
    assert len({(kind, dashes) for kind, dashes, _ in drawn}) == len(phases)
    shown = re.findall(r'<span class="(\w+)"><svg.*?stroke-dasharray="([^"]+)".*?</svg>([\w-]+)</span>', chart)
    assert shown == drawn
    assert re.findall(r'<circle class="(\w+)"', chart) == ["teacher"]


def test_its_sentences_are_apart() -> None:
    for seeds in ([0], [0, 1]):
        page = render(report({"student-0": 2}, seeds))
        assert re.search(r"served\.\s+Latency is the median", page)
        assert not re.search(r"\.[A-Z]", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
