"""MobileNetV2 at half width for small images: Sandler and others (2018), table 2, as the distillation papers build it.

The expansion is 6, the first convolution halves the image, the first 7x7 stage of stride 2 keeps it, and the first
block expands too, by 1. Parameter names are those of the literature's checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels at full width, blocks, stride of the first block."""
_LAST = 1280


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; no rectifier at the end."""

    def __init__(self, inner: int, outer: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.adds = stride == 1 and inner == outer
        self.conv = nn.Sequential(
            nn.Conv2d(inner, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, outer, 1, bias=False),
            nn.BatchNorm2d(outer),
        )

    def forward(self, maps: Tensor) -> Tensor:
        narrow: Tensor = self.conv(maps)
        return maps + narrow if self.adds else narrow


class MobileNetV2(nn.Module):
    """Every width but the last is halved."""

    def __init__(self, *, classes: int, channels: int) -> None:
        super().__init__()
        inner = 16
        self.conv1 = _convolution(channels, inner, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        for expansion, width, blocks, stride in _STAGES:
            outer = width // 2
            strides = (stride, *(1 for _ in range(blocks - 1)))
            stage = []
            for each in strides:
                stage.append(InvertedResidual(inner, outer, each, expansion))
                inner = outer
            self.blocks.append(nn.Sequential(*stage))
        self.conv2 = _convolution(inner, _LAST, kernel=1, stride=1)
        self.classifier = nn.Sequential(nn.Linear(_LAST, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv1(images)
        for stage in self.blocks:
            maps = stage(maps)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.conv2(maps), 1).flatten(1))
        return logits


def _convolution(inner: int, outer: int, *, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inner, outer, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))
