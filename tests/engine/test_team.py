"""Two processes that train one run: the losses of one process, whatever the method; and no one waits for the dead."""

from __future__ import annotations

import copy
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.engine import made
from tests.engine.team_member import EXACT, FAILING, ROUGH, STOP, outcome, until
from tests.harness import TREE
from worker.engine import checkpoint
from worker.engine.distill import distill
from worker.engine.errors import HardwareUnsuited
from worker.engine.events import Progress
from worker.engine.method import Batch, Outputs
from worker.engine.methods import METHODS
from worker.engine.run import Run
from worker.engine.team import Team

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def ranks(folder: Path) -> Ranks:
    """What came of every case in each of two processes."""
    checkpoint.save(folder / "alone.pt", until(EXACT["crd"](None), STOP).state_dict())
    command = [sys.executable, "-m", "tests.engine.team_member"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen([*command, str(rank), "2", str(folder)], cwd=TREE, stderr=subprocess.PIPE)
            )
            for rank in (0, 1)
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said.decode()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")


def near(given: dict[str, Any], expected: dict[str, Any], *, tolerance: float = 1e-5) -> None:
    assert [name for name, _ in given["losses"]] == [name for name, _ in expected["losses"]]
    for (name, one), (_, other) in zip(given["losses"], expected["losses"], strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance), name


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one["weights"][name], value) for name, value in other["weights"].items())


@pytest.mark.parametrize("name", EXACT)
def test_a_team_has_the_losses_of_one_process(ranks: Ranks, name: str) -> None:
    near(ranks[0][name], outcome(EXACT[name](None)))


@pytest.mark.parametrize("name", EXACT)
def test_every_rank_ends_with_the_same_bits(ranks: Ranks, name: str) -> None:
    assert same(ranks[0][name], ranks[1][name])
    assert ranks[0][name]["losses"] == ranks[1][name]["losses"]
    assert ranks[0][name]["history"] == ranks[1][name]["history"]


def test_in_bf16_a_team_is_near_one_process(ranks: Ranks) -> None:
    near(ranks[0]["bf16"], outcome(ROUGH["bf16"](None)), tolerance=5e-2)


def test_dropout_draws_for_each_part_and_every_rank_learns_the_same(ranks: Ranks) -> None:
    assert same(ranks[0]["dropout"], ranks[1]["dropout"])


def test_batch_norm_counts_within_each_part(ranks: Ranks) -> None:
    """Against the arithmetic by hand: each half through the network by itself, the losses weighed by its samples."""
    run = ROUGH["batch norm"](None)
    near(ranks[0]["batch norm"], {"losses": _by_halves(run)})
    given = ranks[0]["batch norm"]["weights"]
    for name, value in run.student.body.state_dict().items():
        assert torch.allclose(given[name], value, rtol=1e-4, atol=1e-5), name
    statistics = [name for name in given if "running" in name]
    other = ranks[1]["batch norm"]["weights"]
    assert any(not torch.equal(given[name], other[name]) for name in statistics)


def _by_halves(run: Run) -> list[tuple[str, float]]:
    """Two ranks' steps in one process; leaves the first one's statistics in the student."""
    found: list[tuple[str, float]] = []
    halves = Halves(run.student.body)
    run.student.body = halves
    for event in distill(run):
        if isinstance(event, Progress):
            found += event.metrics.items()
    run.student.body = halves.body
    return found


class Halves(nn.Module):
    """Each half of a batch by itself, as two ranks do; the statistics that stay are the first half's."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training or len(images) < 4:
            return self.body(images)  # type: ignore[no-any-return]
        first = (len(images) + 1) // 2
        one = self.body(images[:first])
        theirs = copy.deepcopy(self.body)
        other = functional_call(theirs, dict(self.body.named_parameters()), images[first:])
        return torch.cat([one, other])


@pytest.mark.parametrize("name", ["crd", "batch norm"])
def test_a_stopped_team_goes_on_to_the_same_bits(ranks: Ranks, name: str) -> None:
    assert same(ranks[0][f"{name}, resumed"], ranks[0][name])
    assert ranks[0][f"{name}, resumed"]["history"] == ranks[0][name]["history"]


def test_a_training_may_go_on_with_another_number_of_ranks(ranks: Ranks, folder: Path) -> None:
    undisturbed = outcome(EXACT["crd"](None))
    goes_on_alone = EXACT["crd"](None)
    goes_on_alone.load_state_dict(checkpoint.load(folder / "crd.pt"))
    for resumed in (ranks[0]["crd, begun alone"], outcome(goes_on_alone)):
        left = len(resumed["losses"])
        near(resumed, {"losses": undisturbed["losses"][-left:]})
        for row, expected in zip(resumed["history"], undisturbed["history"], strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("name", "error"), [("nan", "NonFiniteLoss"), ("dead", "CanaryFailed")])
def test_what_is_wrong_ends_every_rank_and_none_waits(ranks: Ranks, name: str, error: str) -> None:
    assert name in FAILING
    assert [found[name] for found in ranks] == [error, error]


def test_a_rank_that_is_gone_is_noticed(ranks: Ranks, folder: Path) -> None:
    assert "another rank of this job is gone" in (folder / "lost").read_text()


def test_two_processes_that_train_alone_come_to_the_same_bits(ranks: Ranks) -> None:
    here = outcome(EXACT["combination"](None))
    for found in ranks:
        assert same(found["in a process of its own"], here)
        assert found["in a process of its own"]["losses"] == here["losses"]


def test_ranks_agree_on_the_first_ones_weights(ranks: Ranks) -> None:
    assert all(torch.equal(value, ranks[1]["agreed"][name]) for name, value in ranks[0]["agreed"].items())


def test_parts_make_up_the_batch() -> None:
    for samples in (8, 9, 33, 64, 1000):
        for size in (1, 2, 3, 4):
            parts = [Team(rank, size).part(samples, relational=False) for rank in range(size)]
            rows = [row for part in parts for row in range(samples)[part.rows]]
            assert rows == list(range(samples))
            assert min(len(range(samples)[part.rows]) for part in parts) >= 2
            assert sum(part.weight for part in parts) == pytest.approx(1)
    too_few = [Team(rank, 4).part(7, relational=False) for rank in range(4)]
    assert all(part.is_whole and part.weight == 0.25 for part in too_few)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_relational_or_its_terms_are_means_over_samples(name: str) -> None:
    """Of the whole batch, and of two unequal parts weighed by their samples."""
    method = made.ready(name).eval()
    student, teacher = (made.outputs(arrays) for arrays in made.values(5))
    batch = made.batch_of()

    def terms(rows: slice) -> dict[str, torch.Tensor]:
        ours, theirs = (
            Outputs(given.logits[rows], {point: value[rows] for point, value in given.features.items()})
            for given in (student, teacher)
        )
        shown = Batch(batch.labels[rows], batch.samples[rows], batch.epoch, batch.seed)
        with torch.no_grad():
            return dict(method(ours, None if name == "none" else theirs, shown))

    whole, parts = terms(slice(0, 6)), [terms(slice(0, 4)), terms(slice(4, 6))]
    added_up = {term: (4 * parts[0][term] + 2 * parts[1][term]) / 6 for term in whole}
    alike = all(torch.allclose(added_up[term], value, rtol=1e-6) for term, value in whole.items())
    assert alike is not method.relational or name == "crd", "crd's terms are means, but it remembers"
    assert name != "crd" or method.relational


def test_batch_norm_is_synchronised_on_gpus_alone() -> None:
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert Team().synchronise(body, torch.device("cpu")) is body
    with pytest.raises(HardwareUnsuited, match="sync_batchnorm is made for GPUs"):
        Team(0, 2).synchronise(body, torch.device("cpu"))
    names = list(body.state_dict())
    converted = Team(0, 2).synchronise(body, torch.device("cuda"))
    assert isinstance(converted[1], nn.SyncBatchNorm)  # type: ignore[index]
    assert list(converted.state_dict()) == names
    assert converted.eval()(torch.zeros(2, 1, 5, 5)).shape == (2, 2, 3, 3)
