"""The engine's benchmarks run, and say what they measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parent.parent.parent


def said(module: str, *arguments: str) -> list[str]:
    """Its lines, the one on the hardware taken off."""
    found = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=TREE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    hardware, *lines = found.stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d, .+, \d+ cores, 1 threads, .*torch ", hardware)
    return lines


def test_it_measures_every_mode_against_the_scripts_loop() -> None:
    small = ["--images", "192", "--pairs", "1", "--teacher", "resnet8", "--student", "resnet8"]
    lines = said("benchmarks.engine", *small, "--modes", "fp32", "bf16-table", "fp32-control")
    assert "resnet8 -> resnet8, batch 64, 192 made images" in lines[0]
    assert re.match(r"bf16 table: \d+ of 384 rows computed in ", lines[1])
    rates = {line.split()[0]: float(line.split()[3]) for line in lines[2:-1]}
    assert set(rates) == {"fp32", "bf16-table", "fp32-control", "scripts"}
    assert rates["scripts"] == 1
    assert all(rate > 0 for rate in rates.values())
    assert re.match(r"a step of 64: scripts [\d.]+ ms, fp32 [\d.]+ ms, bf16-table .*, fp32-control .* ms$", lines[-1])


def test_it_measures_the_way_of_photographs_against_torchvisions() -> None:
    lines = said("benchmarks.engine.pictures", "--input-alone", "--images", "20", "--batch", "8", "--turns", "1")
    assert re.match(r"20 images decoded once to 224x224: [\d.]+ s, [\d.]+ ms an image", lines[0])
    assert re.match(r"input alone +\d+ images/s +[\d.]+ times", lines[1])
    assert re.match(r"torchvision's +\d+ images/s +1.00 times", lines[2])
    assert re.match(r"with the decoding, by epochs of a training: [\d.]+ of 1, .* of 100$", lines[3])


@pytest.mark.slow
def test_it_trains_fast_and_plainly_and_compares_them() -> None:
    lines = said("benchmarks.engine.agreement", "--epochs", "1", "--teacher-epochs", "2", "--seeds", "2")
    seeds = [re.match(r"seed (\d): fast \(\w+\) ([\d.]+)% in .* plain \(fp32\) ([\d.]+)% in", line) for line in lines]
    assert [seed[1] for seed in seeds if seed] == ["0", "1"]
    fast = [float(seed[2]) for seed in seeds if seed]
    assert lines[3].startswith(f"fast: {sum(fast) / 2:.1f}"[:-2])
    assert re.match(r"difference [+-][\d.]+ points, (within|beyond) what 2 seeds leave open", lines[-1])
