"""The losses beside those of torchdistill 1.1.5, on the same tensors, with their gradients.

Where it is not right, and so not compared:

- ``KDLoss`` without labels (or alpha 0) leaves out temperature squared and beta, and with neither alpha nor beta it
  raises TypeError: compared with labels, its cross-entropy taken off.
- ``DISTPlusLoss`` adds the correlation of channels where it should add one minus it: it would teach them apart.
- ``CRDLoss`` draws through an attribute that does not exist (``self.prob``): compared with the negatives given.
- ``SPKDLoss`` calls ``normalize(G, 1)``, whose second argument is the norm's order and not the axis, so its rows have
  length 1 in the sum of magnitudes; the paper's equation 2 has the Euclidean length: compared with that put right.
- It has no DKD, NKD, MLKD, OFA, SimKD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchdistill.losses import mid_level

from tests.engine.made import TRAIN_LABELS, batch_of, outputs, ready, values
from worker.engine.method import Outputs
from worker.engine.methods.reviewkd import pyramid_distance

BOTH = ("x", "output", "x", "output")


def wired(value: Tensor) -> dict[str, dict[str, Any]]:
    """A tensor as torchdistill hands it to its losses."""
    return {"x": {"output": value}}


def pair(**more: Any) -> dict[str, Any]:
    return {"pair": {"student": {"io": "output", "path": "x"}, "teacher": {"io": "output", "path": "x"}, **more}}


def compare(name: str, fields: dict[str, Any], key: tuple[str, str], theirs: Any, factor: float, **extra: Any) -> None:
    """Value and gradient of the method and of ``factor`` times torchdistill's loss, to 1e-6."""
    student, teacher = values(31)
    found = []
    for ours in (True, False):
        given = torch.tensor(student[key[0]], requires_grad=True)
        taught = torch.tensor(teacher[key[1]])
        if ours:
            method = ready(name, **fields)
            features = {**{k: torch.tensor(v) for k, v in student.items()}, key[0]: given}
            loss = torch.stack(list(method(outputs(features), outputs(teacher), batch_of()).values())).sum()
        else:
            loss = factor * theirs(wired(given), wired(taught), **extra)
        loss.backward()
        assert given.grad is not None
        found.append((loss.item(), given.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=1e-6 * found[1][1].abs().max().item())


LOGITS = ("logits", "logits")


def test_kd() -> None:
    labels = batch_of().labels
    fields = {"weight_ce": 0.3, "weight_kd": 0.7, "temperature": 3.0}
    compare("kd", fields, LOGITS, mid_level.KDLoss(*BOTH, temperature=3.0, alpha=0.3), 1.0, targets=labels)


def test_kd_of_standardised_logits() -> None:
    fields = {"weight_ce": 0.1, "weight_kd": 9.0, "temperature": 2.0, "standardise": True}
    theirs = mid_level.LogitStdKDLoss(*BOTH, temperature=2.0, alpha=0.1, beta=9.0)
    compare("kd", fields, LOGITS, theirs, 1.0, targets=batch_of().labels)


def test_dist() -> None:
    theirs = mid_level.DISTLoss(*BOTH, beta=1.0, gamma=0.5, tau=4.0)
    compare("dist", {"weight_ce": 0.0, "weight_intra": 0.5}, LOGITS, theirs, 2.0)


def test_at() -> None:
    """Stage by stage; ours are added up."""
    student, teacher = values(31)
    given = [torch.tensor(student[name], requires_grad=True) for name in ("s1", "s1")]
    method = ready("at", weight_ce=0.0)
    method.pairs = [("s1", "t1")]  # type: ignore[assignment]
    ours = method(Outputs(torch.tensor(student["logits"]), {"s1": given[0]}), outputs(teacher), batch_of())["feature"]
    theirs = 1000 * mid_level.ATLoss(pair())(wired(given[1]), wired(torch.tensor(teacher["t1"])))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    slopes = [torch.autograd.grad(loss, value)[0] for loss, value in zip((ours, theirs), given, strict=True)]
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-9)


class SimilarityInLength2(mid_level.SPKDLoss):  # type: ignore[misc]
    """With the one argument put right."""

    def matmul_and_normalize(self, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        return torch.nn.functional.normalize(flat @ flat.T, p=2, dim=1)


def test_sp() -> None:
    compare("sp", {"weight_ce": 0.0}, ("s2", "t2"), SimilarityInLength2("x", "x", "batchmean"), 3000.0)


def test_rkd() -> None:
    compare("rkd", {"weight_ce": 0.0}, ("e", "te"), mid_level.RKDLoss("x", "x", 25.0, 50.0, "mean"), 1.0)


def test_pkt() -> None:
    """It adds 1e-7 to the lengths, ours to nothing: 30000 times the difference is still below 1e-6 of the loss."""
    compare("pkt", {"weight_ce": 0.0}, ("e", "te"), mid_level.PKTLoss(*BOTH, eps=1e-7), 30_000.0)


def test_vid() -> None:
    """Given the same mean and variance; it leaves making them to its caller."""
    student, teacher = values(31)
    method: Any = ready("vid", weight_ce=0.0)
    method.pairs = [("s1", "t1")]
    method.means, method.scales = method.means[:1], method.scales[:1]
    mean = method.means[0](torch.tensor(student["s1"]))
    variance = torch.nn.functional.softplus(method.scales[0]).view(1, -1, 1, 1) + 1e-5
    theirs = mid_level.VIDLoss(pair())({"x": {"output": (mean, variance)}}, wired(torch.tensor(teacher["t1"])))
    ours = method(outputs(student), outputs(teacher), batch_of())["feature"]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_the_distance_of_reviewkd(side: int) -> None:
    one, other = torch.randn(2, 3, 5, side, side, dtype=torch.float64).unbind(0)
    theirs = mid_level.HierarchicalContextLoss(*BOTH)({"x": {"output": (one.clone(), None)}}, wired(other))
    assert pyramid_distance(one, other).item() == pytest.approx(theirs.item(), rel=1e-9)


def test_crd_with_the_negatives_given() -> None:
    """Two steps, so that its Z and its banks are compared too. Its buffers are set to ours first."""
    method: Any = ready("crd", weight_ce=0.0, weight_feature=1.0, dimensions=4, negatives=6)
    count = len(TRAIN_LABELS)
    theirs = mid_level.CRDLoss("x", "ids", "x", 4, count, 6, count).double()
    theirs.memory_v1, theirs.memory_v2 = method.our_bank.clone(), method.their_bank.clone()
    theirs.params = torch.tensor([6, 0.07, -1, -1, 0.5], dtype=torch.float64)
    for epoch in (1, 2):
        student, teacher = values(40 + epoch)
        batch = batch_of(epoch=epoch)
        drawn = [np.repeat(np.arange(count), row) for row in method._drawn(batch).int().numpy()]
        ids = torch.cat([batch.samples[:, None], torch.tensor(np.array(drawn))], dim=1)
        embedded = [
            torch.nn.functional.normalize(embed(torch.tensor(side)), dim=1)
            for embed, side in zip(method.embeddings, (student["e"], teacher["te"]), strict=True)
        ]
        student_io = {**wired(embedded[0]), "ids": {"input": {"pos_idx": batch.samples, "contrast_idx": ids}}}
        expected = theirs(student_io, wired(embedded[1]))
        ours = method(outputs(student), outputs(teacher), batch)["feature"]
        assert ours.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(method.our_bank, theirs.memory_v1, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(method.their_bank, theirs.memory_v2, rtol=1e-6, atol=1e-9)
