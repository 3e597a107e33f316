"""The fetching child: it has network, and sees no file of a user's. It turns a built-in set into the staged form."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from worker.child import Emitter
from worker.engine.data import store
from worker.engine.data.builtin import BUILTIN
from worker.sandbox import Protections


def run(arguments: Sequence[str], emitter: Emitter, _protections: Protections) -> int:
    """Write ``dataset/`` into the current folder, or say what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m worker.child fetch")
    parser.add_argument("name", choices=sorted(BUILTIN))
    parser.add_argument("--datasets-dir", type=Path)
    options = parser.parse_args(arguments)
    try:
        dataset = BUILTIN[options.name](options.datasets_dir, Path("cache"))
    except (OSError, RuntimeError, ValueError) as error:
        where = (
            f"not (whole) in {options.datasets_dir}" if options.datasets_dir else "STILLHOUSE_DATASETS_DIR is not set"
        )
        detail = f"data set {options.name}: {where}, and the download failed: {error}".replace("\n", " ")
        emitter.emit("failed", reason="download_failed", detail=detail)
        return 1
    store.save(Path("dataset"), dataset)
    return 0
