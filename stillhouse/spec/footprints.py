"""What a network of a spec would cost on given images, and whether it can take them; without torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from stillhouse.spec.catalog import ArchitectureEntry, Footprint, Shape, architectures, split_tag
from stillhouse.spec.layer_points import feature_points
from stillhouse.spec.layers import LayerShapeError, trace
from stillhouse.spec.networks import LayeredStudent, LayeredTeacher, NamedStudent, NamedTeacher, Network

ONNX = "onnx"
"""The architecture of an uploaded ONNX file, a teacher that can only be asked."""
LOGITS = "logits"
"""The architecture of an uploaded file of outputs, a teacher that has answered already."""
_FILES = {ONNX: "an ONNX file", LOGITS: "a file of logits"}
FEWEST_PUBLISHED = 384
"""Classes that the published weights of any architecture tell apart at least; most have ImageNet's 1,000."""
FINE_TUNE = "give the teacher train: {epochs: ...} to be fine-tuned first with a last layer of its own"
_SHOWN = 30


@dataclass
class Traced:
    """A network's costs, null where it is refused; refusals point into the network."""

    footprint: Footprint | None = None
    refusals: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def footprint(network: Network, *, shape: Shape, classes: int) -> Traced:
    """``shape`` is that of the data; ``input_size``, or an architecture that takes one size only, changes it."""
    if isinstance(network, LayeredStudent | LayeredTeacher):
        return _layers(network, shape, classes)
    if network.architecture in _FILES:
        return _file(network, _FILES[network.architecture])
    known = architectures().get(split_tag(network.architecture)[0])
    if known is None:
        suggestion = close(network.architecture, architectures())
        message = f"no architecture is called {network.architecture!r}{suggestion}"
        return Traced(refusals=[("/architecture", message)])
    return _named(network, known, shape, classes)


def input_shape(network: Network, shape: Shape) -> Shape:
    """Of the images as a network without weights of its own takes them, where the data's are of ``shape``."""
    side = None
    if isinstance(network, NamedStudent | NamedTeacher):
        known = architectures().get(split_tag(network.architecture)[0])
        side = network.input_size or (known.input_size if known is not None and known.fixed else None)
    return shape if side is None else (shape[0], side, side)


def _file(network: NamedStudent | NamedTeacher, what: str) -> Traced:
    found = Traced(Footprint(parameters=None, flops=None))
    if isinstance(network, NamedStudent):
        found.refusals.append(("/architecture", f"{what} can teach, but it cannot be a student: it has no layers"))
    elif network.weights is None or not network.weights.startswith("mdl_"):
        found.refusals.append(("/weights", f"{what} as a teacher is an uploaded model; name it as weights: mdl_..."))
    elif network.train is not None:
        found.refusals.append(("/train", f"{what} cannot be trained further; leave train out"))
    elif network.stem != "standard" or network.input_size is not None:
        place = "/stem" if network.stem != "standard" else "/input_size"
        found.refusals.append((place, f"{what} is used as it is; leave this out"))
    return found


def _layers(network: LayeredStudent | LayeredTeacher, shape: Shape, classes: int) -> Traced:
    try:
        traced = trace(network.layers, input_shape=shape, classes=classes)
    except LayerShapeError as error:
        place = "".join(f"/{step}" for step in error.path)
        message = f"layer {place.removeprefix('/')} on images of {'x'.join(map(str, shape))}: {error}"
        return Traced(refusals=[(f"/layers{place}", message)])
    points = feature_points(network.layers, input_shape=shape, classes=classes)
    return Traced(Footprint(parameters=traced.parameters, flops=2 * traced.macs, points=points))


def _named(network: NamedStudent | NamedTeacher, known: ArchitectureEntry, shape: Shape, classes: int) -> Traced:
    found = Traced()
    pretrained = network.weights == "pretrained"
    made_for = _published_side(network, known, found)
    if network.stem == "small" and known.small_stem is None:
        found.refusals.append(("/stem", f"{known.name} has no stem that could be made small; leave stem out"))
    elif network.stem == "small" and pretrained:
        message = "pretrained weights are those of the standard stem; leave stem out, or set input_size"
        found.refusals.append(("/stem", message))
    if known.fixed and network.input_size not in (None, known.input_size):
        message = f"{known.name} takes images of {known.input_size} only; leave input_size out to have them resized"
        found.refusals.append(("/input_size", message))
    if pretrained and isinstance(network, NamedTeacher) and network.train is None and classes < FEWEST_PUBLISHED:
        message = f"no published weights tell as few as {classes} classes apart; {FINE_TUNE}"
        found.refusals.append(("/weights", message))
    taken = input_shape(network, shape)
    if pretrained and made_for is not None:  # published weights take three channels, and that size
        side = network.input_size or made_for
        taken = (3, side, side)
    if network.weights is None or pretrained:
        _check_size(network, known, taken, found)
    if found.refusals:
        return found
    figures = known.small_stem if network.stem == "small" and known.small_stem is not None else known.figures
    found.footprint = figures.at(taken, classes)
    unknown = [name for name, value in vars(found.footprint).items() if value is None]
    if unknown:
        size = "x".join(map(str, taken))
        found.warnings.append(f"the catalog does not tell {' and '.join(unknown)} of {known.name} on images of {size}")
    return found


def _published_side(network: NamedStudent | NamedTeacher, known: ArchitectureEntry, found: Traced) -> int | None:
    """The side that the published weights were made for, which a tag in the architecture's name may choose."""
    _, tag = split_tag(network.architecture)
    side = next(iter(known.tags.values()), None) if known.name.startswith("timm/") else known.input_size
    if network.weights != "pretrained":
        if tag is not None:
            message = f"the tag .{tag} chooses pretrained weights; add weights: pretrained, or write {known.name}"
            found.refusals.append(("/architecture", message))
    elif side is None:
        message = f"there are no pretrained weights for {known.name}; name an uploaded model or a job"
        found.refusals.append(("/weights", message))
    elif tag is not None and tag not in known.tags:
        near = close(network.architecture, [f"{known.name}.{each}" for each in known.tags])
        found.refusals.append(("/architecture", f"{known.name} has no weights tagged .{tag}{near}"))
    return side if tag is None else known.tags.get(tag, side)


def _check_size(network: NamedStudent | NamedTeacher, known: ArchitectureEntry, taken: Shape, found: Traced) -> None:
    if min(taken[1:]) < known.minimum_size:
        given = "x".join(map(str, taken[1:]))
        message = f"{known.name} takes images of at least {known.minimum_size}x{known.minimum_size}, not {given}"
        if network.input_size is None:
            found.refusals.append(("/architecture", f"{message}; set input_size to have them resized"))
        else:
            found.refusals.append(("/input_size", message))


def close(name: str, known: Iterable[str]) -> str:
    """A suggestion to end a sentence with: names like ``name``, or all of them where they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    ending = [other for other in names if other.rpartition("/")[2] == name][:3]
    near = ending or near
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if len(names) > _SHOWN:
        return f"; see the catalog for the {len(names):,} that there are"
    return f"; choose one of {', '.join(names)}"
