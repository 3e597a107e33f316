"""Several networks as one teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from worker.engine.losses import wide
from worker.engine.method import Outputs
from worker.engine.network import Network


def averaged(each: Sequence[Tensor], shares: Tensor) -> Tensor:
    """The log of the weighted mean of the probabilities that logits [B, classes] stand for."""
    told = torch.stack([torch.log_softmax(wide(logits), dim=1) for logits in each])
    return torch.logsumexp(told + shares.log().view(-1, 1, 1), dim=0)


class Ensemble(nn.Module):
    """Networks of any sizes on the same classes; gives log of the weighted mean of their probabilities as logits.

    Of the probabilities, not of the logits: a network's logits are free in a constant for each image and in their
    scale, so that in a mean of logits whoever has the larger ones decides. The mean of probabilities is what the
    ensemble predicts, and methods may divide its logarithm by a temperature as they do with any logits. It has no
    feature points: there is no one network to read.
    """

    weights: Tensor

    def __init__(self, members: Sequence[tuple[float, Network]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(network for _, network in members)
        total = sum(weight for weight, _ in members)
        self.shares = tuple(weight / total for weight, _ in members)
        weights = torch.tensor(self.shares, device=members[0][1].mean.device)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        """Float [B, C, H, W] in 0 to 1, to log-probabilities [B, classes]."""
        return Outputs(logits=averaged([member(images).logits for member in self.members], self.weights))

    def fingerprint(self) -> str:
        """sha256 over the members' own, in order, and their weights."""
        digest = hashlib.sha256()
        for weight, member in zip(self.shares, self.members, strict=True):
            assert isinstance(member, Network)
            digest.update(f"{weight} {member.fingerprint()}".encode())
        return digest.hexdigest()
