"""Which trainings of a job run side by side in one child, and how they take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from worker.phases import Phase

_AT_ONCE = 8


def groups(planned: Sequence[Phase], *, together: bool) -> list[list[Phase]]:
    """What is trained at a time: each phase by itself or, ``together``, the seeds of each generation, of students, of
    controls."""
    if not together:
        return [[phase] for phase in planned]
    levels: dict[str, list[Phase]] = {}
    for phase in planned:
        level = phase.name if phase.kind == "teacher" else phase.name.rpartition("-")[0]
        levels.setdefault(level, []).append(phase)
    return [seeds[start : start + _AT_ONCE] for seeds in levels.values() for start in range(0, len(seeds), _AT_ONCE)]


def take_turns(trainings: Sequence[Iterator[None]], device: torch.device) -> None:
    """A step of each in turn until all have ended; on a GPU each on a stream of its own.

    One small network at a small batch leaves most of a GPU idle. A training's random numbers are set anew in each
    step, so that the others' steps between two of its own change no bit of it.
    """
    if len(trainings) == 1 or device.type != "cuda":
        streams: list[torch.cuda.Stream | None] = [None] * len(trainings)
    else:
        streams = [torch.cuda.Stream(device) for _ in trainings]  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)  # what they share was made on the stream of before
    running = list(zip(trainings, streams, strict=True))
    while running:
        left = []
        for training, stream in running:
            with torch.cuda.stream(stream):  # of None: nothing
                if next(training, _ENDED) is not _ENDED:
                    left.append((training, stream))
        running = left
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_ENDED = object()
