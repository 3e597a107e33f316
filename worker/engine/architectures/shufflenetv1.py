"""ShuffleNet for small images: Zhang, Zhou, Lin, Sun (2018), table 1 at three groups, as the distillation papers do.

A 1x1 stem of 24 keeps the size; three stages of 4, 8 and 4 blocks, 240, 480 and 960 wide, halve it each. A block's
middle is a quarter of its own output. Parameter names are those of the literature's checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEM, _GROUPS = 24, 3
_STAGES = ((240, 4), (480, 8), (960, 4))


class ShuffleBlock(nn.Module):
    """Grouped 1x1 convolution, shuffle, one filter a channel, grouped 1x1 convolution.

    At stride 2 the averaged input is put beside the result, otherwise it is added.
    """

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        middle = outer // 4
        self.stride = stride
        self.groups = 1 if inner == _STEM else _GROUPS
        self.conv1 = nn.Conv2d(inner, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outer, 1, groups=_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.channel_shuffle(F.relu(self.bn1(self.conv1(maps))), self.groups)
        residual: Tensor = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(inner)))))
        if self.stride == 1:
            return F.relu(residual + maps)
        return F.relu(torch.cat([residual, F.avg_pool2d(maps, 3, stride=2, padding=1)], dim=1))


class ShuffleNetV1(nn.Module):
    """Three groups."""

    def __init__(self, *, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        inner = _STEM
        for number, (width, blocks) in enumerate(_STAGES, start=1):
            first = ShuffleBlock(inner, width - inner, 2)
            stage = nn.Sequential(first, *(ShuffleBlock(width, width, 1) for _ in range(blocks - 1)))
            self.add_module(f"layer{number}", stage)
            inner = width
        self.linear = nn.Linear(inner, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            maps = self.get_submodule(f"layer{number}")(maps)
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits
