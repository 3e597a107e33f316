"""Wide residual networks for small images: Zagoruyko, Komodakis (2016), table 1.

Batch norm and rectifier come before each convolution; where the width changes, the shortcut starts behind them.
Parameter names are those of the distillation literature's checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch norm and a rectifier."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(inner, outer, 1, stride=stride, bias=False) if inner != outer else None

    def forward(self, maps: Tensor) -> Tensor:
        active = F.relu(self.bn1(maps))
        residual = self.conv2(F.relu(self.bn2(self.conv1(active))))
        total: Tensor = residual + (maps if self.convShortcut is None else self.convShortcut(active))
        return total


class WideStage(nn.Module):
    """Blocks of one width; the first one changes the size."""

    def __init__(self, blocks: int, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(inner, outer, stride)
        self.layer = nn.Sequential(first, *(WideBlock(outer, outer, 1) for _ in range(blocks - 1)))

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.layer(maps)
        return out


class WideResNet(nn.Module):
    """Depth 6n + 4: n blocks in each of three stages, 16, 32 and 64 times ``widen`` wide."""

    def __init__(self, depth: int, widen: int, *, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, 16, 16 * widen, 1)
        self.block2 = WideStage(blocks, 16 * widen, 32 * widen, 2)
        self.block3 = WideStage(blocks, 32 * widen, 64 * widen, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.block3(self.block2(self.block1(self.conv1(images))))
        logits: Tensor = self.fc(F.relu(self.bn1(maps)).mean(dim=(2, 3)))
        return logits
