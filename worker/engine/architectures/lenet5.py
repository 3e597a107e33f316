"""LeNet-5: LeCun, Bottou, Bengio, Haffner (1998), with rectifiers and max pooling in the place of tanh and averages."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Made for 32x32; smaller images are padded, as MNIST's 28x28 were."""

    def __init__(self, *, classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        padded = [max(side, 32) for side in size]
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in padded)
        self.pad = (padded[1] - size[1], padded[0] - size[0])
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * rows * columns, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        across, down = self.pad
        maps = F.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
        maps = F.max_pool2d(F.relu(self.conv1(maps)), 2)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)
        hidden = F.relu(self.fc2(F.relu(self.fc1(maps.flatten(1)))))
        logits: Tensor = self.fc3(hidden)
        return logits
