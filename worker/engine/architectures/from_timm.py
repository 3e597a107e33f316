"""timm's classifiers. timm, which costs seconds to import, is imported when one of them is asked for."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from worker.engine.architecture import Architecture, Published


@cache
def names() -> tuple[str, ...]:
    """Every model's name, without the prefix."""
    import timm  # noqa: PLC0415

    return tuple(timm.list_models())


@cache
def _families() -> dict[str, str]:
    """The module of each name."""
    import timm  # noqa: PLC0415

    return {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}


def find(name: str) -> Architecture | None:
    """The architecture of timm's ``name``, if there is one."""
    if name not in names():
        return None
    from timm.models import get_pretrained_cfg  # noqa: PLC0415

    config = get_pretrained_cfg(name)
    first = config.first_conv if config is not None else None
    return Architecture(
        name=f"timm/{name}",
        family=_families().get(name, "other"),
        build=partial(_build, name),
        minimum_size=1,
        source="timm",
        input_size=config.input_size[-1] if config is not None and config.input_size else None,
        fixed=bool(config is not None and config.fixed_input_size),
        first_convolution=first if isinstance(first, str) else None,
    )


def tags(name: str) -> dict[str, int]:
    """By the tag of each set of weights that is published for ``name``, the side it was made for; the default first."""
    return {tag: int(config.input_size[-1]) for tag, config in _published(name).items()}


def _published(name: str) -> dict[str, Any]:
    """What timm knows of each of them."""
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg  # noqa: PLC0415

    found = {
        full.partition(".")[2]: config
        for full, config in get_arch_pretrained_cfgs(name).items()
        if config.hf_hub_id and config.num_classes
    }
    default = get_pretrained_cfg(name)
    first = default.tag if default is not None else None
    return {tag: found[tag] for tag in sorted(found, key=lambda tag: tag != first)}


def published(name: str) -> Published | None:
    """The weights of ``NAME`` or ``NAME.TAG``, as they lie on the hub; timm knows no digest of them."""
    bare, _, tag = name.partition(".")
    known = _published(bare) if bare in names() else {}
    if not known or (tag and tag not in known):
        return None
    tag = tag or next(iter(known))
    config = known[tag]
    file = config.hf_hub_filename or "model.safetensors"
    channels, height, width = config.input_size
    repository = config.hf_hub_id.rpartition("/")[2]
    return Published(
        architecture=f"timm/{bare}",
        url=f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}",
        files=(f"{repository}.safetensors", f"timm/{repository}/{file}", f"{repository}/{file}"),
        sha256_prefix="",
        shape=(channels, height, width),
        mean=tuple(config.mean),
        std=tuple(config.std),
        classes=tuple(str(number) for number in range(config.num_classes)),
        load=partial(_load, f"{bare}.{tag}"),
    )


def _load(name: str, path: Path) -> nn.Module:
    """As timm loads them, which renames what an older or foreign file calls otherwise."""
    import timm  # noqa: PLC0415

    overlay = {"file": str(path), "custom_load": False}
    body: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return body


def _build(name: str, classes: int, channels: int, _size: tuple[int, int]) -> nn.Module:
    import timm  # noqa: PLC0415

    body: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
    return body
