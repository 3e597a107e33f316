"""The losses that have parameters of their own, in float64 numpy; ``w`` are the method's, by their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.engine import formulas


def conv(maps: np.ndarray, weight: np.ndarray, *, bias: np.ndarray | None = None, stride: int = 1) -> np.ndarray:
    """By its definition; padding is half the kernel."""
    side = weight.shape[-1]
    half = side // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (half, half), (half, half)))
    height, width = maps.shape[2:]
    out = [
        [np.einsum("bcij,ocij->bo", padded[:, :, y : y + side, x : x + side], weight) for x in range(0, width, stride)]
        for y in range(0, height, stride)
    ]
    found = np.transpose(np.array(out), (2, 3, 0, 1))
    return found if bias is None else found + bias[None, :, None, None]


def norm(maps: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    mean, variance = maps.mean(axis=(0, 2, 3), keepdims=True), maps.var(axis=(0, 2, 3), keepdims=True)
    rows = (maps - mean) / np.sqrt(variance + 1e-5)
    return np.asarray(rows * scale[None, :, None, None] + shift[None, :, None, None])


def fitnet(s: np.ndarray, t: np.ndarray, w: formulas.Arrays, stride: int) -> float:
    maps = conv(s, w["regressors.0.0.weight"], stride=stride)
    moved = np.maximum(norm(maps, w["regressors.0.1.weight"], w["regressors.0.1.bias"]), 0)
    return float(((moved - t) ** 2).mean())


def vid(s: formulas.Arrays, t: formulas.Arrays, pairs: list[tuple[str, str]], w: formulas.Arrays) -> float:
    total = 0.0
    for index, (ours, theirs) in enumerate(pairs):
        side = min(s[ours].shape[2], t[theirs].shape[2])
        mean, wanted = formulas.pool(s[ours], side), formulas.pool(t[theirs], side)
        for layer in (0, 2, 4):
            mean = conv(mean, w[f"means.{index}.{layer}.weight"])
            mean = np.maximum(mean, 0) if layer < 4 else mean
        variance = (np.log1p(np.exp(w[f"scales.{index}"])) + 1e-5)[None, :, None, None]
        total += (0.5 * ((mean - wanted) ** 2 / variance + np.log(variance))).mean()
    return float(total)


def grow(maps: np.ndarray, side: int) -> np.ndarray:
    """To the nearest: places floor(i old / new)."""
    rows = np.arange(side) * maps.shape[2] // side
    return np.asarray(maps[:, :, rows][:, :, :, rows])


def reviewkd(s: formulas.Arrays, t: formulas.Arrays, pairs: list[tuple[str, str]], w: formulas.Arrays) -> float:
    total, fused = 0.0, None
    for index in reversed(range(len(pairs))):
        ours, theirs = (
            x[name] if x[name].ndim == 4 else x[name][:, :, None, None]
            for x, name in zip((s, t), pairs[index], strict=True)
        )
        at_ = f"fusions.{index}"
        maps = norm(conv(ours, w[f"{at_}.reduce.0.weight"]), w[f"{at_}.reduce.1.weight"], w[f"{at_}.reduce.1.bias"])
        if fused is not None:
            later = grow(fused, maps.shape[2])
            shares = 1 / (
                1
                + np.exp(
                    -conv(np.concatenate([maps, later], 1), w[f"{at_}.attend.0.weight"], bias=w[f"{at_}.attend.0.bias"])
                )
            )
            maps = maps * shares[:, :1] + later * shares[:, 1:]
        fused = grow(maps, theirs.shape[2])
        taught = norm(conv(fused, w[f"{at_}.expand.0.weight"]), w[f"{at_}.expand.1.weight"], w[f"{at_}.expand.1.bias"])
        loss, weight, weights = ((taught - theirs) ** 2).mean(), 1.0, 1.0
        for level in (4, 2, 1):
            if level < taught.shape[2]:
                weight /= 2
                loss = loss + weight * ((formulas.pool(taught, level) - formulas.pool(theirs, level)) ** 2).mean()
                weights += weight
        total += loss / weights
    return float(total)


def ofa_head(values: np.ndarray, w: formulas.Arrays, at: str) -> np.ndarray:
    """The logits of a stage's own head: of a map by a 1x1 convolution, batch norm and ReLU first; then the mean over
    positions or tokens, and a linear layer.
    """
    last = 1
    if values.ndim == 4:
        mixed = norm(conv(values, w[f"{at}.0.weight"]), w[f"{at}.1.weight"], w[f"{at}.1.bias"])
        values, last = np.maximum(mixed, 0).mean(axis=(2, 3)), 4
    elif values.ndim == 3:
        values = values.mean(axis=1)
    return np.asarray(values @ w[f"{at}.{last}.weight"].T + w[f"{at}.{last}.bias"])


def ofa_stages(s: formulas.Arrays, t: np.ndarray, points: tuple[str, ...], w: formulas.Arrays, *rest: Any) -> float:
    """Each stage's head towards the teacher's logits; ``rest`` are labels, exponent and temperature."""
    heads = (ofa_head(s[point], w, f"heads.{place}") for place, point in enumerate(points))
    return sum(formulas.ofa(logits, t, *rest) for logits in heads)


def nce(
    anchor: np.ndarray, bank: np.ndarray, own: np.ndarray, drawn: np.ndarray, temperature: float, z: float | None
) -> tuple[float, float]:
    """One direction of CRD with the negatives ``drawn`` [B, K]; returns the loss and Z."""
    ids = np.concatenate([own[:, None], drawn], axis=1)
    scores = np.exp(np.einsum("bd,bkd->bk", anchor, bank[ids]) / temperature)
    z = float(scores.mean() * len(bank)) if z is None else z
    p, count = scores / z, drawn.shape[1]
    noise = count / len(bank)
    data = np.log(p[:, 0] / (p[:, 0] + noise + 1e-7)).sum()
    rest = np.log(noise / (p[:, 1:] + noise + 1e-7)).sum()
    return float(-(data + rest) / len(anchor)), z
