"""The loop: the same bits again, after any stop, in any precision; and no training that is quietly wrong."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.conftest import CONV, FP32, network, run, teacher
from worker.engine import canaries, checkpoint
from worker.engine.data import Dataset
from worker.engine.distill import distill
from worker.engine.errors import CanaryFailed, MethodRefused, NonFiniteLoss, TeacherMismatch
from worker.engine.events import EpochFinished, Progress, StepFinished
from worker.engine.method import Batch, Method, Outputs
from worker.engine.methods import METHODS
from worker.engine.network import Network, Preprocessing
from worker.engine.optim import Cosine
from worker.engine.precision import Precision
from worker.engine.run import Run
from worker.engine.teacher import LiveTeacher

BF16 = Precision("bf16", scales_gradients=False)


def finish(training: Run) -> Run:
    for _ in distill(training):
        pass
    return training


def bits(training: Run) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in training.result_state().items()}


def kd(digits: Dataset, **changes: Any) -> Run:
    return run(digits, method=METHODS["kd"](), taught_by=teacher(digits), **changes)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)  # type: ignore[no-any-return]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(digits: Dataset) -> None:
    assert bits(finish(kd(digits))) == bits(finish(kd(digits)))
    assert bits(finish(kd(digits))) != bits(finish(kd(digits, seed=8)))


@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda precision: precision.name)
@pytest.mark.parametrize("stop_at", [1, 5, 9, 10, 11, 15, 20])
def test_a_stopped_and_resumed_training_gives_the_same_bits(
    digits: Dataset, stop_at: int, precision: Precision
) -> None:
    undisturbed = finish(kd(digits, precision=precision))
    first = kd(digits, precision=precision)
    for count, _ in enumerate(distill(first), start=1):
        if count == stop_at:
            break
    second = kd(digits, precision=precision)
    second.load_state_dict(through_a_file(first.state_dict()))
    finish(second)
    assert bits(second) == bits(undisturbed)
    assert second.history == undisturbed.history


def test_student_and_control_see_the_same_batches_from_the_same_weights(digits: Dataset) -> None:
    """A method that looks like kd but teaches nothing ends where the control ends."""

    class PretendsToTeach(Method):
        def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
            return METHODS["none"]()(student, None, batch)

    control = finish(run(digits))
    student = finish(run(digits, method=PretendsToTeach(), taught_by=teacher(digits)))
    assert bits(student) == bits(control)
    assert bits(finish(kd(digits))) != bits(control)


def test_the_events_tell_every_step_and_epoch(digits: Dataset) -> None:
    training = run(digits)
    events = list(distill(training))
    steps = [event for event in events if isinstance(event, StepFinished)]
    epochs = [event for event in events if isinstance(event, EpochFinished)]
    progress = [event for event in events if isinstance(event, Progress)]
    assert len(steps) == 2 * training.steps
    assert [event.epoch for event in epochs] == [1, 2]
    assert set(epochs[0].metrics) == {
        "train/ce",
        "train/loss",
        "train/top1",
        "validation/loss",
        "validation/top1",
        "learning_rate",
    }
    assert [event.step for event in progress if event.epoch == 1] == [3, 6, 9, 10]
    assert progress[-1].global_step == 2 * training.steps


def test_a_training_learns(digits: Dataset) -> None:
    training = finish(run(digits, epochs=12, augmentation="none"))
    assert training.history[-1]["train/loss"] < 0.75 * training.history[0]["train/loss"]


def test_the_best_epoch_on_validation_is_served_and_ties_go_to_the_earlier(digits: Dataset) -> None:
    training = finish(run(digits, epochs=5))
    best = max(row["validation/top1"] for row in training.history)
    first = next(row["epoch"] for row in training.history if row["validation/top1"] == best)
    assert training.best_epoch == first


def test_a_last_batch_of_one_sample_is_left_out(digits: Dataset) -> None:
    odd = digits.train.take(torch.arange(65))
    assert run(digits, train=odd).steps == 2
    finish(run(digits, train=odd, epochs=1))


def test_a_loss_that_is_not_finite_ends_the_training_and_is_never_saved(digits: Dataset) -> None:
    wild = {"name": "sgd", "lr": 1e38, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
    training = run(digits, optimizer=wild)
    with pytest.raises(NonFiniteLoss, match="epoch 1"):
        finish(training)
    with pytest.raises(NonFiniteLoss):
        training.state_dict()


def test_the_checkpoint_holds_no_teacher(digits: Dataset) -> None:
    training = kd(digits)
    next(distill(training))
    sizes = sum(value.numel() for value in training.state_dict()["student"].values())
    assert sizes == sum(value.numel() for value in training.student.body.state_dict().values())
    assert "teacher" not in training.state_dict()


def test_a_teacher_at_chance_is_refused(digits: Dataset) -> None:
    untrained = LiveTeacher(network(9), precision=FP32)
    with pytest.raises(TeacherMismatch, match="guessing gives"):
        next(distill(run(digits, method=METHODS["kd"](), taught_by=untrained)))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.6, 0.4), (0.0, 0.05)])
def test_a_teacher_with_anothers_normalisation_is_noticed(digits: Dataset, mean: float, std: float) -> None:
    """It was fitted with mean 0.3 and deviation 0.4, and is well above chance with these."""
    right = teacher(digits).network
    given = LiveTeacher(Network(right.body, Preprocessing((1, 8, 8), (mean,), (std,))), precision=FP32)
    with pytest.raises(
        TeacherMismatch, match=r"but on 9[89]\.\d% with the training images' own mean \(0\.3\d+\)"
    ) as caught:
        canaries.before_training(run(digits, method=METHODS["kd"](), taught_by=given))
    assert "mean and deviation" in caught.value.remedy


def test_a_dead_term_is_refused(digits: Dataset) -> None:
    class Dead(Method):
        needs_teacher = False

        def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
            return {"ce": METHODS["none"]()(student, None, batch)["ce"], "dead": (student.logits * 0).sum()}

    with pytest.raises(CanaryFailed, match="dead"):
        next(distill(run(digits, method=Dead())))


class WithProjector(Method):
    needs_teacher = False

    def __init__(self) -> None:
        super().__init__()
        self.projector = torch.nn.Linear(10, 10)

    def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return METHODS["none"]()(Outputs(self.projector(student.logits)), None, batch)


def test_a_projector_outside_the_optimizer_is_refused(digits: Dataset) -> None:
    training = run(digits, method=WithProjector())
    training.optimizer.param_groups[0]["params"] = list(training.student.parameters())
    with pytest.raises(CanaryFailed, match="not in the optimizer"):
        next(distill(training))


def test_a_projector_that_does_not_move_is_refused(digits: Dataset) -> None:
    training = run(digits, method=WithProjector())
    with pytest.raises(CanaryFailed, match="did not move"):
        canaries.after_first_learning_epoch(training)
    finish(run(digits, method=WithProjector()))


class Unused(WithProjector):
    def forward(self, student: Outputs, _teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return METHODS["none"]()(student, None, batch)


def test_what_moves_is_looked_at_once_a_warm_up_has_begun(digits: Dataset) -> None:
    """In epochs of one step the first of a warm-up has the rate zero."""

    def warmed(method: Method, *, epochs: int) -> Run:
        training = run(digits, method=method, train=digits.train.take(torch.arange(30)), epochs=epochs)
        training.recipe = replace(training.recipe, schedule=Cosine(1, 0.0))
        assert training.steps == 1
        return training

    done = finish(warmed(WithProjector(), epochs=3))
    assert done.canaries[-1] == "every term was finite after epoch 2"
    finish(warmed(WithProjector(), epochs=1))
    with pytest.raises(CanaryFailed, match=r"projector\.weight did not move by the end of epoch 2"):
        finish(warmed(Unused(), epochs=3))
    assert finish(run(digits, method=WithProjector())).canaries[-1] == "every term was finite after epoch 1"


@pytest.mark.parametrize("method", ["kd", "at"])
def test_a_student_that_is_its_teacher_is_the_specs_fault(digits: Dataset, method: str) -> None:
    given = teacher(digits, hidden=[CONV | {"channels": 6}, {"name": "relu"}])
    student = copy.deepcopy(given.network)
    assert isinstance(student, Network)
    if method == "at":
        student.body[-1].reset_parameters()  # type: ignore[index,operator,union-attr]
    with pytest.raises(MethodRefused, match="gives what its teacher gives") as caught:
        finish(run(digits, method=METHODS[method](), taught_by=given, student=student.requires_grad_()))
    assert "other weights than its teacher's" in caught.value.remedy


def test_a_teacher_that_changes_while_it_teaches_is_noticed(digits: Dataset) -> None:
    source = teacher(digits)
    training = run(digits, method=METHODS["kd"](), taught_by=source)

    def tamper() -> None:
        for event in distill(training):
            if isinstance(event, EpochFinished):
                source.network.body[1].bias.data += 1e-3  # type: ignore[index]

    with pytest.raises(CanaryFailed, match="changed"):
        tamper()


def test_the_canaries_leave_the_run_as_it_was(digits: Dataset) -> None:
    training = kd(digits)
    before = {name: value.clone() for name, value in training.student.body.state_dict().items()}
    state = torch.random.get_rng_state()
    canaries.before_training(training)
    assert all(torch.equal(value, before[name]) for name, value in training.student.body.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_checkpoint_is_whole_or_absent(tmp_path: Any) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save(path, {"a": torch.ones(3), "n": 1})
    assert torch.equal(checkpoint.load(path)["a"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Any) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"x": Runs()}, tmp_path / "x.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        checkpoint.load(tmp_path / "x.pt")
