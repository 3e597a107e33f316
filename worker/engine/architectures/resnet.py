"""Residual networks for small images: He, Zhang, Ren, Sun (2016), section 4.2, as the distillation papers build them.

Three stages of basic blocks, 16, 32 and 64 wide; the x4 variants are four times as wide with a stem of 32. Shortcuts
across shapes are 1x1 convolutions. Parameter names are those of torchvision's ResNet, so published weights load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU()  # a module, so that its input can be named as a feature point
        self.downsample: nn.Module | None = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, maps: Tensor) -> Tensor:
        residual = F.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        total: Tensor = self.relu(residual + shortcut)
        return total


class ResNet(nn.Module):
    """Depth 6n + 2: n blocks in each of three stages."""

    def __init__(self, depth: int, widths: tuple[int, int, int, int], *, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        inner = stem
        for number, width in enumerate(stages, start=1):
            first = BasicBlock(inner, width, stride=1 if number == 1 else 2)
            rest = (BasicBlock(width, width, stride=1) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            inner = width
        self.fc = nn.Linear(inner, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            maps = self.get_submodule(f"layer{number}")(maps)
        logits: Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits
