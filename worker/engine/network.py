"""A network together with what it does to an image first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.engine.architecture import Architecture, on_meta, small_stem
from worker.engine.architectures import find
from worker.engine.architectures.layers import build_layers
from worker.engine.errors import ArchitectureError
from worker.engine.method import Outputs
from worker.engine.points import Capture, FeaturePoints, Shape, derive, shapes_of

Stem = Literal["standard", "small"]
Description = str | Sequence[Mapping[str, Any]]
"""The name of an architecture, or its layers."""

_GREY = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in a grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class Preprocessing:
    """Channels, height and width of the input, and the mean and deviation it is normalised by (of values 0 to 1)."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Network(nn.Module):
    """Preprocessing inside: images in 0 to 1 go in, so networks of different sizes and statistics can share a batch.

    Images of another size are resized (bilinear with antialiasing); a grey image is repeated for a network of three
    channels, and a colour image becomes grey for a network of one.
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
        return self.through(self.body, images)

    def through(self, body: Callable[[Tensor], Tensor], images: Tensor) -> Outputs:
        """The same by another form of the body."""
        prepared = self.prepare(images)
        if self.capture is None:
            return Outputs(logits=body(prepared))
        with self.capture.record() as features:
            return Outputs(logits=body(prepared), features=features)

    def prepare(self, images: Tensor) -> Tensor:
        """What the body is given."""
        return (self._shaped(images) - self.mean).div_(self.std)

    def _shaped(self, images: Tensor) -> Tensor:
        channels, height, width = self.preprocessing.shape
        if images.shape[2:] != (height, width):
            images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)
        if images.shape[1] == channels:
            return images
        if images.shape[1] == 1:
            return images.expand(-1, channels, -1, -1)
        if (images.shape[1], channels) != (3, 1):
            message = f"images of {images.shape[1]} channels cannot be shown to a network of {channels}."
            raise ArchitectureError(message, remedy="Choose a network of the data's channels.")
        return (images * images.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of an image as the body takes it."""
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
    architecture: Description, *, classes: int, shape: tuple[int, int, int], stem: Stem = "standard"
) -> nn.Module:
    """The network alone. Raises ArchitectureError for a name that is unknown or an input that does not suit it."""
    channels, height, width = shape
    if not isinstance(architecture, str):
        return build_layers(architecture, classes=classes, channels=channels, size=(height, width))
    known = find(architecture)
    if known is None:
        raise ArchitectureError(f"no architecture is called {architecture!r}.", remedy="See the catalog.")
    if min(height, width) < known.minimum_size:
        message = (
            f"{architecture} takes images of at least {known.minimum_size}x{known.minimum_size}, not {height}x{width}."
        )
        raise ArchitectureError(message, remedy="Choose a smaller architecture, or set input_size.")
    body = known.build(classes, channels, (height, width))
    if stem == "small":
        small_stem(body, known)
    if known.input_size is not None:
        _try(known, shape, stem)
    return body


def _try(known: Architecture, shape: tuple[int, int, int], stem: Stem) -> None:
    """Follow one image through a library's network without computing: only that tells whether its size suits it."""

    def build() -> nn.Module:
        body = known.build(2, shape[0], shape[1:])
        if stem == "small":
            small_stem(body, known)
        return body

    body = on_meta(build)
    try:
        answer = body(torch.empty(1, *shape, device="meta"))
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        height, width = shape[1:]
        raise ArchitectureError(
            f"{known.name} cannot take images of {height}x{width}: {error}.",
            remedy=f"Set input_size, such as {known.input_size}, for which it was designed.",
        ) from error
    if answer.shape != (1, 2):
        raise ArchitectureError(f"{known.name} is no classifier of images.", remedy="See the catalog for those.")


def head_names(
    body: nn.Module, architecture: Description, *, classes: int, preprocessing: Preprocessing, stem: Stem = "standard"
) -> frozenset[str]:
    """The names of the classifier's weights: those whose shape is another for another number of classes."""
    wider = on_meta(partial(build_body, architecture, classes=classes + 1, shape=preprocessing.shape, stem=stem))
    other = wider.state_dict()
    return frozenset(name for name, tensor in body.state_dict().items() if other[name].shape != tensor.shape)


def build_network(
    *,
    architecture: Description,
    classes: int,
    preprocessing: Preprocessing,
    seed: int,
    stem: Stem = "standard",
) -> Network:
    """A network whose weights are a function of ``seed`` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_body(architecture, classes=classes, shape=preprocessing.shape, stem=stem)
    known = find(architecture) if isinstance(architecture, str) else None
    points = known.points if known is not None else None
    return Network(body.to(memory_format=torch.channels_last), preprocessing, points=points)
