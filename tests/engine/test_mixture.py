"""A file of logits as one of several teachers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.engine.conftest import FP32, run, teacher
from tests.engine.test_methods_laws import HIDDEN
from worker.engine.data import Dataset, RawDataset
from worker.engine.distill import distill
from worker.engine.ensemble import Ensemble
from worker.engine.errors import MethodRefused
from worker.engine.evaluate import evaluate, judge
from worker.engine.method import Batch
from worker.engine.methods import METHODS
from worker.engine.mixture import Mixture
from worker.engine.network import Network
from worker.engine.recorded import RecordedTeacher


@pytest.fixture
def networks(digits: Dataset) -> tuple[Network, Network]:
    one, other = (teacher(digits, hidden=hidden).network for hidden in (HIDDEN, []))
    assert isinstance(one, Network)
    assert isinstance(other, Network)
    return one, other


@pytest.fixture
def file(raw: RawDataset, digits: Dataset, networks: tuple[Network, Network]) -> RecordedTeacher:
    """What the second network says of every image."""
    with torch.no_grad():
        return RecordedTeacher(networks[1](raw.train.images.float() / 255).logits, digits)


def test_it_gives_the_mean_of_probabilities(
    digits: Dataset, networks: tuple[Network, Network], file: RecordedTeacher
) -> None:
    images, some = digits.train.images[:9].float() / 255, torch.arange(9)
    batch = Batch(digits.train.labels[:9], some, 1, 0)
    mixed = Mixture([(1.0, file), (0.5, file)], networks[0], 4.5, precision=FP32)
    given = mixed.outputs(images, batch).logits.exp()
    ours, theirs = (network(images).logits.softmax(dim=1) for network in networks)
    torch.testing.assert_close(given, 0.75 * ours + 0.25 * theirs, rtol=1e-4, atol=1e-6)
    alone = Mixture([(2.0, file), (1.0, file)], None, 0.0, precision=FP32)
    torch.testing.assert_close(alone.outputs(images, batch).logits.exp(), theirs, rtol=1e-4, atol=1e-6)
    assert not given.requires_grad
    assert len({mixed.fingerprint(), alone.fingerprint(), mixed.at(FP32).fingerprint()}) == 2


def test_it_teaches_what_an_ensemble_of_the_networks_would(
    digits: Dataset, networks: tuple[Network, Network], file: RecordedTeacher
) -> None:
    mixed = Mixture([(1.0, file)], networks[0], 2.0, precision=FP32)
    live = Ensemble([(1.0, networks[1]), (2.0, networks[0])])
    histories = []
    for source in (mixed, teacher(digits)):
        if not isinstance(source, Mixture):
            source.network = live.eval()
        training = run(digits, method=METHODS["kd"](), taught_by=source, augmentation="none")
        list(distill(training))
        histories.append(training.history)
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert mixed.tells_of_test
    known = judge(mixed.on_test(digits.test, at_once=7), digits.test.labels)
    assert known.top1 == evaluate(live, digits.test).top1
    assert math.isclose(known.loss, evaluate(live, digits.test).loss, rel_tol=1e-4)


def test_what_a_file_cannot_do_no_mixture_can(
    digits: Dataset, networks: tuple[Network, Network], file: RecordedTeacher
) -> None:
    mixed = Mixture([(1.0, file)], networks[0], 1.0, precision=FP32)
    with pytest.raises(MethodRefused, match="a file or an ensemble"):
        run(digits, method=METHODS["at"](), taught_by=mixed)
    with pytest.raises(MethodRefused, match="mixed images"):
        run(digits, method=METHODS["patient"](), taught_by=mixed)
    for source in (mixed, file):
        with pytest.raises(MethodRefused, match="changed view") as caught:
            run(digits, method=METHODS["mlkd"](), taught_by=source)
        assert "views to 1" in caught.value.remedy
    (said,) = run(digits, method=METHODS["kd"](), taught_by=mixed, augmentation="crop").warnings
    assert "the student sees crop of them" in said
