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
