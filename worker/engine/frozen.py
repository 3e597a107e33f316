"""Networks that only answer: a copy of the weights in the form that is quickest to compute with."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from worker.engine.blackbox import BlackBox
from worker.engine.ensemble import Ensemble
from worker.engine.network import Network
from worker.engine.precision import Precision


def frozen(network: Network | Ensemble, precision: Precision) -> Network | Ensemble:
    """The same answers within the precision's rounding, from a copy: batch norms are part of the convolutions before
    them, weights are cast once and not in every step, and lie channels last. It gives logits alone.
    """
    if isinstance(network, Ensemble):
        members = [member for member in network.members if isinstance(member, Network)]
        copies = [_frozen(member, precision) for member in members]
        return Ensemble(list(zip(network.shares, copies, strict=True))).eval()
    return _frozen(network, precision)


def _frozen(network: Network, precision: Precision) -> Network:
    if isinstance(network.body, BlackBox):
        return network
    body = copy.deepcopy(network.body).eval().requires_grad_(requires_grad=False)
    fold(body)
    for module in body.modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a library's own kind may reckon with its weights in fp32
            module.to(precision.dtype)
    body.to(memory_format=torch.channels_last)
    return Network(body, network.preprocessing).to(network.mean.device).eval()


def fold(body: nn.Module) -> int:
    """Make each batch norm that alone reads a convolution's output a part of that convolution. Returns how many.

    A network that torch.fx cannot follow stays as it is, and so do layers of a library's own kind, which may do more
    than their class says: that is slower, and no less right.
    """
    pairs = _pairs(body)
    for name, other in pairs:
        conv, norm = body.get_submodule(name), body.get_submodule(other)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        body.set_submodule(name, fuse_conv_bn_eval(conv, norm))
        body.set_submodule(other, nn.Identity())
    return len(pairs)


def _pairs(body: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and the batch norms that read them and nothing else does, each used once."""
    try:
        graph = fx.Tracer().trace(body)
    except Exception:  # noqa: BLE001  # whatever a library's forward does when it is traced
        return []
    calls = [node for node in graph.nodes if node.op == "call_module"]
    names = [str(node.target) for node in calls]
    once = {name for name in names if names.count(name) == 1}
    pairs = []
    for node in calls:
        norm = body.get_submodule(str(node.target))
        before = node.args[0] if node.args else None
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
            continue
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv = body.get_submodule(str(before.target))
        if type(conv) is nn.Conv2d and {str(before.target), str(node.target)} <= once:
            pairs.append((str(before.target), str(node.target)))
    return pairs
