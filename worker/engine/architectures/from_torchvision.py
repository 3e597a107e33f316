"""torchvision's classifiers, as torchvision builds them, without their auxiliary heads.

torchvision is imported when one of them is asked for.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worker.engine.architecture import Architecture, Published, set_channels

_EXTRAS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
    "vit_h_14": {"image_size": 518},
}
_FIRST_CONVOLUTION = {
    "resnet": "conv1",
    "resnext": "conv1",
    "wide_resnet": "conv1",
    "densenet": "features.conv0",
    "googlenet": "conv1.conv",
    "mobilenet": "features.0.0",
    "efficientnet": "features.0.0",
    "mnasnet": "layers.0",
    "regnet": "stem.0",
    "shufflenet": "conv1.0",
}
"""By family, of those with a stem that halves the image."""
_FIXED = ("vit", "maxvit")


@cache
def names() -> tuple[str, ...]:
    """Every classifier's name, without the prefix."""
    import torchvision  # noqa: PLC0415  # a second of start-up, for those who need it

    return tuple(torchvision.models.list_models(module=torchvision.models))


def find(name: str) -> Architecture | None:
    """The architecture of torchvision's ``name``, if there is one."""
    if name not in names():
        return None
    family = _family(name)
    transform = _weights(name).DEFAULT.transforms()
    return Architecture(
        name=f"torchvision/{name}",
        family=family,
        build=partial(_build, name),
        minimum_size=1,
        source="torchvision",
        input_size=transform.crop_size[0],
        fixed=family in _FIXED,
        first_convolution=_FIRST_CONVOLUTION.get(family),
    )


def published(name: str) -> Published | None:
    """The newest weights for ``name``; the first digits of their sha256 are in the file's name."""
    if name not in names():
        return None
    best = _weights(name).DEFAULT
    transform = best.transforms()
    file = best.url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,})\.", file)
    side = transform.crop_size[0]
    return Published(
        architecture=f"torchvision/{name}",
        url=best.url,
        files=(file, f"torchvision/{file}"),
        sha256_prefix=digits[1] if digits else "",
        shape=(3, side, side),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        classes=tuple(best.meta["categories"]),
        load=partial(_load, name, file),
    )


def _load(name: str, file: str, path: Path) -> nn.Module:
    """As torchvision loads them, which knows of older names and auxiliary heads, from its cache."""
    import torchvision  # noqa: PLC0415

    cache_folder = path.parent / "checkpoints"
    cache_folder.mkdir(exist_ok=True)
    (cache_folder / file).symlink_to(Path("..") / path.name)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(path.parent))
    try:
        body: nn.Module = torchvision.models.get_model(name, weights=_weights(name).DEFAULT)
    finally:
        torch.hub.set_dir(before)
    return body


def _family(name: str) -> str:
    found = re.match(r"wide_resnet|resnext|[a-z]+", name)
    assert found is not None
    return found[0]


def _weights(name: str) -> Any:
    import torchvision  # noqa: PLC0415

    return torchvision.models.get_model_weights(name)


def _build(name: str, classes: int, channels: int, _size: tuple[int, int]) -> nn.Module:
    import torchvision  # noqa: PLC0415

    body: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **_EXTRAS.get(name, {}))
    if channels != 3:
        set_channels(body, channels)
    return body
