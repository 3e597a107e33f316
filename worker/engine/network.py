"""A network together with what it does to an image first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.architectures import ARCHITECTURES
from worker.engine.architectures.layers import build_layers
from worker.engine.errors import ArchitectureError
from worker.engine.method import Outputs
from worker.engine.points import Capture, FeaturePoints, Shape, derive, shapes_of


@dataclass(frozen=True)
class Preprocessing:
    """Channels, height and width of the input, and the mean and deviation it is normalised by (of values 0 to 1)."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Network(nn.Module):
    """Normalisation inside: images in 0 to 1 go in, so networks with different statistics can share a batch.

    ``body`` alone carries the weights, under their published names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, preprocessing: Preprocessing, *, points: FeaturePoints | None = None) -> None:
        super().__init__()
        self.body = body
        self.preprocessing = preprocessing
        self.capture: Capture | None = None
        self.additions: dict[str, Any] = {}
        """What a method put into the body beyond its architecture; see ``simkd.reshape``."""
        self._points = points
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        """Float [B, C, H, W] in 0 to 1, to logits [B, classes] and the features that are captured."""
        normalised = (images - self.mean) / self.std
        if self.capture is None:
            return Outputs(logits=self.body(normalised))
        with self.capture.record() as features:
            return Outputs(logits=self.body(normalised), features=features)

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of an image."""
        return self.preprocessing.shape

    @property
    def points(self) -> FeaturePoints:
        """The points a method reads where none are named: the architecture's own, else derived from the modules."""
        if self._points is None:
            self._points = derive(self.body, self.preprocessing.shape)
        return self._points

    def capture_points(self, points: Sequence[str], *, whose: str) -> dict[str, Shape]:
        """From now on give these features, and no others. Returns their shapes; raises MethodRefused."""
        shapes = shapes_of(self.body, points, self.preprocessing.shape, whose=whose) if points else {}
        if self.capture is not None:
            self.capture.remove()
        self.capture = Capture(self.body, points) if points else None
        return shapes

    def fingerprint(self) -> str:
        """sha256 over names and bytes of the weights and buffers."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.body.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def build_body(
    architecture: str | Sequence[Mapping[str, Any]], *, classes: int, shape: tuple[int, int, int]
) -> nn.Module:
    """The network alone. Raises ArchitectureError for a name that is unknown or an input that is too small."""
    channels, height, width = shape
    if not isinstance(architecture, str):
        return build_layers(architecture, classes=classes, channels=channels, size=(height, width))
    known = ARCHITECTURES.get(architecture)
    if known is None:
        raise ArchitectureError(f"no architecture is called {architecture!r}.", remedy="See the catalog.")
    if min(height, width) < known.minimum_size:
        message = (
            f"{architecture} takes images of at least {known.minimum_size}x{known.minimum_size}, not {height}x{width}."
        )
        raise ArchitectureError(message, remedy="Choose a smaller architecture.")
    return known.build(classes, channels, (height, width))


def build_network(
    *, architecture: str | Sequence[Mapping[str, Any]], classes: int, preprocessing: Preprocessing, seed: int
) -> Network:
    """A network whose weights are a function of ``seed`` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_body(architecture, classes=classes, shape=preprocessing.shape)
    known = ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
    points = known.points if known is not None else None
    return Network(body.to(memory_format=torch.channels_last), preprocessing, points=points)
