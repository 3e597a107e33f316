"""VGG with batch norm for small images: Simonyan, Zisserman (2015), table 1, as the distillation papers build it.

Five blocks of 3x3 convolutions; the hidden linear layers are left out, and the last map is averaged. VGG-8, of one
convolution a block, is the literature's own. Parameter names are those of its checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """``depths`` convolutions in each of five blocks."""

    def __init__(self, depths: tuple[int, int, int, int, int], *, classes: int, channels: int) -> None:
        super().__init__()
        inner = channels
        for number, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True)):
            self.add_module(f"block{number}", _block(depth, inner, width))
            inner = width
        self.classifier = nn.Linear(inner, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Halves the map behind the first three blocks and, of images of 64 or more, behind the fourth."""
        maps = images
        halvings = 3 if images.shape[2] < 64 else 4
        for number in range(len(WIDTHS)):
            maps = F.relu(self.get_submodule(f"block{number}")(maps))
            if number < halvings:
                maps = F.max_pool2d(maps, 2)
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


def _block(depth: int, inner: int, width: int) -> nn.Sequential:
    """Its last rectifier is the network's, so that feature points lie before it."""
    modules: list[nn.Module] = []
    for _ in range(depth):
        modules += [nn.Conv2d(inner, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        inner = width
    return nn.Sequential(*modules[:-1])
