"""Weights as safetensors, under their published names; equal weights give equal bytes."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from worker.engine.network import Network


def export(network: Network, path: Path) -> None:
    """Write the body's weights and buffers; no id and no time is in the file."""
    state = network.body.state_dict()
    # its own save_file goes by the whole path, and the folders above may be closed to who writes here
    path.write_bytes(save({name: state[name].detach().cpu().contiguous() for name in sorted(state)}))
