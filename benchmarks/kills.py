"""``python -m benchmarks.kills``: kill -9 at random moments, so many times, and a table of what came of it."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.disturbance import TARGETS, disturb, undisturbed
from tests.harness import service


def main() -> int:
    """Print the table; the exit status is 1 when any invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    targets = [chance.choice(TARGETS) for _ in range(options.kills)]
    waiting = iter(targets)
    survived: Counter[str] = Counter()
    broken: list[str] = []
    jobs = attempts = struck = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "data") as running:
        expected = undisturbed(running)
        while struck < options.kills:
            disturbed = disturb(running, expected, waiting, chance)
            jobs, attempts, struck = jobs + 1, attempts + disturbed.attempts, struck + len(disturbed.kills)
            broken += [f"{disturbed.job_id}: {sentence}" for sentence in disturbed.broken]
            if not disturbed.broken:
                survived.update(disturbed.kills)
            print(f"{struck}/{options.kills} kills, {jobs} jobs, {len(broken)} broken", file=sys.stderr)
    table = Table(
        title=f"kill -9, seed {options.seed}: {jobs} jobs, {attempts} attempts, {time.monotonic() - began:.0f} s"
    )
    for heading in ("killed", "times", "survived with the same bytes"):
        table.add_column(heading)
    for target in TARGETS:
        table.add_row(target, str(targets[:struck].count(target)), str(survived[target]))
    table.add_row("together", str(struck), str(survived.total()))
    Console(width=100).print(table)
    print(f"{platform.machine()}, Python {platform.python_version()}; broken invariants: {len(broken)}")
    print("\n".join(broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
