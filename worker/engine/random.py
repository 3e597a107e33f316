"""Random numbers as a function of (seed, stream, epoch, sample), never of history.

A resumed run therefore draws what an undisturbed one would have drawn, in whatever order and number of processes.
The mixing is the finaliser of splitmix64 (Steele, Lea, Flood 2014) on int64 tensors, whose arithmetic wraps; the bits
are the same on every device.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def derive(seed: int, *parts: int | str) -> int:
    """A seed of 63 bits for a named purpose."""
    digest = hashlib.sha256("/".join(map(str, (seed, *parts))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(seed: int, device: torch.device) -> None:
    """Set the generators that a step on ``device`` draws from. (``torch.manual_seed`` asks every backend: 20 us.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def permutation(n: int, *, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The order of an epoch: int64 [n]."""
    return shuffled(torch.arange(n, device=device), seed=seed, epoch=epoch)


def shuffled(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Some ids (int64) in the order that ``permutation`` has them in, whatever else it holds."""
    return ids[torch.argsort(scrambled(ids, derive(seed, "order", epoch)), stable=True)]


def uniform_integers(samples: Tensor, high: int | Tensor, *, seed: int, epoch: int, stream: str) -> Tensor:
    """For each id (int64) an integer in [0, high), ``high`` one for all or for each. The bias is below high / 2^63."""
    return (scrambled(samples, derive(seed, stream, epoch)) & (2**63 - 1)) % high


def scrambled(ids: Tensor, seed: int) -> Tensor:
    """For each id (int64) 64 bits that look like chance."""
    state = ids * _GAMMA + seed
    state = (state ^ _shift(state, 30)) * _MIX_1
    state = (state ^ _shift(state, 27)) * _MIX_2
    return state ^ _shift(state, 31)


def _shift(values: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
