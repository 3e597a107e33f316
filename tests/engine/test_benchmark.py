"""The engine's benchmark runs, and says what it measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent


def test_it_measures_every_mode_against_the_scripts_loop() -> None:
    small = ["--images", "192", "--pairs", "1", "--teacher", "resnet8", "--student", "resnet8"]
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", *small, "--modes", "fp32", "bf16-table"],
        cwd=TREE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = found.stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d, .+, \d+ cores, 1 threads, .*torch ", lines[0])
    assert "resnet8 -> resnet8, batch 64, 192 made images" in lines[1]
    assert re.match(r"bf16 table: \d+ of 384 rows computed in ", lines[2])
    rates = {line.split()[0]: float(line.split()[3]) for line in lines[3:]}
    assert set(rates) == {"fp32", "bf16-table", "scripts"}
    assert rates["scripts"] == 1
    assert all(rate > 0 for rate in rates.values())
