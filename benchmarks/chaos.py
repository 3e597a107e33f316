"""``python -m benchmarks.chaos``: faults at random moments, so many of each, and a table of what survived."""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.disturbance import Reference, disturb, undisturbed
from tests.faults.strikes import Stand, stand
from tests.servers.backends import BACKENDS


@dataclass
class Row:
    """One kind of fault, and what came of it."""

    fault: str
    trials: int = 0
    survived: int = 0
    jobs: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


def main() -> int:
    """Print the table; the exit status is 1 when any invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="embedded")
    parser.add_argument("--rows", default="", help="faults, separated by commas; by default all of the backend")
    parser.add_argument("--trials", type=int, default=5, help="of each row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, stand(options.backend, Path(folder)) as ground:
        faults = [name.strip() for name in options.rows.split(",") if name.strip()] or list(ground.strikes)
        if unknown := sorted(set(faults) - set(ground.strikes)):
            parser.error(f"no fault is called {', '.join(unknown)}; there are {', '.join(ground.strikes)}")
        expected = undisturbed(ground.service)
        rows = [_row(ground, expected, fault, trials=options.trials, chance=chance) for fault in faults]
    _show(rows, f"{options.backend}, seed {options.seed}, {platform.machine()}, Python {platform.python_version()}")
    return 1 if any(row.broken for row in rows) else 0


def _row(ground: Stand, expected: Reference, fault: str, *, trials: int, chance: random.Random) -> Row:
    row, waiting, began = Row(fault), deque([fault] * trials), time.monotonic()
    while waiting:
        disturbed = disturb(ground.service, expected, waiting, chance, strikes=ground.strikes)
        row.jobs += 1
        row.trials += len(disturbed.struck)
        row.survived += 0 if disturbed.broken else len(disturbed.struck)
        row.broken += [f"{fault}: {disturbed.job_id}: {sentence}" for sentence in disturbed.broken]
        print(f"{fault}: {row.trials}/{trials}, {row.jobs} jobs, {len(row.broken)} broken", file=sys.stderr)
    row.seconds = time.monotonic() - began
    return row


def _show(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    for heading in ("fault", "trials", "survived with the same bytes", "jobs", "seconds"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for row in rows:
        table.add_row(row.fault, str(row.trials), str(row.survived), str(row.jobs), f"{row.seconds:.0f}")
    total = [sum(getattr(row, name) for row in rows) for name in ("trials", "survived", "jobs", "seconds")]
    table.add_row("together", *(f"{number:.0f}" for number in total))
    Console(width=100).print(table)
    for row in rows:
        print("\n".join(row.broken), end="\n" if row.broken else "")


if __name__ == "__main__":
    sys.exit(main())
