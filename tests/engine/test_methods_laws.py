"""Laws that every method obeys in a real training on the digits, and what methods do together."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.conftest import FP32, network, run, teacher
from tests.engine.test_distill import bits, finish, through_a_file
from worker.engine import canaries
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.errors import CanaryFailed, MethodRefused
from worker.engine.events import Progress
from worker.engine.method import Batch, Method, Outputs
from worker.engine.methods import METHODS
from worker.engine.methods.combination import Combination
from worker.engine.precision import Precision
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

CONV = {"name": "conv", "kernel": 3, "stride": 1, "padding": None, "groups": 1, "bias": True}
HIDDEN = [{**CONV, "channels": 4}, {"name": "relu"}, {**CONV, "channels": 5, "stride": 2}, {"name": "relu"}]
STUDENT = [
    {**CONV, "channels": 3},
    {"name": "batchnorm"},
    {"name": "relu"},
    {**CONV, "channels": 4, "stride": 2},
    {"name": "relu"},
    {"name": "dropout", "rate": 0.2},
    {"name": "globalpool"},
    {"name": "linear", "features": None},
]
POOL = {"name": "globalpool"}
SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}


@pytest.fixture(scope="module")
def taught_by(digits: Dataset) -> LiveTeacher:
    return teacher(digits, hidden=HIDDEN)


@pytest.fixture(scope="module")
def averaging(digits: Dataset) -> LiveTeacher:
    """A teacher whose classifier reads the mean of its last maps, as simkd needs."""
    return teacher(digits, hidden=[*HIDDEN[:2], {**CONV, "channels": 16, "stride": 2}, {"name": "relu"}, POOL])


@pytest.fixture
def source(name: str, taught_by: LiveTeacher, averaging: LiveTeacher) -> LiveTeacher:
    return averaging if name == "simkd" else taught_by


def training(digits: Dataset, taught_by: LiveTeacher, method: Method, **changes: Any) -> Run:
    some = digits.train.take(torch.arange(66))  # two steps, and a last batch of two
    return run(digits, method=method, taught_by=taught_by, train=some, student=network(layers=STUDENT), **changes)


def made(name: str) -> Method:
    return METHODS[name](weight_feature=1.0) if name == "fitnet" else METHODS[name]()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_the_same_again_and_after_any_stop(digits: Dataset, source: LiveTeacher, name: str) -> None:
    """Two epochs through ``distill`` with its canaries: finite, live, the same bits, and the teacher as it was."""
    before = source.fingerprint()
    undisturbed = finish(training(digits, source, made(name)))
    stopped = training(digits, source, made(name))
    for count, _ in enumerate(distill(stopped), start=1):
        if count == 2:
            break
    resumed = training(digits, source, made(name))
    resumed.load_state_dict(through_a_file(stopped.state_dict()))
    finish(resumed)
    assert bits(resumed) == bits(undisturbed)
    assert resumed.history == undisturbed.history
    ours, theirs = resumed.method.state_dict(), undisturbed.method.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert source.fingerprint() == before


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_the_methods_parameters_alone(
    digits: Dataset, source: LiveTeacher, name: str
) -> None:
    """With a teacher whose outputs ask for gradients, as a careless source's would."""
    live = training(digits, source, made(name))
    images, some = live.train.images[:8].float() / 255, torch.arange(8)
    batch = Batch(live.train.labels[:8], some, 1, 7)
    given = source.outputs(images, batch)
    theirs = Outputs(given.logits.requires_grad_(), {key: f.requires_grad_() for key, f in given.features.items()})
    theirs, ours = replace(theirs, strong=theirs), live.student(images)
    terms = live.method(replace(ours, strong=ours), theirs, batch)
    assert all(term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert theirs.logits.grad is None
    assert all(value.grad is None for value in theirs.features.values())
    assert any(parameter.grad is not None for parameter in live.student.parameters())
    for key, parameter in live.method.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", [name for name in METHODS if list(METHODS[name]().children())])
def test_the_methods_parameters_are_trained_and_saved(digits: Dataset, source: LiveTeacher, name: str) -> None:
    live = training(digits, source, made(name), optimizer=SGD, epochs=1)
    held = {id(parameter) for group in live.optimizer.param_groups for parameter in group["params"]}
    assert list(live.method.parameters())
    assert all(id(parameter) in held for parameter in live.method.parameters())
    finish(live)
    saved = live.state_dict()["method"]
    for key, parameter in live.method.named_parameters():
        assert not torch.equal(parameter, live.first_method[key]), key
        assert torch.equal(saved[key], parameter)


def test_the_projectors_start_from_the_seed_alone(digits: Dataset, taught_by: LiveTeacher) -> None:
    torch.manual_seed(1)
    one = training(digits, taught_by, made("vid")).method.state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    same = training(digits, taught_by, made("vid")).method.state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    other = training(digits, taught_by, made("vid"), seed=8).method.state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["means.0.0.weight"], other["means.0.0.weight"])


def test_canaries_leave_banks_and_norms_as_they_were(digits: Dataset, taught_by: LiveTeacher) -> None:
    for name in ("crd", "reviewkd"):
        live = training(digits, taught_by, made(name))
        before = {key: value.clone() for key, value in live.method.state_dict().items()}
        canaries.before_training(live)
        assert all(torch.equal(value, before[key]) for key, value in live.method.state_dict().items())


def test_a_feature_method_in_bf16_is_finite_and_its_terms_are_fp32(digits: Dataset, taught_by: LiveTeacher) -> None:
    bf16 = Precision("bf16", scales_gradients=False)
    source = LiveTeacher(copy.deepcopy(taught_by.network), precision=bf16)
    live = finish(training(digits, source, made("at"), precision=bf16, epochs=1))
    assert 0 < live.history[0]["train/feature"] < float("inf")


class TestCombination:
    def test_terms_are_each_methods_own_times_its_weight(self, digits: Dataset, taught_by: LiveTeacher) -> None:
        both = Combination([("fitnet", 0.5, made("fitnet")), ("kd", 2.0, made("kd"))])
        live = training(digits, taught_by, both)
        images, batch = live.train.images[:8].float() / 255, Batch(live.train.labels[:8], torch.arange(8), 1, 7)
        student, given = live.student(images), taught_by.outputs(images, batch)
        terms = both(student, given, batch)
        assert set(terms) == {"fitnet_feature", "fitnet_ce", "kd_kd", "kd_ce"}
        alone = both.parts["kd"](student, given, batch)
        assert terms["kd_kd"].item() == pytest.approx(2 * alone["kd"].item())
        assert len(list(both.parameters())) == 3

    def test_it_trains_and_resumes(self, digits: Dataset, taught_by: LiveTeacher) -> None:
        parts = [("crd", 1.0), ("reviewkd", 1.0), ("kd", 1.0)]
        live = training(digits, taught_by, Combination([(name, weight, made(name)) for name, weight in parts]))
        events = distill(live)
        next(event for event in events if isinstance(event, Progress))
        again = training(digits, taught_by, Combination([(name, weight, made(name)) for name, weight in parts]))
        again.load_state_dict(through_a_file(live.state_dict()))
        assert bits(finish(again)) == bits(finish(live))
        assert "train/crd_feature" in again.history[0]

    def test_a_method_twice_is_refused(self) -> None:
        with pytest.raises(MethodRefused, match="twice"):
            Combination([("kd", 1.0, made("kd")), ("kd", 1.0, made("kd"))])

    def test_mixed_images_are_not_for_methods_with_labels(self, digits: Dataset, taught_by: LiveTeacher) -> None:
        with pytest.raises(MethodRefused, match="mixes the images"):
            training(digits, taught_by, Combination([("patient", 1.0, made("patient")), ("kd", 1.0, made("kd"))]))


class TestPatient:
    def test_both_networks_see_the_same_mixture(self, digits: Dataset, taught_by: LiveTeacher) -> None:
        live = training(digits, taught_by, made("patient"))
        seen: list[Tensor] = []
        live.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        taught_by.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        events = distill(live)
        next(events)
        student, other = seen[-2:]
        assert torch.equal(student, other)
        taught_by.network._forward_pre_hooks.clear()

    def test_a_mixture_is_a_function_of_seed_epoch_and_sample(self) -> None:
        method = METHODS["patient"]()
        images, samples = torch.rand(300, 1, 2, 2), torch.arange(300)
        labels = torch.zeros(300, dtype=torch.long)
        mixed = method.view(images, Batch(labels, samples, 2, 5))
        share = (mixed - images.roll(1, 0))[:, 0, 0, 0] / (images - images.roll(1, 0))[:, 0, 0, 0]
        assert torch.equal(mixed, method.view(images, Batch(labels, samples, 2, 5)))
        assert not torch.equal(mixed, method.view(images, Batch(labels, samples, 3, 5)))
        assert not torch.equal(mixed, method.view(images, Batch(labels, samples, 2, 6)))
        assert 0.4 < share.mean() < 0.6
        assert share.min() < 0.05
        assert share.max() > 0.95
        moved = method.view(images, Batch(labels, samples + 7, 2, 5))
        shifted = (moved - images.roll(1, 0))[:, 0, 0, 0] / (images - images.roll(1, 0))[:, 0, 0, 0]
        torch.testing.assert_close(shifted[:293], share[7:], rtol=1e-3, atol=1e-3)
        assert torch.equal(METHODS["patient"](mixup=False).view(images, Batch(labels, samples, 2, 5)), images)


def test_a_black_box_has_no_features(digits: Dataset) -> None:
    class BlackBox:
        def outputs(self, images: Tensor, batch: Batch) -> Outputs:
            return Outputs(torch.zeros(len(images), 10))

        def fingerprint(self) -> str:
            return ""

    with pytest.raises(MethodRefused, match="black box"):
        run(digits, method=made("at"), taught_by=BlackBox())
    run(digits, method=METHODS["ofa"](student_points=["2"]), taught_by=BlackBox())


def test_a_method_without_its_teacher_is_refused(digits: Dataset) -> None:
    with pytest.raises(MethodRefused, match="there is none"):
        run(digits, method=made("kd"))


def test_a_frozen_variance_would_be_noticed(digits: Dataset, taught_by: LiveTeacher) -> None:
    live = training(digits, taught_by, made("vid"))
    scales = {id(parameter) for key, parameter in live.method.named_parameters() if key.startswith("scales")}
    group = live.optimizer.param_groups[0]
    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in scales]
    with pytest.raises(CanaryFailed, match=r"scales\.0 is not in the optimizer"):
        next(distill(live))


def test_a_teacher_stays_frozen_in_evaluation_mode(digits: Dataset, taught_by: LiveTeacher) -> None:
    finish(training(digits, taught_by, made("at"), epochs=1))
    assert not taught_by.network.training
    assert not any(parameter.requires_grad for parameter in taught_by.network.parameters())
    assert taught_by._precision == FP32
