"""Architectures: the literature's counts, and every network that a spec may name."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch

from stillhouse.spec.catalog import architectures
from worker.engine.architecture import on_meta, small_stem
from worker.engine.architectures import ARCHITECTURES, LIBRARIES, find
from worker.engine.errors import ArchitectureError
from worker.engine.evaluate import count_flops
from worker.engine.network import Network, Preprocessing, build_body

PUBLISHED = {
    "resnet20": 278_324,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}
"""Parameters for 100 classes; the papers' tables say 0.278 M, 0.862 M, 1.737 M ..."""
MULTIPLY_ADDS = {
    "resnet20": 40.8e6,
    "resnet56": 125.8e6,
    "resnet110": 253.2e6,
    "resnet8x4": 177.1e6,
    "resnet32x4": 1083e6,
    "wrn_16_2": 101.1e6,
    "wrn_40_1": 83.3e6,
    "wrn_40_2": 327.6e6,
}


@cache
def smallest(prefix: str) -> dict[str, str]:
    """Of each family of a library the network with the fewest parameters, as the catalog has them."""
    from stillhouse.spec.catalog import architectures  # noqa: PLC0415  # the catalog saves building them all

    found: dict[str, tuple[int, str]] = {}
    for name, known in architectures().items():
        if name.startswith(f"{prefix}/") and isinstance(known.figures.parameters, tuple):
            constant = known.figures.parameters[0]
            found[known.family] = min(found.get(known.family, (constant, name)), (constant, name))
    return {family: name for family, (_, name) in found.items()}


PARTS = 12
"""Of timm's thousand: each is a test of its own, since a test ends after ten minutes."""


def logits_on_meta(name: str) -> torch.Size:
    known = find(name)
    assert known is not None
    side = known.input_size or max(known.minimum_size, 8)
    body = on_meta(lambda: known.build(7, 3, (side, side)))
    shape: torch.Size = body(torch.empty(2, 3, side, side, device="meta")).shape
    return shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    body = on_meta(lambda: ARCHITECTURES[name].build(100, 3, (32, 32)))
    assert sum(parameter.numel() for parameter in body.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_flops_count_a_multiply_add_as_two(name: str) -> None:
    body = on_meta(lambda: ARCHITECTURES[name].build(100, 3, (32, 32)))
    assert count_flops(body, (3, 32, 32)) == pytest.approx(2 * MULTIPLY_ADDS[name], rel=0.002)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_bare_name_trains_for_real_at_its_smallest_size(name: str) -> None:
    side = ARCHITECTURES[name].minimum_size
    body = ARCHITECTURES[name].build(7, 2, (side, side)).train()
    logits = body(torch.rand(3, 2, side, side))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in body.parameters())


def test_every_torchvision_classifier_gives_logits() -> None:
    for name in LIBRARIES["torchvision"].names():
        assert logits_on_meta(f"torchvision/{name}") == (2, 7), name


def test_a_timm_classifier_of_each_family_gives_logits() -> None:
    families = smallest("timm")
    assert len(families) > 60
    for name in families.values():
        assert logits_on_meta(name) == (2, 7), name


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_timm_classifier_gives_logits(part: int) -> None:
    names = [name for name in architectures() if name.startswith("timm/")]
    assert len(names) > 1000
    for name in names[part::PARTS]:
        assert logits_on_meta(name) == (2, 7), name


def real(name: str, *, side: int | None = None) -> None:
    known = find(name)
    assert known is not None
    side = side or known.input_size or 224
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        body = build_body(name, classes=7, shape=(3, side, side)).eval()
    with torch.inference_mode():
        assert body(torch.rand(1, 3, side, side)).shape == (1, 7)


@pytest.mark.parametrize(
    "family", ["resnet", "mobilenet", "shufflenet", "squeezenet", "mnasnet", "regnet", "googlenet"]
)
def test_a_small_torchvision_network_of_each_family_computes(family: str) -> None:
    real(smallest("torchvision")[family], side=96)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["torchvision", "timm"])
def test_a_network_of_each_family_computes(prefix: str) -> None:
    for name in smallest(prefix).values():
        real(name)


def test_a_small_stem_keeps_the_size_of_small_images() -> None:
    """With it, torchvision's resnet50 is the one of the distillation papers: 23.7 M for 100 classes."""
    known = find("torchvision/resnet50")
    assert known is not None
    body = on_meta(lambda: build_body("torchvision/resnet50", classes=100, shape=(3, 32, 32), stem="small"))
    assert sum(parameter.numel() for parameter in body.parameters()) == 23_705_252
    assert body.get_submodule("layer1")(body.get_submodule("conv1")(torch.empty(1, 3, 32, 32, device="meta"))).shape[
        2:
    ] == (32, 32)
    assert body(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 100)


@pytest.mark.parametrize("name", ["torchvision/vgg11", "torchvision/vit_b_16", "timm/convnext_tiny", "resnet20"])
def test_a_network_without_such_a_stem_says_so(name: str) -> None:
    known = find(name)
    assert known is not None
    body = on_meta(lambda: known.build(7, 3, (224, 224)))
    with pytest.raises(ArchitectureError, match="no stem that could be made small"):
        small_stem(body, known)


def test_channels_can_be_chosen() -> None:
    for name in ("torchvision/mobilenet_v2", "timm/mobilenetv3_small_050"):
        body = on_meta(lambda: build_body(name, classes=7, shape=(1, 64, 64)))  # noqa: B023  # built at once
        assert body(torch.empty(1, 1, 64, 64, device="meta")).shape == (1, 7)


def test_a_size_that_a_library_cannot_take_is_refused_with_its_own() -> None:
    with pytest.raises(ArchitectureError, match="cannot take images of 32x32") as caught:
        build_body("torchvision/alexnet", classes=7, shape=(3, 32, 32))
    assert "224" in caught.value.remedy


def test_a_library_network_that_is_no_classifier_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="no classifier"):
        on_meta(lambda: build_body("timm/qwen3_vit_88m_enc", classes=7, shape=(3, 384, 384)))


def test_an_unknown_name_is_refused() -> None:
    for name in ("resnet21", "torchvision/resnet21", "timm/resnet21", "other/resnet18"):
        with pytest.raises(ArchitectureError, match="no architecture"):
            build_body(name, classes=7, shape=(3, 32, 32))


def test_images_of_another_size_and_colour_are_fitted_inside() -> None:
    shape = (3, 16, 16)
    body = torch.nn.Flatten()
    network = Network(body, Preprocessing(shape, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    grey = torch.rand(2, 1, 8, 8)
    maps = network(grey).logits.view(2, *shape)
    assert torch.equal(maps[:, 0], maps[:, 1])
    assert torch.equal(maps[:, 0], maps[:, 2])
    same = torch.rand(2, *shape)
    assert torch.equal(network(same).logits.view(2, *shape), same)
    one = Network(body, Preprocessing((1, 16, 16), (0.0,), (1.0,)))
    white = one(torch.ones(1, 3, 16, 16)).logits
    assert torch.allclose(white, torch.ones_like(white))
    with pytest.raises(ArchitectureError, match="4 channels"):
        network(torch.rand(1, 4, 16, 16))


def test_a_shrunken_image_is_averaged_not_sampled() -> None:
    network = Network(torch.nn.Flatten(), Preprocessing((1, 4, 4), (0.0,), (1.0,)))
    stripes = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    assert network(stripes).logits.sub(0.5).abs().max() < 0.05
