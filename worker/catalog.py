"""``python -m worker.catalog``: the architectures' figures, from the engine on the meta device, for the spec package.

The API reads the file it writes, so that parameters and FLOPs are known without torch; a test holds it to the engine.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from stillhouse.spec.catalog import FILE
from stillhouse.spec.datasets import DATASETS
from worker.engine.architectures import ARCHITECTURES, Architecture
from worker.engine.evaluate import count_flops
from worker.engine.points import described


def main() -> None:
    """Write the file."""
    FILE.write_text(json.dumps(catalog(), indent=1) + "\n")


def catalog() -> dict[str, Any]:
    """Every architecture with its figures on each built-in data set that it can take."""
    return {"architectures": {name: _entry(architecture) for name, architecture in ARCHITECTURES.items()}}


def _entry(architecture: Architecture) -> dict[str, Any]:
    figures = {}
    for dataset in DATASETS.values():
        channels, height, width = dataset.shape
        if min(height, width) >= architecture.minimum_size:
            with torch.device("meta"):
                body = architecture.build(len(dataset.classes), channels, (height, width))
            parameters = sum(parameter.numel() for parameter in body.parameters())
            points = described(body, dataset.shape, architecture.points)
            figures[dataset.name] = {
                "parameters": parameters,
                "flops": count_flops(body, dataset.shape),
                "points": {
                    kind: {name: list(shape) for name, shape in shapes.items()} for kind, shapes in points.items()
                },
            }
    return {
        "family": architecture.family,
        "source": architecture.source,
        "minimum_size": architecture.minimum_size,
        "figures": figures,
    }


if __name__ == "__main__":
    main()
