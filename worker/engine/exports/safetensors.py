"""Weights as safetensors, under their published names; equal weights give equal bytes."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from worker.engine.network import Network


def export(network: Network, path: Path) -> None:
    """Write the body's weights and buffers; no id and no time is in the file."""
    state = network.body.state_dict()
    save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, path)
