"""Several teachers: the mean of what they predict, whatever their sizes and the scale of their logits."""

from __future__ import annotations

import pytest
import torch

from tests.engine.conftest import FP32, LAYERS, network, run, teacher
from tests.engine.test_distill import bits, finish
from worker.engine.data import Dataset
from worker.engine.ensemble import Ensemble
from worker.engine.errors import MethodRefused
from worker.engine.evaluate import evaluate
from worker.engine.methods import METHODS
from worker.engine.network import Network
from worker.engine.teacher import LiveTeacher


def member(digits: Dataset, **fields: object) -> Network:
    found = teacher(digits, **fields).network  # type: ignore[arg-type]
    assert isinstance(found, Network)
    return found


def test_it_is_the_weighted_mean_of_probabilities(digits: Dataset) -> None:
    one, other = member(digits), network(3, layers="resnet8").eval()
    images = digits.test.images[:9].float() / 255
    together = Ensemble([(3.0, one), (1.0, other)]).eval()
    expected = 0.75 * one(images).logits.softmax(1) + 0.25 * other(images).logits.softmax(1)
    torch.testing.assert_close(together(images).logits.softmax(1), expected)
    torch.testing.assert_close(together(images).logits.exp(), expected)
    alone = Ensemble([(0.5, one)])(images).logits
    torch.testing.assert_close(alone, one(images).logits.log_softmax(1))


def test_margins_of_a_thousand_stay_finite_and_a_loud_member_does_not_decide(digits: Dataset) -> None:
    quiet, loud = network(1).eval(), network(2).eval()
    with torch.no_grad():
        for parameter in loud.body[-1].parameters():  # type: ignore[index]
            parameter.mul_(1000)
    logits = Ensemble([(0.6, quiet), (0.4, loud)]).eval()(digits.test.images[:50].float() / 255).logits
    assert torch.isfinite(logits).all()
    assert logits.exp().max() < 1
    assert logits.exp().min() > 0


def test_it_teaches_and_is_judged_as_one(digits: Dataset) -> None:
    members = [(1.0, member(digits)), (1.0, member(digits, hidden=LAYERS[:3]))]
    source = LiveTeacher(Ensemble(members), precision=FP32)
    first, second = (finish(run(digits, method=METHODS["kd"](), taught_by=source)) for _ in range(2))
    assert bits(first) == bits(second)
    assert "the teacher's weights were the same at the end as at the start" in first.canaries
    assert evaluate(source.network, digits.test).top1 > 0.5
    assert not any(parameter.requires_grad for parameter in source.network.parameters())


def test_its_fingerprint_is_that_of_members_and_weights(digits: Dataset) -> None:
    one, other = network(1), network(2)
    prints = {
        Ensemble(members).fingerprint()
        for members in ([(1.0, one), (1.0, other)], [(1.0, other), (1.0, one)], [(2.0, one), (1.0, other)])
    }
    assert len(prints) == 3
    assert Ensemble([(2.0, one), (2.0, other)]).fingerprint() in prints


def test_it_has_no_features_to_read(digits: Dataset) -> None:
    source = LiveTeacher(Ensemble([(1.0, member(digits))]), precision=FP32)
    with pytest.raises(MethodRefused, match="ensemble"):
        run(digits, method=METHODS["rkd"](), taught_by=source)
