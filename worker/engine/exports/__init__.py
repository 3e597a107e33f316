"""Every export by its name. To add one: a file here, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.engine.exports import safetensors
from worker.engine.network import Network

EXPORTS: dict[str, Callable[[Network, Path], None]] = {"safetensors": safetensors.export}
