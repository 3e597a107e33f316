"""ShuffleNetV2 at width 1 for small images: Ma, Zhang, Zheng, Sun (2018), table 5, as the distillation papers build it.

A 1x1 stem of 24 keeps the size; three stages of 4, 8 and 4 blocks, 116, 232 and 464 wide, halve it each. Parameter
names are those of the literature's checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEM, _LAST = 24, 1024
_STAGES = ((116, 4), (232, 8), (464, 4))


class BasicBlock(nn.Module):
    """Half of the channels pass as they are, the other half goes through three convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        passed, worked = maps.chunk(2, dim=1)
        worked = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(worked)))))
        worked = F.relu(self.bn3(self.conv3(worked)))
        return F.channel_shuffle(torch.cat([passed, worked], dim=1), 2)


class DownBlock(nn.Module):
    """Two ways at half the size, side by side."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        half = outer // 2
        self.conv1 = nn.Conv2d(inner, inner, 3, stride=2, padding=1, groups=inner, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inner, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, maps: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(maps)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(maps)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return F.channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """Width 1."""

    def __init__(self, *, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        inner = _STEM
        for number, (width, blocks) in enumerate(_STAGES, start=1):
            stage = nn.Sequential(DownBlock(inner, width), *(BasicBlock(width) for _ in range(blocks - 1)))
            self.add_module(f"layer{number}", stage)
            inner = width
        self.conv2 = nn.Conv2d(inner, _LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_LAST)
        self.linear = nn.Linear(_LAST, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            maps = self.get_submodule(f"layer{number}")(maps)
        logits: Tensor = self.linear(F.relu(self.bn2(self.conv2(maps))).mean(dim=(2, 3)))
        return logits
