"""Faults that published code has: what no formula's test would show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.conftest import network, run
from tests.engine.made import B, C, batch_of, outputs, ready, values
from tests.engine.test_distill import finish
from tests.engine.test_methods_laws import HIDDEN, STUDENT, teacher
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.methods import METHODS

WAITS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_to_cpu", "masked_select", "unique")


class NoWaiting(TorchDispatchMode):
    """Fails where a GPU would have to be waited for: a value read on the host, or a shape that depends on values."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        if name == "index":  # a boolean mask's number of values is read
            assert all(place is None or place.dtype != torch.bool for place in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_no_method_waits_for_the_device(name: str) -> None:
    student, teacher_ = ({k: torch.tensor(v) for k, v in arrays.items()} for arrays in values(50))
    student = {key: value.requires_grad_() for key, value in student.items()}
    method, batch = ready(name), batch_of()
    with NoWaiting():
        loss = torch.stack(list(method(outputs(student), outputs(teacher_), batch).values())).sum()
        loss.backward()


def test_that_check_sees_a_wait() -> None:
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        torch.ones(1).item()
    some = torch.arange(3)
    with pytest.raises(AssertionError), NoWaiting():
        some[some > 1]


def test_each_network_runs_once_in_a_step(digits: Dataset) -> None:
    source, student = teacher(digits, hidden=HIDDEN), network(layers=STUDENT)
    live = run(digits, method=METHODS["reviewkd"](), taught_by=source, student=student, epochs=1)
    counts = {"student": 0, "teacher": 0}

    def count(name: str) -> Any:
        def hook(*_: object) -> None:
            counts[name] += 1

        return hook

    events = distill(live)
    next(events)  # after the canaries' own runs
    handles = [
        student.body.register_forward_hook(count("student")),
        source.network.register_forward_hook(count("teacher")),
    ]
    while live.step < live.steps - 1:
        next(events)
    for handle in handles:
        handle.remove()
    assert counts == {"student": live.steps - 2, "teacher": live.steps - 2}


@pytest.mark.parametrize("most", [1, 2, 512])
def test_reviewkds_width_is_the_one_asked_for(most: int) -> None:
    method: Any = ready("reviewkd", maximum_channels=most)
    assert {fusion.reduce[0].out_channels for fusion in method.fusions} == {min(most, 4)}  # 4: the embedding's


def test_kd_without_labels_keeps_temperature_squared_and_its_weight() -> None:
    student, teacher_ = (outputs(arrays) for arrays in values(51))
    terms = [
        ready("kd", temperature=3.0, weight_kd=2.0, weight_ce=ce)(student, teacher_, batch_of())["kd"].item()
        for ce in (0.0, 0.5)
    ]
    assert terms[0] == terms[1]
    once = ready("kd", temperature=3.0, weight_kd=1.0, weight_ce=0.0)(student, teacher_, batch_of())["kd"].item()
    assert terms[0] == pytest.approx(2 * once)


def test_the_gradient_keeps_its_size_with_the_temperature() -> None:
    """Without temperature squared it would be a hundredth at 10; divided by the classes, a fifth."""
    sizes = []
    for temperature in (100.0, 10.0):
        logits = torch.tensor(values(52)[0]["logits"] * 0.1, requires_grad=True)
        taught = torch.tensor(values(52)[1]["logits"] * 0.1)
        method = ready("kd", temperature=temperature, weight_ce=0.0, weight_kd=1.0)
        method(outputs({"logits": logits}), outputs({"logits": taught}), batch_of())["kd"].backward()
        assert logits.grad is not None
        sizes.append(logits.grad)
        centred = logits - taught
        expected = (centred - centred.mean(dim=1, keepdim=True)).detach() / (C * B)
        if temperature == 100.0:
            torch.testing.assert_close(logits.grad, expected, rtol=2e-2, atol=1e-4)
    torch.testing.assert_close(sizes[0], sizes[1], rtol=0.1, atol=1e-3)


def test_dist_draws_student_and_teacher_together(digits: Dataset) -> None:
    """The sign of each correlation: a few steps bring both terms down."""
    logits = torch.tensor(values(53)[0]["logits"], requires_grad=True)
    taught = outputs({"logits": values(53)[1]["logits"]})
    method = ready("dist", weight_ce=0.0)
    before = method(outputs({"logits": logits}), taught, batch_of())
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.stack(list(method(outputs({"logits": logits}), taught, batch_of()).values())).sum().backward()
        optimizer.step()
    after = method(outputs({"logits": logits}), taught, batch_of())
    assert set(after) == {"inter", "intra"}
    assert all(after[name] < 0.7 * before[name] for name in after)


def test_every_level_of_mlkd_is_in_the_loss() -> None:
    student, teacher_ = (outputs(arrays) for arrays in values(54))
    assert set(ready("mlkd")(student, teacher_, batch_of())) == {"instance", "batch", "class", "ce"}
    assert set(ready("mlkd", weight_batch=0.0)(student, teacher_, batch_of())) == {"instance", "class", "ce"}


@pytest.mark.parametrize("temperature", [2.0, 3.0, 4.0, 5.0, 6.0])
def test_every_term_of_mlkd_reads_each_views_own_logits(temperature: float) -> None:
    """At every temperature; the reference reads the first view's at the outermost two, and adds no Gram term."""
    shown = [[outputs(arrays) for arrays in values(seed)] for seed in (54, 55)]
    alone = [ready("mlkd", temperatures=[temperature])(*view, batch_of()) for view in shown]
    (ours, theirs), (again, taught) = shown
    strong = replace(again, logits=again.logits.clone().requires_grad_())
    both = ready("mlkd", temperatures=[temperature], views=2)
    terms = both(replace(ours, strong=strong), replace(theirs, strong=taught), batch_of())
    assert set(terms) == {"instance", "batch", "class", "ce"}
    for name, term in terms.items():
        assert term.item() == pytest.approx(sum(each[name].item() for each in alone))
        (gradient,) = torch.autograd.grad(term, strong.logits, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_rkd_depends_on_directions_and_not_on_the_embeddings_scale_alone() -> None:
    """Embeddings are not normalised one by one: moving all of them changes no distance and no angle of a triplet."""
    student, teacher_ = values(55)
    method = ready("rkd", weight_ce=0.0)
    one = method(outputs(student), outputs(teacher_), batch_of())
    student["e"] = 3 * student["e"] + 10
    other = method(outputs(student), outputs(teacher_), batch_of())
    assert {k: v.item() for k, v in one.items()} == pytest.approx({k: v.item() for k, v in other.items()}, rel=1e-9)


def test_vids_variances_move_away_from_their_start(digits: Dataset) -> None:
    source = teacher(digits, hidden=HIDDEN)
    live = finish(run(digits, method=METHODS["vid"](), taught_by=source, student=network(layers=STUDENT), epochs=1))
    scale = live.method.scales[0]  # type: ignore[index]
    variance = torch.nn.functional.softplus(scale) + 1e-5
    assert (variance - 5).abs().min() > 1e-3
