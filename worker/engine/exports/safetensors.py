"""Weights as safetensors, under their published names; equal weights give equal bytes."""

from __future__ import annotations

from pathlib import Path

from worker.engine import weights
from worker.engine.network import Network


def export(network: Network, path: Path) -> None:
    """Write the body's weights and buffers; no id and no time is in the file."""
    weights.write(path, network.body.state_dict())
