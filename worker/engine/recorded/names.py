"""Rows that say by a path which image they are of: matched with the names that an uploaded data set keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from worker.engine.data.files import shown
from worker.engine.errors import WeightsRefused

_SHOWN = 5


def pack(names: Sequence[str]) -> bytes:
    """A line each."""
    return "".join(f"{name}\n" for name in names).encode(errors="replace")


def unpack(lines: Tensor | None) -> list[str]:
    """What ``pack`` made, as uint8 [bytes]; none of None."""
    return [] if lines is None else bytes(lines.numpy()).decode(errors="replace").split("\n")[:-1]


def once(names: Sequence[str]) -> list[str]:
    """The names as paths with forward slashes. Raises WeightsRefused where one is there twice."""
    clean = ["/".join(step for step in _lined(name).split("/") if step not in ("", ".")) for name in names]
    twice = [name for name, times in Counter(clean).items() if times > 1]
    if twice:
        message = f"{len(twice):,} names are there more than once: {_some(twice)}."
        raise WeightsRefused(message, remedy="Give one row for each image.")
    return clean


def matched(given: Sequence[str], images: Sequence[str]) -> tuple[Tensor, str]:
    """For each image its row (int64 [N]), and how many rows are of none. Raises WeightsRefused for one without a row.

    The rows may leave out folders from the top of the images' names, the same number of all.
    """
    if not images:
        message = "the file's rows have names, and the data set knows none of its images'."
        raise WeightsRefused(
            message, remedy="Give ids: each image's place in the training split as published or uploaded, from 0."
        )
    rows = {name: row for row, name in enumerate(given)}
    best: tuple[int, list[str], set[str]] | None = None
    for folders in count():
        cut = [name.split("/", folders)[folders:] for name in images]
        known = [steps[0] if steps else "" for steps in cut]
        if "" in known or len(set(known)) < len(known):
            break
        missing = [name for name in known if name not in rows]
        if not missing:
            left_over = len(given) - len(known)
            order = torch.tensor([rows[name] for name in known])
            return order, f"and {left_over:,} rows were of no training image" if left_over else "each with one"
        if best is None or len(missing) < best[0]:
            best = (len(missing), missing, set(rows) - set(known))
    if best is None:
        raise WeightsRefused(
            "several images of the data set have one name.", remedy="Give ids: each image's place in its split, from 0."
        )
    lacking, missing, unknown = best
    message = f"{lacking:,} of the {len(images):,} training images have no row: {_some(missing)}"
    if unknown:
        message += f"; {len(unknown):,} rows name no training image: {_some(sorted(unknown))}"
    raise WeightsRefused(f"{message}.", remedy="Name each image by its path in the uploaded archive.")


def _lined(name: str) -> str:
    return name.replace("\\", "/").replace("\n", " ")


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more
