"""Checkpoints on disk: whole or not at all, and read back without running anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from worker.engine import failpoint


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write by temporary name, fsync and rename. Raises OSError; a full disk leaves no file behind."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        failpoint.reach("checkpoint.write")
        draft.rename(path)
        failpoint.reach("checkpoint.rename")
    except RuntimeError as error:  # torch's zip writer says "unexpected pos" where the disk is full
        draft.unlink(missing_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any]:
    """Read what ``save`` wrote: tensors and plain values only."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
