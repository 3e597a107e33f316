"""Weights that come from elsewhere: read without running anything in them, then fitted to a network with a report."""

from __future__ import annotations

from worker.engine.weights.fit import Fitted, fit, listed
from worker.engine.weights.read import Found, read
from worker.engine.weights.stored import ONNX, Stored, describe, load, open_black_box, rebuild, restore, save, write

__all__ = [
    "ONNX",
    "Fitted",
    "Found",
    "Stored",
    "describe",
    "fit",
    "listed",
    "load",
    "open_black_box",
    "read",
    "rebuild",
    "restore",
    "save",
    "write",
]
