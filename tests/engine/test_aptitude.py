"""Whether a network is shown what it was trained on."""

from __future__ import annotations

import pytest
import torch

from tests.engine.conftest import FP32, run
from worker.engine import canaries
from worker.engine.data import Dataset, ImageSet
from worker.engine.data.images import Origin
from worker.engine.errors import TeacherMismatch
from worker.engine.methods import METHODS
from worker.engine.network import Preprocessing, build_network
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_teacher_that_was_trained_on_blue_green_red_is_noticed(exchanged: bool) -> None:  # noqa: FBT001  # a case
    """It names the nearest of eleven colours. Five are as red as blue, of the others each is another exchanged."""
    colours = torch.tensor([[60, 20 + 50 * k, 60] for k in range(5)] + [[250, 60 + 60 * k, 20] for k in range(3)])
    colours = torch.cat([colours, colours[5:].flip(1)])
    labels = torch.arange(11).repeat(8)
    noise = torch.randint(-9, 10, (88, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    seen = ImageSet((colours[labels][:, :, None, None] + noise).clamp(0, 255).to(torch.uint8), labels)
    origin = Origin(88, torch.arange(88), None, 88)
    data = Dataset("made", tuple("abcdefghijk"), (0.5,) * 3, (0.25,) * 3, seen, None, seen, origin)
    shape = Preprocessing((3, 8, 8), data.mean, data.std)
    layers = [{"name": "globalpool"}, {"name": "linear", "features": None}]
    given, student = (build_network(architecture=layers, classes=11, preprocessing=shape, seed=s) for s in (1, 2))
    known = ((colours.flip(1) if exchanged else colours) / 255 - 0.5) / 0.25
    with torch.no_grad():  # -|x - c|^2 without the part that all share
        given.body[-1].weight.copy_(2 * known)  # type: ignore[index,operator,union-attr]
        given.body[-1].bias.copy_(-known.square().sum(dim=1))  # type: ignore[index,operator,union-attr]
    training = run(data, method=METHODS["kd"](), taught_by=LiveTeacher(given, precision=FP32), student=student)
    if not exchanged:
        canaries.before_training(training)
        return
    said = "right on 45.5% of 88 training images, but on 100.0% with red and blue exchanged"
    with pytest.raises(TeacherMismatch, match=said) as caught:
        canaries.before_training(training)
    assert "exchange the first and the last input channel" in caught.value.remedy


def two_classes(labels: torch.Tensor, *, named: torch.Tensor, side: int = 8) -> Run:
    """A training on grey images whose teacher names what they show, which is ``named`` and not always the label."""
    seen = ImageSet((named * 200 + 20).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous(), labels)
    origin = Origin(len(labels), torch.arange(len(labels)), None, len(labels))
    data = Dataset("made", ("a", "b"), (0.5,), (0.25,), seen, None, seen, origin)
    layers = [{"name": "globalpool"}, {"name": "linear", "features": None}]
    shapes = [Preprocessing((1, each, each), (0.5,), (0.25,)) for each in (side, 8)]
    given, student = (build_network(architecture=layers, classes=2, preprocessing=shape, seed=1) for shape in shapes)
    with torch.no_grad():
        given.body[-1].weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[index,operator,union-attr]
        given.body[-1].bias.zero_()  # type: ignore[index,operator,union-attr]
    return run(data, method=METHODS["kd"](), taught_by=LiveTeacher(given, precision=FP32), student=student)


def in_classes(*counts: int) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


@pytest.mark.parametrize(
    ("counts", "side"), [((990, 10), 8), ((880, 120), 320), ((100, 100), 224), ((1, 1), 8), ((1, 3000), 8)]
)
def test_a_teacher_that_is_always_right_is_never_refused(counts: tuple[int, int], side: int) -> None:
    """However rare a class, few the images or large the teacher's input, and though they lie class by class."""
    labels = in_classes(*counts)
    training = two_classes(labels, named=labels, side=side)
    canaries.before_training(training)
    assert "the teacher was right on 100.0% of" in training.canaries[-1]


def test_the_look_at_a_teacher_is_at_all_classes_in_whatever_order_the_images_lie() -> None:
    by_class = in_classes(500, 500)
    named = by_class ^ (torch.arange(1000) % 50 == 0).long()  # it is right on 98 %
    canaries.before_training(two_classes(by_class, named=named))
    in_turns = torch.arange(1024) % 2
    with pytest.raises(TeacherMismatch, match=r"in the mean over their 2 classes, where guessing gives 50\.0%"):
        canaries.before_training(two_classes(in_turns, named=torch.zeros(1024, dtype=torch.int64)))


@pytest.mark.parametrize("named", ["the frequent class", "the other class", "any class"])
def test_a_teacher_that_knows_nothing_is_refused_though_one_class_is_nearly_all(named: str) -> None:
    labels = in_classes(900, 100)
    any_class = (torch.rand(1000, generator=torch.Generator().manual_seed(3)) < 0.1).long()
    said = {"the frequent class": labels * 0, "the other class": 1 - labels, "any class": any_class}[named]
    with pytest.raises(TeacherMismatch, match=r"where guessing gives 50\.0%"):
        canaries.before_training(two_classes(labels, named=said))
